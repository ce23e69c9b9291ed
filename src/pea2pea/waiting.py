"""Two primitives that asyncio lacks. May import asyncio.

A :class:`Doorbell` resumes a task within the call that rings it. A :class:`Deadline` is a timer that can be moved with
every message, at almost no cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any
from weakref import ref


class Doorbell:
    """An awaitable that one task can await any number of times.

    ``ring`` resumes that task at once, up to its next wait, instead of one turn of the loop later, which halves the
    latency of a reply. It must be called from a callback of the loop, not from a task.

    To a task it looks like a future (``asyncio.isfuture``): it has everything that a task uses of one.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_wake", "get_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: Returns the loop, like the method of a future. A weak reference, so that calling it runs no Python code.
        self.get_loop: ref[asyncio.AbstractEventLoop] = ref(loop)
        self._asyncio_future_blocking = False
        self._wake: Callable[[Any], object] | None = None
        self._context: Context | None = None

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def ring(self) -> None:
        """Resume the waiting task, if there is one."""
        wake, context = self._wake, self._context
        if wake is not None and context is not None:
            self._wake = None
            context.run(wake, self)

    @property
    def is_awaited(self) -> bool:
        """Whether a task is waiting."""
        return self._wake is not None

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        self._wake = callback
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        loop, wake, self._wake = self.get_loop(), self._wake, None
        if loop is not None and wake is not None:
            loop.call_soon(wake, self, context=self._context)
        return False  # the task raises CancelledError itself when it runs

    def result(self) -> None:
        """Return nothing: that it rang is all there is to know."""


class Deadline:
    """A callback for when something has not happened in time.

    However often it is restarted, there is one timer: when that fires, it checks the time and is set again if needed.
    """

    __slots__ = ("_expired", "_loop", "_timer", "_when", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[], object]) -> None:
        self.seconds: float = seconds
        self._loop = loop
        self._expired = expired
        self._when: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def restart(self) -> None:
        """Expire ``seconds`` from now, unless restarted or cleared before then."""
        self._when = self._loop.time() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._when, self._look)

    @property
    def is_set(self) -> bool:
        """Whether it will expire."""
        return self._when is not None

    def clear(self) -> None:
        """Do not expire until restarted."""
        self._when = None

    def close(self) -> None:
        """Never expire again, and hold no timer."""
        self._when = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._when is None:
            return
        if self._when > self._loop.time():
            self._timer = self._loop.call_at(self._when, self._look)
        else:
            # uvloop runs due timers before it polls sockets, so after a long callback data may already be waiting. Two
            # more turns of the loop let it be read before the deadline counts as missed.
            self._loop.call_soon(self._loop.call_soon, self._look_again, self._when)

    def _look_again(self, when: float) -> None:
        if self._when == when:
            self._when = None
            self._expired()
