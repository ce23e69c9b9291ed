"""``websockets``: its asyncio implementation, with the settings that its FAQ recommends for benchmarks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ..job import Job, Line, Meter, Result, latencies
from .base import LOOPBACK, AsyncContender

PLAIN: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}
#: The opening handshake of a client (RFC 6455, section 4.1), and the end of the answer.
UPGRADE = (
    f"GET / HTTP/1.1\r\nHost: {LOOPBACK}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
    b"\r\n\r\n",
)


class Party(AsyncContender):
    """Uses ``serve`` and ``connect``."""

    def handshake_bytes(self, job: Job) -> tuple[bytes, bytes]:
        return UPGRADE

    def chunk(self, message: bytes, count: int) -> bytes:
        return masked(message) * count

    async def sink(self, job: Job, line: Line) -> Result:
        meter = Meter(job)

        async def count(connection: Any) -> None:
            meter.connected()
            with contextlib.suppress(ConnectionClosed):
                async for _ in connection:
                    meter.count += 1

        async with _serving(count, line) as server:
            result = await meter.result()
            for connection in tuple(server.connections):
                connection.transport.abort()
            return result

    async def source(self, job: Job, line: Line) -> Result:
        connections = [await _dial(job.port) for _ in range(job.connections)]
        await asyncio.gather(*(_pour(job, connection) for connection in connections))
        return {}

    async def echo(self, job: Job, line: Line) -> Result:
        over = asyncio.Event()

        async def answer(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)
            over.set()

        async with _serving(answer, line):
            await over.wait()
        return {}

    async def ping(self, job: Job, line: Line) -> Result:
        connection = await _dial(job.port)
        message = job.message
        times: list[int] = []
        until = job.until * 1e9
        while (start := time.perf_counter_ns()) < until and len(times) < job.count:
            await connection.send(message)
            await connection.recv()
            times.append(time.perf_counter_ns() - start)
        await connection.close()
        return latencies(times)

    async def accept(self, job: Job, line: Line) -> Result:
        ended, more = [0], asyncio.Event()

        async def wait(connection: Any) -> None:
            await connection.wait_closed()
            ended[0] += 1
            more.set()

        async with _serving(wait, line):
            expected = (await asyncio.get_running_loop().run_in_executor(None, line.hear))["expected"]
            while ended[0] < expected:
                more.clear()
                await more.wait()
            return {"ended_at": time.perf_counter(), "seen": ended[0]}

    async def dial(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            await (await _dial(job.port)).close()
            done += 1
        return {"started_at": start, "ended_at": time.perf_counter(), "done": done}

    async def chain(self, job: Job, line: Line) -> Result:
        arrived = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            following: Any = None
            for _ in range(job.nodes - 1):
                server = await stack.enter_async_context(serve(_relay(following, arrived), LOOPBACK, 0, **PLAIN))
                following = await _dial(server.sockets[0].getsockname()[1])
                stack.callback(following.transport.abort)
            return latencies(await _traverse(job, following, arrived))

    async def life(self, job: Job, line: Line) -> Result:
        async def nothing(connection: Any) -> None:
            pass

        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            async with serve(nothing, LOOPBACK, 0, **PLAIN):
                pass
            done += 1
        return {"per_second": done / (time.perf_counter() - start)}


async def _pour(job: Job, connection: Any) -> None:
    message, look = job.message, job.look
    until = job.until
    with contextlib.suppress(ConnectionClosed):
        while time.perf_counter() < until:
            for _ in range(look):
                await connection.send(message)
            await asyncio.sleep(0)  # yield to other tasks, even if nothing had to be awaited
    connection.transport.abort()


async def _dial(port: int) -> Any:
    return await connect(f"ws://{LOOPBACK}:{port}", proxy=None, **PLAIN)


@contextlib.asynccontextmanager
async def _serving(handler: Any, line: Line) -> Any:
    async with serve(handler, LOOPBACK, 0, backlog=4096, open_timeout=60, **PLAIN) as server:
        line.tell(port=next(iter(server.sockets)).getsockname()[1])
        yield server


def _relay(following: Any, arrived: asyncio.Event) -> Any:
    async def pass_on(connection: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                if following is None:
                    arrived.set()
                else:
                    await following.send(message)

    return pass_on


async def _traverse(job: Job, connection: Any, arrived: asyncio.Event) -> list[int]:
    times: list[int] = []
    until = job.until * 1e9
    while (start := time.perf_counter_ns()) < until and len(times) < job.count:
        arrived.clear()
        await connection.send(job.message)
        await arrived.wait()
        times.append((time.perf_counter_ns() - start) // (job.nodes - 1))
    return times


def masked(message: bytes) -> bytes:
    """Return a client's binary frame of up to 65,535 bytes (RFC 6455, section 5.2), masked with zeroes."""
    size = len(message)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x82" + length + bytes(4) + message
