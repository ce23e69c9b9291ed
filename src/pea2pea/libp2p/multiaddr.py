"""Multiaddrs, in text and binary form. Pure. May import ``addr``, ``peer_id``.

The protocols and their codes come from the multiaddr table. Besides TCP, it has those that other hosts announce.
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

#: Characters or bytes of a multiaddr. Peers announce them, so their size needs a limit.
MAX_SIZE: Final = 1024

_Encode = Callable[[str], bytes]
_Decode = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class _Protocol:
    """One entry of the table. ``size`` is the size of a value in bytes; 0: no value, -1: prefixed with its length."""

    code: int
    name: str
    size: int = 0
    encode: _Encode = str.encode
    decode: _Decode = bytes.decode


def _encode_port(text: str) -> bytes:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError("expected a port from 0 to 65535")
    return int(text).to_bytes(2)


def _encode_name(text: str) -> bytes:
    if not text or "/" in text or not text.isprintable():
        raise ValueError("expected a name of printable characters without '/'")
    return text.encode()


def _decode_name(data: bytes) -> str:
    text = data.decode()
    _encode_name(text)
    return text


def _decode_hash(data: bytes) -> str:
    return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _encode_hash(text: str) -> bytes:
    if not text.startswith("u"):
        raise ValueError("expected multibase base64url, which starts with 'u'")
    return base64.b64decode(text[1:] + "=" * (-(len(text) - 1) % 4), altchars=b"-_", validate=True)


def _encode_ip4(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _encode_ip6(text: str) -> bytes:
    if "%" in text:
        raise ValueError("a zone needs the protocol ip6zone in front of ip6")
    return ipaddress.IPv6Address(text).packed


def _decode_ip(data: bytes) -> str:
    return str(ipaddress.ip_address(data))


def _decode_port(data: bytes) -> str:
    return str(int.from_bytes(data))


_PROTOCOLS: Final = (
    _Protocol(4, "ip4", 4, _encode_ip4, _decode_ip),
    _Protocol(41, "ip6", 16, _encode_ip6, _decode_ip),
    _Protocol(42, "ip6zone", -1, _encode_name, _decode_name),
    _Protocol(53, "dns", -1, _encode_name, _decode_name),
    _Protocol(54, "dns4", -1, _encode_name, _decode_name),
    _Protocol(55, "dns6", -1, _encode_name, _decode_name),
    _Protocol(56, "dnsaddr", -1, _encode_name, _decode_name),
    _Protocol(6, "tcp", 2, _encode_port, _decode_port),
    _Protocol(273, "udp", 2, _encode_port, _decode_port),
    _Protocol(421, "p2p", -1, lambda text: PeerId.parse(text).multihash, lambda data: str(PeerId(data))),
    _Protocol(290, "p2p-circuit"),
    _Protocol(448, "tls"),
    _Protocol(449, "sni", -1, _encode_name, _decode_name),
    _Protocol(454, "noise"),
    _Protocol(460, "quic"),
    _Protocol(461, "quic-v1"),
    _Protocol(465, "webtransport"),
    _Protocol(466, "certhash", -1, _encode_hash, _decode_hash),
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
    """An address: a sequence of protocols, each with its value, or ``None`` if the protocol has no value."""

    parts: tuple[tuple[str, str | None], ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise MalformedAddressError("a multiaddr needs at least one protocol")

    @classmethod
    def parse(cls, text: str) -> Multiaddr:
        """Parse ``text``, such as ``/ip4/127.0.0.1/tcp/4001/p2p/12D3...``. Values are normalized.

        Raises :class:`MalformedAddressError`.
        """
        if not text.startswith("/") or len(text) > MAX_SIZE:
            raise MalformedAddressError(
                f"expected a multiaddr, such as '/ip4/127.0.0.1/tcp/4001', of at most {MAX_SIZE} characters,"
                f" got {text[:80]!r}"
            )
        words = text.removesuffix("/").split("/")[1:]
        parts = []
        while words:
            name = words.pop(0)
            protocol = _BY_NAME.get(name)
            if protocol is None:
                raise MalformedAddressError(f"{text!r}: unknown protocol {name!r}")
            if protocol.size and not words:
                raise MalformedAddressError(f"{text!r}: {name} needs a value")
            parts.append((protocol, words.pop(0) if protocol.size else None))
        return cls(tuple(_normalized(protocol, value) for protocol, value in parts))

    @classmethod
    def from_bytes(cls, data: bytes) -> Multiaddr:
        """Decode the binary form. Raises :class:`MalformedAddressError`."""
        if len(data) > MAX_SIZE:
            raise MalformedAddressError(f"a multiaddr of {len(data)} bytes; at most {MAX_SIZE} are allowed")
        try:
            return cls(tuple(_split(data)))
        except (DecodeError, ValueError) as error:
            raise MalformedAddressError(f"cannot decode the multiaddr {data.hex()}: {error}") from error

    @classmethod
    def of(cls, value: Multiaddr | str) -> Multiaddr:
        """Return ``value``, parsed if it is text."""
        return value if isinstance(value, Multiaddr) else cls.parse(value)

    @classmethod
    def of_addr(cls, addr: Addr, peer_id: PeerId | None = None) -> Multiaddr:
        """Return the multiaddr of a TCP address, and of the peer there if ``peer_id`` is given."""
        ip = addr.ip
        kind = "dns" if ip is None else f"ip{ip.version}"
        base = cls(((kind, addr.host), ("tcp", str(addr.port))))
        return base if peer_id is None else base.with_peer(peer_id)

    @property
    def peer_id(self) -> PeerId | None:
        """The peer id at the end of the address, if it has one."""
        ids = [value for name, value in self.parts if name == "p2p"]
        return PeerId.parse(ids[-1]) if ids and ids[-1] else None

    @property
    def addr(self) -> Addr:
        """The address to dial. Raises :class:`MalformedAddressError` for anything but TCP to a host."""
        names = [name for name, _ in self.parts]
        if len(names) < 2 or names[0] not in _HOSTS or names[1] != "tcp" or names[2:] not in ([], ["p2p"]):
            raise MalformedAddressError(f"cannot dial {self}: expected /ip4, /ip6 or /dns*, then /tcp and at most /p2p")
        return Addr.of((str(self.parts[0][1]), int(str(self.parts[1][1]))))

    def with_peer(self, peer_id: PeerId) -> Multiaddr:
        """Return this address with ``peer_id`` at its end, in place of another."""
        parts = self.parts[:-1] if self.parts and self.parts[-1][0] == "p2p" else self.parts
        return Multiaddr((*parts, ("p2p", str(peer_id))))

    def to_bytes(self) -> bytes:
        """Return the binary form."""
        return b"".join(_encoded(_BY_NAME[name], value) for name, value in self.parts)

    def __str__(self) -> str:
        return "".join(f"/{name}" if value is None else f"/{name}/{value}" for name, value in self.parts)

    def __repr__(self) -> str:
        return f"<Multiaddr {self}>"


def _normalized(protocol: _Protocol, value: str | None) -> tuple[str, str | None]:
    if value is None:
        return protocol.name, None
    try:
        return protocol.name, protocol.decode(protocol.encode(value))
    except (ValueError, binascii.Error) as error:
        raise MalformedAddressError(f"invalid value for {protocol.name}, {value!r}: {error}") from error


def _encoded(protocol: _Protocol, value: str | None) -> bytes:
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
            raise DecodeError(f"unknown protocol code {code}")
        size = protocol.size
        if size < 0:
            size, position = decode_varint(data, position)
        if len(data) - position < size:
            raise DecodeError(f"truncated value of {protocol.name}")
        value = data[position : position + size]
        position += size
        yield protocol.name, protocol.decode(value) if protocol.size else None
