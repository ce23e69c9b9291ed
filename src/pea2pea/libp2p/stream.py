"""A stream of a connection, as a program reads and writes it. May import asyncio.

Methods have the names of ``asyncio.StreamReader`` and ``asyncio.StreamWriter``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ..codec import KIB, Buffer
from .errors import StreamClosedError, StreamResetError
from .peer_id import PeerId
from .yamux_stream import YamuxStream

if TYPE_CHECKING:
    from ..peer import Peer
    from .connection import Connection

#: Bytes that may be queued for sending before :meth:`Stream.drain` waits.
HIGH_WATER: Final = 512 * KIB


class Stream:
    """A bidirectional byte stream. The receive window bounds the data that was received and not read.

    Its methods raise :class:`StreamResetError` after the peer has reset it or the connection has ended, and
    :class:`StreamClosedError` after this side has closed or reset it. As a context manager it is closed at the end, or
    reset if an exception leaves the block.
    """

    __slots__ = (
        "_connection", "_drained", "_error", "_first", "_reading", "_received", "_size", "_waiter", "protocol", "state",
    )

    def __init__(self, connection: Connection, state: YamuxStream) -> None:
        self._connection = connection
        #: The stream as Yamux sees it. Only the connection changes it.
        self.state: YamuxStream = state
        #: The negotiated protocol; empty until there is one.
        self.protocol: str = ""
        # Data that was not read, _size bytes in all. The first _first bytes of the first part are read already.
        self._received: deque[bytes] = deque()
        self._first = 0
        self._size = 0
        self._reading = True
        self._error: StreamResetError | StreamClosedError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: deque[asyncio.Future[None]] = deque()

    @property
    def id(self) -> int:
        """The number of the stream on its connection."""
        return self.state.id

    @property
    def peer(self) -> Peer:
        """The peer at the other end."""
        return self._connection.peer

    @property
    def remote_id(self) -> PeerId:
        """The id of the peer."""
        return self._connection.remote_id

    @property
    def inbound(self) -> bool:
        """Whether the peer opened the stream."""
        return self.state.inbound

    @property
    def unread(self) -> int:
        """The number of bytes that were received and not read."""
        return self._size

    # -- reading ---------------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Return up to ``n`` bytes as soon as there are some, or ``b""`` at the end; -1: all bytes up to the end."""
        if n < 0:
            return await self._read_all()
        while n and not self._size:
            if self._at_end():
                return b""
            await self._more()
        return self._cut(n)

    async def readexactly(self, n: int) -> bytes:
        """Return ``n`` bytes. Raises ``asyncio.IncompleteReadError`` if the stream ends before."""
        if n <= self._size:
            return self._gather(n)
        parts = bytearray()
        while len(parts) < n:
            # Read piece by piece, so that the window opens again: n may be larger than the window.
            data = await self.read(n - len(parts))
            if not data:
                raise asyncio.IncompleteReadError(bytes(parts), n)
            parts += data
        return bytes(parts)

    def at_eof(self) -> bool:
        """Return whether all data was read and no more will be received."""
        return not self._size and (self.state.ended or self._error is not None)

    async def _read_all(self) -> bytes:
        parts = []
        while data := await self.read(HIGH_WATER):
            parts.append(data)
        return b"".join(parts)

    def _at_end(self) -> bool:
        if self._error is not None:
            raise self._error
        if not self._reading:
            raise StreamClosedError(f"stream {self.id} is closed")
        return self.state.ended

    async def _more(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task is reading this stream already")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _gather(self, n: int) -> bytes:
        parts = []
        while n:
            parts.append(self._cut(n))
            n -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _cut(self, n: int) -> bytes:
        """Remove up to ``n`` bytes from the first part of the received data, and return them."""
        if not self._size or not n:
            return b""
        first = self._received[0]
        if len(first) - self._first <= n:
            self._received.popleft()
            data = first[self._first :] if self._first else first
            self._first = 0
        else:
            data = first[self._first : self._first + n]
            self._first += n
        self._size -= len(data)
        self._connection.consumed(self.state, len(data))
        return data

    # -- writing ---------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Queue ``data`` for sending; await :meth:`drain` after it. Raises if the stream is closed for writing."""
        if self._error is not None:
            raise self._error
        self._connection.write(self.state, data if isinstance(data, bytes) else bytes(data))

    async def drain(self) -> None:
        """Wait until at most ``HIGH_WATER`` bytes are queued. Raises if the stream was reset."""
        while self._error is None and self.state.queued > HIGH_WATER:
            waiter = asyncio.get_running_loop().create_future()
            self._drained.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

    def close_write(self) -> None:
        """Send the end of the stream after the queued data (half-close). Reading is still possible."""
        self._connection.finish(self.state)

    def write_eof(self) -> None:
        """The same as :meth:`close_write`, by its name in asyncio."""
        self.close_write()

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Send the queued data and the end of the stream, and stop reading: data that still arrives is discarded."""
        self.close_write()
        self._reading = False
        size, self._size, self._first = self._size, 0, 0
        self._received.clear()
        self._connection.consumed(self.state, size)

    def reset(self) -> None:
        """End the stream at once in both directions, and discard queued data."""
        self._connection.reset(self.state)
        self.set_exception(StreamClosedError(f"stream {self.id} was reset by this side"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
        else:
            self.reset()

    def __repr__(self) -> str:
        state = "reset" if self._error else "open" if self.state.is_open else "closed"
        return f"<Stream {self.id} {self.protocol or 'unnegotiated'} with {self.remote_id}, {state}>"

    # -- called by the connection ----------------------------------------------------------

    def feed_data(self, data: bytes) -> None:
        """Add data that was received."""
        if not self._reading:
            self._connection.consumed(self.state, len(data))
            if self.state.finished:  # the stream is closed, and the peer has not noticed
                self.reset()
            return
        self._received.append(data)
        self._size += len(data)
        self._wake_reader()

    def feed_eof(self) -> None:
        """The peer has sent the end of the stream."""
        self._wake_reader()

    def set_exception(self, error: StreamResetError | StreamClosedError) -> None:
        """End the stream: what reads and writes raises ``error`` from now on, if it did not end before."""
        if self._error is None:
            self._error = error
            self._received.clear()
            self._size = self._first = 0
            self._wake_reader()
            self.wake_writers()

    def _wake_reader(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wake_writers(self) -> None:
        """Let :meth:`drain` return, if little enough data is queued."""
        if self.state.queued <= HIGH_WATER or self._error is not None:
            while self._drained:
                waiter = self._drained.popleft()
                if not waiter.done():
                    waiter.set_result(None)
