"""One side of a Yamux connection: many streams over one connection. Pure: frames in, frames out. May import ``frames``.

A :class:`Yamux` is given the frames that arrive (:meth:`~Yamux.receive`) and the requests of the program, and returns
the frames to send (:meth:`~Yamux.take`). It queues the data to send. Received data is queued by the program, which
reports how much of it was read (:meth:`~Yamux.consumed`).

Windows bound the memory. A stream has a receive window of 256 KiB at first; the window doubles while the program keeps
reading, up to ``max_window``, as long as the growth of all windows together stays within ``growth``. The number of
queued replies is bounded by ``max_replies``.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from ..codec import Buffer
from .errors import (
    GoneAwayError,
    MalformedFrameError,
    StreamLimitError,
    TooManyStreamsError,
    UnknownStreamError,
    WindowExceededError,
)
from .frames import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE, Frame
from .limits import YamuxLimits
from .yamux_stream import YamuxStream

#: Numbers of streams and of pings have 32 bits.
LARGEST_NUMBER: Final = 2**32 - 1

#: Codes of a GoAway frame.
NORMAL, PROTOCOL_ERROR, INTERNAL_ERROR = range(3)


class EventKind(Enum):
    """What a received frame did."""

    OPENED = "the peer opened the stream"
    DATA = "data was received"
    ENDED = "the peer will send no more data"
    RESET = "the peer reset the stream"
    PONG = "the peer answered a ping"
    WENT_AWAY = "the peer accepts no more streams"


class Event:
    """One effect of a received frame. ``number`` is the value of a ping, or the code of a GoAway frame."""

    __slots__ = ("data", "kind", "number", "stream")

    def __init__(
        self, kind: EventKind, stream: YamuxStream | None = None, data: Buffer = b"", number: int = 0
    ) -> None:
        self.kind: EventKind = kind
        self.stream = stream
        self.data: Buffer = data
        self.number: int = number

    def __repr__(self) -> str:
        return f"<Event {self.kind.name}, {self.stream!r}, {len(self.data)} bytes, {self.number}>"


class Yamux:
    """One side of a connection. Streams opened by the dialling side have odd numbers, those of the other side even."""

    def __init__(self, *, dialled: bool, limits: YamuxLimits | None = None) -> None:
        self.limits: YamuxLimits = limits or YamuxLimits()
        #: The streams that either side may still send on.
        self.streams: dict[int, YamuxStream] = {}
        #: The code of the peer's GoAway frame, after which it accepts no more streams; ``None`` before.
        self.went_away: int | None = None
        #: The largest receive window of any stream so far. No received frame may carry more data.
        self.largest_window = INITIAL_WINDOW
        self._parity = 1 if dialled else 0
        self._next = 1 if dialled else 2
        self._highest_inbound = 0
        self._inbound = 0
        self._unacknowledged = 0
        self._refused = 0
        self._grown = 0
        self._going_away = False
        self._pings = itertools.count(1)
        # Frames that are sent before all data. Replies have a bound of their own; the rest is bounded by the streams.
        self._control: deque[Frame] = deque()
        self._replies = 0
        # The streams that have something to send now. They take turns.
        self._ready: dict[int, YamuxStream] = {}

    # -- requests of the program -----------------------------------------------------------

    def open(self) -> YamuxStream:
        """Open a stream. Raises :class:`GoneAwayError` and :class:`StreamLimitError`."""
        if self.went_away is not None or self._going_away:
            raise GoneAwayError("the connection is being closed, and accepts no more streams")
        if self._unacknowledged >= self.limits.max_unacknowledged:
            raise StreamLimitError(f"max_unacknowledged ({self.limits.max_unacknowledged}) is reached")
        if len(self.streams) - self._inbound >= self.limits.max_outbound:
            raise StreamLimitError(f"max_outbound ({self.limits.max_outbound}) is reached")
        if self._next >= LARGEST_NUMBER:
            raise StreamLimitError("the connection has no stream numbers left")
        stream = YamuxStream(self._next, inbound=False)
        self._next += 2
        self._unacknowledged += 1
        self.streams[stream.id] = stream
        self._control.append(Frame(WINDOW_UPDATE, SYN, stream.id, 0))
        return stream

    def write(self, stream: YamuxStream, data: Buffer) -> None:
        """Queue ``data``, which must not change from here on. Raises :class:`StreamClosedError` after the end."""
        stream.write(data)
        self._schedule(stream)

    def finish(self, stream: YamuxStream) -> None:
        """Send FIN after the queued data. Does nothing if that was requested before."""
        if not stream.reset and not stream.finishing:
            stream.finishing = True
            self._schedule(stream)

    def reset(self, stream: YamuxStream) -> None:
        """End the stream in both directions and discard its data. Does nothing if it has ended."""
        if stream.id in self.streams:
            self._control.append(Frame(WINDOW_UPDATE, RST, stream.id, 0))
            self._drop(stream)

    def consumed(self, stream: YamuxStream, size: int) -> None:
        """Count ``size`` bytes as read. Once half of the window was read, the window is granted again, and grows."""
        if stream.reset or stream.ended:
            return
        stream.unreported += size
        if stream.unreported >= stream.granted // 2:
            self._grow(stream)
            self._control.append(Frame(WINDOW_UPDATE, 0, stream.id, stream.unreported))
            stream.receivable += stream.unreported
            stream.unreported = 0

    def ping(self) -> int:
        """Send a ping; return its number, which the ``PONG`` event repeats."""
        number = next(self._pings) & LARGEST_NUMBER
        self._control.append(Frame(PING, SYN, 0, number))
        return number

    def go_away(self, code: int = NORMAL) -> None:
        """Accept no more streams. Does nothing if that was requested before."""
        if not self._going_away:
            self._going_away = True
            self._control.append(Frame(GO_AWAY, 0, 0, code))

    def end(self) -> list[YamuxStream]:
        """Reset all streams, since the connection has ended; return those that were open."""
        streams = list(self.streams.values())
        for stream in streams:
            self._drop(stream)
        self._control.clear()
        return streams

    # -- sending ---------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether :meth:`take` has frames to return."""
        return bool(self._control or self._ready)

    def take(self, size: int) -> list[Frame]:
        """Return frames to send now: all control frames, and about ``size`` bytes of data, the streams taking turns."""
        frames = list(self._control)
        self._control.clear()
        self._replies = 0
        while self._ready and size > 0:
            stream = self._ready.pop(next(iter(self._ready)))
            if payload := stream.take_chunk():
                size -= len(payload)
                frames.append(Frame(DATA, 0, stream.id, len(payload), payload))
            if stream.finishing and not stream.queued:
                frames.append(self._fin(stream))
            self._schedule(stream)
        return frames

    def _schedule(self, stream: YamuxStream) -> None:
        if stream.has_output:
            self._ready[stream.id] = stream

    def _fin(self, stream: YamuxStream) -> Frame:
        """Return FIN in a frame of its own: js-libp2p loses data that arrives together with FIN."""
        stream.finished = True
        self._forget_if_over(stream)
        return Frame(WINDOW_UPDATE, FIN, stream.id, 0)

    # -- receiving -------------------------------------------------------------------------

    def receive(self, frame: Frame) -> Sequence[Event]:
        """Process one frame, and return its effects. Raises :class:`YamuxError`; the connection is then unusable."""
        if frame.kind == PING:
            return self._receive_ping(frame)
        if frame.kind == GO_AWAY:
            return self._receive_go_away(frame)
        if not frame.stream:
            raise MalformedFrameError(f"{frame}: the frame needs a stream, and 0 is the connection")
        return list(self._receive_on_stream(frame))

    def _receive_ping(self, frame: Frame) -> Sequence[Event]:
        if frame.stream or frame.flags not in (SYN, ACK):
            raise MalformedFrameError(f"{frame}: neither a ping nor its answer")
        if frame.flags == ACK:
            return (Event(EventKind.PONG, number=frame.length),)
        self._reply(Frame(PING, ACK, 0, frame.length))
        return ()

    def _receive_go_away(self, frame: Frame) -> Sequence[Event]:
        if frame.stream:
            raise MalformedFrameError(f"{frame}: only the connection (stream 0) can go away")
        self.went_away = frame.length
        return (Event(EventKind.WENT_AWAY, number=frame.length),)

    def _receive_on_stream(self, frame: Frame) -> Iterator[Event]:
        flags = frame.flags
        stream = self._receive_open(frame) if flags & SYN else self._find(frame)
        if stream is None:
            return
        if flags & SYN:
            yield Event(EventKind.OPENED, stream)
        if flags & ACK:
            self._acknowledge(stream)
        if flags & RST:
            self._drop(stream)
            yield Event(EventKind.RESET, stream)
            return
        if frame.kind == WINDOW_UPDATE:
            stream.grow_send_window(frame.length)
            self._schedule(stream)
        elif frame.length:
            stream.take_window(frame)
            yield Event(EventKind.DATA, stream, frame.payload)
        if flags & FIN and not stream.ended:
            stream.ended = True
            self._forget_if_over(stream)
            yield Event(EventKind.ENDED, stream)

    def _receive_open(self, frame: Frame) -> YamuxStream | None:
        """Return the stream that the peer opened; ``None`` if it is refused, or reset by the same frame."""
        number = frame.stream
        if number % 2 == self._parity:
            raise MalformedFrameError(f"{frame}: only this side opens streams with such numbers")
        if number in self.streams:
            raise MalformedFrameError(f"{frame}: the stream is open already")
        self._highest_inbound = max(self._highest_inbound, number)
        if frame.kind == DATA and frame.length > INITIAL_WINDOW:
            raise WindowExceededError(f"{frame}: the window of a new stream allows {INITIAL_WINDOW} bytes")
        if frame.flags & RST:
            return None
        if self._inbound >= self.limits.max_inbound or self._going_away:
            self._refuse(frame)
            return None
        self._refused = 0
        self._inbound += 1
        stream = self.streams[number] = YamuxStream(number, inbound=True)
        # Counted as a reply: a peer that opens streams and resets them at once could queue any number of these.
        self._reply(Frame(WINDOW_UPDATE, ACK, number, 0))
        return stream

    def _refuse(self, frame: Frame) -> None:
        self._refused += 1
        if self._refused > self.limits.max_refused:
            raise TooManyStreamsError(
                f"the peer opened {self._refused} streams beyond max_inbound ({self.limits.max_inbound})"
            )
        self._reply(Frame(WINDOW_UPDATE, RST, frame.stream, 0))

    def _reply(self, frame: Frame) -> None:
        self._replies += 1
        if self._replies > self.limits.max_replies:
            raise TooManyStreamsError(f"more than {self.limits.max_replies} replies are queued: the peer reads none")
        self._control.append(frame)

    def _find(self, frame: Frame) -> YamuxStream | None:
        """Return the stream; ``None`` if it has ended, which the peer may not know yet."""
        number = frame.stream
        stream = self.streams.get(number)
        if stream is None:
            highest = self._next - 2 if number % 2 == self._parity else self._highest_inbound
            if number > highest:
                raise UnknownStreamError(f"{frame}: the stream was never opened")
        return stream

    # -- bookkeeping -----------------------------------------------------------------------

    def _acknowledge(self, stream: YamuxStream) -> None:
        if not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1

    def _grow(self, stream: YamuxStream) -> None:
        """Double the receive window, as far as the limits allow."""
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
        stream.clear_queue()
        self._forget(stream)

    def _forget(self, stream: YamuxStream) -> None:
        if self.streams.pop(stream.id, None) is None:
            return
        self._ready.pop(stream.id, None)
        self._grown -= stream.granted - INITIAL_WINDOW
        if stream.inbound:
            self._inbound -= 1
        self._acknowledge(stream)
