"""``picows``, with its core API of callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from ..job import Job, Line, Meter, Result, latencies
from .base import LOOPBACK, AsyncContender
from .ws import UPGRADE, masked

BINARY = WSMsgType.BINARY
CLOSE = WSMsgType.CLOSE


class Counter(WSListener):
    """Copies each message to ``bytes``, which the other contenders deliver too."""

    def __init__(self, meter: Meter, transports: list[WSTransport]) -> None:
        super().__init__()
        self._meter = meter
        self._transports = transports

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transports.append(transport)
        self._meter.connected()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        frame.get_payload_as_bytes()
        self._meter.count += 1


class Sender(WSListener):
    """Sends until the transport pauses it."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()
        self.room.set()
        self.gone = False

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.gone = True
        self.room.set()


class Echo(WSListener):
    """Sends each message back."""

    def __init__(self, over: asyncio.Event) -> None:
        super().__init__()
        self._over = over

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == CLOSE:
            transport.disconnect()
        else:
            transport.send(BINARY, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._over.set()


class Pinger(WSListener):
    """Sends the next ping when the last one is answered."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.times: list[int] = []
        self.over = asyncio.Event()
        self._message, self._count = job.message, job.count
        self._until = job.until * 1e9
        self._start = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._start = time.perf_counter_ns()
        transport.send(BINARY, self._message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        frame.get_payload_as_bytes()
        now = time.perf_counter_ns()
        self.times.append(now - self._start)
        if now > self._until or len(self.times) >= self._count:
            self.over.set()
        else:
            self._start = time.perf_counter_ns()
            transport.send(BINARY, self._message)


class Ended(WSListener):
    """Counts closed connections."""

    def __init__(self, ended: list[int], more: asyncio.Event) -> None:
        super().__init__()
        self._ended, self._more = ended, more

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._ended[0] += 1
        self._more.set()


class Relay(WSListener):
    """Passes each message on; the last listener reports its arrival."""

    def __init__(self, following: WSTransport | None, arrived: asyncio.Event) -> None:
        super().__init__()
        self._following, self._arrived = following, arrived

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._following is None:
            self._arrived.set()
        else:
            self._following.send(BINARY, frame.get_payload_as_bytes())


class Party(AsyncContender):
    """Uses ``ws_create_server`` and ``ws_connect``."""

    def handshake_bytes(self, job: Job) -> tuple[bytes, bytes]:
        return UPGRADE

    def chunk(self, message: bytes, count: int) -> bytes:
        return masked(message) * count

    async def sink(self, job: Job, line: Line) -> Result:
        meter = Meter(job)
        transports: list[WSTransport] = []
        async with _serving(lambda _: Counter(meter, transports), line):
            result = await meter.result()
            for transport in transports:
                transport.disconnect(False)
            return result

    async def source(self, job: Job, line: Line) -> Result:
        dialled = [await _dial(job.port, Sender) for _ in range(job.connections)]
        await asyncio.gather(*(_pour(job, *each) for each in dialled))
        return {}

    async def echo(self, job: Job, line: Line) -> Result:
        over = asyncio.Event()
        async with _serving(lambda _: Echo(over), line):
            await over.wait()
        return {}

    async def ping(self, job: Job, line: Line) -> Result:
        transport, listener = await _dial(job.port, lambda: Pinger(job))
        await listener.over.wait()
        transport.disconnect(False)
        return latencies(listener.times)

    async def accept(self, job: Job, line: Line) -> Result:
        ended, more = [0], asyncio.Event()
        async with _serving(lambda _: Ended(ended, more), line):
            expected = (await asyncio.get_running_loop().run_in_executor(None, line.hear))["expected"]
            while ended[0] < expected:
                more.clear()
                await more.wait()
            return {"ended_at": time.perf_counter(), "seen": ended[0]}

    async def dial(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            transport, _ = await _dial(job.port, WSListener)
            transport.disconnect()
            await transport.wait_disconnected()
            done += 1
        return {"started_at": start, "ended_at": time.perf_counter(), "done": done}

    async def chain(self, job: Job, line: Line) -> Result:
        arrived = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            following: WSTransport | None = None
            for _ in range(job.nodes - 1):
                port = await stack.enter_async_context(_relaying(following, arrived))
                following, _ = await _dial(port, WSListener)
                stack.callback(following.disconnect, False)
            return latencies(await _traverse(job, following, arrived))

    async def life(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            async with await ws_create_server(lambda _: WSListener(), LOOPBACK, 0):
                pass
            done += 1
        return {"per_second": done / (time.perf_counter() - start)}


async def _pour(job: Job, transport: WSTransport, sender: Sender) -> None:
    message, look = job.message, job.look
    until = job.until
    while time.perf_counter() < until and not sender.gone:
        for _ in range(look):
            transport.send(BINARY, message)
            if not sender.room.is_set():
                break
        await asyncio.sleep(0)
        await sender.room.wait()
    transport.disconnect(False)


async def _dial(port: int, listener: Any) -> tuple[WSTransport, Any]:
    transport, made = await ws_connect(listener, f"ws://{LOOPBACK}:{port}")
    return transport, made


@contextlib.asynccontextmanager
async def _serving(listener: Any, line: Line) -> Any:
    server = await ws_create_server(listener, LOOPBACK, 0, backlog=4096, websocket_handshake_timeout=60)
    line.tell(port=server.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        server.close()


@contextlib.asynccontextmanager
async def _relaying(following: WSTransport | None, arrived: asyncio.Event) -> Any:
    server = await ws_create_server(lambda _: Relay(following, arrived), LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _traverse(job: Job, transport: Any, arrived: asyncio.Event) -> list[int]:
    times: list[int] = []
    until = job.until * 1e9
    while (start := time.perf_counter_ns()) < until and len(times) < job.count:
        arrived.clear()
        transport.send(BINARY, job.message)
        await arrived.wait()
        times.append((time.perf_counter_ns() - start) // (job.nodes - 1))
    return times
