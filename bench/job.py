"""Jobs for the processes of a benchmark, and how they measure. Imports only the standard library."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

#: The values that a process has measured, by metric.
Result: TypeAlias = dict[str, float]

#: A sender reads the clock after so many messages or so many bytes, whichever comes first.
LOOK_MESSAGES = 256
LOOK_BYTES = 256 * 1024
#: Seconds from the last of many connections to the reading of memory, by when buffers of the setup are freed.
SETTLE = 0.3
#: Seconds that a sender continues after the receiver should have closed, in case the processors are busy.
GRACE = 2.0
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job. It ends after ``count`` messages or after ``seconds``, whichever comes first."""

    port: int = 0
    size: int = 16
    count: int = 1 << 40
    #: Seconds that a sender sends, or a pinger pings.
    seconds: float = 1.0
    #: Seconds that a receiver waits before it counts, and seconds that it counts.
    warm: float = 0.1
    window: float = 0.3
    connections: int = 1
    #: Connections that carry messages.
    active: int = 1
    nodes: int = 2
    #: Whether to measure memory instead of messages.
    memory: bool = False
    #: Whether both sides exchange a few bytes before the first message, so that the connection is open on both.
    handshake: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def look(self) -> int:
        """The number of messages after which to read the clock."""
        return max(1, min(LOOK_MESSAGES, LOOK_BYTES // (self.size + 4)))

    @property
    def until(self) -> float:
        """The time at which to stop, for a job that starts now."""
        return time.perf_counter() + self.seconds

    @property
    def message(self) -> bytes:
        return bytes(range(256)) * (self.size // 256) + bytes(self.size % 256)


class Line:
    """A party's connection to the process that started it: one JSON object per line, in both directions."""

    def tell(self, **facts: Any) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    def hear(self) -> dict[str, Any]:
        """Block until the next object arrives; return ``{}`` at the end of the input."""
        text = sys.stdin.readline()
        return dict(json.loads(text)) if text else {}


class Meter:
    """Counts received messages in a window that opens ``warm`` seconds after the last connection was opened.

    Contenders add to ``count`` and call :meth:`connected`. The window excludes the start and the end of a sender.
    """

    def __init__(self, job: Job) -> None:
        self.count = 0
        self.open = 0
        self._job = job
        self._memory = resident()
        self._done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def connected(self) -> None:
        self.open += 1
        if self.open == self._job.connections:
            loop = asyncio.get_running_loop()
            if self._job.memory:
                loop.call_later(SETTLE, self._measure_memory)
            else:
                loop.call_later(self._job.warm, self._begin)

    async def result(self) -> Result:
        """Wait for the end of the window, at most for as long as a job may take."""
        async with asyncio.timeout(self._job.seconds + 60):
            return await self._done

    def _begin(self) -> None:
        asyncio.get_running_loop().call_later(self._job.window, self._end, Window(self.count))

    def _end(self, window: Window) -> None:
        try:
            self._done.set_result(window.close(self.count))
        except NothingReceivedError as exc:
            self._done.set_exception(exc)

    def _measure_memory(self) -> None:
        gc.collect()
        self._done.set_result({"bytes_per_connection": (resident() - self._memory) / self._job.connections})


class NothingReceivedError(Exception):
    """No message was received within the window."""


class Window:
    """Counts messages per second, and the processor time of this process per message."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._cpu = time.process_time()
        self._start = time.perf_counter()

    def close(self, count: int) -> Result:
        seconds, cpu = time.perf_counter() - self._start, time.process_time() - self._cpu
        got = count - self._count
        if not got:
            raise NothingReceivedError(f"no message was received within the window of {seconds:.2f} s")
        return {"messages_per_second": got / seconds, "cpu_us_per_message": 1e6 * cpu / got}


def count_blocking(job: Job, receive: Callable[[], int]) -> Result:
    """Do the same as :class:`Meter` for a contender that blocks. ``receive`` returns how many messages it received."""
    count = receive()
    opens = time.perf_counter() + job.warm
    while time.perf_counter() < opens:
        count += receive()
    window = Window(count)
    closes = time.perf_counter() + job.window
    while time.perf_counter() < closes:
        count += receive()
    return window.close(count)


def latencies(nanoseconds: list[int]) -> Result:
    """Return the median and the 99th percentile, in microseconds."""
    ordered = sorted(nanoseconds)
    at = len(ordered)
    return {"median_us": ordered[at // 2] / 1e3, "p99_us": ordered[min(at - 1, at * 99 // 100)] / 1e3}


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 on systems without Linux's ``/proc``."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * PAGE
    except OSError:
        return 0
