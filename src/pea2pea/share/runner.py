"""Running a coroutine as the main program of a process. Imports asyncio, and uvloop if it is installed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any


def run(job: Coroutine[Any, Any, int]) -> int:
    """Run ``job`` and return its result. SIGTERM cancels it, as Ctrl-C does."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await job

    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(guarded())


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the loop factory of uvloop, or ``None`` if uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
