"""What a user gets wrong: each mistake is told of, and costs no more than the connection that it was made on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from conftest import LOOPS
from pea2pea import DisconnectReason, Handshake, Node, OnConnect, Origin, Peer, Reading, Settings, Writing
from pea2pea.codec import Buffer, Decoder, Encoder, LengthDelimited
from pea2pea.errors import ConnectError, NotEnabledError, UsageError
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.tcp import TcpNetwork
from pea2pea.testing import VirtualClockLoop
from support import Recorder, turns
from support.node import (
    CALLER,
    OPEN,
    Polite,
    Witness,
    address,
    changed,
    check_idle,
    check_views,
    echoed,
    logged,
    pair,
    settled,
)

HOOKS = [
    "handshake",
    "decoder",
    "encoder",
    "on_connect",
    "decode",
    "process_message",
    "encode",
    "on_disconnect",
]
#: Those that run before a peer is registered.
EARLY = {"handshake", "decoder", "encoder"}


class Mistake(Exception):
    """What a hook raises by mistake."""


class Clumsy(Polite):
    """Calls ``stumble`` in the hook ``where``, for the peers in ``victims`` (``None``: for all)."""

    def __init__(self, config: Settings, network: Network, where: str, stumble: Callable[[], object]) -> None:
        super().__init__(config, network)
        self.where = where
        self.stumble = stumble
        self.victims: set[Any] | None = None

    def step(self, hook: str, peer: Peer) -> None:
        if hook == self.where and (self.victims is None or peer.addr in self.victims):
            self.stumble()

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        self.step("handshake", peer)
        return await super().handshake(peer, reader, writer)

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        self.step("decoder", peer)
        return ClumsyDecoder(self, peer)

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        self.step("encoder", peer)
        return ClumsyEncoder(self, peer)

    async def on_connect(self, peer: Peer) -> None:
        self.step("on_connect", peer)
        await super().on_connect(peer)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.step("process_message", peer)
        await super().process_message(peer, message)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        await super().on_disconnect(peer, reason)
        self.step("on_disconnect", peer)


class ClumsyDecoder(Decoder[bytes]):
    def __init__(self, node: Clumsy, peer: Peer) -> None:
        self.node, self.peer, self.inner = node, peer, LengthDelimited()

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        self.node.step("decode", self.peer)
        return self.inner.decode(buffer)


class ClumsyEncoder(Encoder[bytes]):
    def __init__(self, node: Clumsy, peer: Peer) -> None:
        self.node, self.peer, self.inner = node, peer, LengthDelimited()

    def encode(self, messages: Sequence[bytes]) -> Sequence[Buffer]:
        self.node.step("encode", self.peer)
        return self.inner.encode(messages)


def fail() -> None:
    raise Mistake("on purpose")


async def provoke(caller: Clumsy, called: Witness, where: str) -> Peer | None:
    """Connect and have every hook of ``caller`` run, up to the one that is told."""
    if where in EARLY:
        with pytest.raises(ConnectError) as error:
            await caller.connect(address(called))
        assert isinstance(error.value.__cause__, Mistake)
        return None
    peer = await caller.connect(address(called))
    if where == "encode":
        caller.send_nowait(peer, b"out")
    elif where in ("decode", "process_message"):
        (here,) = await called.met.count(1)
        await called.send(here, b"in")
    elif where == "on_disconnect":
        await caller.met.count(2)
        assert await caller.disconnect(peer)
    await caller.left.count(1)
    return peer


ORIGINS = {
    "on_connect": Origin.ON_CONNECT,
    "decode": Origin.READING,
    "process_message": Origin.READING,
    "encode": Origin.WRITING,
    "on_disconnect": Origin.USER,
}


@pytest.mark.expects_errors
@pytest.mark.parametrize("where", HOOKS)
async def test_an_exception_is_logged_and_ends_its_connection_and_no_other(net: Network, where: str) -> None:
    async with Polite(OPEN, net) as safe, Polite(OPEN, net) as called, Clumsy(CALLER, net, where, fail) as caller:
        caller.victims = {called.listening_addr}
        unharmed = await caller.connect(address(safe))
        with logged() as lines:
            peer = await provoke(caller, called, where)
        if peer is not None:
            ((gone, reason),) = caller.left.items
            assert gone is peer
            assert reason.origin is ORIGINS[where]
            assert isinstance(reason.exception, Mistake) == (where != "on_disconnect")
            while caller.num_connected > 1:
                await changed(caller)
        (line,) = [line for line in lines.items if line.levelname == "ERROR"]
        assert line.exc_info is not None
        assert isinstance(line.exc_info[1], Mistake)
        assert line.exc_info[1].__traceback__ is not None
        assert str(called.listening_addr) in line.getMessage()
        assert str(caller.name) in line.getMessage()
        # Both of the nodes go on, with each other and with others.
        assert caller.peers == [unharmed]
        check_views(caller)
        await echoed(caller, safe, unharmed, b"unharmed")
        caller.victims = set()
        await echoed(caller, called, await caller.connect(address(called)), b"again")


@pytest.mark.expects_errors
@pytest.mark.parametrize("where", [hook for hook in HOOKS if hook != "on_disconnect"])
async def test_an_exception_on_the_side_that_was_dialled_ends_its_connection_and_no_other(
    net: Network, where: str
) -> None:
    async with Polite(CALLER, net) as safe, Polite(CALLER, net) as caller, Clumsy(OPEN, net, where, fail) as called:
        called.victims = set()
        unharmed = await safe.connect(address(called))
        await called.met.count(1)
        called.victims = None
        with logged() as lines:
            dial = asyncio.create_task(caller.connect(address(called)))
            await asyncio.wait([dial])
            assert where in EARLY or dial.exception() is None
            assert isinstance(dial.exception(), ConnectError | None)
            if where in ("decode", "process_message"):
                await caller.send(dial.result(), b"in")
            elif where == "encode":
                await called.met.count(2)
                called.send_nowait(called.met.items[1], b"out")
            await lines.when(lambda lines: any(line.levelname == "ERROR" for line in lines))
        called.victims = set()
        if where not in EARLY:
            await called.left.count(1)
        await echoed(safe, called, unharmed, b"unharmed")


@pytest.mark.expects_errors
async def test_no_timer_is_left_of_a_connection_whose_encoder_was_not_to_be_had(memory: MemoryNetwork) -> None:
    """The inbox, which was there already, must not find the peer idle afterwards."""

    class Timed(Clumsy):
        idle_timeout = 5.0

    async with Polite(OPEN, memory) as called, Timed(CALLER, memory, "encoder", fail) as caller:
        await provoke(caller, called, "encoder")
        await settled(caller)
        await asyncio.sleep(10.0)  # on the virtual clock
        assert caller.heuristics.idle_timeouts == 0
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


# What goes through


def interrupt() -> None:
    raise KeyboardInterrupt("on purpose")


@pytest.mark.expects_errors
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("where", HOOKS)
def test_keyboard_interrupt_goes_through(kind: str, where: str) -> None:
    """It ends the loop, from whichever hook it came; the nodes can be closed afterwards."""
    loop = LOOPS[kind]()
    try:
        with pytest.raises(KeyboardInterrupt, match="on purpose"):
            loop.run_until_complete(_visit_all_hooks(kind, where))
        with contextlib.suppress(KeyboardInterrupt):  # who waited for the hook is interrupted too
            loop.run_until_complete(turns())
        loop.run_until_complete(_close_all())
    finally:
        loop.close()


async def _visit_all_hooks(kind: str, where: str) -> None:
    net = MemoryNetwork() if kind == "memory" else TcpNetwork()
    called, caller = Polite(OPEN, net), Clumsy(CALLER, net, where, interrupt)
    _open_nodes[:] = [await caller.__aenter__(), await called.__aenter__()]
    async with asyncio.timeout(2.0):
        if where not in EARLY | {"on_connect"}:
            caller.victims = set()
        peer = await caller.connect(address(called))
        (here,) = await called.met.count(1)
        # The first message is processed by a new task, the second within the call that brings it.
        await called.send(here, b"first")
        await caller.got.count(1)
        if where != "on_disconnect":
            caller.victims = None
        await called.send(here, b"second")
        caller.send_nowait(peer, b"out")
        await caller.got.count(2)
        await called.got.count(1)
        caller.victims = None
        await caller.disconnect(peer)


async def _close_all() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    async with asyncio.timeout(10.0):
        for node in _open_nodes:
            if isinstance(node, Clumsy):
                node.victims = set()
            await node.aclose()
            check_idle(node)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


#: What an interrupted loop leaves to be closed.
_open_nodes: list[Node] = []


@pytest.mark.parametrize("hook", ["handshake", "on_connect", "process_message", "on_disconnect"])
async def test_cancellation_reaches_the_hook(memory: MemoryNetwork, hook: str) -> None:
    """And is neither taken for a failure nor logged as one."""
    seen: Recorder[str] = Recorder()

    class Watching(Polite):
        async def passing(self, name: str, work: Awaitable[Any]) -> Any:
            try:
                return await work
            except asyncio.CancelledError:
                seen.add(name)
                raise

        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            return await self.passing("handshake", super().handshake(peer, reader, writer))

        async def on_connect(self, peer: Peer) -> None:
            await self.passing("on_connect", super().on_connect(peer))

        async def process_message(self, peer: Peer, message: bytes) -> None:
            await self.passing("process_message", super().process_message(peer, message))

        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await self.passing("on_disconnect", super().on_disconnect(peer, reason))

    async with Polite(OPEN, memory) as called, Watching(CALLER, memory) as caller:
        caller.gates[hook].close()
        dial = asyncio.create_task(caller.connect(address(called)))
        if hook == "handshake":
            await caller.gates["handshake"].reached.count(1)
            dial.cancel()
            await asyncio.wait([dial])
            assert dial.cancelled()
        else:
            peer = await dial
            if hook == "process_message":
                (here,) = await called.met.count(1)
                await called.send(here, b"in")
            if hook != "on_disconnect":
                await caller.gates[hook].reached.count(1)
            await caller.disconnect(peer)
        assert seen.items == [hook]


@pytest.mark.parametrize("verb", ["send", "flush", "disconnect", "connect"])
async def test_a_cancelled_call_is_cancelled(memory: MemoryNetwork, verb: str) -> None:
    async with (
        Node(**OPEN, network=memory) as full,
        Polite(OPEN, memory) as called,
        Polite(CALLER, memory) as polite,
        Witness(CALLER, memory) as caller,
    ):
        peer = await caller.connect(address(full))  # which reads nothing
        while len(peer.outbox.queue) < caller.write_queue_depth:
            caller.send_nowait(peer, bytes(100_000))
            await asyncio.sleep(0)
        caller.gates["on_disconnect"].close()
        called.gates["handshake"].close()
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "send": lambda: caller.send(peer, b"more"),
            "flush": lambda: caller.flush(peer),
            "disconnect": lambda: caller.disconnect(peer),
            "connect": lambda: polite.connect(address(called)),
        }
        task = asyncio.ensure_future(calls[verb]())
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        caller.gates["on_disconnect"].open()


# Protocols


async def test_enabling_a_protocol_twice_raises_at_once(memory: MemoryNetwork) -> None:
    node = Witness(CALLER, memory)
    node.enable(Reading)
    with pytest.raises(UsageError, match="Reading is enabled already"):
        node.enable(Reading)
    with pytest.raises(UsageError, match="Writing is enabled already"):
        node.enable(Writing, Writing)
    async with node:
        for protocol in (Reading, Writing, OnConnect):
            with pytest.raises(UsageError, match="enabled already"):
                node.enable(protocol)


@pytest.mark.parametrize("protocol", [Handshake, Node, Witness, int, "Reading"])
def test_enabling_what_the_class_does_not_implement_raises_at_once(protocol: Any) -> None:
    node = Witness(CALLER)
    with pytest.raises(UsageError, match="does not implement"):
        node.enable(Reading, protocol)
    node.enable(Reading)  # the call that failed enabled nothing


async def test_a_protocol_enabled_later_applies_to_connections_made_later(net: Network) -> None:
    async with Witness(OPEN, net) as called:
        caller = Witness(CALLER, net)
        first = await caller.connect(address(called))
        with pytest.raises(NotEnabledError):
            caller.send_nowait(first, b"never")
        await caller.disconnect(first)
        await called.left.count(1)
        caller.enable(Writing)
        await echoed(caller, called, await caller.connect(address(called)), b"now")
        assert not caller.met.items  # OnConnect was never enabled
        await caller.aclose()
        assert not caller.left.items


def test_a_class_that_lacks_a_hook_cannot_be_instantiated() -> None:
    class Forgetful(Node, OnConnect):
        async def greet(self, peer: Peer) -> None:
            raise AssertionError("never called")

    with pytest.raises(TypeError, match="on_connect"):
        Forgetful()  # type: ignore[abstract]


# Threads


@pytest.mark.parametrize("verb", ["send_nowait", "send", "broadcast", "flush", "disconnect", "connect", "aclose"])
async def test_use_from_another_thread_raises_in_debug_mode(net: Network, verb: str) -> None:
    asyncio.get_running_loop().set_debug(True)
    async with pair(net) as (caller, called, there, _):
        caller.send_nowait(there, b"mine")
        calls: dict[str, Callable[[], object]] = {
            "send_nowait": lambda: caller.send_nowait(there, b"not mine"),
            "broadcast": lambda: caller.broadcast(b"not mine"),
            "send": lambda: asyncio.run(caller.send(there, b"not mine")),
            "flush": lambda: asyncio.run(caller.flush(there)),
            "disconnect": lambda: asyncio.run(caller.disconnect(there)),
            "connect": lambda: asyncio.run(caller.connect("127.0.0.1:1")),
            "aclose": lambda: asyncio.run(caller.aclose()),
        }
        errors: list[BaseException] = []

        def elsewhere() -> None:
            try:
                calls[verb]()
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert [str(error) for error in errors if "loop" in str(error)]
        await called.got.count(1)
        await echoed(caller, called, there, b"unharmed")
        assert [message for _, message in called.got.items] == [b"mine", b"unharmed"]


def test_a_subclass_that_would_replace_a_part_of_the_node_is_refused() -> None:
    """A subclass of the same name has the same private names."""
    with pytest.raises(TypeError, match=r"Node\.__run would replace a part of Node"):
        type("Node", (Node,), {"_Node__run": lambda self: None})


@pytest.mark.parametrize("name", ["connect", "peer", "disconnect", "enable", "aclose", "end"])
async def test_an_attribute_that_has_replaced_a_method_is_refused(name: str) -> None:
    class Mine(Node):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, set())

    with pytest.raises(TypeError, match=rf"Mine\.{name} has replaced a part of Node"):
        async with Mine():
            pass


@pytest.mark.parametrize("name", ["stats", "peers", "state", "address", "heuristics", "listening_addr"])
def test_an_attribute_that_would_replace_a_view_is_refused(name: str) -> None:
    class Mine(Node):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, set())

    with pytest.raises(AttributeError):
        Mine()


@pytest.mark.parametrize("name", ["_tasks", "_peers", "_log", "_network", "_state", "_leave", "_context", "config"])
async def test_a_node_keeps_nothing_under_names_that_a_user_may_choose(memory: MemoryNetwork, name: str) -> None:
    class Mine(Polite):
        def __init__(self) -> None:
            super().__init__(CALLER, memory)
            setattr(self, name, "mine")

    async with Mine() as node, Polite(OPEN, memory) as called:
        await echoed(node, called, await node.connect(address(called)), b"hello")
        assert getattr(node, name) == "mine"


async def test_a_node_may_be_renamed_and_may_have_attributes_of_its_own() -> None:
    class Mine(Node):
        def __init__(self) -> None:
            super().__init__()
            self.name = "mine"
            self._mine: set[int] = set()

    async with Mine() as node:
        assert node.name == "mine"
