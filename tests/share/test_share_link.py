"""Links: what is printed is parsed again, and nothing else is."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Addr
from pea2pea.share.errors import ShareError
from pea2pea.share.link import Link, is_safe_name, mode_of, wanted
from pea2pea.share.mode import Mode

ROOT = bytes(range(32))
hosts = st.ip_addresses().map(str) | st.sampled_from(["localhost", "seed.example"])


keys = st.binary(min_size=32, max_size=32)
names = st.text(max_size=40).filter(is_safe_name)


def links() -> st.SearchStrategy[Link]:
    addrs = st.builds(lambda host, port: Addr.of((host, port)), hosts, st.integers(1, 65535))
    named = st.builds(Link, addrs, keys, st.sampled_from([Mode.PLAIN, Mode.TLS]), name=st.none() | names)
    with_key = st.builds(Link, addrs, keys, st.just(Mode.NOISE), st.none() | keys, st.none() | names)
    return st.builds(Link, addrs) | named | with_key


@given(links())
def test_links_are_parsed_as_they_are_printed(link: Link) -> None:
    assert Link.parse(str(link)) == link


@given(links())
def test_a_link_can_be_pasted_into_a_shell(link: Link) -> None:
    assert not set(str(link)) & set(" \t\n\"'`$&|;<>()*?#~=\\!{}")


def test_a_link_and_a_plain_address() -> None:
    assert str(Link(Addr("::1", 4000), ROOT)) == f"pea2pea://[::1]:4000/{ROOT.hex()}"
    assert Link.parse("127.0.0.1:4000") == Link(Addr("127.0.0.1", 4000), None)
    assert Link.parse(f"pea2pea://h:1/{ROOT.hex().upper()}") == Link(Addr("h", 1), ROOT, Mode.PLAIN)


def test_a_link_carries_the_mode_the_key_and_the_name() -> None:
    link = Link(Addr("h", 1), ROOT, Mode.NOISE, ROOT[::-1], "my file.iso")
    assert str(link) == f"pea2pea+noise://{ROOT[::-1].hex()}@h:1/{ROOT.hex()}/my%20file.iso"
    assert str(Link(Addr("h", 1), ROOT, Mode.TLS)) == f"pea2pea+tls://h:1/{ROOT.hex()}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".bashrc",
        "../x",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "C:x",
        "-rf",
        " x",
        "x ",
        "x.",
        "a\nb",
        "a\0b",
        "a\x1b[2Jb",
        "gpj\u202eexe",
        "con",
        "NUL.txt",
        "x" * 246,
        "\ud800",
    ],
)
def test_an_unsafe_name_is_refused(name: str) -> None:
    assert not is_safe_name(name)
    quoted = quote(name, safe="", errors="surrogatepass")
    if name:
        with pytest.raises(ShareError, match="name"):
            Link.parse(f"pea2pea://h:1/{ROOT.hex()}/{quoted}")


@pytest.mark.parametrize("name", ["x", "a b.tar.gz", "\u00fc\u4f60\u597d.txt", "x" * 245, "a.b-c_d~e'"])
def test_a_usual_name_is_allowed(name: str) -> None:
    assert is_safe_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nowhere",
        "127.0.0.1:0",
        "pea2pea://127.0.0.1:4000",
        "pea2pea://127.0.0.1:4000/",
        "pea2pea://127.0.0.1/" + ROOT.hex(),
        "pea2pea://127.0.0.1:4000/" + ROOT.hex()[:-1],
        "pea2pea://127.0.0.1:4000/" + ROOT.hex() + "00",
        "pea2pea://127.0.0.1:4000/" + ROOT.hex()[:-2] + " 1",
        "pea2pea://127.0.0.1:4000/" + "g" * 64,
        "pea2pea://" + ROOT.hex() + "@127.0.0.1:4000/" + ROOT.hex(),
        "pea2pea+noise://ab@127.0.0.1:4000/" + ROOT.hex(),
        "pea2pea+ssh://127.0.0.1:4000/" + ROOT.hex(),
        "pea2pea://127.0.0.1:4000/" + ROOT.hex() + "/a/b",
        "http://127.0.0.1:4000/" + ROOT.hex(),
    ],
)
def test_a_malformed_link_is_refused(text: str) -> None:
    with pytest.raises(ShareError):
        Link.parse(text)


@given(st.text())
def test_garbage_is_a_link_or_an_error(text: str) -> None:
    try:
        link = Link.parse(text)
    except ShareError as error:
        assert str(error)
    else:
        assert Link.parse(str(link)) == link


def test_links_agree_or_are_refused() -> None:
    plain, one, other = (Link(Addr("h", 1), root) for root in (None, ROOT, ROOT[::-1]))
    assert wanted([plain, plain]) is None
    assert wanted([plain, one, one]) == ROOT
    with pytest.raises(ShareError, match="different files"):
        wanted([one, plain, other])


def test_modes_agree_or_are_refused() -> None:
    plain, noise, unknown = (Link(Addr("h", 1), ROOT, mode) for mode in (Mode.PLAIN, Mode.NOISE, None))
    assert mode_of([unknown]) is None
    assert mode_of([unknown, noise, noise]) is Mode.NOISE
    with pytest.raises(ShareError, match="different kinds of encryption"):
        mode_of([plain, noise])
