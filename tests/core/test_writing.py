"""Writing: queues and their bounds, batches, flushing, and what ends a connection from this side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pea2pea import Encoder, OnConnect, Origin, Peer, Reading, Writing
from pea2pea.codec import Buffer, LengthDelimited
from pea2pea.errors import EncodeError, NotConnectedError, NotEnabledError, QueueFullError, WriteTimeoutError
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from support import Recorder, StreamEndpoint, turns
from support.link import (
    MUCH,
    all_done,
    both_ways,
    facing,
    failure_of,
    frame,
    gone,
    join,
    linked,
    messages,
    numbered,
    reason_of,
    write_buffer_size,
)
from support.node import CALLER, OPEN, Witness, address, context_of


class Short(Witness):
    write_queue_depth = 3


async def blocked(node: Witness, peer: Peer, end: StreamEndpoint) -> bytes:
    """Have ``end`` read nothing, and more on its way than the system takes; return what that is, again and again."""
    end.transport.pause_reading()
    large = bytes(MUCH // 2)
    for _ in range(3):
        node.send_nowait(peer, large)
    await turns(3)
    assert write_buffer_size(peer)
    return frame(large)


# The queue


@both_ways
async def test_a_full_queue_refuses(net: Network, way: str) -> None:
    tested, other = Short(OPEN, net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, _):
        for message in numbered(3):
            tested.send_nowait(ours, message)
        with pytest.raises(QueueFullError, match=r"write_queue_depth \(3\)"):
            tested.send_nowait(ours, b"too many")
        await turns(1)
        tested.send_nowait(ours, b"room again")
        await other.got.count(4)
        assert messages(other) == [*numbered(3), b"room again"]


@both_ways
async def test_a_peer_that_is_gone_is_refused(net: Network, way: str) -> None:
    tested, other = Witness(OPEN, net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, _):
        assert await tested.disconnect(ours)
        with pytest.raises(NotConnectedError):
            tested.send_nowait(ours, b"message")
        with pytest.raises(NotConnectedError):
            await tested.send(ours, b"message")
        with pytest.raises(NotConnectedError):
            await tested.flush(ours)
        errors = tested.broadcast(b"message", [ours])
        assert [type(error) for error in errors.values()] == [NotConnectedError]


@both_ways
async def test_without_the_protocol_sending_is_refused(net: Network, way: str) -> None:
    """For as long as a connection lives: enabling it later is for later connections."""
    node = Witness(OPEN, net)
    node.enable(Reading, OnConnect)
    await node.start_listening()
    first, second = StreamEndpoint(keep_open=True), StreamEndpoint(keep_open=True)
    await join(way, net, node, first)
    (peer,) = await node.met.count(1)
    for _ in range(2):
        with pytest.raises(NotEnabledError):
            node.send_nowait(peer, b"message")
        with pytest.raises(NotEnabledError):
            await node.send(peer, b"message")
        with pytest.raises(NotEnabledError):
            await node.flush(peer)
        assert [type(error) for error in node.broadcast(b"message", [peer]).values()] == [NotEnabledError]
        if Writing not in context_of(node).enabled:
            node.enable(Writing)
    await join(way, net, node, second)
    later = (await node.met.count(2))[1]
    await node.send(later, b"message")
    assert await second.until_data(11) == frame(b"message")
    assert not first.data
    await node.aclose()
    await first.aclose()
    await second.aclose()


@both_ways
async def test_send_waits_for_room_and_serves_its_callers_in_order(net: Network, way: str) -> None:
    node = Short(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        large = await blocked(node, peer, end)
        fill = 3 - len(peer.outbox.queue)
        for message in numbered(fill):
            await node.send(peer, message)
        senders = [asyncio.create_task(node.send(peer, message)) for message in numbered(50)]
        await turns(5)
        assert not any(sender.done() for sender in senders)
        with pytest.raises(QueueFullError):
            node.send_nowait(peer, b"past those who wait")
        end.transport.resume_reading()
        await all_done(senders)
        await node.flush(peer)
        tail = b"".join(map(frame, [*numbered(fill), *numbered(50)]))
        await end.until_data(peer.stats.bytes_sent)
        assert end.data.endswith(tail)
        assert (len(end.data) - len(tail)) % len(large) == 0


@both_ways
async def test_who_is_cancelled_while_waiting_sent_nothing(net: Network, way: str) -> None:
    node = Short(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        await blocked(node, peer, end)
        for message in numbered(3 - len(peer.outbox.queue)):
            await node.send(peer, message)
        sent = [b"one", b"two", b"three", b"four", b"five"]
        senders = [asyncio.create_task(node.send(peer, message)) for message in sent]
        await turns(2)
        senders[0].cancel()
        senders[3].cancel()
        assert [type(done) for done in await all_done([senders[0], senders[3]])] == [asyncio.CancelledError] * 2
        end.transport.resume_reading()
        assert await all_done(senders[1:3] + senders[4:]) == [None] * 3
        await node.flush(peer)
        await end.until_data(peer.stats.bytes_sent)
        assert end.data.endswith(frame(b"two") + frame(b"three") + frame(b"five"))
        assert end.data.count(b"one") + end.data.count(b"four") == 0


async def test_a_send_cancelled_as_it_is_served_is_whole(memory: MemoryNetwork) -> None:
    """The message is queued already; what the caller sees is a cancellation, as ``asyncio.Queue.put`` has it."""
    for step in range(8):
        node = Short(OPEN, memory)
        async with facing("listener", memory, node) as (peer, end):
            large = await blocked(node, peer, end)
            for message in numbered(3 - len(peer.outbox.queue)):
                await node.send(peer, message)
            sender = asyncio.create_task(node.send(peer, b"in doubt"))
            follower = asyncio.create_task(node.send(peer, b"follower"))
            await turns(2)
            end.transport.resume_reading()
            while len(peer.outbox._waiters or ()) == 2:
                await turns(1)
            await turns(step)  # served by now; its task knows after a turn
            sender.cancel()
            await all_done([sender, follower])
            await node.flush(peer)
            data = await end.until_data(peer.stats.bytes_sent)
            assert data.startswith(large)
            assert data.endswith(frame(b"follower"))
            assert data.count(frame(b"in doubt")) == 1


@both_ways
async def test_who_waits_to_send_learns_that_the_peer_left(net: Network, way: str) -> None:
    node = Short(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        await blocked(node, peer, end)
        senders = [asyncio.create_task(node.send(peer, message)) for message in numbered(5)]
        await turns(2)
        await end.aclose()
        results = await all_done(senders)
        assert NotConnectedError in map(type, results)
        assert {*map(type, results)} <= {NotConnectedError, type(None)}
        await reason_of(node, peer)


class Batches(Encoder[bytes]):
    """Writes down each batch; as an encoder of length-delimited frames that is not equal to any other."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def encode(self, messages: Sequence[bytes]) -> Sequence[Buffer]:
        self.batches.append(list(messages))
        if b"bad" in messages:
            raise EncodeError("bad")
        if b"worse" in messages:
            raise KeyError("worse")
        return LengthDelimited().encode(messages)


class OneEach(Witness):
    """An encoder for each peer."""

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return Batches()


class OneForAll(Witness):
    """An encoder that all peers share."""

    def __init__(self, net: Network) -> None:
        super().__init__(OPEN, net)
        self.batches = Batches()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return self.batches


@both_ways
async def test_what_is_sent_in_one_turn_is_one_batch(net: Network, way: str) -> None:
    tested, other = OneForAll(net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, _):
        for message in numbered(10):
            await tested.send(ours, message)
        assert tested.batches.batches == []
        await other.got.count(10)
        await tested.send(ours, b"later")
        await other.got.count(11)
        assert tested.batches.batches == [numbered(10), [b"later"]]


@both_ways
async def test_large_and_small_messages_keep_their_order(net: Network, way: str) -> None:
    sizes = [1, 70_000, 2, 3, 65_536, 65_535, 0, 1_000_000, 5, 300_000]
    sent = [bytes([n]) * size for n, size in enumerate(sizes)]
    tested, other = Witness(OPEN, net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, theirs):
        for message in sent * 3:
            await tested.send(ours, message)
        await other.got.count(30)
        assert messages(other) == sent * 3
        assert ours.stats.bytes_sent == theirs.stats.bytes_received == 3 * (sum(sizes) + 4 * len(sizes))


# Flushing


@both_ways
async def test_flush_returns_when_all_before_it_is_with_the_system(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        await node.flush(peer)  # nothing to do
        await node.send(peer, b"small")
        assert peer.stats.messages_sent == 0
        await node.flush(peer)
        assert peer.stats.messages_sent == 1
        end.transport.pause_reading()
        await node.send(peer, bytes(MUCH // 4))
        await node.send(peer, bytes(MUCH // 2))
        await node.send(peer, bytes(MUCH // 2))
        flushing = [asyncio.create_task(node.flush(peer)) for _ in range(3)]
        await turns(20)
        assert not any(task.done() for task in flushing)
        assert write_buffer_size(peer)
        end.transport.resume_reading()
        assert await all_done(flushing) == [None] * 3
        assert not write_buffer_size(peer)


async def test_flush_does_not_wait_for_what_is_sent_after_it(memory: MemoryNetwork) -> None:
    node = Witness(OPEN, memory)
    async with facing("listener", memory, node) as (peer, end):
        end.transport.pause_reading()
        await node.send(peer, bytes(300_000))
        flushing = asyncio.create_task(node.flush(peer))
        await turns(3)
        await node.send(peer, bytes(1_000_000))
        assert not flushing.done()
        end.transport.resume_reading()
        await end.until_data(100_000)
        end.transport.pause_reading()
        await flushing
        assert write_buffer_size(peer)
        end.transport.resume_reading()
        await node.flush(peer)


@both_ways
@pytest.mark.parametrize("ender", ["peer", "self"])
async def test_flush_raises_if_the_connection_ends_first(net: Network, way: str, ender: str) -> None:
    node = Hurried(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        await blocked(node, peer, end)
        flushing = asyncio.create_task(node.flush(peer))
        await turns(2)
        if ender == "peer":
            await end.aclose()
        else:
            await node.disconnect(peer)
        assert [type(done) for done in await all_done([flushing])] == [NotConnectedError]


class Hurried(Witness):
    disconnect_timeout = 0.05


async def test_flush_raises_if_the_write_itself_finds_the_connection_gone(net: Network) -> None:
    """Who does not read learns of the end by a write."""
    node = Witness(CALLER, net)
    node.enable(Writing, OnConnect)
    end = StreamEndpoint()
    await join("dialler", net, node, end)
    (peer,) = await node.met.count(1)
    await end.aclose()
    await turns(5)
    with pytest.raises(NotConnectedError):
        for _ in range(3):  # TCP takes the first, and hears by its answer that nobody is there
            await node.send(peer, b"message")
            await node.flush(peer)
    await node.aclose()


# Time


class Impatient(Witness):
    write_timeout = 0.05


@both_ways
async def test_a_peer_that_never_reads_is_given_up_and_counted(net: Network, way: str) -> None:
    node = Impatient(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        await blocked(node, peer, end)
        await failure_of(node, peer, Origin.WRITING, WriteTimeoutError)
        assert node.heuristics.write_timeouts == 1
        await gone(node, peer)
        assert not node.is_connected(peer.addr)


@pytest.mark.parametrize("size", [60_000, 100_000], ids=["joined", "as they are"])
async def test_the_timeout_is_for_the_whole_batch(memory: MemoryNetwork, size: int) -> None:
    """Who takes a little now and then does not put it off."""
    node = Impatient(OPEN, memory)
    clock = asyncio.get_running_loop().time
    async with facing("listener", memory, node) as (peer, end):
        end.transport.pause_reading()
        for _ in range(250):
            node.send_nowait(peer, bytes(size))
        began = clock()
        for _ in range(20):
            await asyncio.sleep(0.01)
            if node.left.items:
                break
            end.transport.resume_reading()
            await turns(3)
            end.transport.pause_reading()
        assert end.data
        assert clock() - began == pytest.approx(0.05, abs=0.011)
        await failure_of(node, peer, Origin.WRITING, WriteTimeoutError)


async def test_each_batch_has_its_own_time(memory: MemoryNetwork) -> None:
    node = Impatient(OPEN, memory)
    async with facing("listener", memory, node) as (peer, end):
        for _ in range(5):
            end.transport.pause_reading()
            await node.send(peer, bytes(1_000_000))
            await asyncio.sleep(0.04)
            end.transport.resume_reading()
            await node.flush(peer)
        await asyncio.sleep(1)
        assert not node.left.items
        assert not node.heuristics.write_timeouts


# Encoders


@both_ways
@pytest.mark.parametrize("bad", [b"bad", b"worse"])
@pytest.mark.expects_errors
async def test_an_encoder_that_raises_ends_that_connection_and_no_other(net: Network, way: str, bad: bytes) -> None:
    node = OneEach(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        spectator = StreamEndpoint(keep_open=True)
        await join("dialler", net, node, spectator)
        other = (await node.met.count(2))[1]
        await node.send(peer, b"good")
        await node.flush(peer)
        await node.send(peer, bad)
        with pytest.raises(NotConnectedError):
            await node.flush(peer)
        await node.send(other, b"well")
        await failure_of(node, peer, Origin.WRITING, EncodeError if bad == b"bad" else KeyError)
        await end.events.when(lambda events: {"eof", "lost"} & {*events})
        assert bytes(end.data) == frame(b"good")
        await node.send(other, b"still well")
        assert await spectator.until_data(22) == frame(b"well") + frame(b"still well")
        assert not node.heuristics.write_timeouts
        await spectator.aclose()


@pytest.mark.parametrize("given", [None, b"not in a list", ["text"]], ids=["nothing", "bytes", "text"])
@pytest.mark.expects_errors
async def test_an_encoder_that_gives_no_buffers_ends_that_connection(net: Network, given: Any) -> None:
    class Wrong(LengthDelimited):
        def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
            return given  # type: ignore[no-any-return]

    class Mistaken(Witness):
        def encoder(self, peer: Peer) -> Encoder[bytes]:
            return Wrong()

    node = Mistaken(OPEN, net)
    async with facing("listener", net, node) as (peer, _):
        node.send_nowait(peer, b"message")
        await failure_of(node, peer, Origin.WRITING, TypeError)


async def test_an_encoder_may_yield_its_buffers(net: Network) -> None:
    class Yielding(LengthDelimited):
        def encode(self, messages: Sequence[Buffer]) -> Any:
            yield from super().encode(messages)

    class Yields(Witness):
        def encoder(self, peer: Peer) -> Encoder[bytes]:
            return Yielding()

    node = Yields(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        await node.send(peer, b"good")
        assert await end.until_data(8) == frame(b"good")


# Broadcast


@both_ways
async def test_a_broadcast_reaches_all_and_tells_whom_it_did_not(net: Network, way: str) -> None:
    node = Short(OPEN, net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(4)]
    async with node:
        for n, end in enumerate(ends, 1):
            await join(way, net, node, end)
            await node.met.count(n)
        well, full, left, also_well = node.met.items
        await node.disconnect(left)
        for message in numbered(3):
            node.send_nowait(full, message)
        errors = node.broadcast(b"news", [well, full, left, also_well])
        assert {peer: type(error) for peer, error in errors.items()} == {full: QueueFullError, left: NotConnectedError}
        assert await ends[0].until_data(8) == await ends[3].until_data(8) == frame(b"news")
        assert node.broadcast(b"more") == {}, "those who left are not among all"
        assert await ends[0].until_data(16) == await ends[3].until_data(16) == frame(b"news") + frame(b"more")
        assert await ends[1].until_data(32) == b"".join(map(frame, numbered(3))) + frame(b"more")
        for end in ends:
            await end.aclose()


@both_ways
async def test_a_slow_peer_delays_no_broadcast(net: Network, way: str) -> None:
    node = Short(OPEN, net)
    slow, quick = StreamEndpoint(keep_open=True), StreamEndpoint(keep_open=True)
    async with node:
        await join(way, net, node, slow)
        (first,) = await node.met.count(1)
        await join(way, net, node, quick)
        await node.met.count(2)
        slow.transport.pause_reading()
        refused = 0
        for n in range(100):
            errors = node.broadcast(bytes(256 * 1024))
            assert {*errors} <= {first}
            refused += len(errors)
            await quick.until_data((n + 1) * (256 * 1024 + 4))
        assert refused
        await slow.aclose()
        await quick.aclose()


async def test_a_broadcast_is_encoded_once_for_encoders_that_are_equal(net: Network) -> None:
    node = OneForAll(net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(5)]
    async with node:
        for end in ends:
            await join("listener", net, node, end)
        await node.met.count(5)
        assert node.broadcast(b"news") == {}
        for end in ends:
            assert await end.until_data(8) == frame(b"news")
        assert node.batches.batches == [[b"news"]]
        assert node.stats.messages_sent == 5
        assert node.stats.bytes_sent == 5 * 8
        for end in ends:
            await end.aclose()


async def test_an_encoder_of_its_own_is_used_for_each_peer(net: Network) -> None:
    class Marked(LengthDelimited):
        """Says which peer it is for; unlike its base, equal only to itself."""

        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

        def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
            return super().encode([bytes(message) + str(id(self)).encode() for message in messages])

    made: Recorder[Marked] = Recorder()

    class Marking(Witness):
        def encoder(self, peer: Peer) -> Encoder[bytes]:
            made.add(Marked())
            return made.items[-1]

    node = Marking(OPEN, net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(3)]
    async with node:
        for n, end in enumerate(ends, 1):
            await join("listener", net, node, end)
            await node.met.count(n)
        assert node.broadcast(b"for ") == {}
        for end, encoder in zip(ends, made.items, strict=True):
            expected = frame(b"for " + str(id(encoder)).encode())
            assert await end.until_data(len(expected)) == expected
            await end.aclose()


async def test_an_encoder_that_cannot_be_hashed_is_used_for_its_peer_alone(net: Network) -> None:
    @dataclass(frozen=True)
    class Optioned(Encoder[bytes]):
        options: dict[str, str] = field(default_factory=dict)

        def encode(self, messages: Sequence[bytes]) -> Sequence[Buffer]:
            return LengthDelimited().encode(messages)

    class Options(Witness):
        def encoder(self, peer: Peer) -> Encoder[bytes]:
            return Optioned()

    node = Options(OPEN, net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(2)]
    async with node:
        for n, end in enumerate(ends, 1):
            await join("listener", net, node, end)
            await node.met.count(n)
        assert node.broadcast(b"news") == {}
        for end in ends:
            assert await end.until_data(8) == frame(b"news")
            await end.aclose()


async def test_who_is_named_twice_gets_a_broadcast_once(net: Network) -> None:
    class Single(OneForAll):
        write_queue_depth = 1

    node = Single(net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(2)]
    async with node:
        for n, end in enumerate(ends, 1):
            await join("listener", net, node, end)
            await node.met.count(n)
        first, second = node.met.items
        assert node.broadcast(b"news", [first, first, second]) == {}
        for end, peer in zip(ends, (first, second), strict=True):
            await node.flush(peer)
            assert await end.until_data(8) == frame(b"news")
            assert peer.stats.messages_sent == 1
            await end.aclose()


@both_ways
async def test_broadcasts_and_messages_keep_their_order(net: Network, way: str) -> None:
    node = OneForAll(net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(2)]
    expected = []
    async with node:
        for end in ends:
            await join(way, net, node, end)
        await node.met.count(2)
        first = node.peers[0]
        for n, message in enumerate(numbered(200)):
            if n % 3:
                await node.send(first, message)
            else:
                assert node.broadcast(message) == {}
            expected.append(message)
            await turns(not n % 7)
        await node.flush(first)
        stream = b"".join(map(frame, expected))
        assert await ends[0].until_data(len(stream)) == stream
        for end in ends:
            await end.aclose()


async def test_a_broadcast_that_cannot_be_encoded_is_their_error_and_ends_nothing(net: Network) -> None:
    node = OneForAll(net)
    ends = [StreamEndpoint(keep_open=True) for _ in range(2)]
    async with node:
        for end in ends:
            await join("listener", net, node, end)
        await node.met.count(2)
        errors = node.broadcast(b"bad")
        assert list(errors) == node.peers
        assert all(isinstance(error, EncodeError) for error in errors.values())
        assert node.broadcast(b"good") == {}
        for end in ends:
            assert await end.until_data(8) == frame(b"good")
            await end.aclose()


# Statistics


@both_ways
async def test_traffic_is_counted_for_the_peer_and_for_the_node_and_outlives_the_peer(net: Network, way: str) -> None:
    tested, other = Witness(OPEN, net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, theirs):
        for message in numbered(100, 100):
            await tested.send(ours, message)
        await other.send(theirs, b"back")
        await other.got.count(100)
        await tested.got.count(1)
        stats = ours.stats
        assert (stats.messages_sent, stats.bytes_sent) == (100, 100 * 104)
        assert (stats.messages_received, stats.bytes_received) == (1, 8)
        back = theirs.stats
        assert (back.messages_received, back.bytes_received) == (100, 100 * 104)
        assert (back.messages_sent, back.bytes_sent) == (1, 8)
        await tested.disconnect(ours)
        assert tested.stats == stats
        caller, called = (tested, other) if way == "dialler" else (other, tested)
        await gone(other, theirs)
        await caller.connect(address(called))
        again = (await tested.met.count(2))[1]
        await tested.send(again, b"once more")
        await other.got.count(101)
        assert (again.stats.messages_sent, stats.messages_sent, tested.stats.messages_sent) == (1, 100, 101)
