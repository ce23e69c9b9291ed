"""Tools for testing nodes: an event loop whose clock jumps. Imports asyncio only.

Together with :class:`pea2pea.MemoryNetwork`, a test of hours takes milliseconds and needs no port::

    def test_idle_peers_are_disconnected():
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.run(main())
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

# Real seconds to wait for a thread or a descriptor when nothing else can make progress.
OUTSIDE_GRACE = 5.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: every task waits forever. Names the tasks."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """A selector loop whose clock begins at 0, and that never sleeps.

    Instead of sleeping until the next timer, it moves its clock there. If nothing is ready and no timer is set, so that
    it would sleep forever, it raises :class:`DeadlockError`. Sockets and threads live in real time: descriptors are
    polled before each jump, but not waited for while a timer is set. Keep both out of tests on this loop.
    """

    def __init__(self) -> None:
        #: The time on its clock, in seconds.
        self.now: float = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now

    def deadlock(self) -> DeadlockError:
        """Return the error for the present state of the loop."""
        waiting = "\n".join(f"  {task!r}" for task in asyncio.all_tasks(self))
        return DeadlockError(f"nothing is ready and no timer is set, and these wait:\n{waiting or '  no task'}")

    @property
    def has_threads(self) -> bool:
        """Whether the default executor was ever used: its work ends in real time."""
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
        # One descriptor is the loop's own, for wakeups from threads.
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
