"""The node: its name, its settings, listening, dialling, and what it tells of its peers."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from pea2pea import Addr, ConfigError, DisconnectReason, Handshake, Node, Peer, Settings, Stats
from pea2pea.errors import (
    AlreadyConnectedError,
    ConnectError,
    DialError,
    HandshakeError,
    ListenError,
    SelfConnectError,
    UsageError,
)
from pea2pea.link import Link
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Listener, Network
from pea2pea.tcp import TcpListener, TcpNetwork
from pea2pea.testing import VirtualClockLoop
from support import StreamEndpoint, accept, listening, turns
from support.node import (
    CALLER,
    OPEN,
    Polite,
    Witness,
    address,
    changed,
    check_idle,
    check_views,
    context_of,
    echoed,
    logged,
    pair,
    settled,
)

# Names and log lines


def test_a_node_without_a_name_is_numbered() -> None:
    first, second = Node(), Node()
    assert int(str(second.name)) == int(str(first.name)) + 1
    assert str(first.name) in repr(first)


def test_a_given_name_is_kept() -> None:
    assert Node(name="alice").name == "alice"


@pytest.mark.expects_errors
async def test_every_log_line_names_its_node_and_its_connection(memory: MemoryNetwork) -> None:
    class Failing(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            raise RuntimeError("on purpose")

    alice = Settings(name="alice", listen="127.0.0.1:0", max_connections_per_ip=1, exempt_loopback=False)
    bob = Settings(name="bob", max_connections_per_ip=2)
    with logged() as lines:
        async with Failing(alice, memory) as called, Witness(bob, memory) as caller:
            first = await caller.connect(address(called))
            again = await _dial_again(caller, called)
            await caller.left.when(lambda left: again in [peer for peer, _ in left])  # one per address
            await caller.send(first, b"fail")
            await called.left.count(1)
            here = called.left.items[0][0]
    texts = [record.getMessage() for record in lines.items]
    assert {record.levelname for record in lines.items} == {"ERROR", "WARNING", "INFO"}
    for text in texts:
        assert text.startswith(("[alice] ", "[bob] "))
        # Everything but listening is about a connection.
        assert text.partition("] ")[2].startswith(("127.0.0.1:", "listening on 127.0.0.1:"))
    assert any(f"[alice] {here.addr}: process_message raised" in text for text in texts)
    assert any(text.startswith("[bob] ") for text in texts)


async def _dial_again(caller: Witness, called: Witness) -> Peer:
    """Connect a second time to one node, at another port."""
    await called.stop_listening()
    await called.start_listening()
    return await caller.connect(address(called))


def test_importing_configures_no_logging() -> None:
    script = """
import logging
before = (logging.root.handlers[:], logging.root.level, logging.lastResort)
import pea2pea, pea2pea.topology, pea2pea.memory
assert (logging.root.handlers, logging.root.level, logging.lastResort) == before
ours = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.split(".")[0] == "pea2pea"]
assert [logger.name for logger in ours] == ["pea2pea"]
assert not any(logger.handlers or logger.level or not logger.propagate for logger in ours)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_a_bad_setting_of_a_protocol_is_refused_at_construction() -> None:
    class Hasty(Witness, Handshake):
        handshake_timeout = -1.0

        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("never reached")

    with pytest.raises(ConfigError) as error:
        Hasty()
    assert error.value.field == "handshake_timeout"


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("read_queue_depth", 0),
        ("idle_timeout", 0.0),
        ("write_queue_depth", -1),
        ("write_timeout", float("nan")),
        ("disconnect_timeout", float("inf")),
    ],
)
def test_every_setting_of_a_protocol_is_checked(field: str, bad: float) -> None:
    kind = type("Bad", (Witness,), {field: bad})
    with pytest.raises(ConfigError) as error:
        kind()
    assert error.value.field == field


# Listening


async def test_start_listening_returns_the_real_port(net: Network) -> None:
    node = Node(**OPEN, network=net)
    addr = await node.start_listening()
    assert addr.host == "127.0.0.1"
    assert addr.port > 0
    assert node.listening_addr == addr
    assert str(addr) in repr(node)
    async with Witness(CALLER, net) as caller:
        await caller.connect(addr)
    await node.aclose()


async def test_start_listening_needs_an_address(net: Network) -> None:
    async with Node(network=net) as node:
        assert node.listening_addr is None
        with pytest.raises(ConfigError) as error:
            await node.start_listening()
        assert error.value.field == "listen"


async def test_stop_listening_frees_the_port_and_leaves_connections_alone(net: Network) -> None:
    async with pair(net) as (caller, called, there, here):
        addr = address(called)
        await called.stop_listening()
        assert called.listening_addr is None
        assert "listening" not in repr(called)
        async with Node(listen=addr, network=net) as heir:
            assert heir.listening_addr == addr
        await echoed(caller, called, there, b"still here")
        assert called.peers == [here]


async def test_nobody_gets_in_while_not_listening(net: Network) -> None:
    async with Witness(OPEN, net) as called, Witness(CALLER, net) as caller:
        addr = address(called)
        await called.stop_listening()
        with pytest.raises(DialError):
            await caller.connect(addr)
        check_idle(caller)


async def test_listening_can_be_stopped_and_started_again(net: Network) -> None:
    async with Witness(OPEN, net) as called, Witness(CALLER, net) as caller:
        for n in range(1, 4):
            await caller.connect(address(called))
            await called.met.count(n)
            await called.stop_listening()
            assert called.listening_addr is None
            await called.stop_listening()  # twice does nothing
            assert await called.start_listening() == called.listening_addr
        assert called.num_connected == 3


async def test_listening_twice_is_refused(net: Network) -> None:
    async with Witness(OPEN, net) as node:
        addr = address(node)
        with pytest.raises(UsageError, match="listening already"):
            await node.start_listening()
        assert node.listening_addr == addr


async def test_an_address_in_use_is_a_listen_error(net: Network) -> None:
    async with Witness(OPEN, net) as node:
        other = Node(listen=address(node), network=net)
        with pytest.raises(ListenError) as error:
            async with other:
                pytest.fail("it must not listen")
        assert isinstance(error.value.__cause__, OSError)
        assert error.value.errno == error.value.__cause__.errno
        with pytest.raises(Exception, match="closed"):  # entering failed, and left nothing open
            await other.start_listening()


class Tapped(TcpNetwork):
    """Keeps the sockets that listen, for a look at their options."""

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        listener = await super().listen(addr, backlog=backlog, reuse_port=reuse_port)
        assert isinstance(listener, TcpListener)
        self.sock = listener._sock
        return listener


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux about the socket")
@pytest.mark.loop("tcp")
async def test_backlog_reaches_the_socket() -> None:
    net = Tapped()
    async with Node(listen="127.0.0.1:0", backlog=7, network=net):
        info = net.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        # Of a listening socket, tcpi_sacked is the length that its queue may have (net/ipv4/tcp.c).
        assert struct.unpack_from("I", info, 28) == (7,)


async def test_who_is_beyond_the_backlog_waits_for_room(memory: MemoryNetwork) -> None:
    config = Settings(listen="127.0.0.1:0", backlog=2, max_connecting=1, max_connections_per_ip=100)
    callers = [Node(**CALLER, network=memory) for _ in range(4)]
    async with Polite(config, memory) as called:
        called.gates["handshake"].close()
        dials = []
        for caller in callers:
            dials.append(asyncio.create_task(caller.connect(address(called))))
            await turns()
        # One is being set up, two are in the queue.
        assert [dial.done() for dial in dials] == [True, True, True, False]
        dials[3].cancel()
        await asyncio.wait(dials)
        for caller in callers:
            await caller.aclose()


async def test_nodes_that_agree_share_a_port(net: Network) -> None:
    async with Witness(Settings(listen="127.0.0.1:0", reuse_port=True), net) as first:
        addr = address(first)
        async with Witness(Settings(listen=addr, reuse_port=True), net) as second:
            assert second.listening_addr == addr
        with pytest.raises(ListenError):
            async with Node(listen=addr, network=net):
                pytest.fail("it must not listen")


@pytest.mark.loop("tcp")
async def test_a_platform_that_cannot_share_ports_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(UsageError, match="SO_REUSEPORT"):
        async with Node(listen="127.0.0.1:0", reuse_port=True):
            pytest.fail("it must not listen")


# Dialling


async def test_connect_returns_a_peer_that_is_registered_and_usable(net: Network) -> None:
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as called:
        there = await caller.connect(address(called))
        assert caller.peers == [there]
        assert there.addr == called.listening_addr
        assert not there.inbound
        await echoed(caller, called, there, b"hello")
        here = called.got.items[0][0]
        assert here.inbound
        assert here.opened_at is not None


async def test_a_node_dials_from_a_socket_of_the_users(net: Network, net_kind: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        own = Addr.of(sock.getsockname())
        async with Witness(CALLER, net) as caller, Witness(OPEN, net) as called:
            if net_kind == "memory":
                with pytest.raises(UsageError, match="no sockets in memory"):
                    await caller.connect(address(called), sock=sock)
                assert sock.fileno() == -1
            else:
                there = await caller.connect(address(called), sock=sock)
                (here,) = await called.met.count(1)
                assert here.addr == own
                await echoed(caller, called, there, b"hello")


async def test_a_socket_of_the_users_is_closed_when_nothing_is_dialled(net: Network) -> None:
    async with Witness(OPEN, net) as node:
        for addr in (address(node), "no address"):
            with socket.socket() as sock:
                with pytest.raises((ConnectError, ConfigError)):
                    await node.connect(addr, sock=sock)
                assert sock.fileno() == -1


async def test_two_nodes_that_dial_each_other_have_two_connections(net: Network) -> None:
    async with Witness(OPEN, net) as one, Witness(OPEN, net) as other:
        dialled = await asyncio.gather(one.connect(address(other)), other.connect(address(one)))
        for node in (one, other):
            await node.met.count(2)
            assert node.num_connected == 2
            assert sorted(peer.inbound for peer in node.peers) == [False, True]
        await echoed(one, other, dialled[0], b"one way")
        await echoed(other, one, dialled[1], b"other way")


@pytest.mark.parametrize(
    ("listen", "dials"),
    [
        ("127.0.0.1:0", ["127.0.0.1", "::ffff:127.0.0.1", "localhost", "0.0.0.0"]),
        ("0.0.0.0:0", ["127.0.0.1", "0.0.0.0", "127.0.0.2", "localhost"]),
        ("[::]:0", ["::1", "127.0.0.1", "::"]),
        ("[::1]:0", ["::1", "0:0:0:0:0:0:0:1"]),
    ],
)
async def test_dialling_oneself_fails(net: Network, listen: str, dials: list[str]) -> None:
    async with Witness(Settings(listen=listen, max_connections_per_ip=100), net) as node:
        for host in dials:
            with pytest.raises(SelfConnectError):
                await node.connect((host, address(node)[1]))
            check_idle(node)
        assert not node.met.items


async def test_another_node_at_the_same_port_of_another_host_is_not_oneself(memory: MemoryNetwork) -> None:
    config = Settings(listen="0.0.0.0:4000")
    async with Witness(config, memory.at("10.0.0.1")) as one, Witness(config, memory.at("10.0.0.2")) as other:
        await one.connect("10.0.0.2:4000")
        (peer,) = await other.met.count(1)
        assert peer.addr.host == "10.0.0.1"


async def test_a_second_dial_to_a_connected_address_fails(net: Network) -> None:
    async with pair(net) as (caller, called, there, _):
        with pytest.raises(AlreadyConnectedError):
            await caller.connect(address(called))
        assert caller.peers == [there]
        await echoed(caller, called, there, b"unharmed")
        assert called.num_connected == 1


async def test_a_second_dial_fails_while_the_first_is_under_way(net: Network) -> None:
    async with Polite(CALLER, net) as caller, Polite(OPEN, net) as called:
        called.gates["handshake"].close()
        first = asyncio.create_task(caller.connect(address(called)))
        await called.gates["handshake"].reached.count(1)
        assert caller.is_connecting(address(called))
        with pytest.raises(AlreadyConnectedError):
            await caller.connect(address(called))
        assert caller.is_connecting(address(called))
        called.gates["handshake"].open()
        peer = await first
        assert caller.peers == [peer]
        check_views(caller)


async def test_a_second_dial_fails_while_the_first_connection_is_torn_down(net: Network) -> None:
    async with pair(net) as (caller, called, there, _):
        caller.gates["on_disconnect"].close()
        leaving = asyncio.create_task(caller.disconnect(there))
        await caller.gates["on_disconnect"].reached.count(1)
        with pytest.raises(AlreadyConnectedError):
            await caller.connect(address(called))
        caller.gates["on_disconnect"].open()
        assert await leaving
        again = await caller.connect(address(called))
        assert again.id != there.id
        assert again.addr == there.addr


async def test_dialling_where_nobody_listens_is_a_dial_error(net: Network) -> None:
    async with Witness(OPEN, net) as gone:
        addr = address(gone)
    async with Witness(CALLER, net) as caller:
        with pytest.raises(DialError) as error:
            await caller.connect(addr)
        assert isinstance(error.value.__cause__, OSError)
        check_idle(caller)


async def test_a_connection_that_is_lost_at_once_is_a_dial_error() -> None:
    """Between being attached and being registered: nobody would tell the node of its end any more."""

    class Fragile(MemoryNetwork):
        async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: socket.socket | None = None) -> None:
            assert isinstance(protocol, Link)
            await super().dial(addr, protocol, sock=sock)
            protocol.transport.abort()
            await turns(3)
            assert protocol.lost

    net = Fragile()
    async with Witness(OPEN, net) as called, Witness(CALLER, net) as caller:
        with pytest.raises(DialError):
            await caller.connect(address(called))
        await settled(caller)
        assert not caller.met.items + caller.left.items
        await settled(called)


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "two..dots.example", ".example"])
async def test_a_host_that_can_be_no_name_is_a_dial_error(net: Network, host: str) -> None:
    async with Witness(CALLER, net) as caller:
        with pytest.raises(DialError):
            await caller.connect((host, 80))
        check_idle(caller)


async def test_a_name_is_dialled_by_the_address_that_it_stands_for(net: Network) -> None:
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as called:
        port = address(called)[1]
        there = await caller.connect(f"localhost:{port}")
        assert there.addr == Addr("127.0.0.1", port)
        with pytest.raises(AlreadyConnectedError):
            await caller.connect(("LocalHost", port))


@pytest.mark.parametrize("addr", ["127.0.0.1", "[::1]", ("127.0.0.1", 70_000), ("", 80), "host:port", 4])
async def test_a_malformed_address_is_a_config_error(memory: MemoryNetwork, addr: str) -> None:
    async with Node(network=memory) as node:
        with pytest.raises(ConfigError) as error:
            await node.connect(addr)
        assert error.value.field == "addr"


# The connect side of a handshake


async def test_a_handshake_may_connect_to_others(net: Network) -> None:
    """The setup of the one inside must not take the place of the one around it."""

    class Asking(Witness, Handshake):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            return await self.connect(address(third)) if peer.addr == second.listening_addr else None

    async with Witness(OPEN, net) as third, Witness(OPEN, net) as second, Asking(CALLER, net) as first:
        peer = await first.connect(address(second))
        assert isinstance(peer.session, Peer)
        assert peer.session.addr == third.listening_addr
        assert set(first.peers) == {peer, peer.session}
        await echoed(first, second, peer, b"outer")
        await echoed(first, third, peer.session, b"inner")


@pytest.mark.expects_errors
@pytest.mark.parametrize("inbound", [False, True])
async def test_a_handshake_that_raises_leaves_no_trace_on_either_side(net: Network, inbound: bool) -> None:
    class Picky(Polite):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if peer.inbound is inbound:
                raise PermissionError("not you")
            await super().handshake(peer, reader, writer)

    async with Picky(CALLER, net) as caller, Picky(OPEN, net) as called:
        with logged() as lines:
            with pytest.raises(HandshakeError) as error:
                await caller.connect(address(called))
            assert isinstance(error.value.__cause__, EOFError | OSError if inbound else PermissionError)
            check_idle(caller)
            await lines.when(lambda lines: any("not let in" in line.getMessage() for line in lines))
        await settled(caller)
        await settled(called)
    assert not caller.met.items + called.met.items + caller.left.items + called.left.items


@pytest.mark.parametrize("late", ["caller", "called"])
async def test_a_handshake_that_is_late_leaves_no_trace_and_is_counted(memory: MemoryNetwork, late: str) -> None:
    async with Polite(CALLER, memory) as caller, Polite(OPEN, memory) as called:
        (caller if late == "caller" else called).gates["handshake"].close()
        began = asyncio.get_running_loop().time()
        with pytest.raises(HandshakeError):
            await caller.connect(address(called))
        assert asyncio.get_running_loop().time() == began + Polite.handshake_timeout
        await settled(caller)
        await settled(called)
        assert caller.heuristics.handshake_timeouts + called.heuristics.handshake_timeouts >= 1
        assert not caller.doing | called.doing


async def test_a_handshake_that_ignores_its_deadline_is_late_all_the_same(memory: MemoryNetwork) -> None:
    class Stubborn(Witness, Handshake):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                return "here I am"
            raise AssertionError("never reached")

    async with Stubborn(CALLER, memory) as caller, Witness(OPEN, memory) as called:
        with pytest.raises(HandshakeError):
            await caller.connect(address(called))
        assert caller.heuristics.handshake_timeouts == 1
        check_idle(caller)
        assert not caller.met.items
        await called.left.count(1)


async def test_a_handshake_that_blocks_until_it_is_late_is_late(memory: MemoryNetwork) -> None:
    class Blocking(Witness, Handshake):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualClockLoop)
            loop.now += self.handshake_timeout + 1

    async with Blocking(CALLER, memory) as caller, Witness(OPEN, memory) as called:
        with pytest.raises(HandshakeError):
            await caller.connect(address(called))
        assert caller.heuristics.handshake_timeouts == 1
        check_idle(caller)


async def test_a_peer_that_aborts_during_the_handshake_is_a_handshake_error(net: Network) -> None:
    """Also where the handshake looks at nothing that would tell it."""

    class Thoughtful(Witness, Handshake):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            shaking.set()
            await lost.wait()

    shaking, lost = asyncio.Event(), asyncio.Event()
    async with listening(net) as listener, Thoughtful(CALLER, net) as caller:
        dial = asyncio.create_task(caller.connect(listener.addr))
        endpoint = StreamEndpoint(on_made=leave_by_reset)
        await (await accept(listener)).open(endpoint)
        await shaking.wait()
        await endpoint.aclose()
        while any(isinstance(thing, Link) for thing in context_of(caller).supervisor.held):
            await changed(caller)
        lost.set()
        with pytest.raises(HandshakeError):
            await dial
        await settled(caller)


def leave_by_reset(transport: asyncio.Transport) -> None:
    """Have aborting ``transport`` reset the connection, as it does in memory, instead of closing it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_a_peer_that_closes_during_the_handshake_is_a_handshake_error(net: Network) -> None:
    async with listening(net) as listener, Polite(CALLER, net) as caller:
        dial = asyncio.create_task(caller.connect(listener.addr))
        endpoint = StreamEndpoint()
        await (await accept(listener)).open(endpoint)
        await endpoint.until_data(1)
        await endpoint.aclose()
        with pytest.raises(HandshakeError) as error:
            await dial
        assert isinstance(error.value.__cause__, EOFError | ConnectionError)
        await settled(caller)


# What a node tells


async def test_the_views_agree_in_every_hook(net: Network) -> None:
    class Checking(Polite):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            check_views(self)
            assert self.is_connecting(peer.addr)
            await super().handshake(peer, reader, writer)
            check_views(self)

        async def on_connect(self, peer: Peer) -> None:
            check_views(self)
            assert self.is_connected(peer.addr)
            await super().on_connect(peer)

        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            check_views(self)
            assert self.is_connected(peer.addr)
            await super().on_disconnect(peer, reason)
            check_views(self)

    async with Checking(CALLER, net) as caller, Checking(OPEN, net) as called:
        there = await caller.connect(address(called))
        check_views(caller)
        await called.met.count(1)
        await caller.disconnect(there)
        check_views(caller)
        assert not caller.is_connected(there.addr)
        await called.left.count(1)


async def test_the_views_take_an_address_however_it_is_written(memory: MemoryNetwork) -> None:
    async with Witness(CALLER, memory) as caller, Witness(Settings(listen="127.0.0.1:4000"), memory):
        peer = await caller.connect(("::ffff:127.0.0.1", 4000))
        assert caller.peer("127.0.0.1:4000") is caller.peer(("127.0.0.1", 4000)) is peer
        assert caller.peer("[::ffff:7f00:1]:4000") is peer
        assert caller.is_connected("127.0.0.1:4000")
        assert not caller.is_connected("127.0.0.1:4001")
        with pytest.raises(ConfigError):
            caller.is_connected("127.0.0.1")


async def test_peers_are_told_oldest_first_in_a_list_of_the_callers(memory: MemoryNetwork) -> None:
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(Witness(CALLER, memory))
        made = []
        for _ in range(4):
            called = await stack.enter_async_context(Witness(OPEN, memory))
            made.append(await caller.connect(address(called)))
        assert caller.peers == made
        caller.peers.clear()
        assert caller.num_connected == 4


async def test_the_statistics_of_a_node_outlive_connections_and_a_peers_are_its_own(net: Network) -> None:
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as one, Witness(OPEN, net) as other:
        to_one, to_other = await caller.connect(address(one)), await caller.connect(address(other))
        await echoed(caller, one, to_one, b"12345")
        await echoed(caller, other, to_other, b"123")
        await echoed(caller, other, to_other, b"1234567")
        assert (to_one.stats.messages_sent, to_one.stats.bytes_sent) == (1, 4 + 5)
        assert (to_other.stats.messages_sent, to_other.stats.bytes_sent) == (2, 4 + 3 + 4 + 7)
        here = other.peers[0]
        assert (here.stats.messages_received, here.stats.bytes_received) == (2, 4 + 3 + 4 + 7)
        await caller.disconnect(to_one)
        await caller.disconnect(to_other)
        again = await caller.connect(address(one))
        assert again.stats == Stats()
    assert caller.stats == Stats(messages_sent=3, bytes_sent=4 * 3 + 5 + 3 + 7)
    assert other.stats == Stats(messages_received=2, bytes_received=4 * 2 + 3 + 7)


async def test_a_node_that_only_dials_needs_no_protocol(net: Network) -> None:
    async with Node(**OPEN, network=net) as called, Node(**CALLER, network=net) as caller:
        peer = await caller.connect(address(called))
        assert caller.peers == [peer]
        assert peer.session is None


async def test_a_node_lives_on_one_loop(memory: MemoryNetwork) -> None:
    async with Node(**CALLER, network=memory) as node:

        def elsewhere() -> None:
            with pytest.raises(UsageError, match="one event loop"):
                asyncio.run(node.connect("127.0.0.1:1"))

        await asyncio.to_thread(elsewhere)
