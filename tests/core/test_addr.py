"""Addresses: every spelling of one is that one, what is none is refused, and what the limit per IP counts."""

from __future__ import annotations

import gc
import ipaddress
import weakref
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.addr import MAX_HOST_LENGTH, Addr, site
from pea2pea.errors import ConfigError

PORTS = st.integers(0, 65535)


@given(ip=st.ip_addresses(), port=PORTS)
def test_what_is_printed_is_read_back(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    addr = Addr.of((str(ip), port))
    assert Addr.of(str(addr)) == addr
    assert Addr.of(addr) == addr


@given(ip=st.ip_addresses(v=6), port=PORTS)
def test_every_spelling_of_an_ipv6_address_is_the_same(ip: ipaddress.IPv6Address, port: int) -> None:
    spellings = [str(ip), ip.exploded, ip.exploded.upper()]
    assert len({Addr.of((text, port)) for text in spellings}) == 1
    assert len({Addr.of(f"[{text}]:{port}") for text in spellings}) == 1


@given(ip=st.ip_addresses(v=4), port=PORTS)
def test_an_ipv4_mapped_ipv6_address_is_the_ipv4_address(ip: ipaddress.IPv4Address, port: int) -> None:
    plain = Addr.of((str(ip), port))
    assert plain.ip == ip
    assert Addr.of(f"[::ffff:{ip}]:{port}") == plain
    assert Addr.of((f"::ffff:{int(ip) >> 16:x}:{int(ip) & 0xFFFF:x}", port)) == plain


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:0", "::1", 0),
        ("Example.ORG:65535", "example.org", 65535),
        ("host-1.local:1", "host-1.local", 1),
        ("[127.0.0.1]:80", "127.0.0.1", 80),
    ],
)
def test_text_is_taken_apart(text: str, host: str, port: int) -> None:
    assert Addr.of(text) == (host, port)


def test_what_sockets_tell_is_taken() -> None:
    """Of IPv6 they tell four values."""
    told: Any = ("::1", 80, 0, 0)
    assert Addr.of(told) == Addr("::1", 80)


@pytest.mark.parametrize(
    "bad",
    [
        "", ":", "80", "host", "host:", ":80", "host:-1", "host:+1", "host:1_0", "host: 1", "host:65536", "host:\u0661",
        "host:000080", "::1:80", "[::1]", "[::1]80", "[]:80", "a b:80", "a\tb:80", "1.2.3:80", "1.2.3.4.5:80",
        "256.1.1.1:80", "[::g]:80", "x" * (MAX_HOST_LENGTH + 1) + ":80",
        None, 80, b"host:80", ["host", 80], (), ("host",), ("host", "80"), ("host", 80.0), ("host", True),
        ("host", None), ("host", -1), ("host", 65536), (None, 80), ("", 80), (b"host", 80),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_the_name_of_its_field(bad: Any) -> None:
    with pytest.raises(ConfigError) as error:
        Addr.of(bad, field="peer")
    assert error.value.field == "peer"


def test_what_is_too_long_for_a_host_is_not_remembered() -> None:
    """A peer that tells of addresses would else choose how much is."""

    class Host(str):  # of a class that can be referred to weakly
        pass

    host = Host("x" * (MAX_HOST_LENGTH + 1))
    told = weakref.ref(host)
    with suppress(ConfigError):
        Addr.of((host, 80))
    del host
    gc.collect()
    assert told() is None


@given(st.text(max_size=20) | st.tuples(st.text(max_size=10), st.integers()))
def test_whatever_it_is_it_is_an_address_or_refused(anything: Any) -> None:
    try:
        addr = Addr.of(anything)
    except ConfigError as error:
        assert error.field == "addr"
    else:
        assert Addr.of(addr) == addr
        assert 0 <= addr.port <= 65535


@pytest.mark.parametrize(
    ("host", "wildcard", "loopback"),
    [
        ("0.0.0.0", True, True),
        ("::", True, True),
        ("127.0.0.1", False, True),
        ("127.9.9.9", False, True),
        ("::1", False, True),
        ("10.0.0.1", False, False),
        ("2001:db8::1", False, False),
        ("localhost", False, False),
    ],
)
def test_what_stands_for_the_machine_itself(host: str, wildcard: bool, loopback: bool) -> None:
    addr = Addr(host, 80)
    assert (addr.is_wildcard, addr.is_loopback) == (wildcard, loopback)


def test_a_name_is_no_ip() -> None:
    assert Addr("example.org", 80).ip is None


# What the limit per IP counts


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_each_ipv4_address_is_a_site(one: ipaddress.IPv4Address, other: ipaddress.IPv4Address) -> None:
    assert (site(str(one)) == site(str(other))) == (one == other)


@given(st.ip_addresses(v=6), st.integers(0, 2**128 - 1))
def test_a_64_of_ipv6_is_a_site(ip: ipaddress.IPv6Address, bits: int) -> None:
    other = ipaddress.IPv6Address(int(ip) ^ bits)
    assert (site(str(ip)) == site(str(other))) == (bits < 2**64)


def test_a_name_is_a_site_of_its_own() -> None:
    assert site("example.org") == "example.org"
