"""Two ways of waiting that asyncio lacks. May import asyncio.

A :class:`Doorbell` wakes a task within the call that rings it; a :class:`Deadline` is a timer
that may be moved as often as messages arrive, at no cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any
from weakref import ref


class Doorbell:
    """Something for one task to await again and again.

    ``ring`` runs that task at once, up to its next wait, instead of a turn of the loop later:
    half the latency of a reply. It must be called from a callback of the loop, not from a task.

    It is a future as far as a task can see (``asyncio.isfuture``); a task asks a future for no
    more than what is here.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_wake", "get_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        #: Returns the loop, as a future's method does, and is called whenever a task waits: without running any Python.
        self.get_loop = ref(loop)
        self._asyncio_future_blocking = False
        self._wake: Callable[[Any], object] | None = None
        self._context: Context | None = None

    def __await__(self) -> Generator[Any, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def ring(self) -> None:
        """Run the task that waits; without one, do nothing."""
        wake, context = self._wake, self._context
        if wake is not None and context is not None:
            self._wake = None
            context.run(wake, self)

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits."""
        return self._wake is not None

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        self._wake = callback
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        loop, wake, self._wake = self.get_loop(), self._wake, None
        if loop is not None and wake is not None:
            loop.call_soon(wake, self, context=self._context)
        return False  # it is for the task to raise CancelledError when it runs

    def result(self) -> None:
        """Nothing: there is no more to it than that the bell rang."""


class Deadline:
    """A time by which something must have happened, and what to do if it has not.

    However often it is moved, there is one timer: it looks again when it fires.
    """

    __slots__ = ("_expired", "_loop", "_timer", "_when", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, expired: Callable[[], object]) -> None:
        self.seconds = seconds
        self._loop = loop
        self._expired = expired
        self._when: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def restart(self) -> None:
        """Expire ``seconds`` from now, unless restarted or cleared before."""
        self._when = self._loop.time() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._when, self._look)

    @property
    def is_set(self) -> bool:
        """Whether it will expire."""
        return self._when is not None

    def clear(self) -> None:
        """Expire no more, until restarted."""
        self._when = None

    def close(self) -> None:
        """Expire never again, and hold no timer."""
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
            # After a turn that took long uvloop runs timers first; what came meanwhile is seen within the next two.
            self._loop.call_soon(self._loop.call_soon, self._look_again, self._when)

    def _look_again(self, when: float) -> None:
        if self._when == when:
            self._when = None
            self._expired()
