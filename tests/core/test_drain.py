"""drain(): nothing that arrived is lost, what was sent leaves, and it ends in time. Half-close, serve_forever()."""

from __future__ import annotations

import asyncio

import pytest

from pea2pea import (
    Cause,
    ConnectionState,
    DialError,
    DisconnectReason,
    LengthDelimited,
    Node,
    NodeClosedError,
    NodeState,
    NotConnectedError,
    OnDisconnect,
    Peer,
    Receiving,
    UsageError,
)
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from support import StreamEndpoint, turns
from support.link import both_ways, facing, frame, join, messages, numbered
from support.node import CALLER, OPEN, Polite, Witness, address, check_idle, pair, witnesses


class Echo(Witness):
    """Answers each message."""

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await super().process_message(peer, message)
        await self.send(peer, message)


@both_ways
async def test_what_arrived_is_processed_and_what_is_sent_leaves(net: Network, way: str) -> None:
    node = Echo(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        node.gates["process_message"].close()
        sent = numbered(300)  # more than the inbox takes, so that reading is paused
        end.transport.write(b"".join(map(frame, sent)))
        await node.gates["process_message"].reached.count(1)
        draining = asyncio.create_task(node.drain())
        await turns(10)
        assert (node.state, peer.state) == (NodeState.DRAINING, ConnectionState.DRAINING)
        assert node.listening_addr is None
        with pytest.raises(NodeClosedError):
            await node.connect("127.0.0.1:1")
        node.gates["process_message"].open()
        await draining
        assert messages(node) == sent
        assert await end.until_data(300 * 8) == b"".join(map(frame, sent))
        assert (await peer.closed()).cause is Cause.SHUTDOWN
        assert node.state is NodeState.CLOSED
        check_idle(node)


async def test_many_peers_are_drained_beside_one_another(net: Network) -> None:
    async with witnesses(net, CALLER, CALLER, CALLER, kind=Witness) as callers, Echo(OPEN, net) as node:
        peers = [await caller.connect(address(node)) for caller in callers]
        await node.met.count(3)
        for caller, peer in zip(callers, peers, strict=True):
            for message in numbered(50):
                await caller.send(peer, message)
            await caller.flush(peer)
        await node.drain()
        for caller in callers:
            await caller.left.count(1)
        assert len(messages(node)) == sum(len(messages(caller)) for caller in callers) == 150


async def test_it_ends_at_its_deadline_and_closes_what_is_left(memory: MemoryNetwork) -> None:
    node = Witness(OPEN, memory)
    async with facing("listener", memory, node) as (peer, end):
        node.gates["process_message"].close()
        end.transport.write(frame(b"never processed"))
        await node.gates["process_message"].reached.count(1)
        began = asyncio.get_running_loop().time()
        await node.drain(7.0)
        assert asyncio.get_running_loop().time() == began + 7.0
        assert not node.got.items
        assert peer.state is ConnectionState.CLOSED


async def test_a_disconnect_meanwhile_is_no_obstacle(memory: MemoryNetwork) -> None:
    node = Witness(OPEN, memory)
    async with facing("listener", memory, node) as (peer, end):
        node.gates["process_message"].close()
        end.transport.write(frame(b"message") * 300)
        await node.gates["process_message"].reached.count(1)
        draining = asyncio.create_task(node.drain())
        await turns(5)
        assert await node.disconnect(peer)
        await draining
        assert (await peer.closed()).cause is Cause.DISCONNECTED
        assert len(node.left.items) == 1


async def test_setups_under_way_end(net: Network) -> None:
    async with Polite(OPEN, net) as called:
        called.gates["handshake"].close()
        async with Polite(CALLER, net) as caller:
            dial = asyncio.create_task(caller.connect(address(called)))
            await called.gates["handshake"].reached.count(1)
            await caller.drain()
            with pytest.raises(NodeClosedError):
                await dial
        called.gates["handshake"].open()


async def test_it_is_refused_in_a_hook_and_may_be_called_at_any_time(memory: MemoryNetwork) -> None:
    refused: list[UsageError] = []

    class Draining(Witness):
        async def process_message(self, peer: Peer, message: bytes) -> None:
            with pytest.raises(UsageError, match="create_task") as error:
                await self.drain()
            refused.append(error.value)
            await super().process_message(peer, message)

    async with pair(memory) as (caller, _, _, _), Draining(OPEN, memory) as node:
        await caller.send(await caller.connect(address(node)), b"now")
        await node.got.count(1)
        assert refused
        assert node.listening_addr is not None
        await asyncio.gather(node.drain(), node.drain())
        await node.drain()
        assert node.state is NodeState.CLOSED
    await Witness(OPEN, memory).drain()  # never opened


async def test_messages_that_wait_to_be_pulled_can_be_pulled_while_it_drains(memory: MemoryNetwork) -> None:
    class Puller(Node, Receiving[bytes], OnDisconnect):
        codec = LengthDelimited()

        async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None: ...

    async with Puller(**OPEN, network=memory) as node:
        end = StreamEndpoint(keep_open=True)
        await join("listener", memory, node, end)  # type: ignore[arg-type]
        await turns(5)
        (peer,) = node.peers
        end.transport.write(b"".join(map(frame, numbered(3))))
        await turns(5)
        draining = asyncio.create_task(node.drain())
        await turns(10)
        assert not draining.done()
        assert [message async for message in node.messages(peer)] == numbered(3)
        await draining
        await end.aclose()


# Half-close


@both_ways
async def test_half_close_writes_what_is_queued_and_still_receives(net: Network, way: str) -> None:
    node = Witness(OPEN, net)
    async with facing(way, net, node) as (peer, end):
        node.send_nowait(peer, b"last")
        await node.end_stream(peer)
        await end.events.has("eof")
        assert bytes(end.data) == frame(b"last")
        for send in (node.send, node.send_nowait):
            with pytest.raises(UsageError, match="end_stream"):
                result = send(peer, b"more")
                if result is not None:
                    await result
        end.transport.write(frame(b"answer"))
        await node.got.count(1)
        assert messages(node) == [b"answer"]
        await node.end_stream(peer)  # twice does nothing
        end.transport.write_eof()
        assert (await peer.closed()).cause is Cause.PEER_CLOSED


async def test_half_close_of_a_peer_that_is_gone_is_refused(net: Network) -> None:
    async with pair(net) as (caller, _, there, _):
        await caller.disconnect(there)
        with pytest.raises(NotConnectedError) as error:
            await caller.end_stream(there)
        assert error.value.reason is there.reason


# serve_forever


async def test_serve_forever_listens_until_it_is_cancelled(net: Network) -> None:
    node = Witness(OPEN, net)
    serving = asyncio.create_task(node.serve_forever())
    while node.listening_addr is None:
        await turns(1)
    addr = node.address
    async with Witness(CALLER, net) as caller:
        peer = await caller.connect(addr)
        await node.met.count(1)
        serving.cancel()
        await asyncio.wait([serving])
        assert serving.cancelled()
        assert node.state is NodeState.CLOSED
        await peer.closed()
        with pytest.raises(DialError):
            await caller.connect(addr)


@pytest.mark.parametrize("how", ["aclose", "drain"])
async def test_serve_forever_returns_when_the_node_is_closed(net: Network, how: str) -> None:
    node = Witness(OPEN, net)
    serving = asyncio.create_task(node.serve_forever())
    while node.listening_addr is None:
        await turns(1)
    await getattr(node, how)()
    await serving
    assert node.state is NodeState.CLOSED
