"""The hot paths. Each is run twice, the second time twice as long. ``check.py`` runs this under callgrind.

Each run has a mark before and after it: a call of ``getppid``, which nothing else makes, and at which callgrind writes
the instructions since the last mark. Nothing here reads a clock, opens a socket or depends on hash order.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from pea2pea import (
    Decoder,
    Delimited,
    Encoder,
    LengthDelimited,
    MemoryNetwork,
    Node,
    Peer,
    Reading,
    Settings,
    VarintDelimited,
    Writing,
)

#: Units of the short run of each path. The long run has twice as many.
MESSAGES = 2000
ROUND_TRIPS = 200
CONNECTIONS = 20
BROADCASTS = 50
PEERS = 20
SMALL, MIDDLE = bytes(16), bytes(4096)
LENGTHS = LengthDelimited()
CODECS: dict[str, Any] = {"lengths": LENGTHS, "varints": VarintDelimited(), "lines": Delimited()}

#: Does so many units of work. Setup and cleanup are not counted.
Path = Callable[[int], Awaitable[None]]


class Quiet(Node, Reading[bytes], Writing[bytes]):
    """Counts received messages, and sets ``over`` when there are ``wanted``."""

    read_queue_depth = 100_000
    write_queue_depth = 100_000
    echoes = False

    def __init__(self, network: MemoryNetwork, *, listen: bool = False) -> None:
        config = Settings(
            listen="127.0.0.1:0" if listen else None,
            max_connections=1000,
            max_connecting=1000,
            max_connections_per_ip=1000,
        )
        super().__init__(**config, network=network)
        self.count = 0
        self.wanted = 0
        self.over = asyncio.Event()

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LENGTHS

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LENGTHS

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.count += 1
        if self.echoes:
            self.send_nowait(peer, message)
        if self.count == self.wanted:
            self.over.set()

    async def get(self, wanted: int) -> None:
        """Wait until ``wanted`` more messages have been received."""
        self.over.clear()
        self.wanted = self.count + wanted
        await self.over.wait()


class Echo(Quiet):
    """Sends each message back."""

    echoes = True


class Pinger(Quiet):
    """Sends a message for each received one, until there are ``wanted``."""

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.count += 1
        if self.count < self.wanted:
            self.send_nowait(peer, message)
        else:
            self.over.set()


def mark() -> None:
    """Let callgrind write the instructions since the last mark."""
    os.getppid()


async def measure(name: str, units: int, path: Path, after: Path | None = None) -> None:
    """Run ``path`` short and long, between marks; before that once unmarked, so that caches are filled."""
    print(name, units, flush=True)
    await path(units)
    if after is not None:
        await after(units)
    for count in (units, 2 * units):
        gc.collect()
        mark()
        await path(count)
        mark()
        if after is not None:
            await after(count)


@asynccontextmanager
async def connected(server: type[Quiet], client: type[Quiet]) -> AsyncIterator[tuple[Quiet, Quiet, Peer]]:
    network = MemoryNetwork(capacity=1 << 24)
    async with server(network, listen=True) as listening, client(network) as dialling:
        assert listening.listening_addr is not None
        yield listening, dialling, await dialling.connect(listening.listening_addr)


async def codecs() -> None:
    """Encoding and decoding of batches of a hundred."""
    for name, codec in CODECS.items():
        for size, message in (("16", SMALL), ("4096", MIDDLE)):
            plain = message.replace(b"\n", b" ")
            batch = [plain] * 100
            wire = memoryview(b"".join(codec.encode(batch)))

            async def encode(count: int, codec: Any = codec, batch: list[bytes] = batch) -> None:
                for _ in range(count // 100):
                    codec.encode(batch)

            async def decode(count: int, codec: Any = codec, wire: memoryview = wire) -> None:
                for _ in range(count // 100):
                    codec.decode(wire)

            await measure(f"encode, {name}, {size} bytes", MESSAGES, encode)
            await measure(f"decode, {name}, {size} bytes", MESSAGES, decode)


async def sending() -> None:
    """The cost of sending for the caller, and the cost until the message is processed."""
    async with connected(Quiet, Quiet) as (server, client, peer):

        async def send_nowait(count: int) -> None:
            send = client.send_nowait
            for _ in range(count):
                send(peer, SMALL)

        async def send(count: int) -> None:
            for _ in range(count):
                await client.send(peer, SMALL)

        async def get(count: int) -> None:
            await server.get(count)

        async def whole(count: int) -> None:
            await send_nowait(count)
            await server.get(count)

        await measure("send_nowait, 16 bytes", MESSAGES, send_nowait, get)
        await measure("send, 16 bytes", MESSAGES, send, get)
        await measure("send_nowait to process_message, 16 bytes", MESSAGES, whole)


class Writer(asyncio.Protocol):
    """A side of a connection without a node."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


async def delivering() -> None:
    """From received bytes to process_message."""
    network = MemoryNetwork(capacity=1 << 24)
    async with Quiet(network, listen=True) as server:
        assert server.listening_addr is not None
        writer = Writer()
        await network.dial(server.listening_addr, writer)
        for size, message in (("16", SMALL), ("4096", MIDDLE)):
            frame = len(message).to_bytes(4, "big") + message

            async def deliver(count: int, frame: bytes = frame) -> None:
                for _ in range(count // 100):
                    writer.transport.write(frame * 100)
                await server.get(count)

            await measure(f"deliver to process_message, {size} bytes", MESSAGES, deliver)
        writer.transport.close()
        while server.num_connected:  # noqa: ASYNC110 - iterations of the loop are all there is to wait for
            await asyncio.sleep(0)


async def round_trips() -> None:
    async with connected(Echo, Pinger) as (_, client, peer):

        async def ping(count: int) -> None:
            client.send_nowait(peer, SMALL)
            await client.get(count)

        await measure("round trip, 16 bytes", ROUND_TRIPS, ping)


async def connecting() -> None:
    network = MemoryNetwork()
    async with Quiet(network, listen=True) as server, Quiet(network) as client:
        addr = server.listening_addr
        assert addr is not None

        async def connect(count: int) -> None:
            for _ in range(count):
                await client.disconnect(await client.connect(addr))
            while server.num_connected:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)

        await measure("connect and disconnect", CONNECTIONS, connect)


async def broadcasting() -> None:
    network = MemoryNetwork(capacity=1 << 24)
    async with Quiet(network, listen=True) as server:
        assert server.listening_addr is not None
        clients = [Quiet(network) for _ in range(PEERS)]
        for client in clients:
            await client.__aenter__()
            await client.connect(server.listening_addr)
        while server.num_connected < PEERS:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)

        async def broadcast(count: int) -> None:
            for _ in range(count):
                server.broadcast(SMALL)

        async def get(count: int) -> None:
            await asyncio.gather(*(client.get(count) for client in clients))

        await measure(f"broadcast to {PEERS} peers, 16 bytes", BROADCASTS, broadcast, get)
        for client in clients:
            await client.aclose()


async def main() -> None:
    """Run all paths, in this order: the marks have no names."""
    gc.disable()
    parts: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (
        codecs, sending, delivering, round_trips, connecting, broadcasting,
    )
    for part in parts:
        await part()


if __name__ == "__main__":
    asyncio.run(main())
