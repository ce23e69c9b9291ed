"""Errors are told to whoever can act on them, once, in words, and by whose doing they are."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import pytest

from pea2pea import (
    Addr,
    Cause,
    ConfigError,
    DisconnectReason,
    EncodeError,
    HandshakeError,
    LengthDelimited,
    MemoryNetwork,
    Network,
    Node,
    NotConnectedError,
    Origin,
    Party,
    Peer,
    Reading,
    UsageError,
    WriteTimeoutError,
    Writing,
)
from pea2pea.network import Listener
from support import Recorder, StreamEndpoint, accept, listening, turns
from support.link import MUCH, both_ways, facing, frame, linked, reason_of
from support.node import CALLER, OPEN, Polite, Witness, address, changed, logged, pair

THEIRS = [FileNotFoundError("a file"), TimeoutError(), EOFError(), OSError(5, "disk"), EncodeError("mine")]


def errors(lines: Recorder[logging.LogRecord]) -> list[str]:
    """The records at ERROR that have a traceback."""
    return [record.getMessage() for record in lines.items if record.levelno == logging.ERROR and record.exc_info]


class Failing(Witness):
    """Raises in one hook."""

    def __init__(self, network: Network, hook: str, error: Exception) -> None:
        super().__init__(OPEN, network)
        self.hook, self.error = hook, error

    async def process_message(self, peer: Peer, message: bytes) -> None:
        if self.hook == "process_message":
            raise self.error

    async def on_connect(self, peer: Peer) -> None:
        await super().on_connect(peer)
        if self.hook == "on_connect":
            raise self.error


@pytest.mark.expects_errors
@pytest.mark.parametrize("error", THEIRS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hook", ["process_message", "on_connect"])
async def test_what_a_hook_raises_is_the_users_whatever_its_type(
    hook: str, error: Exception, memory: MemoryNetwork
) -> None:
    with logged() as lines:
        async with facing("listener", memory, Failing(memory, hook, error)) as (peer, end):
            end.transport.write(frame(b"x"))
            reason = await peer.closed()
    assert reason.party is Party.CODE and reason.exception is error
    assert len(errors(lines)) == 1 and hook in errors(lines)[0]


async def test_a_reply_to_a_peer_that_left_is_no_error(memory: MemoryNetwork) -> None:
    class Echo(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            await asyncio.sleep(1)
            await self.send(peer, message)

    with logged() as lines:
        async with facing("listener", memory, Echo(OPEN, memory)) as (peer, end):
            end.transport.write(frame(b"x"))
            await turns()
            end.transport.abort()
            reason = await peer.closed()
    assert reason.party is Party.NETWORK
    assert not errors(lines)


@pytest.mark.expects_errors
async def test_a_message_that_cannot_be_encoded_is_not_lost_in_silence(memory: MemoryNetwork) -> None:
    with logged() as lines:
        async with pair(memory) as (caller, _, there, _):
            await caller.send(there, "text")  # type: ignore[arg-type]
            reason = await there.closed()
            assert reason.cause is Cause.ENCODER_FAILED and isinstance(reason.exception, EncodeError)
            with pytest.raises(NotConnectedError) as caught:
                await caller.send(there, b"more")
            assert caught.value.reason is reason and caught.value.__cause__ is reason.exception
    assert len(errors(lines)) == 1


@pytest.mark.parametrize("origin", ["encoder", "timeout"])
@pytest.mark.expects_errors
async def test_flush_raises_the_cause(origin: str, memory: MemoryNetwork) -> None:
    class Hasty(Witness):
        write_timeout = 1.0

    async with Hasty(CALLER, memory) as caller, listening(memory) as listener:
        connecting = asyncio.create_task(caller.connect(listener.addr))
        end = StreamEndpoint(on_made=lambda transport: transport.pause_reading())
        await (await accept(listener)).open(end)
        peer = await connecting
        await caller.send(peer, bytes(MUCH // 4) if origin == "timeout" else 7)  # type: ignore[arg-type]
        with pytest.raises(NotConnectedError) as caught:
            await caller.flush(peer)
        expected = WriteTimeoutError if origin == "timeout" else EncodeError
        assert isinstance(caught.value.__cause__, expected)
        reason = await peer.closed()
        assert reason.origin is Origin.WRITING
        assert caller.heuristics.write_timeouts == (origin == "timeout")
        await end.aclose()


def test_a_hook_without_its_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="OnDisconnect"):

        class NoOne(Node):
            async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None: ...


@pytest.mark.parametrize("name", ["idle_timeuot", "write_que_depth", "process_mesage", "codecc"])
def test_a_misspelt_name_is_refused_with_the_right_one(name: str) -> None:
    with pytest.raises(ConfigError, match="did you mean") as caught:
        type("Misspelt", (Node, Reading, Writing), {name: 5})
    assert caught.value.field == name


def test_a_misplaced_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="Reading or Receiving") as caught:
        Node(idle_timeout=5)
    assert caught.value.field == "idle_timeout"
    with pytest.raises(ConfigError, match="did you mean 'listen'"):
        Node(lisen="127.0.0.1:0")  # type: ignore[call-arg]


class Breaking(Listener):
    """A listener whose ``ready`` raises once."""

    def __init__(self, inner: Listener, failures: list[Exception]) -> None:
        self.addr, self.inner, self.failures = inner.addr, inner, failures

    def accept(self) -> Any:
        return self.inner.accept()

    async def ready(self) -> None:
        if self.failures:
            raise self.failures.pop()
        await self.inner.ready()

    def close(self) -> None:
        self.inner.close()


@pytest.mark.expects_errors
@pytest.mark.parametrize("error", [OSError(9, "bad descriptor"), RuntimeError("a bug")])
async def test_a_listener_that_fails_is_resumed(error: Exception, memory: MemoryNetwork) -> None:
    class Fragile(MemoryNetwork):
        failures: ClassVar[list[Exception]] = [error]

        async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
            return Breaking(await super().listen(addr, backlog=backlog, reuse_port=reuse_port), self.failures)

    net = Fragile()
    async with Witness(OPEN, net) as node, Witness(CALLER, net) as caller:
        addr = address(node)
        await turns()
        assert node.listening_addr is None and node.heuristics.listener_failures == 1
        await asyncio.sleep(1)
        assert node.listening_addr == addr
        await caller.connect(addr)


async def test_sending_to_a_leaving_peer_raises_the_reason_except_from_its_own_hook(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, here):
        caller.gates["on_disconnect"].close()
        leaving = asyncio.create_task(caller.disconnect(there))
        await caller.left.count(1)
        with pytest.raises(NotConnectedError) as caught:
            await caller.send(there, b"late")
        assert caught.value.reason == DisconnectReason(Cause.DISCONNECTED)
        caller.gates["on_disconnect"].open()
        assert await leaving
        await here.closed()
        assert not called.got.items


async def test_the_last_words_of_on_disconnect_and_its_tasks_are_sent(memory: MemoryNetwork) -> None:
    class Last(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await asyncio.create_task(self.send(peer, b"goodbye"))

    async with Last(CALLER, memory) as caller, Witness(OPEN, memory) as called:
        peer = await caller.connect(address(called))
        await caller.disconnect(peer)
        await called.got.count(1)


async def test_a_wait_for_a_later_message_is_detected_in_debug_mode(memory: MemoryNetwork) -> None:
    class Stuck(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            if message == b"first":
                await asyncio.wait_for(self.second.wait(), 10)
            else:
                self.second.set()

        second = asyncio.Event()

    asyncio.get_running_loop().set_debug(True)
    with logged() as lines:
        async with facing("listener", memory, Stuck(OPEN, memory)) as (_, end):
            end.transport.write(frame(b"first") + frame(b"second"))
            await lines.when(lambda records: any("queued behind it" in record.getMessage() for record in records))


@pytest.mark.loop("tcp")
async def test_nodes_on_one_machine_meet_by_default() -> None:
    class Plain(Node, Reading[bytes]):
        codec = LengthDelimited()

        async def process_message(self, peer: Peer, message: bytes) -> None: ...

    async with Plain(listen="127.0.0.1:0") as hub, Plain() as one, Plain() as two:
        for node in (one, two):
            await node.connect(hub.address)
        await turns()
        assert hub.num_connected + hub.num_connecting == 2


async def test_a_refused_dialler_is_told_so_and_the_listener_warns_once(memory: MemoryNetwork) -> None:
    with logged() as lines:
        async with Witness({**OPEN, "max_connections": 1}, memory) as full, Witness(CALLER, memory) as caller:
            await caller.connect(address(full))
            for _ in range(3):
                async with Witness(CALLER, memory) as late:
                    reason = await (await late.connect(address(full))).closed()
                    assert reason.cause is Cause.PEER_REFUSED and reason.party is Party.PEER
                    assert str(reason) == "the peer closed the connection before it sent anything"
            assert full.heuristics.refused == {"max_connections": 3}
    assert len([record for record in lines.items if record.levelno == logging.WARNING]) == 1


@pytest.mark.loop("tcp")
async def test_probes_write_one_line_each_and_no_traceback() -> None:
    with logged() as lines:
        async with Polite(OPEN) as node:
            for _ in range(10):
                with socket.create_connection(address(node)):
                    pass
                await turns()
            while node.num_connecting:
                await changed(node)
    told = [record for record in lines.items if record.levelno >= logging.INFO]
    assert len(told) <= 10 + 1  # and that it listens
    assert not any(record.exc_info for record in told)
    assert all(hasattr(record, "node") for record in told)
    assert all(hasattr(record, "address") for record in told if "not let in" in record.getMessage())


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@asynccontextmanager
async def accepting() -> AsyncIterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.mark.parametrize("size", [4096, 65536])
async def test_a_sender_whose_peer_resets_is_told_of_the_reset(net: Network, net_kind: str, size: int) -> None:
    if net_kind == "memory":
        pytest.skip("of sockets")
    loop = asyncio.get_running_loop()
    async with Witness(CALLER, net) as node, accepting() as listener:
        for _ in range(20):
            peer = await node.connect(Addr(*listener.getsockname()))
            sock, _ = await loop.sock_accept(listener)
            sending = asyncio.create_task(_send_until_closed(node, peer, bytes(size)))
            await loop.sock_recv(sock, 4096)
            reset(sock)
            reason = await peer.closed()
            await sending
            assert isinstance(reason.exception, ConnectionError), reason
            assert reason.party is Party.NETWORK


async def _send_until_closed(node: Witness, peer: Peer, message: bytes) -> None:
    with suppress(NotConnectedError):
        while True:
            await node.send(peer, message)
            await asyncio.sleep(0)


async def test_a_reset_before_the_handshake_writes_is_the_peers_doing(net: Network, net_kind: str) -> None:
    if net_kind == "memory":
        pytest.skip("of sockets")

    class Slow(Polite):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            met.set_result(peer)
            await gone.wait()
            await turns()
            writer.write(b"hello")
            await writer.drain()
            return await reader.readexactly(1)

    loop = asyncio.get_running_loop()
    met, gone = loop.create_future(), asyncio.Event()
    with logged() as lines:
        async with Slow(CALLER, net) as node, accepting() as listener:
            connecting = asyncio.create_task(node.connect(Addr(*listener.getsockname())))
            sock, _ = await loop.sock_accept(listener)
            await met
            reset(sock)
            gone.set()
            with pytest.raises(HandshakeError) as caught:
                await connecting
            assert isinstance(caught.value.__cause__, ConnectionError | EOFError)
    assert not errors(lines)


async def test_a_broken_write_is_reported_as_writing_with_reading_on(net: Network, net_kind: str) -> None:
    if net_kind == "memory":
        pytest.skip("of sockets")
    loop = asyncio.get_running_loop()
    async with Witness(CALLER, net) as node, accepting() as listener:
        peer = await node.connect(Addr(*listener.getsockname()))
        peer.transport.pause_reading()  # type: ignore[union-attr]  # so that it is a write that meets the end
        sock, _ = await loop.sock_accept(listener)
        sock.close()
        await _send_until_closed(node, peer, bytes(4096))
        reason = await reason_of(node, peer)
        assert isinstance(reason.exception, ConnectionError)
        assert reason.origin is Origin.WRITING or isinstance(reason.exception, ConnectionResetError)


@both_ways
async def test_a_peer_of_another_node_is_refused(way: str, memory: MemoryNetwork) -> None:
    async with linked(way, Witness(OPEN, memory), Witness(OPEN, memory)) as (peer, _), Witness(OPEN, memory) as other:
        with pytest.raises(UsageError, match="is a peer of"):
            other.send_nowait(peer, b"x")
        with pytest.raises(UsageError, match="is a peer of"):
            await other.send(peer, b"x")
        with pytest.raises(UsageError, match="is a peer of"):
            other.broadcast(b"x", [peer])
        assert not await other.disconnect(peer)


@pytest.mark.parametrize("listen", ["*:0", "*:4000"])
def test_a_star_is_no_address(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0"):
        Node(listen=listen)


@pytest.mark.expects_errors
async def test_start_tls_of_the_writer_never_leaves_messages_in_plaintext(memory: MemoryNetwork) -> None:
    class Upgrading(Polite):
        async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            await writer.start_tls(None)  # type: ignore[arg-type]

    async with Upgrading(CALLER, memory) as node, listening(memory) as listener:
        connecting = asyncio.create_task(node.connect(listener.addr))
        end = StreamEndpoint()
        await (await accept(listener)).open(end)
        with pytest.raises(HandshakeError, match=r"pea2pea\.tls\.start_tls"):
            await connecting
        await end.aclose()


@pytest.mark.parametrize("cause", Cause, ids=lambda cause: cause.name)
def test_a_reason_is_a_sentence(cause: Cause) -> None:
    assert str(DisconnectReason(cause)) == cause.sentence and " " in cause.sentence
    assert str(DisconnectReason(cause, ValueError("bad"))) == f"{cause.sentence}: ValueError: bad"
