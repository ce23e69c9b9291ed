"""What only a link, an inbox and an outbox see: how bytes are cut, where they are kept, when tasks are woken.

They stand between a transport that the test plays and a node that writes down what it is told.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Addr, Cause, Decoder, DisconnectReason, Peer
from pea2pea.codec import Delimited, Framing, LengthDelimited, Raw, VarintDelimited
from pea2pea.errors import (
    EncodeError,
    FrameTooLargeError,
    IncompleteFrameError,
    NotConnectedError,
    QueueFullError,
    WriteTimeoutError,
)
from pea2pea.inbox import Inbox
from pea2pea.link import RECEIVE_SIZE, Link, memory_of
from pea2pea.network import Network
from pea2pea.outbox import BATCH_SIZE, Outbox
from pea2pea.undecoded import GATHER_FROM, TRUST
from support import Recorder, turns
from support.link import all_done, facing, frame, numbered
from support.node import OPEN, Witness, context_of


class Wire(asyncio.Transport):
    """A transport whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.link: Link
        self.written: list[bytes] = []
        self.reading = True
        self.closing = False
        #: How many more bytes the system takes.
        self.room = 1 << 60
        self.waiting = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        taken, self.waiting = bytes(data[: self.room]), self.waiting + bytes(data[self.room :])
        self.room -= len(taken)
        if taken:
            self.written.append(taken)
        if self.waiting:
            self.link.pause_writing()

    def take(self, size: int = 1 << 60) -> None:
        """Take so many bytes more."""
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        self.written.append(taken)
        self.room = size - len(taken)
        if not self.waiting:
            self.link.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.link.connection_lost, None)

    def feed(self, data: bytes, chunk: int = RECEIVE_SIZE) -> int:
        """Have the link receive ``data`` in pieces, for as long as it wants any; return how much it took."""
        done = 0
        while done < len(data) and self.reading:
            buffer = self.link.get_buffer(-1)
            assert len(buffer), "a transport must not be given an empty buffer"
            size = min(len(buffer), chunk, len(data) - done)
            buffer[:size] = data[done : done + size]
            done += size
            self.link.buffer_updated(size)
        return done

    async def receive(self, data: bytes) -> None:
        """Have the link receive ``data`` in a callback of the loop, as from a selector, and return right after it."""
        received = asyncio.get_running_loop().create_future()

        def read() -> None:
            self.feed(data)
            received.set_result(None)

        asyncio.get_running_loop().call_soon(read)
        await received


class Bench:
    """The node and the connection of one link."""

    read_queue_depth = 1 << 30
    backpressure = True
    idle_timeout: float | None = None
    write_queue_depth = 100
    write_timeout: float | None = None
    gathers = False

    def __init__(self, codec: Decoder[Any] | None = None) -> None:
        self.codec = codec or LengthDelimited()
        self.got: Recorder[Any] = Recorder()
        self.ended: list[BaseException | None] = []
        self.causes: list[Cause] = []
        self.failed: list[BaseException] = []
        self.dropped = 0
        self.process: Callable[[Peer, Any], Coroutine[Any, Any, None]] = self.note
        self.wire = Wire()
        self.peer: Peer[Any] = Peer(Addr("127.0.0.1", 1), inbound=True)
        memory = memory_of(asyncio.get_running_loop(), shared=True)
        self.link = self.wire.link = Link(self, self.peer.stats, memory)

    async def note(self, peer: Peer, message: Any) -> None:
        self.got.add(message)

    def open(self) -> Bench:
        """Make the connection, and register it."""
        self.link.connection_made(self.wire)
        self.register()
        return self

    def register(self) -> None:
        """Give the link its queues."""
        outbox = Outbox(self, self, self.peer, self.wire, LengthDelimited(), gathers=self.gathers)
        self.link.open(Inbox(self, self, self.peer), outbox, self.codec)

    @property
    def outbox(self) -> Outbox:
        return self.link.outbox

    def put(self, message: Any) -> None:
        self.outbox.put(message, self)

    async def wait_to_put(self, message: Any) -> None:
        await self.outbox.wait_to_put(message, self)

    async def process_message(self, peer: Peer, message: Any) -> None:
        await self.process(peer, message)

    def link_made(self, transport: asyncio.Transport) -> None:
        pass

    def link_lost(self, exc: BaseException | None) -> None:
        cause = Cause.PEER_CLOSED if exc is None else Cause.READ_FAILED
        self.outbox.close(DisconnectReason(cause, exc))
        if self.link.inbox is not None:
            self.link.inbox.end(cause, exc)

    def decoder_failed(self, exc: Exception) -> None:
        if self.link.inbox is not None:
            self.link.inbox.end(Cause.BAD_DATA, exc)

    def resume_reading(self) -> None:
        self.link.resume()

    def reading_ended(self, cause: Cause, exc: BaseException | None) -> None:
        self.ended.append(exc)
        self.causes.append(cause)
        self.link.stop_reading()

    def writing_failed(self, cause: Cause, exc: Exception) -> None:
        self.outbox.close(DisconnectReason(cause, exc))
        self.failed.append(exc)
        self.causes.append(cause)

    def messages_dropped(self, count: int) -> None:
        self.dropped += count

    def suspicious_wait(self, seconds: float, queued: int) -> None:
        pass

    async def close(self) -> None:
        self.link.stop_reading()
        self.link.abort()
        if self.link.inbox is not None and self.link.inbox.task is not None:
            self.link.inbox.task.cancel()
            await asyncio.wait({self.link.inbox.task})
        await turns(2)


@asynccontextmanager
async def bench(codec: Decoder[Any] | None = None, kind: type[Bench] = Bench) -> AsyncIterator[Bench]:
    """An open connection of a node that reads with ``codec``."""
    made = kind(codec).open()
    try:
        yield made
    finally:
        await made.close()


# How bytes are cut

EDGES = [
    size + d
    for size in (GATHER_FROM, GATHER_FROM * TRUST, RECEIVE_SIZE, RECEIVE_SIZE * TRUST)
    for d in (-5, -4, -1, 0, 1)
]
CHUNKS = [4096, GATHER_FROM - 1, GATHER_FROM, GATHER_FROM + 1, RECEIVE_SIZE]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("chunk", CHUNKS)
async def test_frames_of_every_size_come_whole_however_they_are_cut(chunk: int) -> None:
    expected = [content(size) for size in [*EDGES, 0, 1, *EDGES[::-1]]]
    stream = b"".join(map(frame, expected))
    async with bench() as b:
        assert b.wire.feed(stream, chunk) == len(stream)
        await b.got.count(len(expected))
        assert b.got.items == expected
        assert (b.peer.stats.messages_received, b.peer.stats.bytes_received) == (len(expected), len(stream))
        b.link.eof_received()
        await turns(1)
        assert b.ended == [None], "something of the last frame was kept"


async def test_a_frame_comes_whole_byte_by_byte() -> None:
    expected = [b"", content(300), b"x", content(GATHER_FROM + 300)]
    async with bench() as b:
        b.wire.feed(b"".join(map(frame, expected)), chunk=1)
        await b.got.count(4)
        assert b.got.items == expected


@given(
    sizes=st.lists(st.sampled_from([*EDGES, 0, 1, 100]), max_size=6),
    chunks=st.lists(st.integers(1, 10) | st.integers(1, RECEIVE_SIZE), max_size=20),
)
async def test_chunks_do_not_matter(sizes: list[int], chunks: list[int]) -> None:
    expected = [content(size) for size in sizes]
    stream = b"".join(map(frame, expected))
    async with bench() as b:
        done = 0
        for size in chunks:
            b.wire.feed(stream[done : done + size])
            done += size
        b.wire.feed(stream[done:])
        await b.got.count(len(expected))
        assert b.got.items == expected


@given(sizes=st.lists(st.integers(0, 3 * GATHER_FROM), max_size=6), chunk=st.integers(1000, RECEIVE_SIZE))
async def test_nor_do_they_where_a_codec_cannot_tell_the_size(sizes: list[int], chunk: int) -> None:
    expected = [b"a" * size for size in sizes]
    async with bench(Delimited(max_frame=1 << 20)) as b:
        b.wire.feed(b"".join(line + b"\n" for line in expected), chunk)
        await b.got.count(len(expected))
        assert b.got.items == expected


class Counting(Decoder[bytes]):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.seen = 0

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        self.calls += 1
        self.seen += len(buffer)
        return LengthDelimited().decode(buffer)

    def frame_size(self, head: memoryview) -> int:
        return LengthDelimited().frame_size(head)


async def test_a_large_frame_is_received_in_place_and_decoded_once() -> None:
    size = 3 << 20
    codec = Counting()
    async with bench(codec) as b:
        stream = frame(content(size))
        b.wire.feed(stream[:-100])
        assert codec.seen < 2 * RECEIVE_SIZE, "it was looked at again and again"
        assert len(b.link.get_buffer(-1)) == 100, "there is room for this frame and no more"
        b.wire.feed(stream[-100:] + frame(b"next"))
        await b.got.count(2)
        assert b.got.items == [content(size), b"next"]
        assert codec.calls <= 5


class Landed(Counting):
    """Counts the same, of a codec whose messages need no decoding once their header is known."""

    def header_size(self, head: memoryview) -> int:
        return LengthDelimited().header_size(head)


async def test_a_large_message_is_received_into_what_it_becomes_and_never_decoded() -> None:
    codec = Landed()
    big, bigger = content(3 << 20), content(5 << 20)
    async with bench(codec) as b:
        b.wire.feed(frame(b"small") + frame(big)[:GATHER_FROM])
        b.wire.feed(frame(big)[GATHER_FROM:-100])
        assert len(b.link.get_buffer(-1)) == 100, "there is room for this message and no more"
        b.wire.feed(big[-100:] + frame(b"next") + frame(bigger))
        await b.got.count(4)
        assert b.got.items == [b"small", big, b"next", bigger]
        assert {type(item) for item in b.got.items} == {bytes}
        assert codec.seen < 4 * RECEIVE_SIZE
        assert b.peer.stats.messages_received == 4
        assert b.peer.stats.bytes_received == sum(len(item) + 4 for item in b.got.items)


async def test_who_derives_from_a_ready_codec_and_decodes_otherwise_is_asked() -> None:
    class Shouting(LengthDelimited):
        def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
            messages, used = super().decode(buffer)
            return [message.upper() for message in messages], used

    async with bench(Shouting()) as b:
        b.wire.feed(frame(b"a" * (1 << 20)))
        await b.got.count(1)
        assert b.got.items == [b"A" * (1 << 20)]


@pytest.mark.parametrize("codec", [LengthDelimited(), VarintDelimited()], ids=repr)
async def test_the_end_inside_a_large_message_tells_all_that_came_of_it(codec: Framing) -> None:
    stream = b"".join(codec.encode([content(1 << 20)]))[:-1]
    async with bench(codec) as b:
        b.wire.feed(stream)
        b.link.eof_received()
        (end,) = b.ended
        assert isinstance(end, IncompleteFrameError)
        assert f"after {len(stream)} bytes" in str(end)


@pytest.mark.parametrize("broken", ["frame_size", "header_size"])
async def test_a_decoder_that_fails_over_a_size_ends_its_connection(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_idea(self: Counting, head: memoryview) -> None:
        return None

    monkeypatch.setattr(Counting, broken, no_idea)
    async with bench(Counting()) as b:
        b.wire.feed(frame(content(1 << 20)))
        assert [type(end) for end in b.ended] == [TypeError]


@pytest.mark.parametrize("behind", [0, 1, 1000])
async def test_a_header_may_be_all_that_came_of_a_large_message(behind: int) -> None:
    skip, size = GATHER_FROM, 1 << 20
    codec = LengthDelimited(skip=skip)
    stream = size.to_bytes(4, "big") + bytes(skip - 4) + content(size)
    async with bench(codec) as b:
        b.wire.feed(stream[: skip + behind])
        b.wire.feed(stream[skip + behind :] + stream)
        await b.got.count(2)
        assert b.got.items == [content(size)] * 2


@pytest.mark.parametrize("header", [-(1 << 40), -1, GATHER_FROM, GATHER_FROM + 1, 1 << 20, 1 << 40])
async def test_a_header_that_cannot_be_is_no_answer(header: int) -> None:
    class Wrong(Counting):
        def header_size(self, head: memoryview) -> int:
            return header

    async with bench(Wrong()) as b:
        expected = [content(2 * GATHER_FROM), b"next"]
        b.wire.feed(b"".join(map(frame, expected)), GATHER_FROM)
        await b.got.count(2)
        assert b.got.items == expected


@pytest.mark.parametrize("arrived", [4, GATHER_FROM, RECEIVE_SIZE, 2 * RECEIVE_SIZE, 6 * RECEIVE_SIZE])
async def test_a_claim_is_given_memory_only_for_what_has_come(arrived: int) -> None:
    async with bench(LengthDelimited(max_frame=1 << 30)) as b:
        b.wire.feed((1 << 30).to_bytes(4, "big") + bytes(arrived - 4))
        undecoded = b.link._undecoded
        assert undecoded is not None
        held = undecoded._frame
        assert held is None or len(held) <= TRUST * arrived
        assert held is not None or len(undecoded._tail) == arrived < GATHER_FROM
        assert len(b.link.get_buffer(-1)) <= max(RECEIVE_SIZE, TRUST * arrived)


async def test_links_of_a_loop_share_their_memory_and_mix_nothing_up() -> None:
    async with bench() as one, bench() as two:
        streams = [frame(content(1000) + bytes([n])) for n in range(2)]
        for i in range(0, len(streams[0]), 7):
            one.wire.feed(streams[0][i : i + 7])
            two.wire.feed(streams[1][i : i + 7])
        assert one.link.get_buffer(-1).obj is two.link.get_buffer(-1).obj
        await one.got.count(1)
        await two.got.count(1)
        assert (one.got.items, two.got.items) == ([content(1000) + b"\0"], [content(1000) + b"\1"])


# Before the connection is open


@pytest.mark.parametrize("size", [1, 1000, GATHER_FROM + 1, RECEIVE_SIZE - 8])
async def test_bytes_before_the_connection_is_open_are_kept_and_no_more_are_taken(size: int) -> None:
    b = Bench()
    b.link.connection_made(b.wire)
    early = frame(content(size)) + b"\0\0"
    assert b.wire.feed(early + bytes(RECEIVE_SIZE)) == RECEIVE_SIZE, "one receive at the most"
    assert not b.wire.reading
    b.register()
    assert not b.got.items, "a task's step must not run inside another's"
    await b.got.count(1)
    assert b.got.items[0] == content(size)
    assert b.wire.reading
    await b.close()


async def test_bytes_and_the_end_may_come_between_opening_and_catching_up() -> None:
    b = Bench()
    b.link.connection_made(b.wire)
    b.wire.feed(frame(b"early")[:6])
    b.link.resume()
    b.register()
    b.wire.feed(frame(b"early")[6:] + frame(b"more") + b"\0")
    b.link.eof_received()
    await turns(3)
    assert b.got.items == [b"early", b"more"]
    assert [type(end) for end in b.ended] == [IncompleteFrameError]
    assert b.peer.stats.bytes_received == 9 + 8 + 1
    await b.close()


async def test_early_bytes_are_processed_before_a_loss_that_comes_before_catching_up() -> None:
    b = Bench()
    b.link.connection_made(b.wire)
    b.wire.feed(frame(b"early"))
    b.register()
    reset = ConnectionResetError("reset")
    b.link.connection_lost(reset)
    assert not b.ended
    await turns(3)
    assert b.got.items == [b"early"]
    assert b.ended == [reset]
    await b.close()


async def test_nothing_is_decoded_for_a_peer_that_left_before_catching_up() -> None:
    codec = Counting()
    b = Bench(codec)
    b.link.connection_made(b.wire)
    b.wire.feed(frame(b"early"))
    b.register()
    b.link.stop_reading()
    await turns(3)
    assert (codec.calls, b.got.items, b.wire.reading) == (0, [], False)
    await b.close()


# The end


@pytest.mark.parametrize("end", [None, ConnectionResetError("reset")])
async def test_all_that_came_is_processed_before_the_end_is_told(end: Exception | None) -> None:
    go_on = asyncio.Event()

    async def slow(peer: Peer, message: bytes) -> None:
        await go_on.wait()
        b.got.add(message)

    async with bench() as b:
        b.process = slow
        b.wire.feed(b"".join(map(frame, numbered(10))))
        await turns(2)
        if end is None:
            b.link.eof_received()
        else:
            b.link.connection_lost(end)
        await turns(2)
        assert b.ended == []
        go_on.set()
        await turns(3)
        assert b.got.items == numbered(10)
        assert b.ended == [end]


async def test_the_end_is_told_at_once_where_nothing_is_left_to_do() -> None:
    async with bench() as b:
        b.link.eof_received()
        assert b.ended == [None]
    async with bench() as b:
        b.wire.feed(frame(b"one"))
        await b.got.count(1)
        await turns(1)
        b.link.connection_lost(None)
        assert b.ended == [None]


async def test_good_messages_before_bad_bytes_are_processed_first_and_none_after() -> None:
    async with bench() as b:
        b.wire.feed(b"".join(map(frame, numbered(10))) + b"\xff\xff\xff\xff" + frame(b"after"))
        assert not b.wire.reading
        await turns(3)
        assert b.got.items == numbered(10)
        assert [type(end) for end in b.ended] == [FrameTooLargeError]


@pytest.mark.parametrize("codec", [LengthDelimited(), Counting()], ids=["landing", "decoded"])
async def test_a_connection_that_is_lost_holds_nothing_of_a_large_message(codec: Decoder[Any]) -> None:
    """Whoever still knows the peer would hold it else, and where nobody does, the garbage collector would be late."""
    async with bench(codec) as b:
        b.wire.feed(frame(content(1 << 20))[:-1])
        memory = b.link.get_buffer(-1).obj
        before = sys.getrefcount(memory)
        b.link.connection_lost(ConnectionResetError())
        assert sys.getrefcount(memory) == before - 1


async def test_the_reason_of_a_reset_holds_nothing_of_a_large_message(net: Network) -> None:
    """A traceback would hold the transport's view of its memory, for as long as anyone holds the peer."""
    node = Witness(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        sock = end.transport.get_extra_info("socket")
        if sock is not None:  # in memory, to abort is to reset
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.write(frame(content(1 << 20))[:-1])
        while peer.stats.bytes_received < (1 << 20) + 3:
            await turns(1)
        undecoded = context_of(node).connected[peer.addr].link._undecoded
        assert undecoded is not None
        memory = undecoded._frame
        del undecoded
        end.transport.abort()
        reason = await peer.closed()
        assert isinstance(reason.exception, ConnectionResetError)
        gc.disable()
        try:
            await turns(2)
            assert sys.getrefcount(memory) == 2, "this name, and the argument"
        finally:
            gc.enable()


async def test_a_large_frame_that_is_cut_short_is_an_error_in_the_reason() -> None:
    async with bench() as b:
        b.wire.feed(frame(content(1 << 20))[:-1])
        b.link.eof_received()
        assert [type(end) for end in b.ended] == [IncompleteFrameError]


async def test_a_codec_may_end_a_message_with_the_stream() -> None:
    class UpToTheEnd(Raw):
        def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
            return [], 0

        def finish(self, rest: memoryview) -> Sequence[bytes]:
            return [bytes(rest)]

    async with bench(UpToTheEnd()) as b:
        b.wire.feed(content(3 * RECEIVE_SIZE), 10_000)
        b.link.eof_received()
        await turns(3)
        assert b.got.items == [content(3 * RECEIVE_SIZE)]
        assert b.ended == [None]


# Processing


async def test_an_idle_consumer_answers_within_the_read_that_brought_the_message() -> None:
    async def echo(peer: Peer, message: bytes) -> None:
        b.put(message)

    async with bench() as b:
        b.process = echo
        b.wire.feed(frame(b"starts the task"))
        await turns(2)
        b.wire.written.clear()
        await b.wire.receive(frame(b"one") + frame(b"two"))
        assert b.wire.written == [frame(b"one") + frame(b"two")], "both answers in one write, and at once"


async def test_what_is_processed_in_a_callback_is_a_task_all_the_same(net: Network) -> None:
    class Careful(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            tasks.append(asyncio.current_task())
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(turns(1))
            await super().process_message(peer, message)

    tasks: list[asyncio.Task[Any] | None] = []
    node = Careful(OPEN, net)
    async with facing("listener", net, node) as (_, end):
        for n in range(3):
            end.transport.write(frame(b"message"))
            await node.got.count(n + 1)
            await turns(2)
    assert None not in tasks
    assert len({*tasks}) == 1, "one task for a connection, not one for a message"


async def test_the_same_task_context_every_time() -> None:
    """Whoever rings it lends it the stack, not his context variables."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen = []

    async def look(peer: Peer, message: bytes) -> None:
        seen.append(variable.get())

    async with bench() as b:
        b.process = look
        b.wire.feed(frame(b"one"))
        await turns(2)
        variable.set("the caller's")
        await b.wire.receive(frame(b"two"))
        assert seen == ["unset", "unset"]


@pytest.mark.parametrize("burst", [1, 10])
async def test_a_consumer_may_be_cancelled_while_it_waits_and_while_it_works(burst: int) -> None:
    for works in (True, False):
        waits = asyncio.Event()

        async def work(peer: Peer, message: bytes, waits: asyncio.Event = waits, works: bool = works) -> None:
            if works:
                await waits.wait()

        async with bench() as b:
            b.process = work
            b.wire.feed(frame(b"message") * burst)
            await turns(3)
            assert b.link.inbox is not None
            assert b.link.inbox.task is not None
            b.link.stop_reading()
            b.link.inbox.task.cancel()
            await asyncio.wait({b.link.inbox.task})
            assert b.link.inbox.task.cancelled()
            assert b.ended == []


class Limited(Bench):
    read_queue_depth = 3


async def test_a_full_inbox_pauses_and_an_empty_one_resumes() -> None:
    steps = asyncio.Semaphore(0)

    async def step(peer: Peer, message: bytes) -> None:
        await steps.acquire()
        b.got.add(message)

    async with bench(kind=Limited) as b:
        b.process = step
        b.wire.feed(frame(b"0"))
        await turns(2)  # which is being processed from here on
        for message in (b"1", b"2"):
            b.wire.feed(frame(message))
            assert b.wire.reading
        b.wire.feed(frame(b"3"))
        assert not b.wire.reading
        for n in range(1, 4):
            steps.release()
            await b.got.count(n)
            await turns(2)
            assert not b.wire.reading
        steps.release()
        await b.got.count(4)
        await turns(2)
        assert b.wire.reading


# On the way out


class Narrow(Bench):
    write_queue_depth = 3
    write_timeout = 5.0


async def fill(b: Bench) -> None:
    """Have a batch wait for the system, and the queue be full behind it."""
    b.wire.room = 0
    b.put(b"stuck")
    b.outbox.flush()
    for n in range(b.write_queue_depth):
        b.put(b"%d" % n)


async def test_senders_that_wait_are_served_in_their_order_and_before_those_who_come_later() -> None:
    async with bench(kind=Narrow) as b:
        await fill(b)
        senders = [asyncio.create_task(b.wait_to_put(b"%d" % n)) for n in range(3, 20)]
        await turns(2)
        assert not any(sender.done() for sender in senders)
        b.wire.take()
        with pytest.raises(QueueFullError):
            b.put(b"pushes in")
        await all_done(senders)
        await turns(3)
        assert b"".join(b.wire.written) == frame(b"stuck") + b"".join(frame(b"%d" % n) for n in range(20))


async def test_a_sender_that_is_cancelled_while_it_waits_queued_nothing() -> None:
    async with bench(kind=Narrow) as b:
        await fill(b)
        senders = [asyncio.create_task(b.wait_to_put(b"%d" % n)) for n in range(3, 9)]
        await turns(2)
        senders[0].cancel()
        await turns(2)
        assert b.outbox._waiters is not None
        assert len(b.outbox._waiters) == 5, "the line is longer than those who wait"
        senders[4].cancel()  # and the system takes it all in the same turn
        b.wire.take()
        results = await all_done(senders)
        await turns(3)
        sent = b"".join(frame(b"%d" % n) for n in (0, 1, 2, 4, 5, 6, 8))
        assert [type(result) for result in results] == [
            asyncio.CancelledError if n in (0, 4) else type(None) for n in range(6)
        ]
        assert b"".join(b.wire.written) == frame(b"stuck") + sent


async def test_a_sender_that_is_cancelled_when_it_has_been_served_queued_all() -> None:
    async with bench(kind=Narrow) as b:
        await fill(b)
        sender = asyncio.create_task(b.wait_to_put(b"3"))
        await turns(2)
        b.wire.take()
        await turns(1)  # in which it is served
        assert not sender.done()
        sender.cancel()
        assert [type(result) for result in await all_done([sender])] == [asyncio.CancelledError]
        await turns(3)
        assert b"".join(b.wire.written) == frame(b"stuck") + b"".join(frame(b"%d" % n) for n in range(4))


async def test_flushes_return_as_their_part_is_taken() -> None:
    async with bench() as b:
        b.wire.room = 0
        b.put(b"one")
        first = asyncio.create_task(b.outbox.flushed())
        await turns(2)
        b.put(b"two")
        second = asyncio.create_task(b.outbox.flushed())
        cancelled = asyncio.create_task(b.outbox.flushed())
        await turns(2)
        cancelled.cancel()
        b.wire.take(6)
        await turns(2)
        assert not first.done()
        b.wire.take(1)
        await turns(2)
        assert (first.done(), second.done()) == (True, False)
        b.wire.take()
        await asyncio.gather(first, second)
        assert b"".join(b.wire.written) == frame(b"one") + frame(b"two")


async def test_everybody_who_waits_learns_of_the_end() -> None:
    async with bench(kind=Narrow) as b:
        await fill(b)
        waiting = [asyncio.create_task(b.wait_to_put(b"message")), asyncio.create_task(b.outbox.flushed())]
        await turns(2)
        b.link.connection_lost(ConnectionResetError())
        assert [type(result) for result in await all_done(waiting)] == [NotConnectedError] * 2
        with pytest.raises(NotConnectedError):
            b.put(b"message")


@pytest.mark.parametrize(
    ("size", "calls"),
    [(64 * 1024, {True: [1, 2 * 8], False: [8 * (4 + 64 * 1024)]}), (1 << 20, {True: [1, 2], False: [4, 1 << 20]})],
)
@pytest.mark.parametrize("gathers", [True, False])
async def test_large_messages_take_few_calls(
    monkeypatch: pytest.MonkeyPatch, gathers: bool, size: int, calls: dict[bool, list[int]]
) -> None:
    """One for several buffers where there is one; else what is not too large is joined, with its headers."""
    monkeypatch.setattr(Bench, "gathers", gathers)
    async with bench() as b:
        gathered: list[int] = []
        monkeypatch.setattr(b.wire, "writelines", lambda buffers: gathered.extend((1, len(buffers))))
        for _ in range(8 if size < 1 << 20 else 1):
            b.put(bytes(size))
        await turns(2)
        assert gathered + [len(written) for written in b.wire.written] == calls[gathers]


async def test_only_one_batch_waits_for_the_system() -> None:
    async with bench() as b:
        b.wire.room = 0
        for n in range(3):
            b.put(b"%d" % n)
            await turns(2)
        assert len(b.wire.waiting) == len(frame(b"0"))
        assert b.outbox.queue == [b"1", b"2"]
        assert b.peer.stats.messages_sent == 1
        b.wire.take()
        await turns(1)
        assert b.peer.stats.messages_sent == 3


async def test_a_batch_is_about_a_mebibyte_or_one_message() -> None:
    async with bench() as b:
        sizes = [3 * BATCH_SIZE, *[BATCH_SIZE // 4] * 6]
        b.wire.room = 0
        for size in sizes:  # the first batch tells the size of what is to come
            b.put(content(size))
            await turns(1)
        b.outbox.put_encoded([frame(b"among them")], b)
        taken = []
        while b.wire.waiting:
            before = b.peer.stats.messages_sent
            b.wire.take(len(b.wire.waiting))
            await turns(1)
            taken.append(b.peer.stats.messages_sent - before)
        assert [messages for messages in taken if messages] == [1, 3, 3]
        assert not b.outbox.queue


@pytest.mark.parametrize("kinds", ["mbm", "bmb", "mmbbmm", "bbb"])
async def test_messages_and_encoded_ones_keep_their_order_in_a_batch(kinds: str) -> None:
    async with bench() as b:
        expected = []
        for n, kind in enumerate(kinds * 3):
            message = b"%d" % n
            expected.append(frame(message))
            if kind == "m":
                b.put(message)
            else:
                b.outbox.put_encoded([frame(message)[:4], message], b)
        b.outbox.flush()
        assert b"".join(b.wire.written) == b"".join(expected)
        assert len(b.wire.written) == 1
        assert (b.peer.stats.messages_sent, b.peer.stats.bytes_sent) == (len(expected), sum(map(len, expected)))


async def test_an_encoder_that_raises_closes_the_outbox_and_tells_once() -> None:
    async with bench(kind=Narrow) as b:
        b.put(b"good")
        b.outbox.flush()
        b.put("no bytes")
        b.outbox.flush()
        b.outbox.flush()
        assert [type(error) for error in b.failed] == [EncodeError]
        assert b.wire.written == [frame(b"good")]
        with pytest.raises(NotConnectedError):
            b.put(b"late")


async def test_the_write_timeout_begins_with_the_first_block_of_a_batch_and_ends_with_its_last() -> None:
    loop = asyncio.get_running_loop()
    async with bench(kind=Narrow) as b:
        large = [content(GATHER_FROM)] * 3
        b.wire.room = 0
        for message in large:
            b.put(message)
        b.outbox.flush()
        for _ in range(4):
            await asyncio.sleep(1)
            b.wire.take(GATHER_FROM // 2)
        assert loop.time() == 4
        assert not b.failed
        await asyncio.sleep(1.1)
        assert [type(error) for error in b.failed] == [WriteTimeoutError]


async def test_an_idle_connection_has_neither_task_nor_timer() -> None:
    class Timed(Bench):
        write_timeout = 5.0

    loop = asyncio.get_running_loop()
    before = len(asyncio.all_tasks()), loop.time()
    async with bench(kind=Timed):
        assert (len(asyncio.all_tasks()), loop.time()) == before
        assert not loop._scheduled  # type: ignore[attr-defined]


async def test_nothing_is_encoded_or_counted_once_the_transport_is_closing() -> None:
    b = Bench().open()
    b.wire.abort()  # as by a failed write: told to the link in the next turn
    b.put(b"lost")
    with pytest.raises(NotConnectedError):
        await b.outbox.flushed()
    assert b.peer.stats.messages_sent == 0
    assert not b.wire.written
