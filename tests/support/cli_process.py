"""The command as tests run it: as a process of its own, or as a job of the test's loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from support.share import Printed

COMMAND = [sys.executable, "-m", "pea2pea"]

Process = subprocess.Popen[str]


@asynccontextmanager
async def running(job: Coroutine[Any, Any, None], printed: Printed) -> AsyncIterator[str]:
    """Run a job that serves until it is cancelled; give the first line that it prints."""
    task = asyncio.create_task(job)
    line = asyncio.create_task(printed.lines.count(1))
    try:
        await asyncio.wait([task, line], return_when=asyncio.FIRST_COMPLETED)
        if not line.done():
            await task
        yield line.result()[0]
    finally:
        for one in (task, line):
            one.cancel()
        await asyncio.wait((task, line))


@contextmanager
def process(*args: object) -> Iterator[Process]:
    """Run the command; at the end it is gone."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *map(str, args)], stdout=pipe, stderr=pipe, text=True) as one:
        try:
            yield one
        finally:
            one.kill()
