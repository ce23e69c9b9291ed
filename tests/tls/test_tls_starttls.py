"""TLS that starts inside a handshake: everything after it is encrypted, and no plaintext that came with it counts."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pea2pea import Addr, ConfigError, Handshake, HandshakeError, NotConnectedError, Peer, Settings
from pea2pea.errors import UsageError
from pea2pea.network import Network
from pea2pea.tls import (
    NotPinnedError,
    NotTlsError,
    RefusedByPeerError,
    TlsConfig,
    TlsCutError,
    WrongNameError,
    start_tls,
    tls_session,
)
from pea2pea.tls.certificates import Identity
from support import Recorder, StreamEndpoint, accept, connected, listening, turns
from support.link import both_ways, join
from support.node import CALLER, OPEN, Witness, address, check_idle, connection_of, settled
from support.tls import Networks, context_of, issued

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Step = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]
Tls = TlsConfig | ssl.SSLContext


class Upgrading(Witness, Handshake):
    """Runs ``step`` as its handshake, and keeps what that raises."""

    def __init__(self, step: Step, config: Settings, network: Network) -> None:
        super().__init__(config, network)
        self.step = step
        self.failures: Recorder[BaseException] = Recorder()

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        try:
            return await self.step(reader, writer)
        except BaseException as error:
            self.failures.add(error)
            raise


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: Tls, **options: Any) -> Any:
    """The side that asks for TLS, as the client of SMTP does, and then sends a secret."""
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    reader, writer = await start_tls(reader, writer, tls, server_side=False, **options)
    writer.write(b"secret of the client\n")
    assert await reader.readline() == b"secret of the server\n"
    return tls_session(writer)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: Tls) -> Any:
    """The side that is asked."""
    assert await reader.readline() == b"STARTTLS\n"
    writer.write(b"go\n")
    reader, writer = await start_tls(reader, writer, tls, server_side=True)
    assert await reader.readline() == b"secret of the client\n"
    writer.write(b"secret of the server\n")
    return tls_session(writer)


class Relay(StreamEndpoint):
    """Passes on what it receives to ``other``, and keeps it; ``change`` it on the way."""

    def __init__(self, change: Callable[[bytes], bytes] = bytes) -> None:
        super().__init__()
        self.other: Relay
        self._change = change
        self._waiting = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(bytes(self._waiting))

    def data_received(self, data: bytes) -> None:
        self.got(data)
        self.other.send(self._change(data))

    def send(self, data: bytes) -> None:
        if "made" in self.events.items:
            self.transport.write(data)
        else:
            self._waiting += data

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.other.transport.close()


@asynccontextmanager
async def relayed(
    net: Network, target: Addr, change: Callable[[bytes], bytes] = bytes
) -> AsyncIterator[tuple[Addr, Relay, Relay]]:
    """An address from which one connection is passed on to ``target``; ``change`` what the dialler sends."""
    left, right = Relay(change), Relay()
    left.other, right.other = right, left

    async def carry() -> None:
        incoming = await accept(listener)
        await net.dial(target, right)
        await incoming.open(left)

    async with listening(net) as listener:
        carrying = asyncio.create_task(carry())
        try:
            yield listener.addr, left, right
        finally:
            await carrying
            await left.aclose()
            await right.aclose()


@pytest.fixture
def networks(tmp_path: Path, net: Network) -> Networks:
    return Networks(tmp_path, net)


def configs(networks: Networks, kind: str) -> tuple[Identity, Identity, Tls, Tls]:
    """Two identities, and what each trusts the other by: authority, pins, or contexts of the user's own."""
    ann, bob = issued(name="ann"), issued(name="bob")
    if kind == "pinned":
        left, right = networks.pinned(ann, {bob.node_id}), networks.pinned(bob, {ann.node_id})
        return ann, bob, left.config, right.config
    left, right = networks(ann), networks(bob)
    if kind == "context":
        return ann, bob, context_of(left), context_of(right, server=True)
    return ann, bob, left.config, right.config


KINDS = ["trusted", "pinned", "context"]


# What works


@pytest.mark.parametrize("kind", KINDS)
@both_ways
async def test_everything_after_it_is_encrypted(networks: Networks, way: str, kind: str) -> None:
    """``way`` is the side that is the server of TLS."""
    net = networks.below
    ann, bob, left_tls, right_tls = configs(networks, kind)
    asking = partial(ask, tls=left_tls, server_name="localhost" if kind == "context" else None)
    answering = partial(answer, tls=right_tls)
    steps: list[Step] = [asking, answering] if way == "listener" else [answering, asking]
    lines = (b"STARTTLS\n", b"go\n") if way == "listener" else (b"go\n", b"STARTTLS\n")
    ids = [bob.node_id, ann.node_id] if way == "listener" else [ann.node_id, bob.node_id]
    async with Upgrading(steps[0], CALLER, net) as left, Upgrading(steps[1], OPEN, net) as right:
        async with relayed(net, Addr.of(address(right))) as (addr, *relays):
            there = await left.connect(addr)
            (here,) = await right.met.count(1)
            assert [there.session.node_id, here.session.node_id] == ids
            assert tls_session(there) == there.session
            for node, peer, other in ((left, there, right), (right, here, left)):
                for message in (b"a secret message", bytes(300_000), b"another secret"):
                    await node.send(peer, message)
                await node.flush(peer)
                got = await other.got.count(3)
                assert [message for _, message in got] == [b"a secret message", bytes(300_000), b"another secret"]
            await left.disconnect(there)
            await right.left.count(1)
            for relay, line in zip(relays, lines, strict=True):
                assert b"secret" not in relay.data and bytes(1000) not in relay.data
                assert relay.data.startswith(line)
            ((_, reason),) = right.left.items
            assert reason.exception is None
        await settled(left)
        await settled(right)


async def test_a_hello_that_came_already_is_used(networks: Networks) -> None:
    """A client of NATS does not wait for an answer: its hello is in the reader when the server starts."""
    ann, _, left_tls, right_tls = configs(networks, "pinned")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        assert await reader.readline() == b"INFO\n"
        return tls_session((await start_tls(reader, writer, left_tls, server_side=False))[1])

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        writer.write(b"INFO\n")
        await turns(100)
        return tls_session((await start_tls(reader, writer, right_tls, server_side=True))[1])

    net = networks.below
    async with Upgrading(client, CALLER, net) as left, Upgrading(server, OPEN, net) as right:
        there = await left.connect(address(right))
        await left.send(there, b"hello")
        ((here, message),) = await right.got.count(1)
        assert here.session.node_id == ann.node_id and message == b"hello"


async def test_plaintext_that_waits_to_be_written_goes_before(networks: Networks) -> None:
    size = 8_000_000
    _, _, left_tls, right_tls = configs(networks, "trusted")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        assert await reader.readexactly(size) == bytes(size)
        await start_tls(reader, writer, left_tls, server_side=False)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        writer.write(bytes(size))
        await start_tls(reader, writer, right_tls, server_side=True)

    net = networks.below
    async with Upgrading(client, CALLER, net) as left, Upgrading(server, OPEN, net) as right:
        there = await left.connect(address(right))
        (here,) = await right.met.count(1)
        for node, peer, other in ((left, there, right), (right, here, left)):
            await node.send(peer, b"hello")
            await other.got.count(1)


async def test_tls_can_be_started_inside_tls(networks: Networks) -> None:
    _, _, left_tls, right_tls = configs(networks, "trusted")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        for _ in range(2):
            reader, writer = await start_tls(reader, writer, left_tls, server_side=False)
        return tls_session(writer)

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        for _ in range(2):
            reader, writer = await start_tls(reader, writer, right_tls, server_side=True)
        return tls_session(writer)

    outer = networks(issued(name="ann")), networks(issued(name="bob"))
    async with Upgrading(client, CALLER, outer[0]) as left, Upgrading(server, OPEN, outer[1]) as right:
        there = await left.connect(address(right))
        await left.send(there, bytes(300_000))
        assert (await right.got.count(1))[0][1] == bytes(300_000)


async def test_the_reader_and_writer_of_before_are_unusable(networks: Networks) -> None:
    _, _, left_tls, right_tls = configs(networks, "trusted")
    old: list[Streams] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        old.append((reader, writer))
        reader, writer = await start_tls(reader, writer, left_tls, server_side=False)
        assert writer.get_extra_info("ssl_object") is not None
        assert await old[0][0].read() == b""
        assert old[0][1].is_closing()
        with pytest.raises(UsageError, match="was upgraded"):
            old[0][1].write(b"secret")
        with pytest.raises(UsageError, match="was upgraded"):
            await start_tls(*old[0], left_tls, server_side=False)
        old.clear()
        del reader, writer  # the node keeps them: a writer that is collected closes its transport (Python 3.13)
        gc.collect()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        await start_tls(reader, writer, right_tls, server_side=True)

    net = networks.below
    async with Upgrading(client, CALLER, net) as left, Upgrading(server, OPEN, net) as right:
        there = await left.connect(address(right))
        await left.send(there, b"hello")
        await right.got.count(1)


# Plaintext that an attacker adds (CVE-2011-0411)


async def test_a_command_behind_the_request_is_an_error(networks: Networks) -> None:
    """The server would otherwise take it for one that the client sent inside TLS."""
    _, _, _, right_tls = configs(networks, "trusted")
    net = networks.below
    async with Upgrading(partial(answer, tls=right_tls), OPEN, net) as node:
        end = StreamEndpoint()
        await net.dial(Addr.of(address(node)), end)
        end.transport.write(b"STARTTLS\nMAIL FROM:<mallory>\n" + b"\0\0\0\4evil" * 10)
        (error,) = await node.failures.count(1)
        assert isinstance(error, NotTlsError)
        await end.events.has("lost")
        await settled(node)
        assert (node.met.items, node.got.items) == ([], [])
        assert b"secret" not in end.data


@pytest.mark.parametrize("kind", ["trusted", "pinned"])
async def test_a_command_that_is_put_between_request_and_handshake_is_an_error(networks: Networks, kind: str) -> None:
    """As the attack goes: the victim's own TLS handshake follows."""
    net = networks.below
    _, _, left_tls, right_tls = configs(networks, kind)

    def inject(data: bytes) -> bytes:
        return data.replace(b"STARTTLS\n", b"STARTTLS\nRCPT TO:<mallory>\n")

    async with (
        Upgrading(partial(ask, tls=left_tls), CALLER, net) as left,
        Upgrading(partial(answer, tls=right_tls), OPEN, net) as right,
        relayed(net, Addr.of(address(right)), inject) as (addr, _, _),
    ):
        with pytest.raises(HandshakeError):
            await left.connect(addr)
        (error,) = await right.failures.count(1)
        assert isinstance(error, NotTlsError)
        await settled(left)
        await settled(right)
        assert (right.met.items, right.got.items) == ([], [])


async def test_an_answer_behind_the_go_ahead_is_an_error(networks: Networks) -> None:
    """The client would otherwise take it for one that the server sent inside TLS."""
    _, _, left_tls, _ = configs(networks, "trusted")
    net = networks.below
    async with listening(net) as listener, Upgrading(partial(ask, tls=left_tls), CALLER, net) as node:
        dialling = asyncio.create_task(node.connect(listener.addr))
        end = StreamEndpoint()
        await (await accept(listener)).open(end)
        await end.until_data(9)
        end.transport.write(b"go\nsecret of the server\n")
        with pytest.raises(HandshakeError) as caught:
            await dialling
        assert isinstance(caught.value.__cause__, NotTlsError)
        await end.events.has("lost")
        check_idle(node)


# What fails


async def test_a_client_that_is_not_pinned_is_refused(networks: Networks) -> None:
    net = networks.below
    ann, bob = Identity.make("ann"), Identity.make("bob")
    pins: set[str] = set()
    left_tls, right_tls = networks.pinned(ann, {bob.node_id}).config, networks.pinned(bob, pins).config
    async with (
        Upgrading(partial(ask, tls=left_tls), CALLER, net) as left,
        Upgrading(partial(answer, tls=right_tls), OPEN, net) as right,
    ):
        with pytest.raises(HandshakeError) as caught:
            await left.connect(address(right))
        assert isinstance(caught.value.__cause__, RefusedByPeerError)
        (error,) = await right.failures.count(1)
        assert isinstance(error, NotPinnedError) and error.node_id == ann.node_id
        await settled(left)
        await settled(right)
        pins.add(ann.node_id)
        await left.connect(address(right))
        await right.met.count(1)


async def test_the_name_of_the_server_is_checked(networks: Networks) -> None:
    net = networks.below
    _, _, left_tls, right_tls = configs(networks, "trusted")
    async with Upgrading(partial(answer, tls=right_tls), OPEN, net) as right:
        for name, welcome in (("elsewhere.test", False), ("localhost", True), (None, True)):
            async with Upgrading(partial(ask, tls=left_tls, server_name=name), CALLER, net) as left:
                if welcome:
                    await left.connect(address(right))
                else:
                    with pytest.raises(HandshakeError) as caught:
                        await left.connect(address(right))
                    assert isinstance(caught.value.__cause__, WrongNameError)
            await settled(right)


async def dead_end(way: str, net: Network, node: Witness, end: StreamEndpoint) -> None:
    """Connect ``end`` with ``node``, whose handshake fails."""
    if way == "listener":
        await join(way, net, node, end)
    else:
        with pytest.raises(HandshakeError):
            await join(way, net, node, end)
    await end.events.has("lost")
    await settled(node)
    check_idle(node)


@both_ways
async def test_a_peer_that_closed_before(networks: Networks, way: str) -> None:
    _, _, _, right_tls = configs(networks, "trusted")

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        await turns(50)
        await start_tls(reader, writer, right_tls, server_side=True)

    def leave(transport: asyncio.Transport) -> None:
        transport.write(b"STARTTLS\n")
        transport.write_eof()

    async with Upgrading(step, OPEN, networks.below) as node:
        await dead_end(way, networks.below, node, StreamEndpoint(on_made=leave))
        assert isinstance(node.failures.items[0], EOFError | TlsCutError)


@both_ways
async def test_a_peer_that_closes_during_the_handshake(networks: Networks, way: str) -> None:
    _, _, _, right_tls = configs(networks, "trusted")

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"go\n")
        await start_tls(reader, writer, right_tls, server_side=True)

    class Leaving(StreamEndpoint):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"\x16\x03\x01")
            self.transport.close()

    async with Upgrading(step, OPEN, networks.below) as node:
        await dead_end(way, networks.below, node, Leaving())
        assert isinstance(node.failures.items[0], TlsCutError)


@both_ways
async def test_a_silent_peer_is_disconnected_at_the_timeout_of_the_handshake(networks: Networks, way: str) -> None:
    _, _, left_tls, _ = configs(networks, "trusted")

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await start_tls(reader, writer, left_tls, server_side=False)

    class Hasty(Upgrading):
        handshake_timeout = 0.2

    async with Hasty(step, OPEN, networks.below) as node:
        await dead_end(way, networks.below, node, StreamEndpoint())


async def test_a_node_that_closes_during_it_leaves_nothing(networks: Networks) -> None:
    _, _, left_tls, _ = configs(networks, "trusted")

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await start_tls(reader, writer, left_tls, server_side=False)

    net = networks.below
    async with listening(net) as listener:
        async with Upgrading(step, CALLER, net) as node:
            dialling = asyncio.create_task(node.connect(listener.addr))
            end = StreamEndpoint()
            await (await accept(listener)).open(end)
            await end.until_data(1)
        with pytest.raises(Exception):  # noqa: B017  # whichever: the node is closed
            await dialling
        await end.events.has("lost")


# Misuse


@pytest.mark.expects_errors
@both_ways
async def test_the_start_tls_of_asyncio_sends_nothing_in_plaintext(networks: Networks, way: str) -> None:
    """It would encrypt what its own writer sends, and none of the node's messages."""
    context = context_of(networks(issued(name="ann")))
    told: list[BaseException] = []

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(UsageError, match=r"pea2pea\.tls\.start_tls"):
            await writer.start_tls(context, server_hostname="localhost")
        with pytest.raises(TypeError):
            await loop.start_tls(writer.transport, asyncio.Protocol(), context, server_hostname="localhost")
        told.append(UsageError("the step ends"))
        raise told[0]

    end = StreamEndpoint()
    async with Upgrading(step, OPEN, networks.below) as node:
        await dead_end(way, networks.below, node, end)
    assert told and end.data == b""


async def test_it_needs_the_streams_of_a_handshake(networks: Networks) -> None:
    config = networks(issued(name="ann")).config
    kept: list[Streams] = []

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept.append((reader, writer))

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Shake no hands."""

    net = networks.below
    async with Upgrading(step, CALLER, net) as left, Upgrading(nothing, OPEN, net) as right:
        await left.connect(address(right))
        with pytest.raises(UsageError, match="handshake is over"):
            await start_tls(*kept[0], config, server_side=False)
        with pytest.raises(UsageError):
            await connection_of(left, left.peers[0]).link.upgrade(None)  # type: ignore[arg-type]
    async with connected(net) as (end, _):
        reader = asyncio.StreamReader()
        writer = asyncio.StreamWriter(
            end.transport, asyncio.StreamReaderProtocol(reader), reader, asyncio.get_running_loop()
        )
        with pytest.raises(UsageError, match="a node passed to handshake"):
            await start_tls(reader, writer, config, server_side=False)


async def test_the_server_side_needs_a_certificate(networks: Networks) -> None:
    config = networks(None).config

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ConfigError, match="certificate"):
            await start_tls(reader, writer, config, server_side=True)

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Shake no hands."""

    net = networks.below
    async with Upgrading(step, CALLER, net) as left, Upgrading(nothing, OPEN, net) as right:
        await left.connect(address(right))


async def test_a_connection_that_is_lost_while_it_is_upgraded(networks: Networks) -> None:
    """Whatever protocol is put there: the hook is told, and does not go on with a connection that is gone."""

    async def wrap(app: asyncio.BufferedProtocol, raw: asyncio.Transport, received: bytes) -> asyncio.Transport:
        raw.abort()
        await turns(20)
        return raw

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.transport.upgrade(wrap)  # type: ignore[attr-defined]

    async with Upgrading(step, OPEN, networks.below) as node:
        await dead_end("listener", networks.below, node, StreamEndpoint())
        assert isinstance(node.failures.items[0], NotConnectedError)


async def test_a_handshake_that_ignores_the_failure_fails_all_the_same(networks: Networks) -> None:
    """The connection must not go on in plaintext."""
    _, _, _, right_tls = configs(networks, "trusted")

    async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(NotTlsError):
            await start_tls(reader, writer, right_tls, server_side=True)

    end = StreamEndpoint(on_made=lambda transport: transport.write(b"\0\0\0\5hello" * 10))
    async with Upgrading(step, OPEN, networks.below) as node:
        await dead_end("listener", networks.below, node, end)
        assert (node.met.items, node.got.items) == ([], [])
