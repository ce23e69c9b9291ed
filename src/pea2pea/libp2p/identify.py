"""Identify: who a peer says it is, where it listens and what it speaks. Pure. May import ``schema``, ``multiaddr``."""

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
#: No message is larger; go-libp2p and js-libp2p allow 8 KiB.
MAX_SIZE: Final = 8 * KIB
#: Addresses that are kept of what a peer announces.
MAX_ADDRESSES: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """What a peer says of itself. Nothing of it is proven but the key, which is checked against its peer id."""

    public_key: PublicKey | None = None
    listen_addrs: tuple[Multiaddr, ...] = ()
    protocols: tuple[str, ...] = ()
    #: Where it sees this side's connection come from.
    observed_addr: Multiaddr | None = None
    protocol_version: str = ""
    agent_version: str = ""

    @classmethod
    def from_bytes(cls, data: bytes) -> Identified:
        """Return what is in a message. Raises :class:`DecodeError`.

        Addresses of kinds that are not known are left out.
        """
        message = schema.decode("Identify", data)
        return cls(
            public_key=PublicKey(message.public_key) if message.HasField("public_key") else None,
            listen_addrs=tuple(_known(message.listen_addrs[:MAX_ADDRESSES])),
            protocols=tuple(message.protocols),
            observed_addr=next(iter(_known([message.observed_addr])), None),
            protocol_version=message.protocol_version,
            agent_version=message.agent_version,
        )

    def to_bytes(self) -> bytes:
        """Return the message."""
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


def _known(addresses: Iterable[bytes]) -> list[Multiaddr]:
    return [parsed for address in addresses if (parsed := _parsed(address))]


def _parsed(address: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.from_bytes(address) if address else None
    except MalformedAddressError:
        return None
