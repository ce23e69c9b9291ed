"""Yamux, one side of it: many streams over one connection. Pure: frames in, frames out. May import ``frames``.

A :class:`Yamux` is told what came (:meth:`~Yamux.receive`) and what the program wants, and gives the frames
that are to be sent (:meth:`~Yamux.take`). It holds what waits to be sent; what was received, the program holds,
and says how much of it is :meth:`~Yamux.consumed`.

Memory is bounded by windows. A stream may receive 256 KiB; as its reader keeps up, the window is doubled, up to
``max_window`` and as long as all growth together stays within ``growth``. Replies that the other side does not
take are bounded by ``max_replies``.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ..codec import MIB, Buffer
from ..config import check_count
from .errors import (
    GoneAwayError,
    MalformedFrameError,
    StreamClosedError,
    StreamLimitError,
    TooManyStreamsError,
    UnknownStreamError,
    WindowExceededError,
)
from .frames import ACK, DATA, FIN, GO_AWAY, HEADER, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE, Frame

#: What one Data frame carries: with its header it fills one Noise message.
CHUNK: Final = 65535 - 16 - HEADER.size
#: No window is ever larger, whatever the other side grants: the number has 32 bits.
LARGEST_WINDOW: Final = 2**32 - 1

#: Reasons to go away.
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)


@dataclass(frozen=True, kw_only=True, slots=True)
class YamuxLimits:
    """What one connection may cost. Raises :class:`ConfigError` naming the field that is wrong."""

    #: Streams that the other side may have open; further ones are reset.
    max_inbound: int = 256
    #: Streams that this side may have open.
    max_outbound: int = 1024
    #: Streams of this side that may wait to be acknowledged.
    max_unacknowledged: int = 256
    #: Opened streams that are refused, without one being let in between, before the connection ends.
    max_refused: int = 1024
    #: What one stream may receive without being read.
    max_window: int = 16 * MIB
    #: What all streams together may receive beyond their first 256 KiB each.
    growth: int = 64 * MIB
    #: Answers to pings and refusals that may wait for the other side to take them.
    max_replies: int = 1024

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_count(name, getattr(self, name))


class Happening(Enum):
    """What a frame brought about."""

    OPENED = "the other side opened the stream"
    DATA = "bytes came"
    ENDED = "the other side sends no more"
    RESET = "the other side reset the stream"
    PONG = "a ping was answered"
    WENT_AWAY = "the other side takes no more streams"


class Event:
    """One happening: with its stream, with the bytes that came, or with a ping's or a reason's number."""

    __slots__ = ("data", "kind", "number", "stream")

    def __init__(
        self, kind: Happening, stream: YamuxStream | None = None, data: Buffer = b"", number: int = 0
    ) -> None:
        self.kind = kind
        self.stream = stream
        self.data = data
        self.number = number

    def __repr__(self) -> str:
        return f"<Event {self.kind.name}, {self.stream!r}, {len(self.data)} bytes, {self.number}>"


class YamuxStream:
    """One stream, as far as the protocol goes. :class:`Yamux` changes it; all others read it."""

    __slots__ = (
        "acknowledged", "ended", "finished", "finishing", "granted", "id", "inbound", "queue", "queued", "receivable",
        "reset", "sendable", "unreported",
    )

    def __init__(self, number: int, *, inbound: bool) -> None:
        self.id = number
        self.inbound = inbound
        #: The other side accepted it.
        self.acknowledged = inbound
        #: What the other side takes now.
        self.sendable = INITIAL_WINDOW
        #: What the other side may send now.
        self.receivable = INITIAL_WINDOW
        #: The size of the window: what may be received, or wait to be consumed.
        self.granted = INITIAL_WINDOW
        #: Consumed, and not granted again yet.
        self.unreported = 0
        #: What waits to be sent.
        self.queue: deque[memoryview] = deque()
        self.queued = 0
        #: The end is to be sent behind that; was sent; came.
        self.finishing = False
        self.finished = False
        self.ended = False
        #: Either side reset it, or the connection ended.
        self.reset = False

    @property
    def is_open(self) -> bool:
        """Whether either side may still send."""
        return not self.reset and not (self.finished and self.ended)

    def __repr__(self) -> str:
        return f"<YamuxStream {self.id}, {'open' if self.is_open else 'closed'}, {self.queued} bytes to send>"


class Yamux:
    """One side of a connection. The dialling side's streams have odd numbers, the other's even ones."""

    def __init__(self, *, dialled: bool, limits: YamuxLimits | None = None) -> None:
        self.limits = limits or YamuxLimits()
        #: The streams that are open on either side.
        self.streams: dict[int, YamuxStream] = {}
        #: The other side takes no more streams: why, as a number.
        self.went_away: int | None = None
        #: The largest window of any stream so far: no frame may carry more.
        self.largest_window = INITIAL_WINDOW
        self._own = 1 if dialled else 2
        self._next = self._own
        self._highest_inbound = 0
        self._inbound = 0
        self._unacknowledged = 0
        self._refused = 0
        self._grown = 0
        self._going_away = False
        self._pings = itertools.count(1)
        # Frames that go before all data. Replies are counted; the others are bounded by the streams.
        self._control: deque[Frame] = deque()
        self._replies = 0
        # The streams that have something to send and may, in turn.
        self._ready: dict[int, YamuxStream] = {}

    # -- what the program wants ------------------------------------------------------------

    def open(self) -> YamuxStream:
        """Open a stream. Raises :class:`GoneAwayError` and :class:`StreamLimitError`."""
        if self.went_away is not None or self._going_away:
            raise GoneAwayError("no more streams are taken on this connection")
        if self._unacknowledged >= self.limits.max_unacknowledged:
            raise StreamLimitError(f"max_unacknowledged ({self.limits.max_unacknowledged}) is reached")
        if len(self.streams) - self._inbound >= self.limits.max_outbound or self._next >= LARGEST_WINDOW:
            raise StreamLimitError(f"max_outbound ({self.limits.max_outbound}) is reached")
        stream = YamuxStream(self._next, inbound=False)
        self._next += 2
        self._unacknowledged += 1
        self.streams[stream.id] = stream
        self._control.append(Frame(WINDOW_UPDATE, SYN, stream.id, 0))
        return stream

    def write(self, stream: YamuxStream, data: Buffer) -> None:
        """Send ``data``, which is not changed from here on. Raises :class:`StreamClosedError` behind the end."""
        if stream.reset or stream.finishing:
            raise StreamClosedError(f"stream {stream.id} is closed for writing")
        if data:
            stream.queue.append(memoryview(data))
            stream.queued += len(data)
            self._may_send(stream)

    def finish(self, stream: YamuxStream) -> None:
        """Send the end behind what is written. Does nothing where that was asked before."""
        if not stream.reset and not stream.finishing:
            stream.finishing = True
            self._may_send(stream)

    def reset(self, stream: YamuxStream) -> None:
        """Give the stream up, both ways. Does nothing where it is over."""
        if stream.id in self.streams:
            self._control.append(Frame(WINDOW_UPDATE, RST, stream.id, 0))
            self._drop(stream)

    def consumed(self, stream: YamuxStream, size: int) -> None:
        """So many bytes were read: the other side may send as many more, and soon twice as many."""
        if stream.reset or stream.ended:
            return
        stream.unreported += size
        if stream.unreported >= stream.granted // 2:
            self._grow(stream)
            self._control.append(Frame(WINDOW_UPDATE, 0, stream.id, stream.unreported))
            stream.receivable += stream.unreported
            stream.unreported = 0

    def ping(self) -> int:
        """Ask for a sign of life; the number comes back with ``PONG``."""
        number = next(self._pings) & LARGEST_WINDOW
        self._control.append(Frame(PING, SYN, 0, number))
        return number

    def go_away(self, reason: int = NORMAL) -> None:
        """Take no more streams. Does nothing where that was said before."""
        if not self._going_away:
            self._going_away = True
            self._control.append(Frame(GO_AWAY, 0, 0, reason))

    def end(self) -> list[YamuxStream]:
        """The connection is over: all streams are reset. Returns those that were not."""
        streams = list(self.streams.values())
        for stream in streams:
            self._drop(stream)
        self._control.clear()
        return streams

    # -- what is to be sent ----------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether :meth:`take` has anything to give."""
        return bool(self._control or self._ready)

    def take(self, size: int) -> list[Frame]:
        """Return frames to be sent now: all that is not data, and about ``size`` bytes of data, streams in turn."""
        frames = list(self._control)
        self._control.clear()
        self._replies = 0
        while self._ready and size > 0:
            stream = self._ready.pop(next(iter(self._ready)))
            if payload := self._cut(stream):
                size -= len(payload)
                frames.append(Frame(DATA, 0, stream.id, len(payload), payload))
            if stream.finishing and not stream.queued:
                frames.append(self._last(stream))
            self._may_send(stream)
        return frames

    def _may_send(self, stream: YamuxStream) -> None:
        if (stream.queued and stream.sendable) or (stream.finishing and not stream.finished and not stream.queued):
            self._ready[stream.id] = stream

    def _cut(self, stream: YamuxStream) -> Buffer:
        """Take what one frame may carry off the stream's queue."""
        if not (size := min(CHUNK, stream.queued, stream.sendable)):
            return b""
        stream.queued -= size
        stream.sendable -= size
        parts: list[memoryview] = []
        while size:
            first = stream.queue.popleft()
            if len(first) > size:
                stream.queue.appendleft(first[size:])
                first = first[:size]
            parts.append(first)
            size -= len(first)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _last(self, stream: YamuxStream) -> Frame:
        """The end of the stream: never together with data, which js-libp2p loses then."""
        stream.finished = True
        self._forget_if_over(stream)
        return Frame(WINDOW_UPDATE, FIN, stream.id, 0)

    # -- what came -------------------------------------------------------------------------

    def receive(self, frame: Frame) -> Sequence[Event]:
        """Take one frame, and return what it brought about. Raises :class:`YamuxError`; the connection is over then."""
        if frame.kind == PING:
            return self._receive_ping(frame)
        if frame.kind == GO_AWAY:
            return self._receive_go_away(frame)
        if not frame.stream:
            raise MalformedFrameError(f"{frame}: that is no stream")
        return list(self._receive_of_stream(frame))

    def _receive_ping(self, frame: Frame) -> Sequence[Event]:
        if frame.stream or frame.flags not in (SYN, ACK):
            raise MalformedFrameError(f"{frame}: neither ping nor answer")
        if frame.flags == ACK:
            return (Event(Happening.PONG, number=frame.length),)
        self._reply(Frame(PING, ACK, 0, frame.length))
        return ()

    def _receive_go_away(self, frame: Frame) -> Sequence[Event]:
        if frame.stream:
            raise MalformedFrameError(f"{frame}: it goes away as a whole")
        self.went_away = frame.length
        return (Event(Happening.WENT_AWAY, number=frame.length),)

    def _receive_of_stream(self, frame: Frame) -> Iterator[Event]:
        flags = frame.flags
        if flags & SYN:
            stream = self._receive_open(frame)
            if stream is None:
                return
            yield Event(Happening.OPENED, stream)
        else:
            found = self._find(frame)
            if found is None:
                return
            stream = found
        if flags & ACK:
            self._acknowledge(stream)
        if flags & RST:
            self._drop(stream)
            yield Event(Happening.RESET, stream)
            return
        if frame.kind == WINDOW_UPDATE:
            stream.sendable = min(stream.sendable + frame.length, LARGEST_WINDOW)
            self._may_send(stream)
        elif frame.length:
            self._receive_data(stream, frame)
            yield Event(Happening.DATA, stream, frame.payload)
        if flags & FIN and not stream.ended:
            stream.ended = True
            self._forget_if_over(stream)
            yield Event(Happening.ENDED, stream)

    def _receive_open(self, frame: Frame) -> YamuxStream | None:
        number = frame.stream
        if number % 2 == self._own % 2:
            raise MalformedFrameError(f"{frame}: the number is for this side to give")
        if number in self.streams:
            raise MalformedFrameError(f"{frame}: the stream is open")
        self._highest_inbound = max(self._highest_inbound, number)
        if frame.kind == DATA and frame.length > INITIAL_WINDOW:
            raise WindowExceededError(f"{frame}: a new stream may receive {INITIAL_WINDOW} bytes")
        if frame.flags & RST:  # opened and given up in one
            return None
        if self._inbound >= self.limits.max_inbound or self._going_away:
            self._refuse(frame)
            return None
        self._refused = 0
        self._inbound += 1
        stream = self.streams[number] = YamuxStream(number, inbound=True)
        # Counted as a reply: who opens and resets streams in one breath could have any number of these.
        self._reply(Frame(WINDOW_UPDATE, ACK, number, 0))
        return stream

    def _refuse(self, frame: Frame) -> None:
        self._refused += 1
        if self._refused > self.limits.max_refused:
            raise TooManyStreamsError(f"{self._refused} streams beyond max_inbound ({self.limits.max_inbound})")
        self._reply(Frame(WINDOW_UPDATE, RST, frame.stream, 0))

    def _reply(self, frame: Frame) -> None:
        self._replies += 1
        if self._replies > self.limits.max_replies:
            raise TooManyStreamsError(f"more than {self.limits.max_replies} replies wait, and are not taken")
        self._control.append(frame)

    def _find(self, frame: Frame) -> YamuxStream | None:
        """The stream; ``None`` for one that is over, of which the other side need not know yet."""
        number = frame.stream
        stream = self.streams.get(number)
        if stream is None:
            highest = self._next - 2 if number % 2 == self._own % 2 else self._highest_inbound
            if number > highest:
                raise UnknownStreamError(f"{frame}: nobody opened it")
        return stream

    def _acknowledge(self, stream: YamuxStream) -> None:
        if not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1

    def _receive_data(self, stream: YamuxStream, frame: Frame) -> None:
        if stream.ended:
            raise MalformedFrameError(f"{frame}: data behind the end")
        if frame.length > stream.receivable:
            raise WindowExceededError(f"{frame}: {stream.receivable} bytes are allowed")
        stream.receivable -= frame.length

    # -- keeping house ---------------------------------------------------------------------

    def _grow(self, stream: YamuxStream) -> None:
        more = min(stream.granted, self.limits.max_window - stream.granted, self.limits.growth - self._grown)
        if more > 0:
            stream.granted += more
            stream.unreported += more
            self._grown += more
            self.largest_window = max(self.largest_window, stream.granted)

    def _forget_if_over(self, stream: YamuxStream) -> None:
        if stream.finished and stream.ended:
            self._forget(stream)

    def _drop(self, stream: YamuxStream) -> None:
        stream.reset = True
        stream.queue.clear()
        stream.queued = 0
        self._forget(stream)

    def _forget(self, stream: YamuxStream) -> None:
        if self.streams.pop(stream.id, None) is None:
            return
        self._ready.pop(stream.id, None)
        self._grown -= stream.granted - INITIAL_WINDOW
        if stream.inbound:
            self._inbound -= 1
        self._acknowledge(stream)
