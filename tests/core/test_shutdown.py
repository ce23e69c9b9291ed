"""Closing a node: what it waits for, for how long, and that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from pea2pea import (
    Addr,
    Cause,
    DisconnectReason,
    LengthDelimited,
    Node,
    NodeState,
    OnConnect,
    Origin,
    Peer,
    Reading,
    Settings,
)
from pea2pea.errors import ConnectError, NodeClosedError, UsageError
from pea2pea.link import Link
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.testing import VirtualClockLoop
from support import Recorder, StreamEndpoint, listening, turns
from support.node import (
    CALLER,
    OPEN,
    Polite,
    Witness,
    address,
    check_idle,
    check_views,
    context_of,
    echoed,
    pair,
    witnesses,
)

W = TypeVar("W", bound=Witness)


def check_closed(node: Node) -> None:
    """Fail unless ``node`` is closed and holds nothing."""
    check_idle(node)
    assert node.listening_addr is None
    assert not context_of(node).supervisor.is_busy
    assert not context_of(node).supervisor.held
    assert node.state is NodeState.CLOSED
    assert ", closed, " in repr(node)


async def opened(node: W) -> W:
    """Open ``node``; the test closes it."""
    return await node.__aenter__()


def timers() -> list[asyncio.TimerHandle]:
    """The timers that the loop still waits for."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


def now() -> float:
    return asyncio.get_running_loop().time()


# What it ends


async def test_aclose_frees_the_port_and_tells_every_peer(net: Network) -> None:
    async with witnesses(net, CALLER, CALLER, kind=Witness) as callers:
        called = await opened(Witness(OPEN, net))
        addr = address(called)
        there = [await caller.connect(addr) for caller in callers]
        await called.met.count(2)
        await called.aclose()
        check_closed(called)
        assert {(peer, reason.origin) for peer, reason in called.left.items} == {
            (peer, Origin.SHUTDOWN) for peer in called.met.items
        }
        for caller, peer in zip(callers, there, strict=True):
            assert await caller.left.count(1) == [(peer, DisconnectReason(Cause.PEER_REFUSED))]
        async with Node(listen=addr, network=net) as heir:
            assert heir.listening_addr == addr


async def test_all_peers_are_disconnected_at_once(memory: MemoryNetwork) -> None:
    class Slow(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await asyncio.sleep(1.0)
            await super().on_disconnect(peer, reason)

    async with witnesses(memory, *[CALLER] * 20, kind=Witness) as callers:
        called = await opened(Slow(OPEN, memory))
        for caller in callers:
            await caller.connect(address(called))
        await called.met.count(20)
        began = now()
        await called.aclose()
        assert len(called.left.items) == 20
        assert now() == began + 1.0


async def test_nobody_gets_in_while_it_closes(net: Network) -> None:
    async with Witness(CALLER, net) as first, Witness(CALLER, net) as second:
        called = await opened(Witness(OPEN, net))
        addr = address(called)
        await first.connect(addr)
        await called.met.count(1)
        called.gates["on_disconnect"].close()
        closing = asyncio.create_task(called.aclose())
        await called.gates["on_disconnect"].reached.count(1)
        assert called.listening_addr is None
        assert ", closing, " in repr(called)
        check_views(called)
        assert called.num_connected == 1
        with pytest.raises(ConnectError):
            await second.connect(addr)
        with pytest.raises(NodeClosedError):
            await called.connect("127.0.0.1:1")
        with pytest.raises(NodeClosedError):
            await called.start_listening()
        called.gates["on_disconnect"].open()
        await closing
        assert len(called.met.items) == 1


async def test_a_last_message_is_delivered(net: Network) -> None:
    class Leaving(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await self.send(peer, b"goodbye")

    async with Witness(OPEN, net) as called:
        async with Leaving(CALLER, net) as caller:
            await caller.connect(address(called))
        await called.left.count(1)
        assert [message for _, message in called.got.items] == [b"goodbye"]


@pytest.mark.parametrize("stage", ["dial", "handshake"])
async def test_connects_under_way_end_at_once(memory: MemoryNetwork, stage: str) -> None:
    async with listening(memory, backlog=1) as listener:
        caller = await opened(Polite(CALLER, memory))
        filler = StreamEndpoint()
        if stage == "dial":
            await memory.dial(listener.addr, filler)
        dial = asyncio.create_task(caller.connect(listener.addr))
        await turns()
        assert caller.num_connecting == 1
        assert ("handshake" in caller.doing) == (stage == "handshake")
        began = now()
        await caller.aclose()
        assert now() == began
        check_closed(caller)
        assert not caller.doing
        with pytest.raises(NodeClosedError):
            await dial
        if stage == "dial":
            await filler.aclose()


async def test_a_connect_in_its_handshake_leaves_no_socket(net: Network) -> None:
    async with Polite(OPEN, net) as called:
        called.gates["handshake"].close()
        caller = await opened(Polite(CALLER, net))
        dial = asyncio.create_task(caller.connect(address(called)))
        await called.gates["handshake"].reached.count(1)
        await caller.aclose()
        check_closed(caller)
        with pytest.raises(NodeClosedError):
            await dial
        called.gates["handshake"].open()


async def test_a_transport_that_takes_its_time_to_close_is_waited_for() -> None:
    """As one of TLS may, that was given up in its handshake."""

    class Lingering(MemoryNetwork):
        async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: socket.socket | None = None) -> None:
            await super().dial(addr, protocol, sock=sock)
            assert isinstance(protocol, Link)
            abort = protocol.transport.abort
            monkeypatch.setattr(protocol.transport, "abort", lambda: asyncio.get_running_loop().call_later(1.0, abort))

    net = Lingering()
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with Polite(OPEN, net) as called:
            called.gates["handshake"].close()
            caller = await opened(Polite(CALLER, net))
            dial = asyncio.create_task(caller.connect(address(called)))
            await called.gates["handshake"].reached.count(1)
            began = now()
            await caller.aclose()
            assert now() == began + 1.0
            check_closed(caller)
            with pytest.raises(NodeClosedError):
                await dial
            called.gates["handshake"].open()


async def test_a_teardown_without_on_disconnect_has_a_default_timeout(memory: MemoryNetwork) -> None:
    class Unaware(Node, Reading[bytes]):
        def decoder(self, peer: Peer) -> LengthDelimited:
            return LengthDelimited()

        async def process_message(self, peer: Peer, message: bytes) -> None: ...

    async with Unaware(**OPEN, network=memory) as node:
        end = StreamEndpoint()
        await memory.dial(Addr.of(address(node)), end)
        await turns(5)
        assert node.num_connected == 1
        await end.aclose()


async def test_inbound_setups_end_at_once(net: Network) -> None:
    called = await opened(Polite(OPEN, net))
    called.gates["handshake"].close()
    silent = [StreamEndpoint() for _ in range(3)]
    for endpoint in silent:
        await net.dial(Addr.of(address(called)), endpoint)
    await called.gates["handshake"].reached.count(3)
    await called.aclose()
    check_closed(called)
    assert not called.met.items
    assert not called.doing
    for endpoint in silent:
        await endpoint.events.has("lost")
    assert called.heuristics.handshake_timeouts == 0


# What it waits for


async def test_hooks_that_hang_are_given_their_time_and_no_more(memory: MemoryNetwork) -> None:
    class Hanging(Witness):
        disconnect_timeout = 7.0

    async with witnesses(memory, CALLER, CALLER, kind=Witness) as callers:
        called = await opened(Hanging(OPEN, memory))
        called.gates["on_disconnect"].close()
        called.gates["process_message"].close()
        for caller in callers:
            await caller.send(await caller.connect(address(called)), b"stuck")
        await called.gates["process_message"].reached.count(2)
        began = now()
        await called.aclose()
        assert now() == began + 7.0
        check_closed(called)
        assert not called.doing
        assert len(called.left.items) == 2
        assert not called.got.items


async def test_on_connect_is_cancelled(net: Network) -> None:
    async with Witness(OPEN, net) as called:
        caller = await opened(Witness(CALLER, net))
        caller.gates["on_connect"].close()
        await caller.connect(address(called))
        await caller.gates["on_connect"].reached.count(1)
        await caller.aclose()
        assert not caller.met.items
        assert not caller.doing


async def test_on_connect_that_must_not_be_aborted_runs_to_its_end(net: Network) -> None:
    class Thorough(Witness):
        on_connect_abortable = False

    async with Witness(OPEN, net) as called:
        caller = await opened(Thorough(CALLER, net))
        caller.gates["on_connect"].close()
        peer = await caller.connect(address(called))
        await caller.gates["on_connect"].reached.count(1)
        closing = asyncio.create_task(caller.aclose())
        await called.left.count(1)
        assert not closing.done()
        caller.gates["on_connect"].open()
        await closing
        assert caller.met.items == [peer]


async def test_a_peer_that_takes_nothing_does_not_hold_it_up(memory: MemoryNetwork) -> None:
    """What it was sent is given up when the time is over."""
    async with Node(**OPEN, network=memory) as called:  # reads nothing
        caller = await opened(Witness(CALLER, memory))
        peer = await caller.connect(address(called))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                while True:
                    await caller.send(peer, bytes(10_000))
        began = now()
        await caller.aclose()
        assert now() == began + Witness.disconnect_timeout
        check_closed(caller)


# What it leaves


async def test_nothing_is_left_whatever_was_going_on(memory: MemoryNetwork) -> None:
    """No task, no timer, no listener, the moment that aclose returns."""

    class Timed(Polite):
        idle_timeout = 1000.0
        write_timeout = 1000.0

    before = asyncio.all_tasks()
    nodes = [await opened(Timed(OPEN, memory)) for _ in range(4)]
    for n, node in enumerate(nodes):
        for other in nodes[n + 1 :]:
            await node.send(await node.connect(address(other)), b"hello")
    for node in nodes:
        await node.met.count(3)
        node.gates["process_message"].close()
    nodes[0].broadcast(b"unprocessed")
    nodes[3].gates["handshake"].close()
    await nodes[3].stop_listening()
    await nodes[3].start_listening()
    dial = asyncio.create_task(nodes[0].connect(address(nodes[3])))
    await nodes[3].gates["handshake"].reached.count(4)
    assert timers()
    await asyncio.gather(*(node.aclose() for node in nodes))
    assert asyncio.all_tasks() - {dial} == before
    with pytest.raises(NodeClosedError):
        await dial
    assert not timers()
    assert not memory.listening
    for node in nodes:
        check_closed(node)
        assert len(node.left.items) == 3


async def test_no_task_is_left_on_any_network(net: Network) -> None:
    before = asyncio.all_tasks()
    async with Polite(OPEN, net) as called, Polite(CALLER, net) as caller:
        await echoed(caller, called, await caller.connect(address(called)), b"hello")
    assert asyncio.all_tasks() == before
    check_closed(called)
    check_closed(caller)


# Again, and after


async def test_it_can_be_called_twice(net: Network) -> None:
    async with Witness(OPEN, net) as called:
        caller = await opened(Witness(CALLER, net))
        await caller.connect(address(called))
        await caller.aclose()
        await caller.aclose()
        check_closed(caller)
        assert len(caller.left.items) == 1


async def test_it_can_be_called_twice_at_once(net: Network) -> None:
    async with Witness(OPEN, net) as called:
        caller = await opened(Witness(CALLER, net))
        await caller.connect(address(called))
        caller.gates["on_disconnect"].close()
        closing = [asyncio.create_task(caller.aclose()) for _ in range(3)]
        await caller.gates["on_disconnect"].reached.count(1)
        assert not any(task.done() for task in closing)
        caller.gates["on_disconnect"].open()
        await asyncio.gather(*closing)
        check_closed(caller)
        assert len(caller.left.items) == 1


async def test_a_node_that_was_never_opened_can_be_closed() -> None:
    node = Node(**OPEN)
    await node.aclose()
    with pytest.raises(NodeClosedError):
        await node.start_listening()


@pytest.mark.parametrize("after", range(12))
async def test_after_a_cancelled_call_a_second_one_finishes(net: Network, after: int) -> None:
    async with Witness(OPEN, net) as other:
        node = await opened(Witness(OPEN, net))
        await node.connect(address(other))
        await other.connect(address(node))
        await node.met.count(2)
        closing = asyncio.create_task(node.aclose())
        await turns(after)
        closing.cancel()
        await asyncio.wait([closing])
        check_views(node)
        await node.aclose()
        check_closed(node)
        assert len(node.left.items) == 2


async def test_after_closing_everything_says_so(net: Network) -> None:
    async with pair(net) as (caller, called, there, _):
        addr = address(called)
        await caller.aclose()
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: caller.connect(addr),
            caller.start_listening,
            caller.__aenter__,
        ]
        for call in calls:
            with pytest.raises(NodeClosedError):
                await call()
        assert await caller.disconnect(there) is False
        assert caller.peers == []


# From inside


class Suicidal(Polite):
    """Closes itself in the hook that it is told, the wrong way and then the right one."""

    def __init__(self, config: Settings, network: Network, hook: str, *, first_disconnects: bool = False) -> None:
        super().__init__(config, network)
        self.hook = hook
        self.first_disconnects = first_disconnects
        self.refused: Recorder[UsageError] = Recorder()
        self.closing: asyncio.Task[None] | None = None

    async def close(self, hook: str, peer: Peer) -> None:
        if hook == self.hook and self.closing is None:
            if self.first_disconnects:
                assert await self.disconnect(peer)
            with pytest.raises(UsageError) as error:
                await self.aclose()
            self.closing = asyncio.create_task(self.aclose())
            self.refused.add(error.value)

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        await self.close("handshake", peer)
        return await super().handshake(peer, reader, writer)

    async def on_connect(self, peer: Peer) -> None:
        await self.close("on_connect", peer)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.close("process_message", peer)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        await self.close("on_disconnect", peer)
        await super().on_disconnect(peer, reason)


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("hook", ["handshake", "on_connect", "process_message", "on_disconnect"])
async def test_closing_in_a_hook_raises_and_says_what_to_do(net: Network, hook: str, inbound: bool) -> None:
    async with Polite(OPEN, net) as other, Suicidal(OPEN, net, hook) as node:
        dialler, dialled = (other, node) if inbound else (node, other)
        dial = asyncio.create_task(dialler.connect(address(dialled)))
        if hook != "handshake":
            await dial
            (peer,) = await other.met.count(1)
            if hook == "process_message":
                await other.send(peer, b"now")
            elif hook == "on_disconnect":
                await other.disconnect(peer)
        (error,) = await node.refused.count(1)
        assert "create_task" in str(error)
        assert node.closing is not None
        await node.closing
        check_closed(node)
        await asyncio.wait([dial])
        assert dial.exception() is None or hook == "handshake"


@pytest.mark.parametrize("hook", ["on_connect", "process_message"])
async def test_closing_in_a_hook_raises_also_where_it_disconnected_its_peer(memory: MemoryNetwork, hook: str) -> None:
    async with Polite(OPEN, memory) as other, Suicidal(OPEN, memory, hook, first_disconnects=True) as node:
        await node.connect(address(other))
        (peer,) = await other.met.count(1)
        if hook == "process_message":
            await other.send(peer, b"now")
        await node.refused.count(1)
        assert now() == 0.0


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="came with Python 3.12")
@pytest.mark.parametrize("hook", ["handshake", "on_connect", "process_message", "on_disconnect"])
async def test_closing_in_a_hook_raises_also_where_tasks_start_eagerly(memory: MemoryNetwork, hook: str) -> None:
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
    await test_closing_in_a_hook_raises_and_says_what_to_do(memory, hook, inbound=True)


async def test_leaving_the_block_in_a_hook_is_closing_too(memory: MemoryNetwork) -> None:
    class Nested(Node, OnConnect):
        refused = False

        async def on_connect(self, peer: Peer) -> None:
            with pytest.raises(UsageError):
                await self.__aexit__(None, None, None)
            self.refused = True

    async with Witness(OPEN, memory) as other, Nested(**CALLER, network=memory) as node:
        await node.connect(address(other))
        await other.met.count(1)
        await turns()
        assert node.refused


# Never closed


async def test_a_node_that_is_collected_while_open_warns(memory: MemoryNetwork) -> None:
    node: Node | None = Node(name="forgotten", network=memory)
    assert node is not None
    with pytest.raises(ConnectError):
        await node.connect("127.0.0.1:1")
    with pytest.warns(ResourceWarning, match="'forgotten'.*never closed"):
        del node
        gc.collect()


async def test_a_node_that_was_closed_or_never_opened_does_not_warn(memory: MemoryNetwork) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        node: Node | None = Node(network=memory)
        del node
        async with Witness(CALLER, memory) as caller:
            assert caller.name
        del caller
        gc.collect()
    assert not caught
