"""Links: what is printed is parsed again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Addr
from pea2pea.cli.errors import CliError
from pea2pea.cli.link import Link, wanted

ROOT = bytes(range(32))
hosts = st.ip_addresses().map(str) | st.sampled_from(["localhost", "seed.example"])


@given(hosts, st.integers(1, 65535), st.none() | st.binary(min_size=32, max_size=32))
def test_what_is_printed_is_parsed(host: str, port: int, root: bytes | None) -> None:
    link = Link(Addr.of((host, port)), root)
    assert Link.parse(str(link)) == link


def test_a_link_and_a_plain_address() -> None:
    assert str(Link(Addr("::1", 4000), ROOT)) == f"pea2pea://[::1]:4000/{ROOT.hex()}"
    assert Link.parse("127.0.0.1:4000") == Link(Addr("127.0.0.1", 4000), None)
    assert Link.parse(f"pea2pea://h:1/{ROOT.hex().upper()}").root == ROOT


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
        "http://127.0.0.1:4000/" + ROOT.hex(),
    ],
)
def test_what_is_no_link_is_refused(text: str) -> None:
    with pytest.raises(CliError):
        Link.parse(text)


@given(st.text())
def test_garbage_is_a_link_or_an_error(text: str) -> None:
    try:
        link = Link.parse(text)
    except CliError as error:
        assert str(error)
    else:
        assert Link.parse(str(link)) == link


def test_links_agree_or_are_refused() -> None:
    plain, one, other = (Link(Addr("h", 1), root) for root in (None, ROOT, ROOT[::-1]))
    assert wanted([plain, plain]) is None
    assert wanted([plain, one, one]) == ROOT
    with pytest.raises(CliError, match="different files"):
        wanted([one, plain, other])
