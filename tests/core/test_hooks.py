"""``on_connect`` and ``on_disconnect``: when they run, how often, for how long, and with what reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from pea2pea import DisconnectReason, Origin, Peer
from pea2pea.codec import Buffer, LengthDelimited
from pea2pea.errors import (
    DecodeError,
    EncodeError,
    IdleTimeoutError,
    IncompleteFrameError,
    NotConnectedError,
    WriteTimeoutError,
)
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from support import Recorder, StreamEndpoint, turns
from support.link import MUCH, all_done, both_ways, facing, failure_of, frame, gone, join, linked, messages, reason_of
from support.node import OPEN, Witness, address, check_idle, logged

# on_connect


@both_ways
async def test_on_connect_runs_when_the_peer_is_registered_and_usable(net: Network, way: str) -> None:
    class Greets(Witness):
        async def on_connect(self, peer: Peer) -> None:
            assert self.is_connected(peer.addr)
            assert peer in self.peers
            assert peer.opened_at is not None
            await self.send(peer, b"welcome")
            await self.flush(peer)
            await super().on_connect(peer)

    other = Witness(OPEN, net)
    async with linked(way, Greets(OPEN, net), other):
        await other.got.count(1)
        assert messages(other) == [b"welcome"]


@both_ways
async def test_connect_does_not_wait_for_on_connect_and_messages_are_processed_beside_it(
    net: Network, way: str
) -> None:
    tested, other = Witness(OPEN, net), Witness(OPEN, net)
    async with tested, other:
        tested.gates["on_connect"].close()
        caller, called = (tested, other) if way == "dialler" else (other, tested)
        await caller.connect(address(called))
        await tested.gates["on_connect"].reached.count(1)
        await other.met.count(1)
        await other.send(other.peers[0], b"message")
        await tested.got.count(1)
        assert tested.doing == {"on_connect"}
        assert not tested.met.items
        tested.gates["on_connect"].open()
        await tested.met.count(1)


async def greeting(net: Network, way: str, node: Witness, end: StreamEndpoint) -> Peer:
    """Connect the open ``node``, whose ``on_connect`` waits, with ``end``."""
    node.gates["on_connect"].close()
    await join(way, net, node, end)
    await node.gates["on_connect"].reached.count(1)
    return node.peers[0]


@both_ways
@pytest.mark.parametrize("ender", ["self", "peer", "shutdown"])
async def test_the_end_of_the_connection_cancels_on_connect(net: Network, way: str, ender: str) -> None:
    node, end = Witness(OPEN, net), StreamEndpoint()
    async with node:
        peer = await greeting(net, way, node, end)
        if ender == "self":
            await node.disconnect(peer)
        elif ender == "shutdown":
            await node.aclose()
        else:
            end.transport.close()
            await gone(node, peer)
        assert not node.doing
        assert not node.met.items
        assert len(node.left.items) == 1
        await end.aclose()


class Thorough(Witness):
    on_connect_abortable = False


@both_ways
async def test_an_unabortable_on_connect_runs_to_its_end(net: Network, way: str) -> None:
    node, end = Thorough(OPEN, net), StreamEndpoint()
    async with node:
        peer = await greeting(net, way, node, end)
        await node.disconnect(peer)
        assert node.doing == {"on_connect"}
        assert not node.is_connected(peer.addr)
        node.gates["on_connect"].open()
        await node.met.count(1)
        await end.aclose()


@both_ways
async def test_aclose_waits_for_an_unabortable_on_connect(net: Network, way: str) -> None:
    node, end = Thorough(OPEN, net), StreamEndpoint()
    async with node:
        await greeting(net, way, node, end)
        closing = asyncio.create_task(node.aclose())
        await node.left.count(1)
        await turns(10)
        assert not closing.done()
        node.gates["on_connect"].open()
        await closing
        assert len(node.met.items) == 1
        await end.aclose()


async def test_a_hook_that_disconnects_its_own_peer_is_let_finish(net: Network) -> None:
    class Refuses(Witness):
        async def on_connect(self, peer: Peer) -> None:
            assert await self.disconnect(peer)
            await turns(3)
            await super().on_connect(peer)

        async def process_message(self, peer: Peer, message: bytes) -> None:
            assert await self.disconnect(peer)
            await turns(3)
            await super().process_message(peer, message)

    class ByMessage(Refuses):
        on_connect = Witness.on_connect

    async with Refuses(OPEN, net) as node:
        await join("listener", net, node, end := StreamEndpoint())
        await node.met.count(1)
        assert [reason.origin for _, reason in node.left.items] == [Origin.USER]
        await end.aclose()
    async with ByMessage(OPEN, net) as node:
        await join("listener", net, node, end := StreamEndpoint())
        await node.met.count(1)
        end.transport.write(frame(b"go") + frame(b"dropped"))
        await node.got.count(1)
        assert [reason.origin for _, reason in node.left.items] == [Origin.USER]
        await end.aclose()
    assert messages(node) == [b"go"]


async def test_a_hook_that_disconnected_its_own_peer_costs_no_time(memory: MemoryNetwork) -> None:
    class Refuses(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            await self.disconnect(peer)

    node = Refuses(OPEN, memory)
    async with facing("listener", memory, node) as (peer, end):
        end.transport.write(frame(b"go"))
        await gone(node, peer)
        await node.aclose()
        assert asyncio.get_running_loop().time() == 0


# Who ended it, and why


class Breakable(Witness):
    """Every end that a connection can meet, on demand."""

    write_timeout = 0.05
    disconnect_timeout = 1.0
    broken = False

    def encoder(self, peer: Peer) -> LengthDelimited:
        return Breaking()

    async def on_connect(self, peer: Peer) -> None:
        await super().on_connect(peer)
        if self.broken:
            raise KeyError("greeting")

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await super().process_message(peer, message)
        if message == b"raise":
            raise KeyError("message")
        if message == b"cancel":
            raise asyncio.CancelledError

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        assert peer in self.peers
        assert self.is_connected(peer.addr)
        assert self.peer(peer.addr) is peer
        await super().on_disconnect(peer, reason)
        await turns(3)
        assert peer in self.peers


class Breaking(LengthDelimited):
    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        if b"bad" in messages:
            raise EncodeError("bad")
        return super().encode(messages)


class Silenced(Breakable):
    idle_timeout = 0.05


End = Callable[[Breakable, Peer, StreamEndpoint], Awaitable[object]]


async def disconnect(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
    assert await node.disconnect(peer)


async def shutdown(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
    await node.aclose()


async def peer_closes(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.close()


async def peer_resets(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.pause_reading()
    await node.send(peer, b"unread, so that closing resets")
    await node.flush(peer)
    await turns(5)
    end.transport.abort()


async def peer_stops_halfway(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.write(b"\0\0")
    end.transport.close()


def says(what: bytes) -> End:
    async def say(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
        end.transport.write(what)

    return say


def hears(*messages: bytes) -> End:
    async def send(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
        end.transport.pause_reading()
        for message in messages:
            await node.send(peer, message)

    return send


async def nothing(node: Breakable, peer: Peer, end: StreamEndpoint) -> None:
    return None


NONE = type(None)
TOO_MUCH = [bytes(MUCH // 4)] * 5
ENDS: dict[str, tuple[End, Origin, type[BaseException | None]]] = {
    "disconnect": (disconnect, Origin.USER, NONE),
    "aclose": (shutdown, Origin.SHUTDOWN, NONE),
    "the peer closes": (peer_closes, Origin.READING, NONE),
    "the peer resets": (peer_resets, Origin.READING, ConnectionError),
    "the peer closes inside a frame": (peer_stops_halfway, Origin.READING, IncompleteFrameError),
    "garbage": (says(b"\xff\xff\xff\xff"), Origin.READING, DecodeError),
    "process_message raises": (says(frame(b"raise")), Origin.READING, KeyError),
    "process_message is cancelled": (says(frame(b"cancel")), Origin.READING, asyncio.CancelledError),
    "encoder raises": (hears(b"bad"), Origin.WRITING, EncodeError),
    "the peer does not read": (hears(*TOO_MUCH), Origin.WRITING, WriteTimeoutError),
    "on_connect raises": (nothing, Origin.ON_CONNECT, KeyError),
    "the peer is silent": (nothing, Origin.READING, IdleTimeoutError),
}


@both_ways
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.expects_errors
async def test_on_disconnect_runs_once_while_registered_and_is_told_why(net: Network, way: str, how: str) -> None:
    act, origin, kind = ENDS[how]
    node = (Silenced if how == "the peer is silent" else Breakable)(OPEN, net)
    node.broken = how == "on_connect raises"
    async with facing(way, net, node) as (peer, end):
        await act(node, peer, end)
        reason = await reason_of(node, peer)
        assert reason.origin is origin
        assert isinstance(reason.exception, kind)
        await gone(node, peer)
        assert not node.is_connected(peer.addr)
        await end.events.when(lambda events: {"eof", "lost"} & {*events} or not end.transport.is_reading())
        if node.listening_addr is not None:
            check_idle(node)
    assert len(node.left.items) == 1


@both_ways
@pytest.mark.parametrize("first", ENDS)
@pytest.mark.expects_errors
async def test_however_many_end_it_at_once(net: Network, way: str, first: str) -> None:
    node = Breakable(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        if first != "aclose":
            await ENDS[first][0](node, peer, end)
        results = [asyncio.create_task(node.disconnect(peer)) for _ in range(5)]
        with suppress(NotConnectedError):
            node.send_nowait(peer, b"bad")
        end.transport.write(frame(b"raise") + b"\xff\xff\xff\xff")
        end.transport.close()
        await node.aclose()
        done = await all_done(results)
        assert done.count(True) <= 1
        assert done.count(True) + done.count(False) == 5
    assert len(node.left.items) == 1


# on_disconnect


@both_ways
async def test_on_disconnect_has_disconnect_timeout_and_no_more(memory: MemoryNetwork, way: str) -> None:
    node = Breakable(OPEN, memory)
    clock = asyncio.get_running_loop().time
    async with facing(way, memory, node) as (peer, _):
        node.gates["on_disconnect"].close()
        began = clock()
        assert await node.disconnect(peer)
        assert clock() - began == pytest.approx(Breakable.disconnect_timeout)
        assert not node.doing, "it was not cancelled"
        assert not node.is_connected(peer.addr)


async def test_hooks_that_wait_and_the_last_bytes_share_that_time(memory: MemoryNetwork) -> None:
    class Stubborn(Breakable):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            with suppress(asyncio.CancelledError):
                await self.gates["process_message"].passed(peer)
            await asyncio.sleep(0.4)

    node = Stubborn(OPEN, memory)
    clock = asyncio.get_running_loop().time
    async with facing("listener", memory, node) as (peer, end):
        node.gates["process_message"].close()
        node.gates["on_disconnect"].close()
        end.transport.write(frame(b"message"))
        await node.gates["process_message"].reached.count(1)
        began = clock()
        await node.disconnect(peer)
        assert clock() - began == pytest.approx(Breakable.disconnect_timeout)
        assert len(node.left.items) == 1


@pytest.mark.expects_errors
async def test_a_hook_that_ignores_its_cancellation_holds_nothing_up_for_ever(memory: MemoryNetwork) -> None:
    release = asyncio.Event()

    class Deaf(Breakable):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await self.gates["process_message"].passed(peer)
                    await release.wait()
            self.got.add((peer, message))

    node = Deaf(OPEN, memory)
    clock = asyncio.get_running_loop().time
    with logged() as lines:
        async with facing("listener", memory, node) as (peer, end):
            end.transport.write(frame(b"message"))
            await node.gates["process_message"].reached.count(1)
            began = clock()
            assert await node.disconnect(peer)
            assert clock() - began <= Breakable.disconnect_timeout + 1
            assert len(node.left.items) == 1
            assert any("ignores its cancellation" in record.getMessage() for record in lines.items)
            release.set()
            await node.got.count(1)


@pytest.mark.expects_errors
@pytest.mark.parametrize("hook", ["on_connect", "on_disconnect"])
async def test_nor_does_one_that_greets_or_says_goodbye(memory: MemoryNetwork, hook: str) -> None:
    release = asyncio.Event()

    class Deaf(Witness):
        async def on_connect(self, peer: Peer) -> None:
            await super().on_connect(peer)
            await self.be_deaf("on_connect")

        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await super().on_disconnect(peer, reason)
            await self.be_deaf("on_disconnect")

        async def be_deaf(self, here: str) -> None:
            while here == hook and not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()

    node = Deaf(OPEN, memory)
    clock = asyncio.get_running_loop().time
    with logged() as lines:
        async with facing("listener", memory, node):
            began = clock()
            await node.aclose()
            assert clock() - began <= Deaf.disconnect_timeout + 1
    assert any("ignores its cancellation" in record.getMessage() for record in lines.items)
    release.set()
    await asyncio.sleep(0)


class LastWord(Witness):
    flushes = True

    def __init__(self, net: Network) -> None:
        super().__init__(OPEN, net)
        self.failed: Recorder[Exception] = Recorder()

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        try:
            await self.send(peer, b"farewell")
            if self.flushes:
                await self.flush(peer)
        except NotConnectedError as error:
            self.failed.add(error)
        await super().on_disconnect(peer, reason)


class LastWordUnflushed(LastWord):
    flushes = False


@both_ways
@pytest.mark.parametrize("kind", [LastWord, LastWordUnflushed])
@pytest.mark.parametrize("cause", ["disconnect", "aclose", "the peer ends its stream", "garbage", "by message"])
async def test_a_last_message_from_on_disconnect_arrives(
    net: Network, way: str, kind: type[LastWord], cause: str
) -> None:
    node = kind(net)
    async with facing(way, net, node) as (peer, end):
        await node.send(peer, b"before")
        if cause == "disconnect":
            await node.disconnect(peer)
        elif cause == "aclose":
            await node.aclose()
        elif cause == "the peer ends its stream":
            end.transport.write_eof()
        else:
            end.transport.write(b"\xff\xff\xff\xff" if cause == "garbage" else frame(b"message"))
            if cause == "by message":
                await node.got.count(1)
                await node.disconnect(peer)
        expected = frame(b"before") + frame(b"farewell")
        assert await end.until_data(len(expected)) == expected
        await end.events.has("eof")
        assert not node.failed.items


async def test_a_large_last_message_is_waited_for(net: Network) -> None:
    class LongWord(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await self.send(peer, bytes(MUCH // 4))
            await self.send(peer, bytes(MUCH // 4))
            await super().on_disconnect(peer, reason)

    node = LongWord(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        await node.disconnect(peer)
        await end.until_data(2 * (MUCH // 4 + 4))


@both_ways
@pytest.mark.parametrize("how", ["encoder raises", "the peer does not read"])
@pytest.mark.expects_errors
async def test_there_is_no_last_word_where_writing_is_what_failed(net: Network, way: str, how: str) -> None:
    class NoLastWord(LastWord):
        write_timeout = 0.05
        encoder = Breakable.encoder

    node = NoLastWord(net)
    async with facing(way, net, node) as (peer, end):
        end.transport.pause_reading()
        for message in [b"bad"] if how == "encoder raises" else TOO_MUCH:
            await node.send(peer, message)
        await failure_of(node, peer, Origin.WRITING, EncodeError if how == "encoder raises" else WriteTimeoutError)
        await node.failed.count(1)
        assert isinstance(node.failed.items[0], NotConnectedError)


@pytest.mark.expects_errors
async def test_on_disconnect_that_raises_changes_nothing(net: Network) -> None:
    class Raises(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await super().on_disconnect(peer, reason)
            raise RuntimeError("on purpose")

    node = Raises(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        assert await node.disconnect(peer)
        assert not node.is_connected(peer.addr)
        await end.events.has("eof")
        check_idle(node)


# disconnect


@both_ways
async def test_disconnect_of_one_unknown_leaving_or_gone_is_false(net: Network, way: str) -> None:
    tested, other = Witness(OPEN, net), Witness(OPEN, net)
    async with linked(way, tested, other) as (ours, theirs):
        assert not await tested.disconnect(theirs)
        tested.gates["on_disconnect"].close()
        disconnecting = asyncio.create_task(tested.disconnect(ours))
        await tested.gates["on_disconnect"].reached.count(1)
        assert not await tested.disconnect(ours)
        tested.gates["on_disconnect"].open()
        assert await disconnecting
        assert not await tested.disconnect(ours)
        assert len(tested.left.items) == 1


@both_ways
async def test_disconnect_returns_when_the_last_hook_has_run_and_the_peer_is_gone(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, _):
        node.gates["on_disconnect"].close()
        disconnecting = asyncio.create_task(node.disconnect(peer))
        await node.gates["on_disconnect"].reached.count(1)
        await turns(10)
        assert not disconnecting.done()
        assert node.is_connected(peer.addr)
        node.gates["on_disconnect"].open()
        assert await disconnecting
        assert not node.is_connected(peer.addr)
        assert not node.doing
        check_idle(node)


@both_ways
@pytest.mark.parametrize("after", range(4))
async def test_a_cancelled_disconnect_still_tears_the_connection_down(net: Network, way: str, after: int) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        node.gates["on_disconnect"].close()
        disconnecting = asyncio.create_task(node.disconnect(peer))
        await turns(1)
        await turns(after)
        disconnecting.cancel()
        assert [type(done) for done in await all_done([disconnecting])] == [asyncio.CancelledError]
        node.gates["on_disconnect"].open()
        await gone(node, peer)
        assert len(node.left.items) == 1
        assert not node.doing
        await end.events.has("eof")


async def test_messages_that_wait_are_dropped_by_a_disconnect(net: Network) -> None:
    node = Witness(OPEN, net)
    async with facing("listener", net, node) as (peer, end):
        node.gates["process_message"].close()
        end.transport.write(frame(b"message") * 10)
        await node.gates["process_message"].reached.count(1)
        await node.disconnect(peer)
        node.gates["process_message"].open()
        await turns(10)
        assert not node.got.items
        assert len(node.gates["process_message"].reached.items) == 1
