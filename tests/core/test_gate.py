"""Who may connect: the counters by property, and the limits as nodes meet them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Addr, Node, Origin, Peer, Settings
from pea2pea.addr import site
from pea2pea.errors import DialError, HandshakeError, LimitError, NodeClosedError, RefusedError
from pea2pea.gate import Admission, Attempt, Slot
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.tcp import TcpNetwork
from support import StreamEndpoint, listening, turns
from support.node import (
    CALLER,
    OPEN,
    Polite,
    Witness,
    address,
    check_idle,
    check_views,
    echoed,
    logged,
    outcome,
    settled,
    slots,
    witnesses,
)

# The counters


def attempt(host: str) -> Attempt:
    return Attempt(Addr(host, 4000), inbound=True, local=None, time=0.0)


HOSTS = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1", "name.example"]


@given(
    limits=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    steps=st.lists(st.tuples(st.sampled_from(["reserve", "settle", "release"]), st.integers(0, 5)), max_size=60),
)
def test_counters_are_what_is_held_and_never_above_a_limit(
    limits: tuple[int, int, int], steps: list[tuple[str, int]]
) -> None:
    """A slot is settled and released once, however often and in whatever order that is asked for."""
    admission = Admission(*limits)
    pending_allowed = min(limits[:2])
    pending: dict[Slot, str] = {}
    settled: dict[Slot, str] = {}
    slots: list[Slot] = []
    for step, n in steps:
        if step == "reserve":
            host = HOSTS[n]
            held = Counter(site(host) for host in [*pending.values(), *settled.values()])
            reached = [
                ("max_connections", held.total() >= limits[0]),
                ("max_connections_per_ip", held[site(host)] >= limits[2]),
                ("max_connecting", len(pending) >= pending_allowed),
            ]
            refused = [name for name, is_reached in reached if is_reached]
            try:
                slot = admission.admit(attempt(host))
            except LimitError as error:
                assert error.limit == refused[0]
            else:
                assert not refused
                pending[slot] = host
                slots.append(slot)
        elif slots:
            slot = slots[n % len(slots)]
            getattr(slot, step)()
            host = pending.pop(slot, "") or settled.pop(slot, "")
            if step == "settle" and host:
                settled[slot] = host
        held = Counter(site(host) for host in [*pending.values(), *settled.values()])
        assert (admission.total, admission.pending) == (held.total(), len(pending))
        assert [admission.count(host) for host in HOSTS] == [held[site(host)] for host in HOSTS]
        assert admission.has_room is (len(pending) < pending_allowed)
    for slot in slots:
        slot.release()
    assert (admission.total, admission.pending, admission._per_site) == (0, 0, {})


def test_room_is_told_of_once_for_each_setup_that_ends() -> None:
    rooms = []
    admission = Admission(10, 10, 10)

    def on_room() -> None:
        rooms.append(admission.pending)

    admission.watch(on_room)
    first, second = admission.admit(attempt("10.0.0.1")), admission.admit(attempt("10.0.0.1"))
    first.settle()
    first.settle()
    first.release()
    assert rooms == [1]
    second.release()
    second.release()
    assert rooms == [1, 0]
    third = admission.admit(attempt("10.0.0.1"))
    admission.unwatch(on_room)
    third.release()
    assert rooms == [1, 0]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_ipv6_address_counts_as_its_64(prefix: int, low: int, other: int) -> None:
    one, two = (socket.inet_ntop(socket.AF_INET6, ((prefix << 64) + n).to_bytes(16, "big")) for n in (low, other))
    apart = socket.inet_ntop(socket.AF_INET6, (((prefix ^ 1) << 64) + low).to_bytes(16, "big"))
    assert site(one) == site(two) != site(apart)


def test_an_error_names_the_limit_and_its_value() -> None:
    admission = Admission(1, 1, 1)
    admission.admit(attempt("10.0.0.1"))
    with pytest.raises(LimitError, match=r"max_connections \(1\)") as error:
        admission.admit(attempt("10.0.0.2"))
    assert error.value.limit == error.value.rule == "max_connections"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1"])
def test_addresses_of_the_machine_itself_are_exempt_from_the_limit_per_address(host: str) -> None:
    admission = Admission(5, 5, 1)
    slots = [admission.admit(attempt(host)) for _ in range(5)]
    assert (admission.total, admission.count(host)) == (5, 0)
    with pytest.raises(LimitError) as error:
        admission.admit(attempt(host))
    assert error.value.limit == "max_connections"
    for slot in slots:
        slot.release()
    assert (admission.total, admission.pending) == (0, 0)
    strict = Admission(5, 5, 1, exempt_loopback=False)
    strict.admit(attempt(host))
    with pytest.raises(LimitError) as error:
        strict.admit(attempt(host))
    assert error.value.limit == "max_connections_per_ip"


class Failing(Admission):
    """Raises where it is told to, by mistake."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def admit(self, attempt: Attempt) -> Slot:
        if self.where == "admit":
            raise KeyError("by mistake")
        return super().admit(attempt)

    def confirm(self, attempt: Attempt, session: object) -> None:
        if self.where == "confirm":
            raise KeyError("by mistake")


@pytest.mark.expects_errors
@pytest.mark.parametrize("where", ["admit", "confirm"])
@pytest.mark.parametrize("inbound", [False, True])
async def test_a_gate_that_raises_refuses_before_and_after_the_handshake(
    net: Network, where: str, inbound: bool
) -> None:
    async with Node(listen="127.0.0.1:0", network=net, gate=Failing(where)) as node, Witness(OPEN, net) as other:
        if inbound:
            peer = await other.connect(node.address)
            await peer.closed()
        else:
            with pytest.raises(RefusedError) as error:
                await node.connect(other.address)
            assert (error.value.rule, type(error.value.__cause__)) == ("KeyError", KeyError)
        assert node.heuristics.refused == {"KeyError": 1}
        assert not node.peers
        assert slots(node) == (0, 0)


# Limits on who dials


async def test_outbound_over_the_total_is_an_error_and_counted(net: Network) -> None:
    config = Settings(max_connections=2, max_connections_per_ip=100)
    async with Witness(config, net) as caller, witnesses(net, OPEN, OPEN, OPEN, kind=Witness) as called:
        first = await caller.connect(address(called[0]))
        await caller.connect(address(called[1]))
        with pytest.raises(LimitError) as error:
            await caller.connect(address(called[2]))
        assert error.value.limit == "max_connections"
        assert caller.heuristics.limit_rejections == 1
        assert slots(caller) == (2, 0)
        await caller.disconnect(first)
        await caller.connect(address(called[2]))


async def test_outbound_over_the_limit_per_ip_is_an_error_and_counted(memory: MemoryNetwork) -> None:
    ports = [Settings(listen=("0.0.0.0", port), max_connections_per_ip=100) for port in (4000, 4001, 4002)]
    config = Settings(max_connections_per_ip=2)
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(Witness(config, memory))
        for host in ("10.0.0.1", "10.0.0.2"):
            for port in ports:
                await stack.enter_async_context(Witness(port, memory.at(host)))
        peers = [await caller.connect(("10.0.0.1", port)) for port in (4000, 4001)]
        for addr in ("10.0.0.1:4002", "[::ffff:10.0.0.1]:4002"):
            with pytest.raises(LimitError) as error:
                await caller.connect(addr)
            assert error.value.limit == "max_connections_per_ip"
        assert caller.heuristics.limit_rejections == 2
        await caller.connect("10.0.0.2:4000")
        await caller.disconnect(peers[0])
        await caller.connect("[::ffff:10.0.0.1]:4002")


async def test_inbound_and_outbound_count_together(net: Network) -> None:
    config = Settings(listen="127.0.0.1:0", max_connections=2, max_connections_per_ip=100)
    async with Witness(config, net) as node, witnesses(net, OPEN, OPEN, kind=Witness) as others:
        await others[0].connect(address(node))
        await node.met.count(1)
        await node.connect(address(others[0]))
        with pytest.raises(LimitError):
            await node.connect(address(others[1]))
        there = await others[1].connect(address(node))  # the kernel accepts, the node does not
        await others[1].left.when(lambda left: [peer for peer, _ in left] == [there])
        assert node.heuristics.inbound_rejections == 1
        assert node.num_connected == 2


async def test_connections_being_set_up_count(net: Network) -> None:
    config = Settings(max_connections=1, max_connections_per_ip=100)
    async with Polite(config, net) as caller, witnesses(net, OPEN, OPEN, kind=Polite) as called:
        called[0].gates["handshake"].close()
        first = asyncio.create_task(caller.connect(address(called[0])))
        await called[0].gates["handshake"].reached.count(1)
        assert slots(caller) == (1, 1)
        with pytest.raises(LimitError) as error:
            await caller.connect(address(called[1]))
        assert error.value.limit == "max_connections"
        called[0].gates["handshake"].open()
        await first
        assert slots(caller) == (1, 0)


async def test_setups_both_ways_share_max_connecting(net: Network) -> None:
    config = Settings(listen="127.0.0.1:0", max_connecting=1, max_connections_per_ip=100)
    async with Polite(config, net) as node, witnesses(net, OPEN, OPEN, kind=Polite) as others:
        node.gates["handshake"].close()
        inbound = asyncio.create_task(others[0].connect(address(node)))
        await node.gates["handshake"].reached.count(1)
        with pytest.raises(LimitError) as error:
            await node.connect(address(others[1]))
        assert error.value.limit == "max_connecting"
        node.gates["handshake"].open()
        await inbound
        await node.met.count(1)
        await node.connect(address(others[1]))


async def test_attempts_at_once_never_exceed_a_limit(net: Network) -> None:
    config = Settings(max_connections=3, max_connecting=2, max_connections_per_ip=100)
    most = [0, 0]

    class Counting(Polite):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            most[:] = map(max, most, slots(caller))
            return await super().handshake(peer, reader, writer)

    async with Counting(config, net) as caller, witnesses(net, *[OPEN] * 8, kind=Polite) as called:
        dials = [asyncio.create_task(caller.connect(address(node))) for node in called]
        await asyncio.wait(dials)
        limits = Counter(error.limit for error in map(outcome, dials) if isinstance(error, LimitError))
        assert caller.num_connected == 2
        assert limits == {"max_connecting": 6}
        assert caller.heuristics.limit_rejections == 6
        assert most == [2, 2]
        check_views(caller)


async def test_listening_holds_no_slot(net: Network) -> None:
    alone = Settings(listen="127.0.0.1:0", max_connections=1, max_connections_per_ip=1, exempt_loopback=False)
    async with Witness(alone, net) as node, Witness(OPEN, net) as called:
        assert slots(node) == (0, 0)
        await node.connect(address(called))


# Limits on who is dialled


async def test_inbound_over_the_total_is_closed_before_any_hook_and_counted(net: Network) -> None:
    config = Settings(listen="127.0.0.1:0", max_connections=1, max_connections_per_ip=100)
    async with Polite(config, net) as called, Polite(CALLER, net) as first, Witness(CALLER, net) as second:
        there = await first.connect(address(called))
        await called.met.count(1)
        refused = await second.connect(address(called))
        await second.left.when(lambda left: [peer for peer, _ in left] == [refused])
        assert called.heuristics.inbound_rejections == 1
        assert len(called.gates["handshake"].reached.items) == 1
        assert slots(called) == (1, 0)
        await echoed(first, called, there, b"unharmed")
        await first.disconnect(there)
        await called.left.count(1)
        await settled(called)
        await first.connect(address(called))
        await called.met.count(2)
    assert len(called.left.items) == 2


async def test_inbound_counts_per_address(memory: MemoryNetwork) -> None:
    """Two of one machine, in either spelling, and as many machines as there are."""
    config = Settings(listen="0.0.0.0:4000", max_connections_per_ip=2)
    hosts = ["10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.2", "10.0.0.3", "10.0.0.3"]
    async with Witness(config, memory.at("10.0.0.1")) as called, AsyncExitStack() as stack:
        for n, host in enumerate(hosts):
            caller = await stack.enter_async_context(Witness(CALLER, memory.at(host)))
            await caller.connect("10.0.0.1:4000")
            if n in (3, 5):
                await caller.left.count(1)
        assert called.heuristics.inbound_rejections == 2
        assert Counter(peer.addr.host for peer in called.met.items) == {"10.0.0.2": 2, "10.0.0.3": 2}


async def test_inbound_counts_an_ipv6_address_as_its_64(memory: MemoryNetwork) -> None:
    hosts = {"2001:db8::2": True, "2001:db8::ffff:3": False, "2001:db8:0:1::2": True, "2001:db8:0:1:ffff::": False}
    config = Settings(listen="[::]:4000")
    async with Witness(config, memory.at("2001:db8:ffff::1")) as called, AsyncExitStack() as stack:
        for host, admitted in hosts.items():
            caller = await stack.enter_async_context(Witness(CALLER, memory.at(host)))
            await caller.connect("[2001:db8:ffff::1]:4000")
            if not admitted:
                await caller.left.count(1)
        assert called.heuristics.inbound_rejections == 2
        assert [peer.addr.host for peer in called.met.items] == [host for host, is_in in hosts.items() if is_in]


@pytest.mark.loop("tcp")
async def test_an_ipv4_address_is_itself_where_it_comes_in_over_ipv6() -> None:
    """A socket that listens on ``::`` sees IPv4 as ``::ffff:a.b.c.d``."""
    net = TcpNetwork()
    config = Settings(listen="[::]:0", exempt_loopback=False)
    async with Witness(config, net) as called, witnesses(net, CALLER, CALLER, kind=Witness) as callers:
        port = address(called)[1]
        await callers[0].connect(("127.0.0.1", port))
        (peer,) = await called.met.count(1)
        assert peer.addr.host == "127.0.0.1"
        await callers[1].connect(("127.0.0.1", port))
        await callers[1].left.count(1)
        assert called.heuristics.inbound_rejections == 1


async def test_inbound_over_max_connecting_waits_in_the_kernels_queue(net: Network) -> None:
    config = Settings(listen="127.0.0.1:0", max_connecting=2, max_connections_per_ip=100)
    async with Polite(config, net) as called, witnesses(net, *[CALLER] * 5, kind=Polite) as callers:
        gate = called.gates["handshake"]
        gate.close()
        dials = [asyncio.create_task(caller.connect(address(called))) for caller in callers]
        # All five are connected as far as the kernel goes.
        for caller in callers:
            await caller.gates["handshake"].reached.count(1)
        await gate.reached.count(2)
        await turns()
        assert slots(called) == (2, 2)
        assert len(gate.reached.items) == 2
        gate.open()
        await asyncio.gather(*dials)
        await called.met.count(5)
        assert called.heuristics.inbound_rejections == 0


async def test_a_silent_client_does_not_hold_up_the_listener(memory: MemoryNetwork) -> None:
    """Its setup ends in time, and until then it holds one slot and no more."""

    class Patient(Polite):
        handshake_timeout = 100.0

    config = Settings(listen="127.0.0.1:0", max_connecting=2, max_connections_per_ip=100)
    async with Polite(config, memory) as called, Patient(CALLER, memory) as caller:
        silent = [StreamEndpoint() for _ in range(4)]
        for endpoint in silent:
            await memory.dial(Addr.of(address(called)), endpoint)
        began = asyncio.get_running_loop().time()
        await caller.connect(address(called))
        # Two at a time, and this is the fifth.
        assert asyncio.get_running_loop().time() == began + 2 * Polite.handshake_timeout
        for endpoint in silent:
            await endpoint.events.has("lost")
        assert called.heuristics.handshake_timeouts == 4


# Every way out


@pytest.mark.parametrize("kind", [Witness, Polite])
@pytest.mark.parametrize("after", range(10))
async def test_a_cancelled_connect_leaves_nothing_or_a_connection(
    net: Network, kind: Callable[..., Witness], after: int
) -> None:
    async with kind(CALLER, net) as caller, kind(OPEN, net) as called:
        dial = asyncio.create_task(caller.connect(address(called)))
        await turns(after)
        dial.cancel()
        await asyncio.wait([dial])
        check_views(caller)
        peer = outcome(dial)
        if peer is None:
            check_idle(caller)
            await settled(caller)
            assert not caller.met.items
        else:
            assert caller.peers == [peer]
            assert isinstance(peer, Peer)
            await echoed(caller, called, peer, b"established")
            await caller.disconnect(peer)
        # Whatever became of it, there is room for the next, and nothing is in its way.
        await echoed(caller, called, await caller.connect(address(called)), b"next")
        if peer is not None:
            await called.left.count(1)
    await asyncio.sleep(0)
    check_idle(called)


async def test_a_connect_cancelled_in_its_handshake_frees_its_slot(net: Network) -> None:
    async with Polite(CALLER, net) as caller, Polite(OPEN, net) as called:
        called.gates["handshake"].close()
        dial = asyncio.create_task(caller.connect(address(called)))
        await called.gates["handshake"].reached.count(1)
        assert slots(caller) == (1, 1)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        check_idle(caller)
        assert not caller.doing
        called.gates["handshake"].open()  # the other side has said hello: it learns later that nobody is there
        await settled(called)
        assert not caller.met.items
        assert called.met.items == [peer for peer, _ in called.left.items]


async def test_connect_timeout_bounds_dialling(net: Network, net_kind: str) -> None:
    """By a queue that is full: who dials waits there."""
    config = Settings(connect_timeout=0.1, max_connections_per_ip=100)
    async with listening(net, backlog=1) as listener, Witness(config, net) as caller:
        fillers = [StreamEndpoint() for _ in range(1 if net_kind == "memory" else 2)]
        for endpoint in fillers:
            await net.dial(listener.addr, endpoint)
        began = asyncio.get_running_loop().time()
        with pytest.raises(DialError, match="connect_timeout"):
            await caller.connect(listener.addr)
        took = asyncio.get_running_loop().time() - began
        assert 0.09 <= took < 1.0  # uvloop counts in milliseconds
        check_idle(caller)
        for endpoint in fillers:
            await endpoint.aclose()


async def test_connect_timeout_bounds_the_resolution_of_a_name_too(memory: MemoryNetwork) -> None:
    class Slow(MemoryNetwork):
        async def resolve(self, addr: Addr) -> list[Addr]:
            await asyncio.sleep(1000)
            return [addr]

    async with Witness(Settings(connect_timeout=7.0), Slow()) as caller:
        with pytest.raises(DialError, match="connect_timeout"):
            await caller.connect("name.example:80")
        assert asyncio.get_running_loop().time() == 7.0
        check_idle(caller)


async def test_every_way_out_frees_the_slot(memory: MemoryNetwork) -> None:
    """A node with one slot takes it again after each of them."""
    alone = Settings(max_connections=1, connect_timeout=1.0)
    async with Polite(alone, memory) as caller, Polite(OPEN, memory) as called:
        addr = address(called)
        await called.stop_listening()
        with pytest.raises(DialError):
            await caller.connect(addr)
        await called.start_listening()
        called.gates["handshake"].close()
        with pytest.raises(HandshakeError):
            await caller.connect(address(called))
        await settled(called)
        called.gates["handshake"].open()
        peer = await caller.connect(address(called))
        await caller.disconnect(peer)
        await called.left.count(1)
        await caller.connect(address(called))
        await called.met.count(2)
        await called.disconnect(called.peers[0])
        await caller.left.count(2)
        await settled(caller)
        await caller.connect(address(called))
    check_idle(caller)
    with pytest.raises(NodeClosedError):
        await caller.connect(addr)
    check_idle(caller)


# A listener in trouble


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_a_lack_of_resources_is_counted_and_waited_out(memory: MemoryNetwork, code: int) -> None:
    async with Witness(OPEN, memory) as called, Witness(CALLER, memory) as caller:
        memory.fail_accept(OSError(code, os.strerror(code)), times=3)
        began = asyncio.get_running_loop().time()
        with logged() as lines:
            await caller.connect(address(called))
            await called.met.count(1)
        assert called.heuristics.accept_errors == 3
        waited = asyncio.get_running_loop().time() - began
        assert 0.3 <= waited < 1.0
        assert [line.levelname for line in lines.items].count("WARNING") == 3


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors have no limit there")
@pytest.mark.parametrize("net_kind", ["tcp", "tcp-uvloop"], indirect=True)  # memory takes no descriptors
async def test_a_listener_outlives_a_lack_of_descriptors(net: Network) -> None:
    async with Witness(OPEN, net) as called:
        with socket.socket() as client, logged() as lines:
            with no_descriptors_left():
                client.connect(address(called))
                await lines.when(lambda lines: any("cannot accept" in line.getMessage() for line in lines))
                assert called.heuristics.accept_errors >= 1
                assert called.listening_addr is not None
            await called.met.count(1)
        await called.left.count(1)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Have the system refuse to open anything more."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:  # all below it are taken
        free = lowest.fileno()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_who_aborted_before_being_accepted_costs_nothing(net: Network) -> None:
    config = Settings(listen="127.0.0.1:0", max_connecting=1, max_connections_per_ip=100)
    async with Polite(config, net) as called, witnesses(net, CALLER, CALLER, kind=Polite) as callers:
        gate = called.gates["handshake"]
        gate.close()
        first = asyncio.create_task(callers[0].connect(address(called)))
        await gate.reached.count(1)
        gone = StreamEndpoint()
        await net.dial(Addr.of(address(called)), gone)
        await gone.aclose()
        gate.open()
        await first
        await callers[1].connect(address(called))
        await called.met.count(2)
        assert slots(called) == (2, 0)
        assert called.heuristics.accept_errors == called.heuristics.inbound_rejections == 0
    assert [reason.origin for _, reason in called.left.items].count(Origin.READING) <= 2
