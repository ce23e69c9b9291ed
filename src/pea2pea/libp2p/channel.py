"""What a secure channel is, and how the two sides negotiate over it before there are frames. May import asyncio."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol, TypeVar

from ..codec import Decoder, Encoder
from .multistream import Negotiation
from .peer_id import PeerId

Message = TypeVar("Message")


class Reader(Protocol):
    """As much of a ``StreamReader`` as a negotiation needs."""

    async def readexactly(self, n: int) -> bytes: ...


class Writer(Protocol):
    """As much of a ``StreamWriter`` as a negotiation needs."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class Channel(ABC):
    """An encrypted connection with a peer that has proven who it is."""

    #: The protocol as it was negotiated.
    name: str
    #: Who is on the other side.
    remote_id: PeerId

    @abstractmethod
    def decoder(self, inner: Decoder[Message]) -> Decoder[Message]:
        """Return what decrypts for ``inner``; asked for once, and the methods below are not used from then on."""

    @abstractmethod
    def encoder(self, inner: Encoder[Message]) -> Encoder[Message]:
        """Return what encrypts for ``inner``; likewise."""

    @abstractmethod
    def seal(self, plaintext: bytes) -> bytes:
        """Return a little plaintext encrypted."""

    @abstractmethod
    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        """Return some plaintext; raise where the stream ends or was altered."""

    def received(self) -> bytes:
        """Return the plaintext of what was taken from the reader and not asked for yet; asked for before a decoder is.

        Without it that would wait in the channel until the peer sends something more.
        """
        return b""


class SecureStream:
    """A reader and writer of plaintext, for as long as the handshake lasts."""

    def __init__(self, channel: Channel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._channel = channel
        self._reader = reader
        self._writer = writer
        #: Plaintext that came and was not read: it belongs to whatever follows the handshake.
        self.rest = bytearray()

    async def readexactly(self, n: int) -> bytes:
        while len(self.rest) < n:
            self.rest += await self._channel.receive(self._reader)
        data = bytes(self.rest[:n])
        del self.rest[:n]
        return data

    def write(self, data: bytes) -> None:
        self._writer.write(self._channel.seal(data))

    async def drain(self) -> None:
        await self._writer.drain()


async def negotiate(negotiation: Negotiation, reader: Reader, writer: Writer) -> str:
    """Run a negotiation to its end, and return the protocol. Reads nothing that is not part of it."""
    while True:
        output = negotiation.take()
        if output:
            writer.write(output)
            await writer.drain()
        if negotiation.protocol is not None:
            return negotiation.protocol
        negotiation.receive(await reader.readexactly(negotiation.wanted))
