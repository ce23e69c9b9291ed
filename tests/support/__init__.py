"""What tests of connections share: protocols that write down what happens, and ways to make connections.

Nothing here sleeps or polls: a :class:`Recorder` is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar, cast

from pea2pea.addr import Addr
from pea2pea.network import Incoming, Listener, Network

T = TypeVar("T")

#: Any free port of the loopback interface.
LOOPBACK = Addr("127.0.0.1", 0)


class Recorder(Generic[T]):
    """A list of what happened, in order, that can be awaited."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._waiters: list[asyncio.Future[None]] = []

    def add(self, item: T) -> None:
        self.items.append(item)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def when(self, condition: Callable[[list[T]], object]) -> list[T]:
        """Return the items as soon as ``condition`` of them holds."""
        while not condition(self.items):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return self.items

    async def count(self, count: int) -> list[T]:
        """Return the items as soon as there are ``count``."""
        return await self.when(lambda items: len(items) >= count)

    async def has(self, item: T) -> None:
        """Return as soon as ``item`` is among the items."""
        await self.when(lambda items: item in items)


class Endpoint:
    """One end of a connection as a test sees it: what it was told, in order, and the bytes that came.

    ``keep_open`` is what ``eof_received`` answers; ``on_made`` is called with the transport.
    """

    transport: asyncio.Transport

    def __init__(self, *, keep_open: bool = False, on_made: Callable[[asyncio.Transport], None] | None = None) -> None:
        self.events: Recorder[str] = Recorder()
        self.data = bytearray()
        self.keep_open = keep_open
        self.on_made = on_made
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has the methods but not the base
        self.events.add("made")
        if self.on_made is not None:
            self.on_made(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.events.add("lost")

    def eof_received(self) -> bool:
        self.events.add("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.events.add("pause")

    def resume_writing(self) -> None:
        self.events.add("resume")

    def got(self, data: bytes | memoryview) -> None:
        self.data += data
        self.events.add("data")

    async def until_data(self, size: int) -> bytes:
        """Return what came as soon as it is ``size`` bytes or more."""
        await self.events.when(lambda _: len(self.data) >= size)
        return bytes(self.data)

    async def aclose(self) -> None:
        """Close at once, and wait until that is done."""
        if "lost" not in self.events.items:  # aborting after that is an AttributeError in asyncio, up to 3.12 at least
            self.transport.abort()
        await self.events.has("lost")


class StreamEndpoint(Endpoint, asyncio.Protocol):
    """An endpoint that is handed its bytes."""

    def data_received(self, data: bytes) -> None:
        self.got(data)


class BufferedEndpoint(Endpoint, asyncio.BufferedProtocol):
    """An endpoint that receives into a buffer of its own."""

    buffer = bytearray(4096)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.got(memoryview(self.buffer)[:nbytes])


AnyEndpoint = StreamEndpoint | BufferedEndpoint


async def turns(count: int = 10) -> None:
    """Let what is ready run, for ``count`` turns of the loop. To show that something does not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def accept(listener: Listener) -> Incoming:
    """Wait for one incoming connection."""
    while (incoming := listener.accept()) is None:
        await listener.ready()
    return incoming


@asynccontextmanager
async def listening(
    net: Network, addr: Addr = LOOPBACK, *, backlog: int = 16, reuse_port: bool = False
) -> AsyncIterator[Listener]:
    """A listener that is closed at the end."""
    listener = await net.listen(addr, backlog=backlog, reuse_port=reuse_port)
    try:
        yield listener
    finally:
        listener.close()


@asynccontextmanager
async def connected(
    net: Network, dialler: AnyEndpoint | None = None, acceptor: AnyEndpoint | None = None
) -> AsyncIterator[tuple[AnyEndpoint, AnyEndpoint]]:
    """Two connected endpoints, the dialling one first, that are closed at the end."""
    left, right = dialler or StreamEndpoint(), acceptor or StreamEndpoint()
    async with listening(net) as listener:
        await net.dial(listener.addr, left)
        await (await accept(listener)).open(right)
    try:
        yield left, right
    finally:
        await left.aclose()
        await right.aclose()


class Pipe:
    """As much of a writer as a handshake needs."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader

    def write(self, data: bytes) -> None:
        self.reader.feed_data(data)

    async def drain(self) -> None:
        """There is room."""
