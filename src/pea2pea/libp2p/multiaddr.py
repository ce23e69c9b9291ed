"""Multiaddrs: addresses that say how to get there, as text and as bytes. Pure. May import ``addr``, ``peer_id``.

Protocols and their numbers are those of the multiaddr table; of these, what a peer may announce next to TCP.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..addr import Addr
from ..errors import DecodeError
from .errors import MalformedAddressError
from .peer_id import PeerId
from .varint import decode_varint, encode_varint

#: Longer ones are refused, as text and as bytes: a peer may announce any number of them.
MAX_SIZE: Final = 1024

_Encode = Callable[[str], bytes]
_Decode = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class _Protocol:
    """``size``: bytes of a value; 0 for none, -1 where its length stands before it."""

    code: int
    name: str
    size: int = 0
    encode: _Encode = str.encode
    decode: _Decode = bytes.decode


def _port(text: str) -> bytes:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError("no port")
    return int(text).to_bytes(2)


def _name(text: str) -> bytes:
    if not text or "/" in text or not text.isprintable():
        raise ValueError("no name")
    return text.encode()


def _unname(data: bytes) -> str:
    text = data.decode()
    _name(text)
    return text


def _unhash(data: bytes) -> str:
    return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _hash(text: str) -> bytes:
    if not text.startswith("u"):
        raise ValueError("not base64url")
    return base64.b64decode(text[1:] + "=" * (-(len(text) - 1) % 4), altchars=b"-_", validate=True)


def _ip4(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _ip6(text: str) -> bytes:
    if "%" in text:
        raise ValueError("a zone is a protocol of its own")
    return ipaddress.IPv6Address(text).packed


def _unip(data: bytes) -> str:
    return str(ipaddress.ip_address(data))


def _unport(data: bytes) -> str:
    return str(int.from_bytes(data))


_PROTOCOLS: Final = (
    _Protocol(4, "ip4", 4, _ip4, _unip),
    _Protocol(41, "ip6", 16, _ip6, _unip),
    _Protocol(42, "ip6zone", -1, _name, _unname),
    _Protocol(53, "dns", -1, _name, _unname),
    _Protocol(54, "dns4", -1, _name, _unname),
    _Protocol(55, "dns6", -1, _name, _unname),
    _Protocol(56, "dnsaddr", -1, _name, _unname),
    _Protocol(6, "tcp", 2, _port, _unport),
    _Protocol(273, "udp", 2, _port, _unport),
    _Protocol(421, "p2p", -1, lambda text: PeerId.parse(text).multihash, lambda data: str(PeerId(data))),
    _Protocol(290, "p2p-circuit"),
    _Protocol(448, "tls"),
    _Protocol(449, "sni", -1, _name, _unname),
    _Protocol(454, "noise"),
    _Protocol(460, "quic"),
    _Protocol(461, "quic-v1"),
    _Protocol(465, "webtransport"),
    _Protocol(466, "certhash", -1, _hash, _unhash),
    _Protocol(280, "webrtc-direct"),
    _Protocol(281, "webrtc"),
    _Protocol(477, "ws"),
    _Protocol(478, "wss"),
    _Protocol(480, "http"),
)
_BY_NAME: Final = {protocol.name: protocol for protocol in _PROTOCOLS} | {"ipfs": _PROTOCOLS[9]}
_BY_CODE: Final = {protocol.code: protocol for protocol in _PROTOCOLS}
_HOSTS: Final = frozenset(("ip4", "ip6", "dns", "dns4", "dns6"))


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """An address as a row of protocols, each with its value, if it has one."""

    parts: tuple[tuple[str, str | None], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise MalformedAddressError("an empty multiaddr")

    @classmethod
    def parse(cls, text: str) -> Multiaddr:
        """Return the address in ``text``, such as ``/ip4/127.0.0.1/tcp/4001/p2p/12D3...``.

        Values are brought to one form. Raises :class:`MalformedAddressError`.
        """
        if not text.startswith("/") or len(text) > MAX_SIZE:
            raise MalformedAddressError(f"{text[:80]!r} is no multiaddr")
        words = text.removesuffix("/").split("/")[1:]
        parts = []
        while words:
            protocol = _BY_NAME.get(words.pop(0))
            if protocol is None or (protocol.size and not words):
                raise MalformedAddressError(f"{text!r}: a protocol that is not known, or without its value")
            parts.append((protocol, words.pop(0) if protocol.size else None))
        return cls(tuple(_normal(protocol, value) for protocol, value in parts))

    @classmethod
    def from_bytes(cls, data: bytes) -> Multiaddr:
        """Return the address in ``data``. Raises :class:`MalformedAddressError`."""
        if len(data) > MAX_SIZE:
            raise MalformedAddressError(f"a multiaddr of {len(data)} bytes")
        try:
            return cls(tuple(_split(data)))
        except (DecodeError, ValueError) as error:
            raise MalformedAddressError(f"{data.hex()} is no multiaddr: {error}") from error

    @classmethod
    def of(cls, value: Multiaddr | str) -> Multiaddr:
        """Return ``value``, parsed where it is text."""
        return value if isinstance(value, Multiaddr) else cls.parse(value)

    @classmethod
    def of_addr(cls, addr: Addr, peer_id: PeerId | None = None) -> Multiaddr:
        """Return the address of a TCP port, and of the peer there."""
        ip = addr.ip
        kind = "dns" if ip is None else f"ip{ip.version}"
        base = cls(((kind, addr.host), ("tcp", str(addr.port))))
        return base if peer_id is None else base.with_peer(peer_id)

    @property
    def peer_id(self) -> PeerId | None:
        """Who is to be met there, if it says so."""
        ids = [value for name, value in self.parts if name == "p2p"]
        return PeerId.parse(ids[-1]) if ids and ids[-1] else None

    @property
    def addr(self) -> Addr:
        """Where to dial. Raises :class:`MalformedAddressError` for anything but TCP at a host."""
        names = [name for name, _ in self.parts]
        if len(names) < 2 or names[0] not in _HOSTS or names[1] != "tcp" or names[2:] not in ([], ["p2p"]):
            raise MalformedAddressError(f"{self} is not reached by TCP alone")
        return Addr.of((str(self.parts[0][1]), int(str(self.parts[1][1]))))

    def with_peer(self, peer_id: PeerId) -> Multiaddr:
        """Return this address with ``peer_id`` at its end."""
        parts = self.parts[:-1] if self.parts and self.parts[-1][0] == "p2p" else self.parts
        return Multiaddr((*parts, ("p2p", str(peer_id))))

    def to_bytes(self) -> bytes:
        """Return the binary form."""
        return b"".join(_joined(_BY_NAME[name], value) for name, value in self.parts)

    def __str__(self) -> str:
        return "".join(f"/{name}" if value is None else f"/{name}/{value}" for name, value in self.parts)

    def __repr__(self) -> str:
        return f"<Multiaddr {self}>"


def _normal(protocol: _Protocol, value: str | None) -> tuple[str, str | None]:
    if value is None:
        return protocol.name, None
    try:
        return protocol.name, protocol.decode(protocol.encode(value))
    except (ValueError, binascii.Error) as error:
        raise MalformedAddressError(f"{value!r} is no value of {protocol.name}: {error}") from error


def _joined(protocol: _Protocol, value: str | None) -> bytes:
    head = encode_varint(protocol.code)
    if value is None:
        return head
    data = protocol.encode(value)
    return head + (encode_varint(len(data)) if protocol.size < 0 else b"") + data


def _split(data: bytes) -> Iterator[tuple[str, str | None]]:
    position = 0
    while position < len(data):
        code, position = decode_varint(data, position)
        protocol = _BY_CODE.get(code)
        if protocol is None:
            raise DecodeError(f"protocol {code} is not known")
        size = protocol.size
        if size < 0:
            size, position = decode_varint(data, position)
        if len(data) - position < size:
            raise DecodeError("it ends inside a value")
        value = data[position : position + size]
        position += size
        yield protocol.name, protocol.decode(value) if protocol.size else None
