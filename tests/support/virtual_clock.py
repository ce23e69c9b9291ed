"""An event loop whose clock jumps: hours of timeouts pass in milliseconds. For tests; imports asyncio only.

Where the stock loop would sleep until the next timer, this one moves its clock to it. Where the stock loop
would sleep for ever, because nothing is ready and no timer is set, this one raises :class:`DeadlockError`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

# Real seconds in which a thread or a real descriptor may still bring work when nothing else can.
OUTSIDE_GRACE = 5.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: what runs on this loop would wait for ever."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """A selector loop that begins at time 0 and never sleeps.

    Real descriptors are polled before each jump, but nothing waits for them while a timer is set.
    """

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now

    def deadlock(self) -> DeadlockError:
        """Return the error that names the tasks that wait."""
        waiting = "\n".join(f"  {task!r}" for task in asyncio.all_tasks(self))
        return DeadlockError(f"nothing is ready and no timer is set; waiting for ever:\n{waiting or '  no task'}")

    @property
    def has_threads(self) -> bool:
        """Whether work was ever given to the default executor, which ends at a time of its own."""
        return getattr(self, "_default_executor", None) is not None


class _JumpingSelector(selectors.BaseSelector):
    """The system's selector, except that waiting moves the clock of ``loop`` instead."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if not events and timeout is None:
            events = self._wait_for_outside()
        elif not events and timeout is not None:
            self._loop.now += max(0.0, timeout)
        return events

    def _wait_for_outside(self) -> list[tuple[selectors.SelectorKey, int]]:
        # One descriptor is the loop's own, by which threads wake it.
        can_come = len(self._real.get_map()) > 1 or self._loop.has_threads
        events = self._real.select(OUTSIDE_GRACE) if can_come else []
        if not events:
            raise self._loop.deadlock()
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
