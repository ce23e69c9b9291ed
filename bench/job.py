"""The work that a party is asked to do, and how it counts what it did. Imports the standard library alone."""

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

#: What a party measured, by the name of the metric.
Result: TypeAlias = dict[str, float]

#: A sender looks at the clock after so many messages or so many bytes, whichever comes first.
LOOK_MESSAGES = 256
LOOK_BYTES = 256 * 1024
#: Seconds between the last of many connections and the reading of memory: buffers of setting up are gone by then.
SETTLE = 0.3
#: Seconds that a sender goes on after the receiver should have closed: others may keep the processors busy.
GRACE = 2.0
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work. A party ends it by itself, after ``count`` or after ``seconds``, whichever comes first."""

    port: int = 0
    size: int = 16
    count: int = 1 << 40
    #: How long a sender sends, or a pinger pings.
    seconds: float = 1.0
    #: How long a receiver waits before it counts, and then counts.
    warm: float = 0.1
    window: float = 0.3
    connections: int = 1
    #: How many of the connections carry messages.
    active: int = 1
    nodes: int = 2
    #: Read the memory instead of counting messages.
    memory: bool = False
    #: Both sides of a connection say something before its first message. It is open on both, once they have.
    greets: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def look(self) -> int:
        """After how many messages to look at the clock."""
        return max(1, min(LOOK_MESSAGES, LOOK_BYTES // (self.size + 4)))

    @property
    def until(self) -> float:
        """When to stop, if one starts now."""
        return time.perf_counter() + self.seconds

    @property
    def message(self) -> bytes:
        return bytes(range(256)) * (self.size // 256) + bytes(self.size % 256)


class Line:
    """A party's line to the process that started it: one JSON object a line, each way."""

    def tell(self, **facts: Any) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    def hear(self) -> dict[str, Any]:
        """Block until the next object; empty when there will be none."""
        text = sys.stdin.readline()
        return dict(json.loads(text)) if text else {}


class Meter:
    """Counts what a receiver gets; its window opens ``warm`` seconds after the last connection was made.

    Contenders add to ``count`` and call :meth:`connected`. What is counted is what came within the
    window: neither the start nor the end of a sender is in it.
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
                loop.call_later(SETTLE, self._weigh)
            else:
                loop.call_later(self._job.warm, self._begin)

    async def result(self) -> Result:
        """Wait for the end of the window, at most as long as a job may take at all."""
        async with asyncio.timeout(self._job.seconds + 60):
            return await self._done

    def _begin(self) -> None:
        asyncio.get_running_loop().call_later(self._job.window, self._end, Window(self.count))

    def _end(self, window: Window) -> None:
        try:
            self._done.set_result(window.close(self.count))
        except NothingCameError as exc:
            self._done.set_exception(exc)

    def _weigh(self) -> None:
        gc.collect()
        self._done.set_result({"bytes_per_connection": (resident() - self._memory) / self._job.connections})


class NothingCameError(Exception):
    """A receiver had nothing to count."""


class Window:
    """Messages over time, and over the processor time that this process spent meanwhile."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._cpu = time.process_time()
        self._start = time.perf_counter()

    def close(self, count: int) -> Result:
        seconds, cpu = time.perf_counter() - self._start, time.process_time() - self._cpu
        got = count - self._count
        if not got:
            raise NothingCameError(f"no message came within the {seconds:.2f} s of the window")
        return {"messages_per_second": got / seconds, "cpu_us_per_message": 1e6 * cpu / got}


def count_blocking(job: Job, receive: Callable[[], int]) -> Result:
    """What :class:`Meter` does, for a contender that blocks: ``receive`` returns how many messages it got."""
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
    """Median and 99th percentile, in microseconds."""
    ordered = sorted(nanoseconds)
    at = len(ordered)
    return {"median_us": ordered[at // 2] / 1e3, "p99_us": ordered[min(at - 1, at * 99 // 100)] / 1e3}


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell as Linux does."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * PAGE
    except OSError:
        return 0
