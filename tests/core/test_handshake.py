"""Handshakes: before anything else, over plain streams, in time, and not a byte lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from pea2pea import Handshake, HandshakeError, Origin, Peer, Settings
from pea2pea.codec import Decoder, Encoder
from pea2pea.errors import UsageError
from pea2pea.link import RECEIVE_SIZE
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.testing import VirtualClockLoop
from pea2pea.undecoded import GATHER_FROM
from support import Recorder, StreamEndpoint, accept, listening, turns
from support.link import MUCH, both_ways, facing, frame, join, linked, messages, numbered, reason_of, write_buffer_size
from support.node import CALLER, OPEN, Witness, address, changed, check_idle, logged, settled

Hook = Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


class Shaker(Witness, Handshake):
    """Shakes hands as it is told, and writes down the order of things."""

    def __init__(self, net: Network, hook: Hook, config: Settings = OPEN) -> None:
        super().__init__(config, net)
        self.hook = hook
        self.order: Recorder[str] = Recorder()

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        self.order.add("handshake begins")
        session = await self.hook(peer, reader, writer)
        self.order.add("handshake ends")
        return session

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        self.order.add(f"decoder, session {peer.session}")
        return super().decoder(peer)

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        self.order.add(f"encoder, session {peer.session}")
        return super().encoder(peer)

    async def on_connect(self, peer: Peer) -> None:
        self.order.add("on_connect")
        await super().on_connect(peer)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.order.add("process_message")
        await super().process_message(peer, message)


async def swap_bytes(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Send and read two bytes."""
    writer.write(b"hi")
    await writer.drain()
    return (await reader.readexactly(2)).decode()


def read(size: int) -> Hook:
    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return await reader.readexactly(size)

    return hook


async def nothing(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return None


async def wait_for_ever(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@both_ways
async def test_it_runs_on_both_sides_before_anything_else(net: Network, way: str) -> None:
    tested, other = Shaker(net, swap_bytes), Shaker(net, swap_bytes)
    async with linked(way, tested, other) as (peer, _):
        await other.send(other.peers[0], b"message")
        await tested.got.count(1)
    begin = ["handshake begins", "handshake ends", "decoder, session hi", "encoder, session hi", "on_connect"]
    assert tested.order.items == [*begin, "process_message"]
    assert other.order.items == begin
    assert peer.session == "hi"


@both_ways
async def test_meanwhile_the_peer_is_connecting_and_cannot_be_written_to(net: Network, way: str) -> None:
    seen = []

    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((tested.is_connecting(peer.addr), tested.is_connected(peer.addr), tested.peers, peer.session))
        with pytest.raises(ConnectionError):
            tested.send_nowait(peer, b"too early")
        assert not await tested.disconnect(peer)

    tested = Shaker(net, hook)
    async with linked(way, tested, Witness(OPEN, net)):
        assert seen == [(True, False, [], None)]


@both_ways
async def test_it_gets_plain_streams_over_the_raw_connection(net: Network, way: str) -> None:
    kinds = []

    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        kinds.extend([isinstance(reader, asyncio.StreamReader), isinstance(writer, asyncio.StreamWriter)])
        assert writer.get_extra_info("peername")[:2] == tuple(peer.addr)
        writer.write(b"not a frame")
        return await reader.readuntil(b"\n")

    node = Shaker(net, hook)
    end = StreamEndpoint(keep_open=True, on_made=lambda transport: transport.write(b"nor this\n"))
    async with facing(way, net, node, end) as (peer, _):
        assert kinds == [True, True]
        assert peer.session == b"nor this\n"
        assert await end.until_data(11) == b"not a frame"


async def refused(way: str, net: Network, node: Shaker, end: StreamEndpoint) -> BaseException | None:
    """Connect the open ``node``, whose handshake fails, with ``end``; return the cause, if the node dialled."""
    if way == "listener":
        await join(way, net, node, end)
        await end.events.when(lambda events: {"eof", "lost"} & {*events})
        return None
    with pytest.raises(HandshakeError) as failure:
        await join(way, net, node, end)
    return failure.value.__cause__


async def check_refused(way: str, net: Network, hook: Hook, cause: type[BaseException], end: StreamEndpoint) -> Shaker:
    """Have the handshake of a node fail for ``cause``, and check that only the slot's next user notices."""
    node = Shaker(net, hook, Settings(listen="127.0.0.1:0", max_connections=1))
    async with node:
        found = await refused(way, net, node, end)
        assert way == "listener" or isinstance(found, cause)
        await end.aclose()
        while node.num_connecting:  # a listener's task ends on its own
            await changed(node)
        await turns(3)
        check_idle(node)
        node.hook = nothing
        again = StreamEndpoint(keep_open=True)
        await join(way, net, node, again)  # the only slot is free
        await node.met.count(1)
        await again.aclose()
        await node.left.count(1)
    assert len(node.met.items) == len(node.left.items) == 1, "hooks of a connection that never was"
    return node


@both_ways
@pytest.mark.expects_errors
async def test_raising_refuses_the_peer_and_frees_the_slot(net: Network, way: str) -> None:
    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ValueError("I do not like you")

    await check_refused(way, net, hook, ValueError, StreamEndpoint())


@both_ways
async def test_the_other_side_closing_ends_it(net: Network, way: str) -> None:
    end = StreamEndpoint(on_made=lambda transport: transport.close())
    await check_refused(way, net, read(1), asyncio.IncompleteReadError, end)


@both_ways
async def test_a_reset_that_the_hook_did_not_see_ends_it_too(net: Network, way: str) -> None:
    ends: Recorder[asyncio.Transport] = Recorder()

    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (await ends.count(1))[0].abort()
        writer.transport.abort()  # what a reset leads to, on every system
        await turns(3)

    node = Shaker(net, hook)
    async with node:
        if way == "listener":
            end = StreamEndpoint(on_made=ends.add)
            await join(way, net, node, end)
            await end.events.has("lost")
        else:
            with pytest.raises(HandshakeError):
                await join(way, net, node, StreamEndpoint(on_made=ends.add))
        await turns(5)
        check_idle(node)


@both_ways
@pytest.mark.parametrize("how", ["readline", "readuntil"])
async def test_a_line_that_never_ends_is_told_as_the_peers_fault(net: Network, way: str, how: str) -> None:
    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return await (reader.readline() if how == "readline" else reader.readuntil())

    end = StreamEndpoint(on_made=lambda transport: transport.write(bytes(1024 * 1024)))
    with logged() as lines:
        await check_refused(way, net, hook, ValueError if how == "readline" else asyncio.LimitOverrunError, end)
    told = [line for line in lines.items if "too" in line.getMessage() or "limit" in line.getMessage()]
    # connect() raises it on the dialling side; a listener logs one line.
    assert [line.levelno for line in told] == ([logging.INFO] if way == "listener" else [])
    assert not any(line.exc_info for line in lines.items)


class Hasty(Shaker):
    handshake_timeout = 0.05


@both_ways
async def test_too_late_is_counted_and_refused(net: Network, way: str) -> None:
    node, end = Hasty(net, wait_for_ever), StreamEndpoint()
    async with node:
        cause = await refused(way, net, node, end)
        await end.events.has("eof" if "eof" in end.events.items else "lost")
        await end.aclose()
        await turns(3)
        check_idle(node)
    assert way == "listener" or isinstance(cause, TimeoutError)
    assert node.heuristics.handshake_timeouts == 1
    assert not node.met.items
    assert not node.left.items


@both_ways
async def test_who_waits_for_its_goodbye_to_be_read_does_not_wait_for_ever(net: Network, way: str) -> None:
    async def polite(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(bytes(MUCH))
            await reader.readexactly(1)
        finally:
            writer.close()
            await writer.wait_closed()

    def deaf(transport: asyncio.Transport) -> None:
        # Once connection_made is over: uvloop starts to read after it.
        asyncio.get_running_loop().call_soon(transport.pause_reading)

    node, end = Hasty(net, polite), StreamEndpoint(keep_open=True, on_made=deaf)
    async with node:
        with suppress(HandshakeError):
            await join(way, net, node, end)
        await node.order.has("handshake begins")
        await settled(node)
        assert len(end.data) < MUCH
        await end.aclose()
    assert node.heuristics.handshake_timeouts == 1


@both_ways
@pytest.mark.parametrize("late", ["by swallowing its cancellation", "by keeping the loop busy"])
async def test_what_returns_too_late_is_refused(memory: MemoryNetwork, way: str, late: str) -> None:
    async def hook(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        if late == "by keeping the loop busy":
            loop.now += Hasty.handshake_timeout
            return "late"
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "late"

    node, end = Hasty(memory, hook), StreamEndpoint()
    async with node:
        await refused(way, memory, node, end)
        await end.aclose()
        await turns(3)
        check_idle(node)
    assert node.heuristics.handshake_timeouts == 1
    assert not node.met.items


SIZES = [1, 100, GATHER_FROM - 1, GATHER_FROM, GATHER_FROM + 1, RECEIVE_SIZE - 4, RECEIVE_SIZE, 3 * RECEIVE_SIZE]


@both_ways
@pytest.mark.parametrize("size", SIZES)
async def test_bytes_past_it_are_the_first_to_decode(net: Network, way: str, size: int) -> None:
    """Whether they came with the handshake's, in the middle of a frame, or before it began."""
    expected = [b"first", bytes(size), b"last"]
    stream = b"hi" + b"".join(map(frame, expected))
    node = Shaker(net, read(2))
    end = StreamEndpoint(keep_open=True, on_made=lambda transport: transport.write(stream))
    async with facing(way, net, node, end) as (peer, _):
        await node.got.count(3)
        assert messages(node) == expected
        assert peer.session == b"hi"
        assert peer.stats.messages_received == node.stats.messages_received == 3
        assert peer.stats.bytes_received == node.stats.bytes_received == len(stream) - 2


@pytest.mark.parametrize("size", SIZES)
async def test_it_reads_all_that_came_before_it_began(memory: MemoryNetwork, size: int) -> None:
    node = Shaker(memory, read(size), CALLER)
    sent = bytes(range(256)) * (size // 256 + 1)
    end = StreamEndpoint(keep_open=True, on_made=lambda transport: transport.write(sent[:size] + frame(b"message")))
    async with node, listening(memory) as listener:
        connecting = asyncio.create_task(node.connect(listener.addr))
        await (await accept(listener)).open(end)
        peer = await connecting
        await node.got.count(1)
        assert peer.session == sent[:size]
        await end.aclose()


@both_ways
async def test_a_peer_may_say_all_and_end_its_stream_at_once(net: Network, way: str) -> None:
    def speak(transport: asyncio.Transport) -> None:
        transport.write(b"hi" + frame(b"only") + frame(b"words"))
        transport.write_eof()

    node = Shaker(net, read(2))
    async with facing(way, net, node, StreamEndpoint(keep_open=True, on_made=speak)) as (peer, _):
        reason = await reason_of(node, peer)
        assert messages(node) == [b"only", b"words"]
        assert (reason.origin, reason.exception) == (Origin.READING, None)


@both_ways
async def test_flow_control_reaches_its_streams(net: Network, way: str) -> None:
    much = bytes(4 * 1024 * 1024)

    async def talkative(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        async def say() -> None:
            for start in range(0, len(much), 65536):
                writer.write(much[start : start + 65536])
                await writer.drain()

        saying = asyncio.create_task(say())
        heard = await reader.readexactly(len(much))
        await saying
        return len(heard)

    async with linked(way, Shaker(net, talkative), Shaker(net, talkative)) as (ours, theirs):
        assert ours.session == theirs.session == len(much)


@both_ways
async def test_what_it_wrote_leaves_before_the_first_message(net: Network, way: str) -> None:
    much = bytes(8 * 1024 * 1024)

    async def hasty(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(much)  # and does not wait

    node = Shaker(net, hasty)
    async with facing(way, net, node) as (peer, end):
        for message in numbered(100):
            await node.send(peer, message)
        await node.flush(peer)
        assert not write_buffer_size(peer)
        assert peer.stats.messages_sent == 100
        tail = b"".join(map(frame, numbered(100)))
        assert (await end.until_data(len(much) + len(tail)))[len(much) :] == tail


@both_ways
async def test_what_it_wrote_leaves_before_a_disconnect(net: Network, way: str) -> None:
    much = bytes(8 * 1024 * 1024)

    async def hasty(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(much)

    node = Shaker(net, hasty)
    async with facing(way, net, node) as (peer, end):
        await node.disconnect(peer)
        assert len(await end.until_data(len(much))) == len(much)


@both_ways
async def test_streams_that_are_kept_are_of_no_use_afterwards(net: Network, way: str) -> None:
    kept: list[asyncio.StreamWriter] = []

    async def keeping(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append(writer)

    node = Shaker(net, keeping)
    async with facing(way, net, node) as (peer, end):
        with pytest.raises(UsageError, match="the handshake is over"):
            kept[0].write(b"into the middle of a frame")
        assert kept[0].is_closing()
        kept.clear()
        await node.send(peer, b"still here")
        assert await end.until_data(14) == frame(b"still here")


async def test_slow_handshakes_do_not_hold_up_the_next(net: Network) -> None:
    begun: Recorder[Peer] = Recorder()
    go_on = asyncio.Event()

    async def first_waits(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.add(peer)
        if len(begun.items) == 1:
            await go_on.wait()

    async with Shaker(net, first_waits) as called, Witness(CALLER, net) as slow, Witness(CALLER, net) as quick:
        await slow.connect(address(called))
        await begun.count(1)
        await quick.connect(address(called))
        await called.met.count(1)
        assert (called.num_connected, called.num_connecting) == (1, 1)
        go_on.set()
        await called.met.count(2)
