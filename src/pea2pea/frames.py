"""Messages inside a handshake: a codec over its streams. May import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from .codec import Buffer
from .errors import HandshakeError, UsageError
from .streams import HandshakeReader

Message = TypeVar("Message")

#: Bytes asked of the reader at once.
READ_SIZE: Final = 16 * 1024


class MessageCodec(Protocol[Message]):
    """A decoder and an encoder in one object, such as all codecs of this library."""

    def decode(self, buffer: memoryview) -> tuple[Sequence[Message], int]: ...

    def encode(self, messages: Sequence[Message]) -> Sequence[Buffer]: ...


class Frames(Generic[Message]):
    """The streams of a handshake as messages of a codec, which must keep no state of its own.

    ::

        async def handshake(self, peer, reader, writer):
            frames = Frames(reader, writer, LengthDelimited(max_frame=1024))
            await frames.send(b"hello")
            return await frames.receive()

    Bytes that arrive behind the last message received are the first that the decoder of the connection gets. Raises
    :class:`~pea2pea.errors.UsageError` for streams that are not those of a ``handshake`` hook.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, codec: MessageCodec[Message]
    ) -> None:
        if not isinstance(reader, HandshakeReader):
            raise UsageError("Frames needs the reader that a handshake hook is given")
        self._reader = reader
        self._writer = writer
        self._codec = codec

    async def send(self, message: Message) -> None:
        """Write one message, and wait until the transport has room for more.

        Raises :class:`~pea2pea.errors.EncodeError` for a message that cannot be encoded, and ``ConnectionError`` if the
        connection is lost.
        """
        self._writer.writelines(self._codec.encode([message]))
        await self._writer.drain()

    async def receive(self) -> Message:
        """Return the next message.

        Raises :class:`~pea2pea.errors.DecodeError` for bytes that cannot be decoded, and
        :class:`~pea2pea.errors.HandshakeError` if the peer ends its stream before the message is whole.
        """
        left = self._reader.left
        while True:
            with memoryview(left) as view:
                messages, used = self._first(view)
            if messages:
                del left[:used]
                return messages[0]
            data = await self._reader.read_more(READ_SIZE)
            if not data:
                raise HandshakeError("the peer ended its stream during the handshake")
            left += data

    def _first(self, view: memoryview) -> tuple[Sequence[Message], int]:
        """The first message in ``view`` and its size; no message if it is not whole."""
        messages, used = self._codec.decode(view) if view else ((), 0)
        if len(messages) < 2:
            return messages, used
        # Several arrived. The shortest beginning that holds a message holds just one.
        low, high = 1, used
        while low < high:
            middle = (low + high) // 2
            if self._codec.decode(view[:middle])[0]:
                high = middle
            else:
                low = middle + 1
        return messages, high
