"""Both ways: connections for a test that plays its part once as the dialler and once as the listener.

On top of :mod:`support.node`. A test gets either two witnesses, or one that faces an endpoint which speaks bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from pea2pea import DisconnectReason, Origin, Peer
from pea2pea.network import Network
from support import StreamEndpoint, accept, listening
from support.node import Witness, address, changed

E = TypeVar("E", bound=BaseException)

#: A parameter ``way`` that says which end the tested node is.
both_ways = pytest.mark.parametrize("way", ["dialler", "listener"])

#: More than the kernel buffers of both ends take together (Linux: 4 MiB out, 6 MiB in).
MUCH = 16 * 1024 * 1024


def frame(message: bytes) -> bytes:
    """What the codec of a witness makes of ``message``."""
    return len(message).to_bytes(4, "big") + message


def numbered(count: int, size: int = 4) -> list[bytes]:
    """So many messages, each different."""
    return [n.to_bytes(4, "big") * (size // 4) for n in range(count)]


def messages(node: Witness, peer: Peer | None = None) -> list[bytes]:
    """What came to ``node``, from ``peer`` if one is given."""
    return [message for sender, message in node.got.items if peer in (None, sender)]


@asynccontextmanager
async def linked(way: str, tested: Witness, other: Witness) -> AsyncIterator[tuple[Peer, Peer]]:
    """Two open nodes, connected so that ``tested`` is the ``way`` end; yields the peer of each, its own first."""
    async with tested, other:
        caller, called = (tested, other) if way == "dialler" else (other, tested)
        await caller.connect(address(called))
        (theirs,) = await other.met.count(1)
        (ours,) = await tested.met.count(1)
        yield ours, theirs


async def join(way: str, net: Network, node: Witness, end: StreamEndpoint) -> None:
    """Connect ``end`` with the open ``node`` in the direction that ``way`` says of the node."""
    if way == "listener":
        await net.dial(node.listening_addr or pytest.fail("does not listen"), end)
        return
    async with listening(net) as listener:
        connecting = asyncio.create_task(node.connect(listener.addr))
        await (await accept(listener)).open(end)
        await connecting


@asynccontextmanager
async def facing(
    way: str, net: Network, node: Witness, end: StreamEndpoint | None = None
) -> AsyncIterator[tuple[Peer, StreamEndpoint]]:
    """The open ``node``, connected with an endpoint; yields its peer and the endpoint."""
    end = end or StreamEndpoint(keep_open=True)
    async with node:
        before = len(node.met.items)
        await join(way, net, node, end)
        peers = await node.met.count(before + 1)
        try:
            yield peers[before], end
        finally:
            await end.aclose()


def write_buffer_size(peer: Peer) -> int:
    """How many bytes the transport of ``peer`` holds that the system has not accepted."""
    assert peer.transport is not None
    return peer.transport.get_write_buffer_size()


async def reason_of(node: Witness, peer: Peer) -> DisconnectReason:
    """Why ``peer`` left ``node``, as soon as it does."""
    left = await node.left.when(lambda left: any(who is peer for who, _ in left))
    (reason,) = [reason for who, reason in left if who is peer]
    return reason


async def failure_of(node: Witness, peer: Peer, origin: Origin, kind: type[E]) -> E:
    """Wait until ``peer`` leaves ``node``; return the exception in the reason, of that origin and kind."""
    reason = await reason_of(node, peer)
    assert reason.origin is origin
    assert isinstance(reason.exception, kind), reason
    return reason.exception


async def gone(node: Witness, peer: Peer) -> None:
    """Wait until ``peer`` is no longer registered: its teardown is the only task that ``node`` has for it."""
    await node.left.when(lambda left: any(who is peer for who, _ in left))
    while peer in node.peers:
        await changed(node)


async def all_done(tasks: Iterable[asyncio.Task[object]]) -> list[object]:
    """What each task returned or raised."""
    return await asyncio.gather(*tasks, return_exceptions=True)


def counting(call: Callable[..., object]) -> tuple[Callable[..., object], list[object]]:
    """A stand-in for ``call``, and the first argument of each call of it."""
    calls: list[object] = []

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(args[0])
        return call(*args, **kwargs)

    return counted, calls
