"""A stream of one connection, as a program reads and writes it. May import asyncio.

The names are those of ``StreamReader`` and ``StreamWriter``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ..codec import KIB, Buffer
from .errors import StreamClosedError, StreamResetError
from .peer_id import PeerId
from .yamux import YamuxStream

if TYPE_CHECKING:
    from ..peer import Peer
    from .connection import Connection

#: What may wait to be sent before :meth:`Stream.drain` waits.
HIGH_WATER: Final = 512 * KIB


class Stream:
    """Bytes both ways, in order. What was received and not read is bounded by the stream's window.

    Raises :class:`StreamResetError` once the other side has reset it or the connection has ended, and
    :class:`StreamClosedError` where this side did.
    """

    __slots__ = (
        "_connection", "_drained", "_error", "_first", "_reading", "_received", "_size", "_state", "_waiter",
        "protocol",
    )

    def __init__(self, connection: Connection, state: YamuxStream) -> None:
        self._connection = connection
        self._state = state
        #: What was negotiated for it.
        self.protocol = ""
        self._received: deque[bytes] = deque()
        # Bytes of the first of those that were read already, and the bytes that were not, of all of them.
        self._first = 0
        self._size = 0
        self._reading = True
        self._error: StreamResetError | StreamClosedError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: deque[asyncio.Future[None]] = deque()

    @property
    def id(self) -> int:
        """Its number on the connection."""
        return self._state.id

    @property
    def peer(self) -> Peer:
        """Whose connection it is on."""
        return self._connection.peer

    @property
    def remote_id(self) -> PeerId:
        """Who is on the other side."""
        return self._connection.remote_id

    @property
    def inbound(self) -> bool:
        """Whether the other side opened it."""
        return self._state.inbound

    @property
    def unread(self) -> int:
        """Bytes that came and were not read."""
        return self._size

    # -- reading ---------------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """Return up to ``n`` bytes as soon as there are any, or all up to the end (-1); ``b""`` at the end."""
        if n < 0:
            return await self._read_all()
        while n and not self._size:
            if self._at_end():
                return b""
            await self._more()
        return self._cut(n)

    async def readexactly(self, n: int) -> bytes:
        """Return ``n`` bytes. Raises ``asyncio.IncompleteReadError`` where the end comes before."""
        if n <= self._size:
            return self._gather(n)
        parts = bytearray()
        while len(parts) < n:
            # Taken as they come: more than a window could not be received otherwise.
            data = await self.read(n - len(parts))
            if not data:
                raise asyncio.IncompleteReadError(bytes(parts), n)
            parts += data
        return bytes(parts)

    def at_eof(self) -> bool:
        """Whether all was read and no more will come."""
        return not self._size and (self._state.ended or self._error is not None)

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
        return self._state.ended

    async def _more(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task reads this stream already")
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
        """Take up to ``n`` bytes off what came first."""
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
        self._connection.consumed(self._state, len(data))
        return data

    # -- writing ---------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Queue ``data``; raises at once where nothing can be written any more. Wait with :meth:`drain`."""
        if self._error is not None:
            raise self._error
        self._connection.write(self._state, data if isinstance(data, bytes) else bytes(data))

    async def drain(self) -> None:
        """Return when there is room to write more. Raises where the stream was reset."""
        while self._error is None and self._state.queued > HIGH_WATER:
            waiter = asyncio.get_running_loop().create_future()
            self._drained.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

    def close_write(self) -> None:
        """Send the end behind what was written; reading goes on."""
        self._connection.finish(self._state)

    def write_eof(self) -> None:
        """The same, by the name that ``asyncio`` has for it."""
        self.close_write()

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Send what was written and the end, and read no more; what comes is thrown away."""
        self.close_write()
        self._reading = False
        size, self._size, self._first = self._size, 0, 0
        self._received.clear()
        self._connection.consumed(self._state, size)

    def reset(self) -> None:
        """Give the stream up at once, both ways."""
        self._connection.reset(self._state)
        self._fail(StreamClosedError(f"stream {self.id} was reset by this side"))

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
        state = "reset" if self._error else "open" if self._state.is_open else "closed"
        return f"<Stream {self.id} {self.protocol or 'unnegotiated'} with {self.remote_id}, {state}>"

    # -- what the connection tells ---------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        if not self._reading:
            self._connection.consumed(self._state, len(data))
            if self._state.finished:
                # All was said, and the other side still talks to nobody.
                self.reset()
            return
        self._received.append(data)
        self._size += len(data)
        self._wake_reader()

    def _ended(self) -> None:
        self._wake_reader()

    def _fail(self, error: StreamResetError | StreamClosedError) -> None:
        if self._error is None:
            self._error = error
            self._received.clear()
            self._size = self._first = 0
            self._wake_reader()
            self._wake_writers()

    def _wake_reader(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_writers(self) -> None:
        if self._state.queued <= HIGH_WATER or self._error is not None:
            while self._drained:
                waiter = self._drained.popleft()
                if not waiter.done():
                    waiter.set_result(None)
