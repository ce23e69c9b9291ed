"""asyncio streams with the same framing as the library: a 4-byte length, then the message."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from ..job import Job, Line, Meter, Result, latencies
from .base import LOOPBACK, AsyncContender

LIMIT = 256 * 1024
#: From this size on, the length is a write of its own, so that the message is not copied.
APART = 64 * 1024
#: The handshake, in both directions, if it is part of the work.
HELLO = b"hello"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
Tasks = set[asyncio.Task[None]]


class Party(AsyncContender):
    """Uses ``start_server`` and ``open_connection``."""

    async def sink(self, job: Job, line: Line) -> Result:
        meter = Meter(job)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if job.handshake:
                writer.write(await reader.readexactly(len(HELLO)))
            meter.connected()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    await reader.readexactly(size)
                    meter.count += 1
            writer.close()

        async with _listening(serve, line) as (_, tasks):
            result = await meter.result()
            for task in tasks:
                task.cancel()
            return result

    def handshake_bytes(self, job: Job) -> tuple[bytes, bytes]:
        return (HELLO, HELLO) if job.handshake else (b"", b"")

    async def source(self, job: Job, line: Line) -> Result:
        writers = [(await _dial(job.port))[1] for _ in range(job.connections)]
        await asyncio.gather(*(_pour(job, writer) for writer in writers))
        return {}

    async def echo(self, job: Job, line: Line) -> Result:
        over = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readexactly(4)
                    writer.write(head + await reader.readexactly(int.from_bytes(head, "big")))
            writer.close()
            over.set()

        async with _listening(serve, line):
            await over.wait()
        return {}

    async def ping(self, job: Job, line: Line) -> Result:
        reader, writer = await _dial(job.port)
        message = self.chunk(job.message, 1)
        times: list[int] = []
        until = job.until * 1e9
        while (start := time.perf_counter_ns()) < until and len(times) < job.count:
            writer.write(message)
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            times.append(time.perf_counter_ns() - start)
        writer.close()
        return latencies(times)

    async def accept(self, job: Job, line: Line) -> Result:
        ended, more = [0], asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            writer.close()
            ended[0] += 1
            more.set()

        async with _listening(serve, line):
            expected = (await asyncio.get_running_loop().run_in_executor(None, line.hear))["expected"]
            while ended[0] < expected:
                more.clear()
                await more.wait()
            return {"ended_at": time.perf_counter(), "seen": ended[0]}

    async def dial(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            _, writer = await _dial(job.port)
            writer.close()
            await writer.wait_closed()
            done += 1
        return {"started_at": start, "ended_at": time.perf_counter(), "done": done}

    async def chain(self, job: Job, line: Line) -> Result:
        arrived = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            following: asyncio.StreamWriter | None = None
            for _ in range(job.nodes - 1):
                port = await stack.enter_async_context(_relay(following, arrived))
                _, following = await _dial(port)
                stack.callback(following.close)
            assert following is not None
            return latencies(await _traverse(job, following, arrived, self.chunk(job.message, 1)))

    async def life(self, job: Job, line: Line) -> Result:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            async with await asyncio.start_server(serve, LOOPBACK, 0):
                pass
            done += 1
        return {"per_second": done / (time.perf_counter() - start)}


async def _pour(job: Job, writer: asyncio.StreamWriter) -> None:
    message, look = job.message, job.look
    head = len(message).to_bytes(4, "big")
    until = job.until
    with contextlib.suppress(ConnectionError):
        while time.perf_counter() < until:
            if len(message) < APART:
                for _ in range(look):
                    writer.write(head + message)
            else:
                writer.write(head)
                writer.write(message)
            await writer.drain()
            await asyncio.sleep(0)  # drain() does not yield to other tasks if it has nothing to wait for
    writer.close()


async def _dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(LOOPBACK, port, limit=LIMIT)


@contextlib.asynccontextmanager
async def _listening(serve: Serve, line: Line | None) -> AsyncIterator[tuple[int, Tasks]]:
    tasks: Tasks = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, LOOPBACK, 0, limit=LIMIT, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    if line is not None:
        line.tell(port=port)
    try:
        yield port, tasks
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _relay(following: asyncio.StreamWriter | None, arrived: asyncio.Event) -> AsyncIterator[int]:
    """Accept one connection and pass its messages on to ``following``; without that, report their arrival."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(4)
                message = await reader.readexactly(int.from_bytes(head, "big"))
                if following is None:
                    arrived.set()
                else:
                    following.write(head + message)
        writer.close()

    async with _listening(serve, None) as (port, _):
        yield port


async def _traverse(job: Job, writer: asyncio.StreamWriter, arrived: asyncio.Event, message: bytes) -> list[int]:
    times: list[int] = []
    until = job.until * 1e9
    while (start := time.perf_counter_ns()) < until and len(times) < job.count:
        arrived.clear()
        writer.write(message)
        await arrived.wait()
        times.append((time.perf_counter_ns() - start) // (job.nodes - 1))
    return times
