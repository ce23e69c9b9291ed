"""Receiving: messages that are pulled, their bounds, and how the iteration ends."""

from __future__ import annotations

import asyncio

import pytest

from pea2pea import (
    Cause,
    IncompleteFrameError,
    LengthDelimited,
    Node,
    NotConnectedError,
    NotEnabledError,
    OnConnect,
    Peer,
    Receiving,
    Settings,
    UsageError,
    Writing,
)
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from support import Recorder, StreamEndpoint, turns
from support.link import both_ways, frame, join, numbered
from support.node import CALLER, OPEN, Witness, address


class Puller(Node, Receiving[bytes], Writing[bytes], OnConnect):
    """Pulls; ``met`` has its peers."""

    codec = LengthDelimited()
    read_queue_depth = 3

    def __init__(self, config: Settings = OPEN, network: Network | None = None) -> None:
        super().__init__(**config, network=network)
        self.met: Recorder[Peer] = Recorder()

    async def on_connect(self, peer: Peer) -> None:
        self.met.add(peer)


async def met(way: str, net: Network, node: Puller, end: StreamEndpoint) -> Peer:
    """Connect ``end`` with ``node``."""
    await join(way, net, node, end)  # type: ignore[arg-type]  # as much of a witness as it needs
    (peer,) = await node.met.count(1)
    return peer


@both_ways
async def test_messages_are_pulled_in_order_whether_they_wait_or_are_waited_for(net: Network, way: str) -> None:
    end = StreamEndpoint(keep_open=True)
    async with Puller(OPEN, net) as node:
        peer = await met(way, net, node, end)
        waiting = asyncio.create_task(node.receive(peer))
        await turns(2)
        end.transport.write(b"".join(map(frame, numbered(3))))
        assert [await waiting, await node.receive(peer), await node.receive(peer)] == numbered(3)
        assert peer.stats.messages_received == 3
    await end.aclose()


async def test_replies_can_be_sent_to_what_is_pulled(net: Network) -> None:
    async with Puller(CALLER, net) as caller, Witness(OPEN, net) as called, caller.connect(address(called)) as peer:
        (here,) = await called.met.count(1)
        await called.send(here, b"question")
        await caller.send(peer, b"answer to " + await caller.receive(peer))
        await called.got.count(1)
        assert called.got.items == [(here, b"answer to question")]


async def test_a_full_queue_pauses_reading_until_it_is_pulled(memory: MemoryNetwork) -> None:
    async with Puller(OPEN, memory) as node:
        end = StreamEndpoint(keep_open=True)
        peer = await met("listener", memory, node, end)
        for message in numbered(9):
            end.transport.write(frame(message))
            await turns(5)
        assert peer.stats.messages_received == peer.read_queue_size == 3, "the rest is left with the system"
        assert [await node.receive(peer) for _ in range(9)] == numbered(9)
        await end.aclose()


async def test_a_cancelled_receive_takes_nothing(net: Network) -> None:
    end = StreamEndpoint(keep_open=True)
    async with Puller(OPEN, net) as node:
        peer = await met("listener", net, node, end)
        waiting = asyncio.create_task(node.receive(peer))
        await turns(2)
        waiting.cancel()
        await asyncio.wait([waiting])
        end.transport.write(frame(b"kept"))
        assert await node.receive(peer) == b"kept"
    await end.aclose()


async def test_only_one_task_receives_from_a_peer(net: Network) -> None:
    end = StreamEndpoint(keep_open=True)
    async with Puller(OPEN, net) as node:
        peer = await met("listener", net, node, end)
        waiting = asyncio.create_task(node.receive(peer))
        await turns(2)
        with pytest.raises(UsageError, match="already receiving"):
            await node.receive(peer)
        end.transport.write(frame(b"mine"))
        assert await waiting == b"mine"
    await end.aclose()


@both_ways
async def test_an_orderly_close_ends_the_iteration_after_the_last_message(net: Network, way: str) -> None:
    end = StreamEndpoint(keep_open=True)
    async with Puller(OPEN, net) as node:
        peer = await met(way, net, node, end)
        end.transport.write(b"".join(map(frame, numbered(3))))
        end.transport.write_eof()
        assert [message async for message in node.messages(peer)] == numbered(3)
        assert (await peer.closed()).cause is Cause.PEER_CLOSED
        with pytest.raises(NotConnectedError) as error:
            await node.receive(peer)
        assert error.value.reason is peer.reason
    await end.aclose()


async def test_what_was_received_before_a_reset_is_pulled_and_then_the_iteration_raises(memory: MemoryNetwork) -> None:
    async with Puller(OPEN, memory) as node:
        end = StreamEndpoint(keep_open=True)
        peer = await met("listener", memory, node, end)
        end.transport.write(b"".join(map(frame, numbered(2))))
        await turns(5)
        await end.aclose()
        assert (await peer.closed()).cause is Cause.READ_FAILED
        got = []
        with pytest.raises(NotConnectedError) as error:
            async for message in node.messages(peer):
                got.append(message)  # noqa: PERF401  # what came before the error counts
        assert got == numbered(2)
        assert isinstance(error.value.__cause__, ConnectionResetError)


async def test_a_stream_that_ends_inside_a_frame_raises(net: Network) -> None:
    end = StreamEndpoint(keep_open=True)
    async with Puller(OPEN, net) as node:
        peer = await met("listener", net, node, end)
        end.transport.write(frame(b"whole") + b"\0\0")
        end.transport.write_eof()
        assert await node.receive(peer) == b"whole"
        with pytest.raises(NotConnectedError) as error:
            await node.receive(peer)
        assert isinstance(error.value.__cause__, IncompleteFrameError)
    await end.aclose()


async def test_a_receiver_that_waits_gets_the_reason_when_its_own_node_disconnects(net: Network) -> None:
    end = StreamEndpoint(keep_open=True)
    async with Puller(OPEN, net) as node:
        peer = await met("listener", net, node, end)
        waiting = asyncio.create_task(node.receive(peer))
        await turns(2)
        await node.disconnect(peer)
        with pytest.raises(NotConnectedError) as error:
            await waiting
        assert error.value.reason is not None
        assert error.value.reason.cause is Cause.DISCONNECTED
    await end.aclose()


async def test_a_silent_peer_is_disconnected(memory: MemoryNetwork) -> None:
    class Hasty(Puller):
        idle_timeout = 5.0

    async with Hasty(OPEN, memory) as node:
        end = StreamEndpoint(keep_open=True)
        peer = await met("listener", memory, node, end)
        with pytest.raises(NotConnectedError, match="idle_timeout"):
            await node.receive(peer)
        assert asyncio.get_running_loop().time() == 5.0
        assert node.heuristics.idle_timeouts == 1
        await end.aclose()


async def test_without_the_protocol_receiving_is_refused(memory: MemoryNetwork) -> None:
    node = Puller(OPEN, memory)
    node.enable(Writing, OnConnect)
    await node.start_listening()
    end = StreamEndpoint(keep_open=True)
    peer = await met("listener", memory, node, end)
    with pytest.raises(NotEnabledError):
        await node.receive(peer)
    await node.aclose()
    await end.aclose()
