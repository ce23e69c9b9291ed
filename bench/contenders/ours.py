"""pea2pea itself, through its public names, with statistics, limits and an idle timeout."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pea2pea import (
    Decoder,
    Encoder,
    Handshake,
    LengthDelimited,
    Node,
    NotConnectedError,
    Peer,
    QueueFullError,
    Reading,
    Topology,
    Writing,
    connect_nodes,
)

from ..job import Job, Line, Meter, Result, latencies
from .base import LOOPBACK, AsyncContender

CODEC = LengthDelimited()
HELLO = b"hello"
#: A number of connections above that of any measurement.
MANY = 20_000
#: Bytes that may be queued for writing; as a number of messages it stays within these bounds.
QUEUED_BYTES = 256 * 1024
LEAST_QUEUED, MOST_QUEUED = 16, 8192


class Both(Node, Reading[bytes], Writing[bytes]):
    """Reads and writes. Subclasses process the messages."""

    read_queue_depth = 16_384
    write_queue_depth = MOST_QUEUED
    idle_timeout: float | None = 60.0

    def __init__(self, *, listen: bool = False) -> None:
        super().__init__(
            listen=f"{LOOPBACK}:0" if listen else None,
            backlog=4096,
            max_connections=MANY,
            max_connecting=MANY,
            max_connections_per_ip=MANY,
        )

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return CODEC

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return CODEC

    async def process_message(self, peer: Peer, message: bytes) -> None:
        """Do nothing: a node that only sends receives nothing."""


class Sink(Both):
    """Counts the messages it receives."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(listen=True)
        self.meter = meter

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        self.meter.connected()  # called once per connection, when it opens
        return CODEC

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.meter.count += 1


class ShakingSink(Sink, Handshake):
    """A sink with a handshake, and the default idle timeout."""

    idle_timeout = None

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(len(HELLO)))


class Echo(Both):
    """Sends each message back."""

    def __init__(self) -> None:
        super().__init__(listen=True)
        self.over = asyncio.Event()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.send_nowait(peer, message)


class Pinger(Both):
    """Sends the next ping when the last one is answered."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.times: list[int] = []
        self.over = asyncio.Event()
        self._message = job.message
        self._count = job.count
        self._until = job.until * 1e9
        self._began = 0

    def start(self, peer: Peer) -> None:
        self._began = time.perf_counter_ns()
        self.send_nowait(peer, self._message)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        now = time.perf_counter_ns()
        self.times.append(now - self._began)
        if now > self._until or len(self.times) >= self._count:
            self.over.set()
        else:
            self._began = time.perf_counter_ns()
            self.send_nowait(peer, self._message)


class Acceptor(Both):
    """Counts opened connections."""

    def __init__(self) -> None:
        super().__init__(listen=True)
        self.opened = 0

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        self.opened += 1
        return CODEC


class Relay(Both):
    """Passes each message on to the next node; the last node reports its arrival."""

    def __init__(self) -> None:
        super().__init__(listen=True)
        self.next: Peer | None = None
        self.arrived = asyncio.Event()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        if self.next is None:
            self.arrived.set()
        else:
            self.send_nowait(self.next, message)


class Party(AsyncContender):
    """Runs nodes of pea2pea."""

    def handshake_bytes(self, job: Job) -> tuple[bytes, bytes]:
        return (HELLO, HELLO) if job.handshake else (b"", b"")

    async def sink(self, job: Job, line: Line) -> Result:
        meter = Meter(job)
        async with (ShakingSink if job.handshake else Sink)(meter) as node:
            _tell_port(node, line)
            return await meter.result()

    async def source(self, job: Job, line: Line) -> Result:
        # A node has only one connection with an address, so each sender is a node of its own.
        kind = _with_depth(job.size)
        nodes = [kind() for _ in range(job.connections)]
        try:
            for node in nodes:
                await node.__aenter__()
            peers = [await node.connect((LOOPBACK, job.port)) for node in nodes]
            await asyncio.gather(*(_pour(node, peer, job) for node, peer in zip(nodes, peers, strict=True)))
        finally:
            for node in nodes:
                await node.aclose()
        return {}

    async def echo(self, job: Job, line: Line) -> Result:
        async with Echo() as node:
            _tell_port(node, line)
            await asyncio.get_running_loop().run_in_executor(None, line.hear)
        return {}

    async def ping(self, job: Job, line: Line) -> Result:
        async with Pinger(job) as node:
            node.start(await node.connect((LOOPBACK, job.port)))
            await node.over.wait()
            return latencies(node.times)

    async def accept(self, job: Job, line: Line) -> Result:
        async with Acceptor() as node:
            _tell_port(node, line)
            expected = (await asyncio.get_running_loop().run_in_executor(None, line.hear))["expected"]
            # Only a hook reports when a peer has left, and its cost is not part of this work.
            while node.opened < expected or node.num_connected:  # noqa: ASYNC110
                await asyncio.sleep(0)
            return {"ended_at": time.perf_counter(), "seen": node.opened}

    async def dial(self, job: Job, line: Line) -> Result:
        done = 0
        async with Both() as node:
            until, start = job.until, time.perf_counter()
            while done < job.count and time.perf_counter() < until:
                await node.disconnect(await node.connect((LOOPBACK, job.port)))
                done += 1
            return {"started_at": start, "ended_at": time.perf_counter(), "done": done}

    async def chain(self, job: Job, line: Line) -> Result:
        nodes = [Relay() for _ in range(job.nodes)]
        try:
            for node in nodes:
                await node.__aenter__()
            await connect_nodes(nodes, Topology.LINE)
            for node in nodes:
                node.next = next((peer for peer in node.peers if not peer.inbound), None)
            return latencies(await _traverse(job, nodes))
        finally:
            for node in nodes:
                await node.aclose()

    async def life(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            async with Both(listen=True):
                pass
            done += 1
        return {"per_second": done / (time.perf_counter() - start)}


async def _pour(node: Both, peer: Peer, job: Job) -> None:
    """Fill the queue without waiting, then wait for space: one task switch per batch."""
    send, message, until = node.send_nowait, job.message, job.until
    batch = range(node.write_queue_depth)
    try:
        while time.perf_counter() < until:
            try:
                for _ in batch:
                    send(peer, message)
            except QueueFullError:
                await node.send(peer, message)
    except NotConnectedError:
        pass  # the other side has finished, and closed


def _with_depth(size: int) -> type[Both]:
    depth = max(LEAST_QUEUED, min(MOST_QUEUED, QUEUED_BYTES // (size + 4)))
    kind: type[Both] = type("Source", (Both,), {"write_queue_depth": depth})
    return kind


async def _traverse(job: Job, nodes: list[Relay]) -> list[int]:
    first, last, message = nodes[0], nodes[-1], job.message
    assert first.next is not None
    times: list[int] = []
    until = job.until * 1e9
    while (start := time.perf_counter_ns()) < until and len(times) < job.count:
        last.arrived.clear()
        first.send_nowait(first.next, message)
        await last.arrived.wait()
        times.append((time.perf_counter_ns() - start) // (len(nodes) - 1))
    return times


def _tell_port(node: Node, line: Line) -> None:
    addr: Any = node.listening_addr
    line.tell(port=addr.port)
