"""The interface of secure channels, and protocol negotiation on a reader and a writer. May import asyncio."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Protocol, TypeVar

from ..codec import Decoder, Encoder
from .multistream import Negotiation
from .peer_id import PeerId

Message = TypeVar("Message")


class Reader(Protocol):
    """The part of ``asyncio.StreamReader`` that a negotiation uses."""

    async def readexactly(self, n: int) -> bytes: ...


class Writer(Protocol):
    """The part of ``asyncio.StreamWriter`` that a negotiation uses."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class Channel(ABC):
    """An encrypted connection with a peer that has proven its identity."""

    #: The protocol, as multistream-select negotiated it.
    name: str
    #: The id of the peer.
    remote_id: PeerId

    @abstractmethod
    def decoder(self, inner: Decoder[Message]) -> Decoder[Message]:
        """Return a decoder that decrypts, and decodes the plaintext with ``inner``.

        Called once. After that, :meth:`receive` and :meth:`received` must not be called.
        """

    @abstractmethod
    def encoder(self, inner: Encoder[Message]) -> Encoder[Message]:
        """Return an encoder that encodes with ``inner``, and encrypts the bytes.

        Called once. After that, :meth:`seal` must not be called.
        """

    @abstractmethod
    def seal(self, plaintext: bytes) -> bytes:
        """Return a short plaintext encrypted."""

    @abstractmethod
    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next bytes of plaintext; raise if the stream ends, or was tampered with."""

    def received(self) -> bytes:
        """Return the plaintext of bytes that :meth:`receive` has read but not returned.

        Called before :meth:`decoder`: a decoder would not see this plaintext until the peer sends something else.
        """
        return b""


class SecureStream:
    """A reader and writer of plaintext, used for the negotiation that ends the handshake."""

    def __init__(self, channel: Channel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._channel = channel
        self._reader = reader
        self._writer = writer
        #: Plaintext that was received and not read: the first bytes of the multiplexed connection.
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
    """Run a negotiation and return the agreed protocol. Reads no byte beyond the negotiation."""
    while True:
        output = negotiation.take()
        if output:
            writer.write(output)
            await writer.drain()
        if negotiation.protocol is not None:
            return negotiation.protocol
        negotiation.receive(await reader.readexactly(negotiation.wanted))
