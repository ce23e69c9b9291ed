"""Nodes under everything at once: whatever is done to them in whatever order, their invariants hold after each step.

hypothesis picks the steps: dials, disconnects, sends, resets, listeners that come and go, hooks that hang, accepts
that fail, nodes that close. All of it runs in memory on a virtual clock, so a run that fails can be played again.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pea2pea import Addr, DisconnectReason, NotConnectedError, Peer, QueueFullError, Settings
from pea2pea.codec import Encoder
from pea2pea.errors import Pea2PeaError
from pea2pea.memory import MemoryNetwork
from pea2pea.testing import VirtualClockLoop
from support import turns
from support.node import Polite, check_idle, check_views, context_of, outcome, slots

T = TypeVar("T")

COUNT = 4
#: Longer than all the time limits of a node together.
LONG = 60.0
#: Small enough to be met all the time.
LIMITS = {"max_connections": 4, "max_connecting": 2, "max_connections_per_ip": 2}
HOOKS = ["handshake", "on_connect", "process_message", "on_disconnect"]

indices = st.integers(0, COUNT - 1)
picks = st.integers(0, 1000)
#: How many turns of the loop pass before the next step; a setup takes about ten.
pauses = st.integers(0, 12)


class Member(Polite):
    """A node that keeps account of its peers."""

    read_queue_depth = 4
    write_queue_depth = 4
    idle_timeout = 30.0

    def __init__(self, config: Settings, network: MemoryNetwork) -> None:
        super().__init__(config, network)
        self.registered: list[Peer] = []
        self.farewells: Counter[Peer] = Counter()
        self.sent: Counter[Peer] = Counter()
        self.received: Counter[Peer] = Counter()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        # Asked for in the step that registers the peer.
        self.registered.append(peer)
        return super().encoder(peer)

    def number(self, peer: Peer, size: int) -> bytes:
        """The next message for ``peer``, which tells its place among them."""
        return self.sent[peer].to_bytes(4, "big") + bytes(size)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        assert int.from_bytes(message[:4], "big") == self.received[peer], "lost, doubled or out of order"
        self.received[peer] += 1
        await super().process_message(peer, message)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        assert self.is_connected(peer.addr)
        self.farewells[peer] += 1
        await super().on_disconnect(peer, reason)

    def check(self) -> None:
        check_views(self)
        total, pending = slots(self)
        assert total <= LIMITS["max_connections"]
        assert pending <= LIMITS["max_connecting"]
        hosts = Counter(addr.host for addr in [*context_of(self).connected, *context_of(self).connecting])
        assert all(count <= LIMITS["max_connections_per_ip"] for count in hosts.values())
        assert set(self.farewells) <= set(self.registered)
        assert set(self.peers) <= set(self.registered)
        for peer in self.registered:
            assert self.farewells[peer] <= 1
            assert self.farewells[peer] == 1 or peer in self.peers, "it left without a farewell"


class Network(RuleBasedStateMachine):
    """A few nodes on one network, and all that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualClockLoop()
        self.problems: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.problems.append(context))
        self.network = MemoryNetwork(capacity=1024)
        self.nodes: list[Member] = []
        self.closed: list[Member] = []
        self.addrs = [Addr(f"10.0.0.{n}", 4000) for n in range(COUNT)]
        self.dials: list[asyncio.Task[Peer]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self.tasks.append(task)
        return task

    async def new_node(self, n: int) -> Member:
        config = Settings(name=f"node {n}", listen=self.addrs[n], backlog=4, **LIMITS)  # type: ignore[typeddict-item]
        return await Member(config, self.network.at(self.addrs[n].host)).__aenter__()

    def some_peer(self, n: int, pick: int) -> Peer | None:
        """One of the peers that node ``n`` has or had."""
        known = self.nodes[n].registered[-8:]
        return known[pick % len(known)] if known else None

    @initialize()
    def begin(self) -> None:
        for n in range(COUNT):
            self.nodes.append(self.run(self.new_node(n)))

    # What may happen

    @rule(dialler=indices, dialled=indices, pause=pauses)
    def connect(self, dialler: int, dialled: int, pause: int) -> None:
        self.dials.append(self.loop.create_task(self.nodes[dialler].connect(self.addrs[dialled])))
        self.run(turns(pause))

    @rule(pick=picks, pause=pauses)
    def cancel_connect(self, pick: int, pause: int) -> None:
        pending = [dial for dial in self.dials if not dial.done()]
        if pending:
            pending[pick % len(pending)].cancel()
        self.run(turns(pause))

    @rule(n=indices, pick=picks, cancelled=st.booleans(), pause=pauses)
    def disconnect(self, n: int, pick: int, cancelled: bool, pause: int) -> None:
        peer = self.some_peer(n, pick)
        if peer is not None:
            task = self.spawn(self.nodes[n].disconnect(peer))
            self.run(turns(pause))
            if cancelled:
                task.cancel()
        self.run(turns(pause))

    @rule(n=indices, pick=picks, size=st.sampled_from([0, 100, 5000]), count=st.integers(1, 8), pause=pauses)
    def send(self, n: int, pick: int, size: int, count: int, pause: int) -> None:
        peer, node = self.some_peer(n, pick), self.nodes[n]
        for _ in range(count if peer is not None else 0):
            assert peer is not None
            try:
                node.send_nowait(peer, node.number(peer, size))
            except (QueueFullError, NotConnectedError):
                break
            node.sent[peer] += 1
        self.run(turns(pause))

    @rule(n=indices, pick=picks, pause=pauses)
    def reset(self, n: int, pick: int, pause: int) -> None:
        """The network breaks a connection."""
        peer = self.some_peer(n, pick)
        if peer is not None and peer.transport is not None:
            peer.transport.abort()
        self.run(turns(pause))

    @rule(n=indices)
    def stop_listening(self, n: int) -> None:
        self.run(self.nodes[n].stop_listening())

    @rule(n=indices)
    def start_listening(self, n: int) -> None:
        if self.nodes[n].listening_addr is None:
            assert self.run(self.nodes[n].start_listening()) == self.addrs[n]

    @rule(times=st.integers(1, 3))
    def exhaust(self, times: int) -> None:
        self.network.fail_accept(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), times=times)

    @rule(n=indices, hook=st.sampled_from(HOOKS))
    def hold_up(self, n: int, hook: str) -> None:
        self.nodes[n].gates[hook].close()

    @rule(n=indices, hook=st.sampled_from(HOOKS), pause=pauses)
    def let_go(self, n: int, hook: str, pause: int) -> None:
        self.nodes[n].gates[hook].open()
        self.run(turns(pause))

    @rule(n=indices, cancelled=st.booleans(), pause=pauses)
    def close(self, n: int, cancelled: bool, pause: int) -> None:
        """A node closes, and another takes its place."""
        node = self.nodes[n]
        first = self.spawn(node.aclose())
        self.run(turns(pause))
        node.check()
        if cancelled:
            first.cancel()
        self.run(node.aclose())
        self.closed.append(node)
        self.nodes[n] = self.run(self.new_node(n))

    @rule(seconds=st.sampled_from([0.05, 1.0, 2.9, 5.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @precondition(lambda self: self.nodes)
    @rule()
    def calm_down(self) -> None:
        """Once nothing holds anything up, all dials end, and the two ends of each connection agree."""
        for node in self.nodes:
            for gate in node.gates.values():
                gate.open()
        self.run(asyncio.sleep(LONG / 3))
        assert all(dial.done() for dial in self.dials)
        assert not any(node.num_connecting for node in self.nodes)
        ends = Counter(end for node in self.nodes for peer in node.peers for end in [_ends(peer)])
        assert all(count == 2 for count in ends.values()), ends
        for node in self.nodes:
            assert len(context_of(node).supervisor.held) == node.num_connected

    # What holds

    @invariant()
    def every_node_is_sound(self) -> None:
        for node in [*self.nodes, *self.closed]:
            node.check()

    @invariant()
    def nothing_broke(self) -> None:
        assert not self.problems
        for dial in self.dials:
            if dial.done():
                outcome(dial)
        for task in self.tasks:
            if task.done() and not task.cancelled():
                assert isinstance(task.exception(), Pea2PeaError | None)

    def teardown(self) -> None:
        try:
            for node in self.nodes:
                self.run(node.aclose())
            self.every_node_is_sound()
            self.nothing_left()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.run(turns())
            self.loop.close()

    def nothing_left(self) -> None:
        everybody = [*self.nodes, *self.closed]
        assert not self.network.listening
        for node in everybody:
            check_idle(node)
            assert node.farewells == Counter(node.registered)
            assert not node.doing
        for dial in self.dials:
            if not dial.done():
                self.run(asyncio.wait([dial]))
            assert isinstance(outcome(dial), Peer | Pea2PeaError | None)
        for task in self.tasks:
            if not task.done():
                self.run(asyncio.wait([task]))
        assert not asyncio.all_tasks(self.loop)
        timers = [timer for timer in self.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert not timers
        self.nodes.clear()
        self.closed.clear()
        gc.collect()
        assert not self.problems


def _ends(peer: Peer) -> frozenset[Any]:
    """The two addresses of a connection, which are the same seen from both ends."""
    return frozenset((peer.get_extra_info("sockname"), peer.get_extra_info("peername")))


def test_nodes_are_sound_whatever_happens() -> None:
    run_state_machine_as_test(
        Network, settings=settings(stateful_step_count=40, max_examples=max(20, settings().max_examples // 2))
    )
