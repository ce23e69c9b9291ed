"""Nodes for tests of the node: they write down all that happens to them, and can be held up at every hook.

Nothing here sleeps or polls: a :class:`~support.Recorder` or a :class:`Gate` is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from pea2pea import (
    Admission,
    DisconnectReason,
    Handshake,
    Instrument,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Settings,
    Writing,
)
from pea2pea.codec import Decoder, Encoder, LengthDelimited
from pea2pea.connection import Connection
from pea2pea.context import Context
from pea2pea.errors import Pea2PeaError
from pea2pea.network import Network
from support import Recorder

#: Listening on loopback, and letting in as many as a test makes.
OPEN = Settings(listen="127.0.0.1:0", max_connections_per_ip=100)
#: Only dialling.
CALLER = Settings(max_connections_per_ip=100)


class Gate:
    """Where a hook waits until the test lets it go on; open from the start unless closed."""

    def __init__(self) -> None:
        self.reached: Recorder[object] = Recorder()
        self._open = asyncio.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def passed(self, who: object) -> None:
        self.reached.add(who)
        await self._open.wait()


class Witness(Node, Reading[bytes], Writing[bytes], OnConnect, OnDisconnect):
    """Writes down who came, what came from whom and who left why; ``doing`` says which hooks run."""

    def __init__(
        self, config: Settings = OPEN, network: Network | None = None, *, instruments: Iterable[Instrument] = ()
    ) -> None:
        super().__init__(**config, network=network, instruments=instruments)
        self.met: Recorder[Peer] = Recorder()
        self.got: Recorder[tuple[Peer, bytes]] = Recorder()
        self.left: Recorder[tuple[Peer, DisconnectReason]] = Recorder()
        self.doing: set[str] = set()
        self.gates = {hook: Gate() for hook in ("handshake", "on_connect", "process_message", "on_disconnect")}

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        with self._doing("process_message"):
            await self.gates["process_message"].passed(peer)
            self.got.add((peer, message))

    async def on_connect(self, peer: Peer) -> None:
        with self._doing("on_connect"):
            await self.gates["on_connect"].passed(peer)
            self.met.add(peer)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        with self._doing("on_disconnect"):
            self.left.add((peer, reason))
            await self.gates["on_disconnect"].passed(peer)

    @contextmanager
    def _doing(self, hook: str) -> Iterator[None]:
        self.doing.add(hook)
        try:
            yield
        finally:
            self.doing.discard(hook)


class Polite(Witness, Handshake):
    """A witness that says hello first: one byte each way."""

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        with self._doing("handshake"):
            await self.gates["handshake"].passed(peer)
            writer.write(b"h")
            return await reader.readexactly(1)


@asynccontextmanager
async def witnesses(net: Network, *configs: Settings, kind: Callable[..., Witness]) -> AsyncIterator[list[Witness]]:
    """One open node of ``kind`` for each of ``configs``."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(kind(config, net)) for config in configs]


@asynccontextmanager
async def pair(net: Network) -> AsyncIterator[tuple[Witness, Witness, Peer, Peer]]:
    """A node that dialled, one that was dialled, and each one's peer."""
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as called:
        there = await caller.connect(address(called))
        await caller.met.count(1)
        (here,) = await called.met.count(1)
        yield caller, called, there, here


def address(node: Node) -> tuple[str, int]:
    """Where ``node`` listens."""
    assert node.listening_addr is not None
    return node.listening_addr


def context_of(node: Node) -> Context:
    """What the connections of ``node`` share: its inner state, which no user sees."""
    context: Context = vars(node)["_Node__context"]
    return context


def connection_of(node: Node, peer: Peer) -> Connection:
    """The connection behind ``peer``."""
    return context_of(node).connected[peer.addr]


def transport_of(peer: Peer) -> asyncio.Transport:
    """The transport of a peer that is connected."""
    assert peer.transport is not None
    return peer.transport


async def changed(node: Node) -> None:
    """Return when a task of ``node``, or anything else that it owns, is gone."""
    await context_of(node).supervisor.changed()


def slots(node: Node) -> tuple[int, int]:
    """How many slots of ``node`` are held, in all and by connections being set up."""
    gate = node.gate
    assert isinstance(gate, Admission)
    return gate.total, gate.pending


def check_views(node: Node) -> None:
    """Fail unless all that ``node`` tells of its peers agrees with itself, and with the slots that it holds."""
    peers = node.peers
    assert len(peers) == node.num_connected
    assert len({peer.addr for peer in peers}) == len({peer.id for peer in peers}) == len(peers)
    for peer in peers:
        assert node.is_connected(peer.addr)
        assert not node.is_connecting(peer.addr)
        assert node.peer(peer.addr) is peer
    for addr in context_of(node).connecting:
        assert node.is_connecting(addr)
        assert not node.is_connected(addr)
        assert node.peer(addr) is None
    assert slots(node) == (node.num_connected + node.num_connecting, node.num_connecting)
    assert f"{node.num_connected} connected, {node.num_connecting} connecting" in repr(node)


def check_idle(node: Node) -> None:
    """Fail unless ``node`` has no peer and holds no slot; the transports of those that left may still be closing."""
    check_views(node)
    assert slots(node) == (0, 0)
    assert isinstance(node.gate, Admission) and not node.gate._per_site


async def settled(node: Node) -> None:
    """Return when ``node`` works on nothing but listening; fail unless nobody is connected then."""
    supervisor = context_of(node).supervisor
    while supervisor.held or len(supervisor._tasks) > (node.listening_addr is not None):
        await supervisor.changed()
    check_idle(node)


async def echoed(caller: Witness, called: Witness, peer: Peer, message: bytes) -> None:
    """Show that the connection works: have ``message`` arrive at ``called``."""
    await caller.send(peer, message)
    await called.got.when(lambda got: any(came == message for _, came in got))


class LogLines(logging.Handler):
    """What was logged under ``pea2pea`` meanwhile, as an awaitable record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: Recorder[logging.LogRecord] = Recorder()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.add(record)


@contextmanager
def logged() -> Iterator[Recorder[logging.LogRecord]]:
    """Listen to the logger ``pea2pea``, down to ``DEBUG``."""
    logger, handler = logging.getLogger("pea2pea"), LogLines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def outcome(task: asyncio.Task[Peer]) -> Peer | Pea2PeaError | None:
    """What became of a ``connect``: a peer, an error of the library, or ``None`` where it was cancelled."""
    if task.cancelled():
        return None
    error = task.exception()
    assert error is None or isinstance(error, Pea2PeaError)
    return task.result() if error is None else error
