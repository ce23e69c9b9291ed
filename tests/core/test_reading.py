"""Reading: order, backpressure, and what ends a connection from this side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pea2pea import Decoder, DisconnectReason, Node, OnDisconnect, Origin, Peer, Writing
from pea2pea.codec import LengthDelimited, VarintDelimited
from pea2pea.errors import (
    DecodeError,
    FrameTooLargeError,
    IdleTimeoutError,
    IncompleteFrameError,
    NotConnectedError,
    UsageError,
)
from pea2pea.link import RECEIVE_SIZE
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.reporting import RECORDS_AT_ONCE, RECORDS_PER_SECOND
from support import StreamEndpoint, accept, listening, turns
from support.link import (
    MUCH,
    both_ways,
    counting,
    facing,
    failure_of,
    frame,
    join,
    linked,
    messages,
    numbered,
    reason_of,
)
from support.node import CALLER, OPEN, Witness, address, logged


@both_ways
async def test_messages_are_processed_in_order_one_at_a_time(net: Network, way: str) -> None:
    class Slow(Witness):
        at_work = 0

        async def process_message(self, peer: Peer, message: bytes) -> None:
            assert not self.at_work
            self.at_work += 1
            await turns(message[-1] % 4)  # some suspend, and some do not
            self.got.add((peer, message))
            self.at_work -= 1

    tested, other = Slow(OPEN, net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, theirs):
        for message in numbered(2000):
            await other.send(theirs, message)
        await tested.got.count(2000)
        assert messages(tested, ours) == numbered(2000)


async def test_one_peer_is_processed_while_another_waits(net: Network) -> None:
    class Waits(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            if message == b"wait":
                await self.gates["process_message"].passed(message)
            self.got.add((peer, message))

    async with Waits(OPEN, net) as node, Witness(CALLER, net) as slow, Witness(CALLER, net) as quick:
        node.gates["process_message"].close()
        await slow.send(await slow.connect(address(node)), b"wait")
        await node.gates["process_message"].reached.count(1)
        await quick.send(await quick.connect(address(node)), b"next, please")
        await node.got.count(1)
        assert messages(node) == [b"next, please"]
        node.gates["process_message"].open()
        await node.got.count(2)


class Shallow(Witness):
    read_queue_depth = 4


SIZE = 1024
#: What may be decoded of such messages while the first of them is processed.
BOUND = Shallow.read_queue_depth + RECEIVE_SIZE // len(frame(bytes(SIZE))) + 2


@both_ways
async def test_a_full_inbox_pauses_reading_until_it_drains(net: Network, way: str) -> None:
    node = Shallow(OPEN, net)
    sent = numbered(MUCH // SIZE, SIZE)
    async with facing(way, net, node) as (peer, end):
        gate = node.gates["process_message"]
        gate.close()
        end.transport.write(b"".join(map(frame, sent)))
        await gate.reached.count(1)
        await turns(50)
        received = peer.stats.messages_received
        assert received <= BOUND
        assert end.transport.get_write_buffer_size()
        gate.open()
        await node.got.count(len(sent))
        assert messages(node) == sent


async def test_what_came_before_the_connection_was_open_does_not_overfill_the_inbox(memory: MemoryNetwork) -> None:
    node = Shallow(CALLER, memory)
    node.gates["process_message"].close()
    stream = b"".join(map(frame, numbered(MUCH // SIZE, SIZE)))
    end = StreamEndpoint(keep_open=True, on_made=lambda transport: transport.write(stream))
    async with facing("dialler", memory, node, end) as (peer, _):
        await turns(50)
        assert 1 <= peer.stats.messages_received <= BOUND
        node.gates["process_message"].open()
        await node.got.count(MUCH // SIZE)


class Dropping(Witness):
    read_queue_depth = 4
    backpressure = False


@both_ways
async def test_without_backpressure_the_surplus_is_dropped_and_counted(net: Network, way: str) -> None:
    node = Dropping(OPEN, net)
    sent = numbered(100)
    async with facing(way, net, node) as (peer, end):
        gate = node.gates["process_message"]
        gate.close()
        end.transport.write(frame(b"first"))
        await gate.reached.count(1)
        end.transport.write(b"".join(map(frame, sent)))
        while peer.stats.messages_received < 101:
            await turns(1)
        assert node.heuristics.messages_dropped == 96
        gate.open()
        await node.got.count(5)
        end.transport.write(frame(b"last"))
        await node.got.count(6)
        assert messages(node) == [b"first", *sent[:4], b"last"]


async def test_drops_are_logged_at_a_limited_rate(memory: MemoryNetwork) -> None:
    node = Dropping(OPEN, memory)
    with logged() as lines:
        async with facing("listener", memory, node) as (_, end):
            node.gates["process_message"].close()
            begin = asyncio.get_running_loop().time()
            for _ in range(200):  # at intervals of 0.05 s, on a clock that jumps
                end.transport.write(frame(b"message") * 10)
                await asyncio.sleep(0.05)
            seconds = asyncio.get_running_loop().time() - begin
    said = [record.getMessage() for record in lines.items if "dropped" in record.getMessage()]
    assert 9.9 < seconds < 10.1
    assert abs(len(said) - (RECORDS_AT_ONCE + RECORDS_PER_SECOND * seconds)) < 5  # the others are about the connection
    assert node.heuristics.messages_dropped == 200 * 10 - 5


async def bystander_is_well(node: Witness, net: Network) -> None:
    """Show that the open ``node`` still takes connections and messages."""
    end = StreamEndpoint(keep_open=True)
    await join("dialler", net, node, end)
    before = len(node.got.items)
    end.transport.write(frame(b"well"))
    await node.got.count(before + 1)
    assert node.got.items[before][1] == b"well"
    await end.aclose()


class Picky(Decoder[bytes]):
    """Raises for one message; and, unlike the ready codecs, does not hold back what is good before it."""

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        found, used = LengthDelimited().decode(buffer)
        if b"bad" in found:
            raise KeyError("bad")
        return found, used


class PickyWitness(Witness):
    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return Picky()


@both_ways
@pytest.mark.expects_errors
async def test_a_decoder_that_raises_ends_that_connection_and_no_other(net: Network, way: str) -> None:
    node = PickyWitness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        spectator = StreamEndpoint(keep_open=True)
        await join("dialler", net, node, spectator)
        end.transport.write(frame(b"good"))
        await node.got.count(1)
        end.transport.write(frame(b"bad"))
        await failure_of(node, peer, Origin.READING, KeyError)
        await end.events.when(lambda events: {"eof", "lost"} & {*events})
        spectator.transport.write(frame(b"well"))
        await node.got.count(2)
        assert messages(node) == [b"good", b"well"]
        await bystander_is_well(node, net)
        await spectator.aclose()


class Endless(Decoder[bytes]):
    """Forgets to say what its messages took."""

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        return [bytes(buffer)], 0


class EndlessWitness(Witness):
    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return Endless()


@pytest.mark.expects_errors
async def test_a_decoder_that_never_gets_on_ends_that_connection_and_not_the_node(net: Network) -> None:
    node = EndlessWitness(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        end.transport.write(b"anything")
        await failure_of(node, peer, Origin.READING, UsageError)


@pytest.mark.parametrize("used", [-1, 9])
@pytest.mark.expects_errors
async def test_a_decoder_that_took_what_is_not_there_ends_that_connection(net: Network, used: int) -> None:
    class Miscounting(LengthDelimited):
        def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
            return [bytes(buffer)], used

    class Miscounts(Witness):
        def decoder(self, peer: Peer) -> Decoder[bytes]:
            return Miscounting()

    node = Miscounts(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        end.transport.write(b"anything")
        await failure_of(node, peer, Origin.READING, UsageError)
        assert not node.got.items


class Varints(Witness):
    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return VarintDelimited()


@both_ways
async def test_garbage_ends_that_connection_and_no_other(net: Network, way: str) -> None:
    node = Varints(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        end.transport.write(b"\x04good" + b"\x80\x00" + b"\x04more")  # a length that is padded
        await failure_of(node, peer, Origin.READING, DecodeError)
        assert messages(node) == [b"good"], "what came before the garbage counts, what came after it does not"
    assert node.stats.messages_received == 1


@both_ways
async def test_a_frame_over_the_limit_ends_that_connection_and_no_other(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        end.transport.write(frame(b"good") + b"\xff\xff\xff\xff")
        await failure_of(node, peer, Origin.READING, FrameTooLargeError)
        assert messages(node) == [b"good"]
        await bystander_is_well(node, net)


@both_ways
@pytest.mark.parametrize("size", [100, 200_000])
async def test_an_end_inside_a_frame_is_an_error_in_the_reason(net: Network, way: str, size: int) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        end.transport.write(frame(b"good") + frame(bytes(size))[:-1])
        end.transport.write_eof()
        await failure_of(node, peer, Origin.READING, IncompleteFrameError)
        assert messages(node) == [b"good"]


@both_ways
async def test_an_end_between_frames_is_none(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        end.transport.write(frame(b"good"))
        end.transport.write_eof()
        reason = await reason_of(node, peer)
        assert (reason.origin, reason.exception) == (Origin.READING, None)
        assert messages(node) == [b"good"]


@both_ways
async def test_what_came_before_the_end_is_processed_before_it_is_told(net: Network, way: str) -> None:
    """And the way back stays open until then: who only closed its own direction gets the replies."""

    class Replies(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            await super().process_message(peer, message)
            await self.send(peer, message)

    node = Replies(OPEN, net)
    sent = numbered(100)
    async with facing(way, net, node) as (peer, end):
        node.gates["process_message"].close()
        end.transport.write(b"".join(map(frame, sent)))
        end.transport.write_eof()
        await node.gates["process_message"].reached.count(1)
        await turns(10)
        assert not node.left.items
        node.gates["process_message"].open()
        reason = await reason_of(node, peer)
        assert (reason.origin, reason.exception) == (Origin.READING, None)
        assert messages(node) == sent
        await end.events.has("eof")
        assert bytes(end.data) == b"".join(map(frame, sent))


@both_ways
async def test_good_messages_before_a_bad_one_in_the_same_read_are_processed_first(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        node.gates["process_message"].close()
        end.transport.write(b"".join(map(frame, numbered(10))) + b"\xff\xff\xff\xff" + frame(b"never seen"))
        await node.gates["process_message"].reached.count(1)
        await turns(10)
        assert not node.left.items
        node.gates["process_message"].open()
        await failure_of(node, peer, Origin.READING, FrameTooLargeError)
        assert messages(node) == numbered(10)


@both_ways
@pytest.mark.expects_errors
async def test_process_message_that_raises_ends_that_connection(net: Network, way: str) -> None:
    class Raising(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            await super().process_message(peer, message)
            if message == b"bad":
                raise RuntimeError("on purpose")

    node = Raising(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        end.transport.write(frame(b"good") + frame(b"bad") + frame(b"late"))
        await failure_of(node, peer, Origin.READING, RuntimeError)
        assert messages(node) == [b"good", b"bad"]
        await bystander_is_well(node, net)


@both_ways
async def test_process_message_that_raises_what_is_no_exception_ends_that_connection(net: Network, way: str) -> None:
    class Fatal(BaseException):
        """What test frameworks and other async libraries raise."""

    class Raising(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            raise Fatal

    node = Raising(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        end.transport.write(frame(b"bad"))
        await failure_of(node, peer, Origin.READING, Fatal)
        assert peer.inbox is not None
        assert peer.inbox.task is not None
        assert isinstance(peer.inbox.task.exception(), Fatal), "asyncio would log it"


class Idle(Witness):
    idle_timeout = 0.05


@both_ways
async def test_a_silent_peer_is_disconnected_and_counted(net: Network, way: str) -> None:
    node = Idle(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        await failure_of(node, peer, Origin.READING, IdleTimeoutError)
        await end.events.when(lambda events: {"eof", "lost"} & {*events})
        assert node.heuristics.idle_timeouts == 1


@both_ways
async def test_every_message_puts_the_idle_timeout_off(memory: MemoryNetwork, way: str) -> None:
    node = Idle(OPEN, memory)
    clock = asyncio.get_running_loop().time
    async with facing(way, memory, node) as (peer, end):
        for _ in range(10):
            await asyncio.sleep(0.04)
            end.transport.write(frame(b"message"))
        last = clock()
        await reason_of(node, peer)
        assert clock() == pytest.approx(last + 0.05)
        assert len(messages(node)) == 10


async def test_bytes_that_make_no_message_do_not(memory: MemoryNetwork) -> None:
    node = Idle(OPEN, memory)
    clock = asyncio.get_running_loop().time
    async with facing("listener", memory, node) as (peer, end):
        assert peer.opened_at is not None
        end.transport.write(b"\0\0\1\0")
        await asyncio.sleep(0.04)
        end.transport.write(b"drip")
        await reason_of(node, peer)
        assert clock() == pytest.approx(peer.opened_at + 0.05)


async def test_who_is_slow_to_process_does_not_blame_the_peer(memory: MemoryNetwork) -> None:
    node = Idle(OPEN, memory)
    async with facing("listener", memory, node) as (_, end):
        node.gates["process_message"].close()
        end.transport.write(frame(b"message"))
        await asyncio.sleep(10 * Idle.idle_timeout)
        assert not node.left.items
        node.gates["process_message"].open()
        await node.left.count(1)
    assert node.heuristics.idle_timeouts == 1


async def test_one_timer_however_many_messages_arrive(memory: MemoryNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    class Patient(Witness):
        idle_timeout = 60.0

    node = Patient(OPEN, memory)
    loop = asyncio.get_running_loop()
    counted, calls = counting(loop.call_at)
    monkeypatch.setattr(loop, "call_at", counted)
    async with facing("listener", memory, node) as (_, end):
        began = loop.time()
        for n in range(100):
            end.transport.write(frame(b"message") * 10)
            await node.got.count(10 * (n + 1))
        assert sum(when == began + 60 for when in calls) == 1
        assert [when for when in calls if when > began + 10] == [began + 60]  # type: ignore[operator]


@pytest.mark.expects_errors
async def test_nothing_is_left_of_a_connection_that_never_got_its_codecs(memory: MemoryNetwork) -> None:
    class NoEncoder(Idle):
        def encoder(self, peer: Peer) -> LengthDelimited:
            raise DecodeError("no encoder for this one")

    async with NoEncoder(CALLER, memory) as node, listening(memory) as listener:
        with pytest.raises(ConnectionError, match="no encoder for this one"):
            await node.connect(listener.addr)
        await asyncio.sleep(1)
        assert node.heuristics.idle_timeouts == 0


class Deaf(Node, Writing[bytes], OnDisconnect):
    """Does not read."""

    def __init__(self, net: Network) -> None:
        super().__init__(**CALLER, network=net)
        self.left: list[Peer] = []
        self.goodbye = asyncio.Event()

    def encoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.left.append(peer)
        self.goodbye.set()


async def test_a_node_without_reading_hears_of_a_close_by_its_next_write(net: Network) -> None:
    async with Deaf(net) as node, listening(net) as listener:
        end = StreamEndpoint(keep_open=True)
        connecting = asyncio.create_task(node.connect(listener.addr))
        await (await accept(listener)).open(end)
        peer = await connecting
        end.transport.pause_reading()
        await node.send(peer, b"unread, so that closing resets")
        await node.flush(peer)
        await turns(5)
        await end.aclose()
        await turns(20)
        assert node.is_connected(peer.addr)
        assert not node.left
        await node.send(peer, b"anybody there?")
        with pytest.raises(NotConnectedError):
            await node.flush(peer)
        await node.goodbye.wait()
        assert node.left == [peer]


async def test_a_node_without_reading_delivers_nothing_and_does_not_notice_a_close(net: Network) -> None:
    async with Deaf(net) as node, listening(net) as listener:
        end = StreamEndpoint(keep_open=True)
        connecting = asyncio.create_task(node.connect(listener.addr))
        await (await accept(listener)).open(end)
        peer = await connecting
        end.transport.write(frame(bytes(MUCH)))
        node.send_nowait(peer, b"hello")
        assert await end.until_data(9) == frame(b"hello")
        await turns(20)
        assert end.transport.get_write_buffer_size(), "it was read after all"
        await end.aclose()
        await turns(20)
        assert node.is_connected(peer.addr)
        assert not node.left
        assert (peer.stats.messages_received, peer.stats.bytes_received) == (0, 0)
