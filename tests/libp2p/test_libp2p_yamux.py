"""Yamux without a network: two sides and the bytes between them, violations of the protocol, and limits."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pea2pea.errors import ConfigError, FrameTooLargeError, IncompleteFrameError
from pea2pea.libp2p import GoneAwayError, StreamClosedError, StreamLimitError, YamuxError, YamuxLimits
from pea2pea.libp2p.errors import MalformedFrameError, TooManyStreamsError, UnknownStreamError, WindowExceededError
from pea2pea.libp2p.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    INITIAL_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    Frame,
    FrameDecoder,
    FrameEncoder,
)
from pea2pea.libp2p.yamux import Event, EventKind, Yamux
from pea2pea.libp2p.yamux_stream import CHUNK, YamuxStream

ALL = sys.maxsize


def encode(*frames: Frame) -> bytes:
    return b"".join(FrameEncoder().encode(frames))


def data(stream: int, payload: bytes, flags: int = 0) -> Frame:
    return Frame(DATA, flags, stream, len(payload), payload)


def kinds(events: object) -> list[EventKind]:
    assert isinstance(events, list | tuple)
    return [event.kind for event in events]


# Frames


frames = st.one_of(
    st.builds(data, st.integers(0, 2**32 - 1), st.binary(max_size=200), st.integers(0, 15)),
    st.builds(
        Frame, st.sampled_from([WINDOW_UPDATE, PING, GO_AWAY]), st.integers(0, 15), st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1), st.just(b""),
    ),
)


@given(st.lists(frames, max_size=8), st.data())
def test_frames_are_the_same_however_the_bytes_are_cut(sent: list[Frame], draw: st.DataObject) -> None:
    """Fact 2: frame boundaries are independent of the messages of the secure channel."""
    stream = encode(*sent)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    head = draw.draw(st.integers(0, min(11, len(stream))))
    decoder, rest = FrameDecoder(stream[:head]), b""
    got: list[Frame] = []
    edges = [head, *(max(cut, head) for cut in cuts), len(stream)]
    for start, stop in itertools.pairwise(edges):
        rest += stream[start:stop]
        while rest:
            found, used = decoder.decode(memoryview(rest))
            got += found
            rest = rest[used:]
            if not used:
                break
    decoder.finish(memoryview(rest))
    assert got == sent


def test_a_header_has_the_format_of_the_specification() -> None:
    """Version 0, type, flags in two bytes, stream and length in four each, big-endian."""
    assert encode(data(3, b"hi", FIN)).hex() == "000000040000000300000002" + b"hi".hex()
    assert encode(Frame(PING, SYN, 0, 0xDEADBEEF)).hex() == "0002000100000000deadbeef"
    assert FrameEncoder() == FrameEncoder() and hash(FrameEncoder()) == hash(FrameEncoder())
    assert str(Frame(WINDOW_UPDATE, SYN | ACK, 2, 7)) == "WindowUpdate|SYN|ACK of stream 2, 7"


@pytest.mark.parametrize("header", ["01" + "00" * 11, "0004" + "00" * 10, "00000010" + "00" * 8, "0000ffff" + "00" * 8])
def test_a_malformed_header_is_refused(header: str) -> None:
    good, bad = encode(Frame(PING, SYN, 0, 1)), bytes.fromhex(header)
    decoder = FrameDecoder()
    assert decoder.decode(memoryview(good + bad)) == ([Frame(PING, SYN, 0, 1)], 12)
    with pytest.raises(MalformedFrameError):
        decoder.decode(memoryview(bad))


def test_a_length_is_checked_with_the_header() -> None:
    decoder = FrameDecoder()
    head = bytes.fromhex("000000000000000100040001")
    with pytest.raises(FrameTooLargeError):
        decoder.decode(memoryview(head))
    decoder.max_payload += 1
    assert decoder.decode(memoryview(head)) == ([], 0)
    assert decoder.frame_size(memoryview(head)) == 12 + INITIAL_WINDOW + 1
    assert decoder.frame_size(memoryview(head[:11])) == 0
    assert decoder.frame_size(memoryview(encode(Frame(PING, SYN, 0, 1 << 30)))) == 12


def test_the_end_of_the_stream_inside_a_frame_is_an_error() -> None:
    for decoder, rest in ((FrameDecoder(), b"\0"), (FrameDecoder(b"\0"), b"")):
        with pytest.raises(IncompleteFrameError):
            decoder.finish(memoryview(rest))
    assert FrameDecoder().finish(memoryview(b"")) == ()


# Two sides


class Side:
    """One side, and the data that a program would keep for each stream."""

    def __init__(self, *, dialled: bool, limits: YamuxLimits | None = None) -> None:
        self.mux = Yamux(dialled=dialled, limits=limits)
        self.decoder = FrameDecoder()
        self.streams: dict[int, YamuxStream] = {}
        self.received: dict[int, bytearray] = {}
        self.unread: dict[int, int] = {}
        self.events: list[Event] = []

    def add(self, stream: YamuxStream) -> YamuxStream:
        self.streams[stream.id] = stream
        self.received[stream.id], self.unread[stream.id] = bytearray(), 0
        return stream

    def receive(self, wire: bytes) -> None:
        self.decoder.max_payload = self.mux.largest_window
        got, used = self.decoder.decode(memoryview(wire))
        assert used == len(wire)
        for frame in got:
            for event in self.mux.receive(frame):
                self.events.append(event)
                if event.kind is EventKind.OPENED:
                    assert event.stream is not None
                    self.add(event.stream)
                elif event.kind is EventKind.DATA:
                    assert event.stream is not None
                    self.received[event.stream.id] += event.data
                    self.unread[event.stream.id] += len(event.data)

    def read(self, number: int, size: int) -> None:
        size = min(size, self.unread[number])
        self.unread[number] -= size
        self.mux.consumed(self.streams[number], size)


def exchange(left: Side, right: Side, *, read: bool = True) -> None:
    """Pass frames back and forth until neither side has output."""
    while left.mux.has_output or right.mux.has_output:
        for source, target in ((left, right), (right, left)):
            target.receive(encode(*source.mux.take(ALL)))
            if read:
                for number in target.streams:
                    target.read(number, ALL)


def both(limits: YamuxLimits | None = None) -> tuple[Side, Side]:
    return Side(dialled=True, limits=limits), Side(dialled=False, limits=limits)


def test_a_stream_is_opened_acknowledged_used_and_forgotten() -> None:
    left, right = both()
    stream = left.add(left.mux.open())
    assert left.mux.take(ALL) == [Frame(WINDOW_UPDATE, SYN, 1, 0)]
    right.receive(encode(Frame(WINDOW_UPDATE, SYN, 1, 0)))
    assert not stream.acknowledged
    exchange(left, right)
    assert stream.acknowledged
    left.mux.write(stream, b"there")
    left.mux.finish(stream)
    exchange(left, right)
    there = right.streams[1]
    assert right.received[1] == b"there" and there.ended and there.is_open and there.inbound
    right.mux.write(there, b"back")
    right.mux.finish(there)
    right.mux.finish(there)
    exchange(left, right)
    assert left.received[1] == b"back" and not stream.is_open and not there.is_open
    assert not left.mux.streams and not right.mux.streams
    assert "closed" in repr(stream)


def test_fin_is_sent_in_a_frame_of_its_own() -> None:
    """js-libp2p loses data that arrives in one frame with FIN."""
    left = Side(dialled=True)
    stream = left.mux.open()
    left.mux.write(stream, b"x")
    left.mux.finish(stream)
    assert left.mux.take(ALL)[1:] == [data(1, b"x"), Frame(WINDOW_UPDATE, FIN, 1, 0)]


@pytest.mark.parametrize("opening", [(Frame(WINDOW_UPDATE, SYN, 1, 0), data(1, b"x")), (data(1, b"x", SYN),)])
def test_a_stream_is_opened_by_either_kind_of_frame(opening: tuple[Frame, ...]) -> None:
    """Fact 3."""
    right = Side(dialled=False)
    right.receive(encode(*opening))
    assert right.received == {1: b"x"}
    assert right.mux.take(ALL) == [Frame(WINDOW_UPDATE, ACK, 1, 0)]


@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE])
def test_ack_and_fin_are_received_in_either_kind_of_frame(kind: int) -> None:
    """Fact 3."""
    left = Side(dialled=True)
    stream = left.mux.open()
    assert kinds(left.mux.receive(Frame(kind, ACK, 1, 0))) == []
    assert stream.acknowledged
    assert kinds(left.mux.receive(Frame(kind, FIN, 1, 0))) == [EventKind.ENDED]
    assert kinds(left.mux.receive(Frame(kind, FIN, 1, 0))) == []
    assert kinds(left.mux.receive(Frame(kind, RST, 1, 0))) == [EventKind.RESET]
    assert stream.reset and not left.mux.streams


def test_one_frame_may_open_a_stream_carry_data_and_end_it() -> None:
    right = Side(dialled=False)
    found = kinds(right.mux.receive(data(1, b"x", SYN | FIN)))
    assert found == [EventKind.OPENED, EventKind.DATA, EventKind.ENDED]
    assert kinds(right.mux.receive(data(3, b"x", SYN | RST))) == []
    assert list(right.mux.streams) == [1]


def test_pings_are_answered_in_both_directions() -> None:
    """Fact 4: both implementations ping on their own, js with the value 0."""
    left, right = both()
    assert left.mux.receive(Frame(PING, SYN, 0, 0)) == ()
    assert left.mux.take(ALL) == [Frame(PING, ACK, 0, 0)]
    number = left.mux.ping()
    exchange(left, right)
    assert [(event.kind, event.number) for event in left.events] == [(EventKind.PONG, number)]
    assert "PONG" in repr(left.events[0])


def test_streams_take_turns() -> None:
    left = Side(dialled=True)
    one, two = left.mux.open(), left.mux.open()
    left.mux.write(one, bytes(3 * CHUNK))
    left.mux.write(two, bytes(2 * CHUNK))
    left.mux.take(0)
    assert [frame.stream for frame in left.mux.take(ALL)] == [1, 3, 1, 3, 1]


def test_small_writes_are_sent_in_one_frame() -> None:
    left = Side(dialled=True)
    stream = left.mux.open()
    for part in (b"a", b"b", b"", b"c"):
        left.mux.write(stream, part)
    assert left.mux.take(ALL)[-1] == data(1, b"abc")


# Windows


def test_no_more_is_sent_than_the_window_allows() -> None:
    left, right = both()
    stream = left.add(left.mux.open())
    left.mux.write(stream, bytes(2 * INITIAL_WINDOW))
    left.mux.finish(stream)
    exchange(left, right, read=False)
    assert right.unread[1] == INITIAL_WINDOW and stream.queued == INITIAL_WINDOW and not left.mux.has_output
    right.read(1, INITIAL_WINDOW // 2 - 1)
    assert not right.mux.has_output
    right.read(1, 1)
    exchange(left, right, read=True)
    assert len(right.received[1]) == 2 * INITIAL_WINDOW and right.streams[1].ended


def test_windows_grow_while_the_reader_keeps_up_and_stay_within_the_limits() -> None:
    limits = YamuxLimits(max_window=4 * INITIAL_WINDOW, growth=5 * INITIAL_WINDOW)
    left, right = both(limits)
    for _ in range(3):
        stream = left.add(left.mux.open())
        left.mux.write(stream, bytes(40 * INITIAL_WINDOW))
    exchange(left, right)
    granted = [stream.granted // INITIAL_WINDOW for stream in right.streams.values()]
    assert max(granted) == 4 and sum(granted) == 3 + 5
    assert right.mux.largest_window == 4 * INITIAL_WINDOW
    for stream in left.streams.values():
        left.mux.reset(stream)
    exchange(left, right)
    # The growth of the streams that ended is available again.
    stream = left.add(left.mux.open())
    left.mux.write(stream, bytes(40 * INITIAL_WINDOW))
    exchange(left, right)
    assert right.streams[stream.id].granted == 4 * INITIAL_WINDOW


def test_the_window_of_an_unread_stream_does_not_grow() -> None:
    left, right = both()
    stream = left.add(left.mux.open())
    left.mux.write(stream, bytes(40 * INITIAL_WINDOW))
    exchange(left, right, read=False)
    assert right.streams[1].granted == INITIAL_WINDOW


@pytest.mark.parametrize("overrun", [
    (data(1, bytes(INITIAL_WINDOW), SYN), data(1, b"x")),
    (Frame(WINDOW_UPDATE, SYN, 1, 0), data(1, bytes(INITIAL_WINDOW + 1))),
    (Frame(DATA, SYN, 1, INITIAL_WINDOW + 1),),
])
def test_a_window_overrun_is_an_error(overrun: tuple[Frame, ...]) -> None:
    right = Yamux(dialled=False)
    with pytest.raises(WindowExceededError):
        for frame in overrun:
            right.receive(frame)


def test_the_send_window_does_not_overflow() -> None:
    left = Yamux(dialled=True)
    stream = left.open()
    for _ in range(3):
        left.receive(Frame(WINDOW_UPDATE, 0, 1, 2**32 - 1))
    assert stream.sendable == 2**32 - 1


# Violations


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (data(0, b"x"), MalformedFrameError),
        (Frame(WINDOW_UPDATE, SYN, 0, 0), MalformedFrameError),
        (Frame(WINDOW_UPDATE, SYN, 2, 0), MalformedFrameError),  # only this side opens even numbers
        (Frame(WINDOW_UPDATE, SYN, 1, 0), MalformedFrameError),  # open already
        (data(3, b"x"), UnknownStreamError),
        (Frame(WINDOW_UPDATE, 0, 2, 1), UnknownStreamError),
        (Frame(WINDOW_UPDATE, RST, 7, 0), UnknownStreamError),
        (Frame(PING, SYN, 1, 0), MalformedFrameError),
        (Frame(PING, 0, 0, 0), MalformedFrameError),
        (Frame(PING, SYN | ACK, 0, 0), MalformedFrameError),
        (Frame(GO_AWAY, 0, 1, 0), MalformedFrameError),
    ],
)
def test_a_violation_is_an_error(frame: Frame, error: type[Exception]) -> None:
    right = Yamux(dialled=False)
    right.receive(Frame(WINDOW_UPDATE, SYN, 1, 0))
    with pytest.raises(error):
        list(right.receive(frame))


def test_data_after_the_end_is_an_error() -> None:
    right = Yamux(dialled=False)
    right.receive(Frame(WINDOW_UPDATE, SYN | FIN, 1, 0))
    with pytest.raises(MalformedFrameError, match="after the end"):
        right.receive(data(1, b"x"))


def test_frames_for_a_stream_that_has_ended_are_ignored() -> None:
    """The other side may not know yet that it has ended."""
    left, right = both()
    stream = left.add(left.mux.open())
    exchange(left, right)
    left.mux.reset(stream)
    left.mux.reset(stream)
    for frame in (data(1, b"x"), Frame(WINDOW_UPDATE, 0, 1, 9), Frame(WINDOW_UPDATE, FIN, 1, 0)):
        assert kinds(left.mux.receive(frame)) == []
    exchange(left, right)
    assert kinds(right.mux.receive(data(1, b"x"))) == []
    with pytest.raises(StreamClosedError):
        left.mux.write(stream, b"x")
    left.mux.finish(stream)
    left.mux.consumed(stream, 10**9)
    assert not left.mux.has_output


def test_streams_may_be_opened_out_of_order() -> None:
    """go-libp2p assigns the number of a stream before it sends the first frame, and another stream may be faster."""
    right = Yamux(dialled=False)
    for number in (5, 1, 3):
        assert kinds(right.receive(Frame(WINDOW_UPDATE, SYN, number, 0))) == [EventKind.OPENED]


@given(st.lists(frames, max_size=30), st.booleans())
def test_any_frames_are_accepted_or_refused(sent: list[Frame], dialled: bool) -> None:
    mux = Yamux(dialled=dialled)
    mux.open()
    for frame in sent:
        try:
            events = mux.receive(frame)
        except YamuxError:
            return
        for event in events:
            assert event.stream is None or event.stream.receivable >= 0
    mux.take(ALL)
    assert not mux.has_output


# Limits


def test_streams_over_the_limit_are_reset_and_the_others_stay_open() -> None:
    left, right = Side(dialled=True), Side(dialled=False, limits=YamuxLimits(max_inbound=2))
    opened = [left.add(left.mux.open()) for _ in range(3)]
    exchange(left, right)
    assert [stream.reset for stream in opened] == [False, False, True]
    left.mux.reset(opened[0])
    again = left.add(left.mux.open())
    exchange(left, right)
    assert again.acknowledged and not again.reset


def test_a_hundred_thousand_opens_end_the_connection_early() -> None:
    right = Yamux(dialled=False)
    with pytest.raises(TooManyStreamsError, match="max_inbound"):
        for number in range(1, 200_001, 2):
            right.receive(Frame(WINDOW_UPDATE, SYN, number, 0))
            right.take(ALL)
    assert len(right.streams) == right.limits.max_inbound
    assert number < 2 * (right.limits.max_inbound + right.limits.max_refused) + 2


@pytest.mark.parametrize(
    "flood",
    [
        lambda n: [Frame(PING, SYN, 0, n)],
        lambda n: [Frame(WINDOW_UPDATE, SYN, 2 * n + 1, 0), Frame(WINDOW_UPDATE, RST, 2 * n + 1, 0)],
    ],
    ids=["pings", "opened and reset"],
)
def test_queued_replies_are_bounded(flood: Callable[[int], list[Frame]]) -> None:
    right = Yamux(dialled=False)
    with pytest.raises(TooManyStreamsError, match="replies"):
        for n in range(100_000):
            for frame in flood(n):
                right.receive(frame)
    assert len(right.take(ALL)) <= right.limits.max_replies
    right = Yamux(dialled=False)
    for n in range(5000):  # as long as the replies are sent, there is no limit
        for frame in flood(n):
            right.receive(frame)
        right.take(ALL)
    assert not right.streams


def test_this_side_opens_no_more_streams_than_allowed() -> None:
    left = Yamux(dialled=True, limits=YamuxLimits(max_unacknowledged=2, max_outbound=3))
    opened = [left.open(), left.open()]
    with pytest.raises(StreamLimitError, match="max_unacknowledged"):
        left.open()
    for stream in opened:
        left.receive(Frame(WINDOW_UPDATE, ACK, stream.id, 0))
    left.open()
    with pytest.raises(StreamLimitError, match="max_outbound"):
        left.open()
    left.reset(opened[0])
    left.open()


def test_limits_are_checked() -> None:
    with pytest.raises(ConfigError, match="growth"):
        YamuxLimits(growth=0)


def test_after_go_away_streams_end_and_none_is_opened() -> None:
    left, right = both()
    stream = left.add(left.mux.open())
    exchange(left, right)
    right.mux.go_away(1)
    right.mux.go_away(2)
    exchange(left, right)
    assert left.mux.went_away == 1 and kinds(left.events) == [EventKind.WENT_AWAY]
    for side in (left, right):
        with pytest.raises(GoneAwayError):
            side.mux.open()
    left.mux.write(stream, b"still")
    exchange(left, right)
    assert right.received[1] == b"still"
    assert kinds(right.mux.receive(Frame(WINDOW_UPDATE, SYN, 3, 0))) == []
    assert right.mux.take(ALL) == [Frame(WINDOW_UPDATE, RST, 3, 0)]


def test_the_end_of_the_connection_resets_all_streams() -> None:
    left = Yamux(dialled=True)
    stream = left.open()
    left.write(stream, b"x")
    assert left.end() == [stream] and stream.reset and not left.streams and not left.has_output


# Any sequence of operations


class Conversation(RuleBasedStateMachine):
    """Whatever two programs do, each stream carries the data written to it, and neither side violates the protocol."""

    @initialize()
    def begin(self) -> None:
        self.sides = both(YamuxLimits(max_window=2 * INITIAL_WINDOW, max_inbound=100))
        self.written: dict[tuple[int, int], bytearray] = {}

    def pick(self, side: int, which: int) -> YamuxStream | None:
        streams = list(self.sides[side].streams.values())
        return streams[which % len(streams)] if streams else None

    @rule(side=st.integers(0, 1))
    def open(self, side: int) -> None:
        self.sides[side].add(self.sides[side].mux.open())

    @rule(side=st.integers(0, 1), which=st.integers(0, 9), size=st.sampled_from([1, 1000, CHUNK, 3 * INITIAL_WINDOW]))
    def write(self, side: int, which: int, size: int) -> None:
        stream = self.pick(side, which)
        if stream is None or stream.reset or stream.finishing:
            return
        payload = bytes((len(self.written) % 256,)) * size
        self.sides[side].mux.write(stream, payload)
        self.written.setdefault((side, stream.id), bytearray()).extend(payload)

    @rule(side=st.integers(0, 1), which=st.integers(0, 9))
    def finish(self, side: int, which: int) -> None:
        if stream := self.pick(side, which):
            self.sides[side].mux.finish(stream)

    @rule(side=st.integers(0, 1), which=st.integers(0, 9))
    def reset(self, side: int, which: int) -> None:
        if stream := self.pick(side, which):
            self.sides[side].mux.reset(stream)

    @rule(side=st.integers(0, 1), which=st.integers(0, 9), size=st.integers(1, 2 * INITIAL_WINDOW))
    def read(self, side: int, which: int, size: int) -> None:
        if stream := self.pick(side, which):
            self.sides[side].read(stream.id, size)

    @precondition(lambda self: any(side.mux.has_output for side in self.sides))
    @rule(side=st.integers(0, 1), size=st.integers(0, 4 * CHUNK))
    def pass_on(self, side: int, size: int) -> None:
        self.sides[1 - side].receive(encode(*self.sides[side].mux.take(size)))

    @invariant()
    def received_data_is_a_prefix_of_written_data(self) -> None:
        for (side, number), written in getattr(self, "written", {}).items():
            received = self.sides[1 - side].received.get(number, b"")
            assert written.startswith(received)

    @invariant()
    def windows_are_respected(self) -> None:
        for side in getattr(self, "sides", ()):
            for number, stream in side.streams.items():
                assert stream.receivable >= 0 and side.unread[number] <= stream.granted
                assert stream.reset or stream.receivable + side.unread[number] + stream.unreported <= stream.granted

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        exchange(*self.sides)
        for (side, number), written in self.written.items():
            stream, there = self.sides[side].streams[number], self.sides[1 - side].streams.get(number)
            if not stream.reset and there is not None and not there.reset:
                assert self.sides[1 - side].received[number] == written
        for one in self.sides:
            assert all(stream.is_open for stream in one.mux.streams.values())


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
