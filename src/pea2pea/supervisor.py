"""The tasks of a node: started, bounded in time, and waited for. May import asyncio.

A node is closed when its supervisor holds nothing any more. Everything that outlives the call that started it is
registered here by its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from .reporting import Report

# Seconds that a hook has to end after it was cancelled. After that it is left running.
CANCEL_TIMEOUT = 1.0


class Supervisor:
    """Knows the tasks of a node, and whatever else must be gone before the node is closed."""

    def __init__(self, report: Report) -> None:
        self._report = report
        # Tasks that are always run to their end, and other things that must end.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held: dict[object, None] = {}
        # Hooks that are being waited for with a deadline.
        self._awaited: set[asyncio.Task[Any]] = set()
        self._fewer = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that somebody else ends."""
        # Not with the loop's task factory: an eager one would run a hook before anyone knows its task.
        return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that is waited for, however long it takes, before the node is closed."""
        task = self.start(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def hold(self, thing: object) -> None:
        """The node is not closed while it holds ``thing``."""
        self._held[thing] = None

    def release(self, thing: object) -> None:
        """Undo :meth:`hold`."""
        self._held.pop(thing, None)
        self._fewer.set()

    @property
    def held(self) -> list[object]:
        """What is held, in the order in which it came."""
        return list(self._held)

    def spawned(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` is run to its end, or is a hook that is being waited for."""
        return task in self._tasks or task in self._awaited

    def runs_to_its_end(self, task: asyncio.Task[Any]) -> bool:
        """Whether ``task`` is never cancelled."""
        return task in self._tasks

    @property
    def is_busy(self) -> bool:
        """Whether there is a task that is run to its end, or anything else is held."""
        return bool(self._tasks or self._held)

    async def idle(self) -> None:
        """Return when :attr:`is_busy` is false."""
        while self.is_busy:
            await self.changed()

    async def changed(self) -> None:
        """Return when the next task or thing is gone."""
        self._fewer.clear()
        await self._fewer.wait()

    async def end(self, task: asyncio.Task[Any], deadline: float, label: object) -> None:
        """Wait for a hook to end. Cancel it at ``deadline`` (loop time), and report one that does not end then."""
        self._awaited.add(task)
        task.add_done_callback(self._awaited.discard)
        await asyncio.wait({task}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        if not task.done():
            self._report.warning("%s: a hook ran out of time and is cancelled: %r", label, task)
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_TIMEOUT)
        if not task.done():
            self._report.error("%s: a hook ignores its cancellation and is left running: %r", label, task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._fewer.set()
        if not task.cancelled() and task.exception() is not None:
            self._report.critical("a task of the node failed", exc_info=task.exception())
