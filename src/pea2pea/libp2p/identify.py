"""The identify protocol: a peer's key, addresses and protocols. Pure. May import ``schema``, ``multiaddr``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..codec import KIB
from . import schema
from .errors import MalformedAddressError
from .multiaddr import Multiaddr
from .peer_id import PublicKey

IDENTIFY: Final = "/ipfs/id/1.0.0"
PROTOCOL_VERSION: Final = "ipfs/0.1.0"
#: Bytes of a message. go-libp2p and js-libp2p have the same limit.
MAX_SIZE: Final = 8 * KIB
#: Listening addresses of a peer; further ones are ignored.
MAX_ADDRESSES: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """What a peer reports about itself. Only the key is verified (against the peer id); the rest is a claim."""

    public_key: PublicKey | None = None
    listen_addrs: tuple[Multiaddr, ...] = ()
    protocols: tuple[str, ...] = ()
    #: The address of this side, as the peer sees it.
    observed_addr: Multiaddr | None = None
    protocol_version: str = ""
    agent_version: str = ""

    @classmethod
    def from_bytes(cls, data: bytes) -> Identified:
        """Return the content of a message. Raises :class:`DecodeError`. Unsupported addresses are left out."""
        message = schema.decode("Identify", data)
        return cls(
            public_key=PublicKey(message.public_key) if message.HasField("public_key") else None,
            listen_addrs=tuple(_supported(message.listen_addrs[:MAX_ADDRESSES])),
            protocols=tuple(message.protocols),
            observed_addr=next(iter(_supported([message.observed_addr])), None),
            protocol_version=message.protocol_version,
            agent_version=message.agent_version,
        )

    def to_bytes(self) -> bytes:
        """Return the encoded message."""
        fields: dict[str, object] = {
            "listen_addrs": [address.to_bytes() for address in self.listen_addrs],
            "protocols": self.protocols,
            "protocol_version": self.protocol_version,
            "agent_version": self.agent_version,
        }
        if self.public_key is not None:
            fields["public_key"] = self.public_key.encoded
        if self.observed_addr is not None:
            fields["observed_addr"] = self.observed_addr.to_bytes()
        return schema.encode("Identify", **fields)


def _supported(addresses: Iterable[bytes]) -> list[Multiaddr]:
    return [parsed for address in addresses if (parsed := _parse(address))]


def _parse(address: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.from_bytes(address) if address else None
    except MalformedAddressError:
        return None
