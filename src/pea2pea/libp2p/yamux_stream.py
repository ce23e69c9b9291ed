"""One Yamux stream as the protocol sees it: its state, its windows and its send queue. Pure. May import ``frames``."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..codec import Buffer
from .errors import MalformedFrameError, StreamClosedError, WindowExceededError
from .frames import HEADER, INITIAL_WINDOW, Frame

#: The payload of one Data frame. With its header it fills one Noise message.
CHUNK: Final = 65535 - 16 - HEADER.size
#: A send window never grows larger, whatever the peer grants: the wire format has 32 bits.
LARGEST_WINDOW: Final = 2**32 - 1


class YamuxStream:
    """The state of one stream. Only :class:`~pea2pea.libp2p.yamux.Yamux` changes it."""

    __slots__ = (
        "acknowledged", "ended", "finished", "finishing", "granted", "id", "inbound", "queue", "queued", "receivable",
        "reset", "sendable", "unreported",
    )

    def __init__(self, number: int, *, inbound: bool) -> None:
        self.id: int = number
        #: Whether the peer opened it.
        self.inbound: bool = inbound
        #: Whether the other side has accepted it.
        self.acknowledged: bool = inbound
        #: The send window: bytes that may be sent now.
        self.sendable = INITIAL_WINDOW
        #: Bytes that the peer may send now.
        self.receivable = INITIAL_WINDOW
        #: The receive window: bytes that may be on their way, or received and not read.
        self.granted: int = INITIAL_WINDOW
        #: Bytes that were read and that no window update has granted again yet.
        self.unreported: int = 0
        #: Data to be sent, and its size.
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        #: Whether FIN is to be sent behind that data.
        self.finishing: bool = False
        #: Whether FIN was sent.
        self.finished: bool = False
        #: Whether FIN was received.
        self.ended: bool = False
        #: Whether either side reset the stream, or the connection ended.
        self.reset: bool = False

    @property
    def is_open(self) -> bool:
        """Whether either side may still send."""
        return not self.reset and not (self.finished and self.ended)

    @property
    def has_output(self) -> bool:
        """Whether there is data that the send window allows, or FIN, to be sent."""
        if self.queued:
            return self.sendable > 0
        return self.finishing and not self.finished

    def write(self, data: Buffer) -> None:
        """Queue ``data``. Raises :class:`StreamClosedError` after :meth:`Yamux.finish`, or a reset."""
        if self.reset or self.finishing:
            raise StreamClosedError(f"stream {self.id} is closed for writing")
        if data:
            self.queue.append(memoryview(data))
            self.queued += len(data)

    def take_chunk(self) -> Buffer:
        """Remove as much data from the queue as one frame and the send window take, and return it."""
        if not (size := min(CHUNK, self.queued, self.sendable)):
            return b""
        self.queued -= size
        self.sendable -= size
        parts: list[memoryview] = []
        while size:
            first = self.queue.popleft()
            if len(first) > size:
                self.queue.appendleft(first[size:])
                first = first[:size]
            parts.append(first)
            size -= len(first)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def grow_send_window(self, size: int) -> None:
        """Apply a window update from the peer."""
        self.sendable = min(self.sendable + size, LARGEST_WINDOW)

    def take_window(self, frame: Frame) -> None:
        """Count the data of ``frame``, which was received. Raises :class:`YamuxError` if it was not allowed."""
        if self.ended:
            raise MalformedFrameError(f"{frame}: data after the end of the stream")
        if frame.length > self.receivable:
            raise WindowExceededError(f"{frame}: the window allows {self.receivable} bytes")
        self.receivable -= frame.length

    def clear_queue(self) -> None:
        """Discard the data that was not sent."""
        self.queue.clear()
        self.queued = 0

    def __repr__(self) -> str:
        return f"<YamuxStream {self.id}, {'open' if self.is_open else 'closed'}, {self.queued} bytes queued>"
