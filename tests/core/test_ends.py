"""How a connection ends, as its user sees it: ``closed()``, the reason, its cause, and what sending says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from pea2pea import (
    Cause,
    ConnectionState,
    DisconnectReason,
    EncodeError,
    NotConnectedError,
    Party,
    Peer,
    UsageError,
)
from pea2pea.codec import Decoder, LengthDelimited
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from support import StreamEndpoint, turns
from support.link import both_ways, facing, frame
from support.node import CALLER, OPEN, Witness, address, logged, pair


@both_ways
async def test_closed_returns_the_reason_to_everyone_who_waits_after_the_last_hook(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    node.gates["on_disconnect"].close()
    async with facing(way, net, node) as (peer, _):
        waiting = [asyncio.create_task(peer.closed()) for _ in range(3)]
        ending = asyncio.create_task(node.disconnect(peer))
        await node.gates["on_disconnect"].reached.count(1)
        await turns(5)
        assert not any(waiter.done() for waiter in waiting), "its last hook runs"
        assert repr(peer).endswith(", closing>")
        waiting[0].cancel()
        node.gates["on_disconnect"].open()
        reasons = [await waiting[1], await waiting[2], await peer.closed()]
        assert await ending
        assert reasons == [peer.reason] * 3 == [node.left.items[0][1]] * 3
        assert peer.state is ConnectionState.CLOSED
        assert peer.transport is None


class Own(Decoder[bytes]):
    """Raises what is not a CodecError: a mistake of its own."""

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        raise KeyError("on purpose")


class Fragile(Witness):
    write_timeout = 1.0
    idle_timeout: float | None = None
    mistaken = False

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return Own() if self.mistaken else super().decoder(peer)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        if message == b"raise":
            raise FileNotFoundError("of the user's own")
        await super().process_message(peer, message)


class Silent(Fragile):
    idle_timeout = 1.0


class Broken(Fragile):
    async def on_connect(self, peer: Peer) -> None:
        await super().on_connect(peer)
        await self.gates["on_connect"].passed(peer)
        raise OSError("of the user's own")


End = Callable[[Witness, Peer, StreamEndpoint], Awaitable[object]]


async def disconnect(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    await node.disconnect(peer)


async def close_node(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    await node.aclose()


async def nothing(node: Witness, peer: Peer, end: StreamEndpoint) -> None: ...


async def peer_closes(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.write(frame(b"hello"))
    end.transport.close()


async def peer_refuses(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.close()


async def reset(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.abort()


async def send_text(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    await node.send(peer, "text")  # type: ignore[arg-type]


async def stall(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
    end.transport.pause_reading()
    await node.send(peer, bytes(1 << 21))


def says(data: bytes) -> End:
    async def say(node: Witness, peer: Peer, end: StreamEndpoint) -> None:
        end.transport.write(data)

    return say


def evict(cause: Cause) -> End:
    async def end(node: Witness, peer: Peer, _: StreamEndpoint) -> None:
        assert node.end(peer, DisconnectReason(cause))
        assert not node.end(peer, DisconnectReason(Cause.DISCONNECTED)), "the first reason counts"

    return end


ENDS: dict[Cause, tuple[End, type[Fragile], type[BaseException] | None, int]] = {
    Cause.DISCONNECTED: (disconnect, Fragile, None, 0),
    Cause.REPLACED: (evict(Cause.REPLACED), Fragile, None, 0),
    Cause.EVICTED: (evict(Cause.EVICTED), Fragile, None, 0),
    Cause.SHUTDOWN: (close_node, Fragile, None, 0),
    Cause.PROCESSING_FAILED: (says(frame(b"raise")), Fragile, FileNotFoundError, 1),
    Cause.DECODER_FAILED: (says(b"anything"), Fragile, KeyError, 1),
    Cause.ENCODER_FAILED: (send_text, Fragile, Exception, 1),
    Cause.ON_CONNECT_FAILED: (nothing, Broken, OSError, 1),
    Cause.PEER_CLOSED: (peer_closes, Fragile, None, 0),
    Cause.PEER_REFUSED: (peer_refuses, Fragile, None, 0),
    Cause.BAD_DATA: (says(b"\xff" * 4), Fragile, ValueError, 0),
    Cause.IDLE: (nothing, Silent, TimeoutError, 0),
    Cause.TOO_SLOW: (stall, Fragile, TimeoutError, 0),
    Cause.READ_FAILED: (reset, Fragile, ConnectionResetError, 0),
}


def test_every_cause_is_tested_here() -> None:
    assert {*ENDS, Cause.WRITE_FAILED} == {*Cause}  # the last one below


@pytest.mark.expects_errors
@pytest.mark.parametrize("cause", ENDS, ids=lambda cause: cause.name)
async def test_a_reason_tells_whose_doing_it_was_and_only_the_users_is_an_error(
    memory: MemoryNetwork, cause: Cause
) -> None:
    act, kind, exception, errors = ENDS[cause]
    node = kind(OPEN, memory)
    node.mistaken = cause is Cause.DECODER_FAILED
    with logged() as lines:
        async with facing("dialler", memory, node) as (peer, end):
            await act(node, peer, end)
            reason = await peer.closed()
    assert reason.cause is cause
    assert isinstance(reason.exception, exception) if exception else reason.exception is None
    assert str(reason).startswith(cause.sentence)
    assert node.heuristics.ended == {cause: 1}
    raised = [line for line in lines.items if line.levelname == "ERROR"]
    assert len(raised) == errors == (reason.party is Party.CODE)
    assert all(line.exc_info and line.exc_info[1] is reason.exception for line in raised)
    assert not any(line.exc_info for line in lines.items if line not in raised)
    # Every later verb tells the same reason.
    with pytest.raises(NotConnectedError) as error:
        await node.send(peer, b"late")
    assert error.value.reason is reason
    assert error.value.__cause__ is reason.exception


async def test_a_peer_that_said_something_and_one_that_dialled_did_not_refuse(memory: MemoryNetwork) -> None:
    node = Witness(OPEN, memory)
    async with facing("listener", memory, node) as (peer, end):
        end.transport.close()
        assert (await peer.closed()).cause is Cause.PEER_CLOSED


async def test_a_peer_that_is_leaving_cannot_be_sent_to_except_from_its_own_hook(net: Network) -> None:
    class Late(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            await self.send(peer, b"goodbye")
            await asyncio.create_task(self.send(peer, b"and thanks"))
            await self.flush(peer)
            await super().on_disconnect(peer, reason)

    async with Late(CALLER, net) as caller, Witness(OPEN, net) as called:
        caller.gates["on_disconnect"].close()
        peer = await caller.connect(address(called))
        ending = asyncio.create_task(caller.disconnect(peer))
        await caller.gates["on_disconnect"].reached.count(1)
        for verb in (caller.send_nowait, caller.send):
            with pytest.raises(NotConnectedError) as error:
                result = verb(peer, b"too late")
                if result is not None:
                    await result
            assert error.value.reason is peer.reason
        errors = caller.broadcast(b"too late")
        assert [type(error) for error in errors.values()] == [NotConnectedError]
        caller.gates["on_disconnect"].open()
        await ending
        await called.left.count(1)
        assert [message for _, message in called.got.items] == [b"goodbye", b"and thanks"]


async def test_another_peers_hook_is_not_an_exception(memory: MemoryNetwork) -> None:
    refused: list[BaseException] = []

    class Meddling(Witness):
        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
            for other in self.peers:
                try:
                    self.send_nowait(other, b"from another's hook")
                except NotConnectedError as error:
                    refused.append(error)
            await super().on_disconnect(peer, reason)

    async with Meddling(CALLER, memory) as caller, Witness(OPEN, memory) as one, Witness(OPEN, memory) as two:
        for node in (one, two):
            await caller.connect(address(node))
        await caller.aclose()
        assert len(refused) == 2, "each may send to its own peer only"


async def test_a_peer_of_another_node_is_refused(net: Network) -> None:
    async with pair(net) as (caller, called, there, here):
        with pytest.raises(UsageError, match="is a peer of"):
            called.send_nowait(there, b"message")
        with pytest.raises(UsageError, match="is a peer of"):
            await called.send(there, b"message")
        caller.send_nowait(there, b"right")
        await called.got.count(1)
        assert called.got.items == [(here, b"right")]


@pytest.mark.expects_errors
async def test_a_message_that_cannot_be_encoded_is_logged_and_a_later_send_raises_the_cause(net: Network) -> None:
    async with pair(net) as (caller, called, there, _):
        with logged() as lines:
            caller.send_nowait(there, "text")  # type: ignore[arg-type]
            with pytest.raises(NotConnectedError) as error:
                await caller.flush(there)
        assert isinstance(error.value.__cause__, EncodeError)
        (line,) = [line for line in lines.items if line.levelname == "ERROR"]
        assert "cannot be encoded" in line.getMessage() and str(there.addr) in line.getMessage()
        assert (await there.closed()).cause is Cause.ENCODER_FAILED
        await called.left.count(1)
        assert not called.got.items


async def test_a_broadcast_that_cannot_be_encoded_is_the_error_of_each_and_ends_no_connection(net: Network) -> None:
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as one, Witness(OPEN, net) as two:
        peers = [await caller.connect(address(node)) for node in (one, two)]
        errors = caller.broadcast("text")  # type: ignore[arg-type]
        assert {peer: type(error) for peer, error in errors.items()} == dict.fromkeys(peers, EncodeError)
        assert caller.peers == peers


@pytest.mark.parametrize("net_kind", ["tcp", "tcp-uvloop"], indirect=True)  # memory reports it while reading
async def test_a_write_to_a_connection_that_broke_is_a_failure_of_writing(net: Network) -> None:
    class Deaf(Witness):
        codec = LengthDelimited()

    node = Deaf(OPEN, net)
    node.gates["process_message"].close()
    node.read_queue_depth = 1
    async with facing("listener", net, node) as (peer, end):
        end.transport.write(frame(b"one") * 3)  # the inbox is full, so nothing is read and no reset is seen
        await node.gates["process_message"].reached.count(1)
        while peer.read_queue_size == 0:
            await turns(1)
        end.transport.abort()
        await end.events.has("lost")
        try:
            while True:
                await node.send(peer, bytes(1 << 16))
                await node.flush(peer)
        except NotConnectedError:
            pass
        node.gates["process_message"].open()
        reason = await peer.closed()
        assert reason.cause is Cause.WRITE_FAILED
        assert isinstance(reason.exception, ConnectionError)
