"""Network addresses: parsing, printing, and what limits count them as. Pure: no asyncio, no sockets."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from .errors import ConfigError

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 1035, section 2.3.4: 255 octets on the wire hold at most 253 characters.
MAX_HOST_LENGTH = 253


class Addr(NamedTuple):
    """A host (an IP address, or a name to be resolved) and a TCP port.

    Addresses made by :meth:`of` compare equal however they were written: IP addresses are in canonical form, and
    IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2) are IPv4.
    """

    host: str
    port: int

    @classmethod
    def of(cls, value: AddrLike, *, field: str = "addr") -> Addr:
        """Make an address of ``"host:port"``, ``"[ipv6]:port"``, a ``(host, port)`` pair or an ``Addr``.

        Raises :class:`ConfigError` naming ``field`` for anything else.
        """
        if isinstance(value, str):
            host, port = _split(value, field)
        elif isinstance(value, tuple) and len(value) >= 2:
            host, port = value[0], value[1]
        else:
            raise ConfigError(field, f'expected "host:port" or a (host, port) pair, got {value!r}')
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
            raise ConfigError(field, f"expected a port between 0 and 65535, got {port!r}")
        if host == "*":
            raise ConfigError(field, 'expected a host, got "*": use 0.0.0.0 or [::] for all addresses')
        # Addresses are kept by the thousand, so their size must not be for a peer to choose.
        if not isinstance(host, str) or len(host) > MAX_HOST_LENGTH or (canonical := _canonical_host(host)) is None:
            raise ConfigError(field, f"expected a host name or an IP address, got {host!r}")
        return cls(canonical, port)

    @property
    def ip(self) -> IPAddress | None:
        """The host as an IP address; ``None`` if it is a name."""
        return _ip(self.host)

    @property
    def is_wildcard(self) -> bool:
        """Whether this is every address of the machine (``0.0.0.0`` or ``::``)."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Whether this reaches the machine itself: a loopback address, or the wildcard."""
        ip = _ip(self.host)
        return ip is not None and (ip.is_loopback or ip.is_unspecified)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddrLike: TypeAlias = Addr | str | tuple[str, int]


@lru_cache(maxsize=1024)
def is_local(host: str) -> bool:
    """Whether ``host`` is an address of the machine itself: a loopback address."""
    ip = _ip(host)
    return ip is not None and ip.is_loopback


def site(host: str) -> str:
    """Return what the limit per address counts ``host`` as: an IPv4 address, or the /64 of an IPv6 address.

    A /64 is what one customer gets (RFC 6177), so all of it is one site.
    """
    ip = _ip(host)
    if ip is None or ip.version == 4:
        return host
    return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


# Parsing is the most expensive thing done with an address, and a node meets the same ones several times. The size is a
# few times the default of max_connections.
@lru_cache(maxsize=1024)
def _ip(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split(text: str, field: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(field, f"expected an IPv6 address in brackets, as in [::1]:4000, got {text!r}")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ConfigError(field, f'expected "host:port", got {text!r}')
    return host, int(port)


@lru_cache(maxsize=1024)
def _canonical_host(host: str) -> str | None:
    if not host or not host.isprintable() or " " in host:
        return None
    ip = _ip(host)
    if ip is None:
        return None if ":" in host or host.replace(".", "").isdigit() else host.lower()
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)
