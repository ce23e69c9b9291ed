"""The doorbell that wakes a task at once, and the deadline that moves at no cost."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import time

import pytest

from pea2pea.testing import VirtualClockLoop
from pea2pea.waiting import Deadline, Doorbell
from support import turns


class Sleeper:
    """A task that waits at a doorbell, and counts how often it was woken."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.bell = Doorbell(loop)
        self.woken = 0
        self.rest = asyncio.Event()
        self.rest.set()
        self.task = loop.create_task(self.sleep())

    async def sleep(self) -> None:
        while True:
            await self.bell
            self.woken += 1
            await self.rest.wait()

    async def ring(self) -> int:
        """Ring from a callback of the loop, and return how often the task was woken when the ringing was over."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def ring() -> None:
            self.bell.ring()
            done.set_result(self.woken)

        asyncio.get_running_loop().call_soon(ring)
        return await done

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled()


async def test_ringing_runs_the_task_before_it_returns(net_kind: str) -> None:
    sleeper = Sleeper()
    await turns(2)
    assert sleeper.bell.is_awaited
    for n in range(1, 4):
        assert await sleeper.ring() == n
        assert sleeper.bell.is_awaited
    await sleeper.end()


async def test_ringing_where_nobody_waits_does_nothing(net_kind: str) -> None:
    sleeper = Sleeper()
    assert not sleeper.bell.is_awaited  # not there yet
    sleeper.bell.ring()
    await turns(2)
    assert sleeper.woken == 0
    sleeper.rest.clear()
    assert await sleeper.ring() == 1
    assert not sleeper.bell.is_awaited
    assert await sleeper.ring() == 1
    sleeper.rest.set()
    await turns(2)
    assert sleeper.woken == 1  # a ring is not kept
    assert await sleeper.ring() == 2
    await sleeper.end()


async def test_a_task_that_waits_at_a_doorbell_can_be_cancelled(net_kind: str) -> None:
    sleeper = Sleeper()
    await turns(2)
    sleeper.task.cancel()
    sleeper.bell.ring()  # too late: it is neither woken twice nor kept
    await asyncio.wait([sleeper.task])
    assert sleeper.task.cancelled()
    assert sleeper.woken == 0
    assert not sleeper.bell.is_awaited


async def test_a_cancelled_wait_leaves_the_doorbell_usable(net_kind: str) -> None:
    bell = Doorbell(asyncio.get_running_loop())
    woken: list[str] = []

    async def sleep() -> None:
        try:
            await bell
        except asyncio.CancelledError:
            woken.append("cancelled")
        await bell
        woken.append("rung")

    task = asyncio.create_task(sleep())
    await turns(2)
    task.cancel()
    await turns(2)
    assert woken == ["cancelled"]
    asyncio.get_running_loop().call_soon(bell.ring)
    await task
    assert woken == ["cancelled", "rung"]


async def test_the_task_is_woken_in_its_own_context(net_kind: str) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    bell = Doorbell(asyncio.get_running_loop())
    seen: list[str] = []

    async def sleep() -> None:
        name.set("sleeper")
        await bell
        seen.append(name.get())

    task = asyncio.create_task(sleep())
    await turns(2)
    name.set("ringer")
    asyncio.get_running_loop().call_soon(bell.ring)
    await task
    assert seen == ["sleeper"]
    assert name.get() == "ringer"


# The deadline; on the virtual clock


def timers() -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return len([timer for timer in loop._scheduled if not timer.cancelled()])  # type: ignore[attr-defined]


class Watched(Deadline):
    """A deadline of 10 seconds that notes when it expires."""

    __slots__ = ("expired_at",)

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.expired_at: list[float] = []
        super().__init__(loop, 10.0, lambda: self.expired_at.append(loop.time()))


async def test_a_deadline_expires_once_when_its_time_has_come() -> None:
    deadline = Watched()
    assert timers() == 0
    deadline.restart()
    await asyncio.sleep(9.0)
    assert deadline.expired_at == []
    await asyncio.sleep(100.0)
    assert deadline.expired_at == [10.0]
    assert timers() == 0


async def test_restarting_puts_it_off_with_one_timer_for_however_many_times() -> None:
    deadline = Watched()
    for _ in range(1000):
        deadline.restart()
        assert timers() == 1
        await asyncio.sleep(0.25)
    assert deadline.expired_at == []
    await asyncio.sleep(100.0)
    assert deadline.expired_at == [249.75 + 10.0]


async def test_a_cleared_deadline_expires_when_restarted_only() -> None:
    deadline = Watched()
    deadline.restart()
    await asyncio.sleep(4.0)
    deadline.clear()
    await asyncio.sleep(100.0)
    assert deadline.expired_at == []
    deadline.restart()
    await asyncio.sleep(100.0)
    assert deadline.expired_at == [114.0]


async def test_restarting_soon_after_clearing_counts_from_then() -> None:
    deadline = Watched()
    deadline.restart()
    await asyncio.sleep(4.0)
    deadline.clear()
    deadline.restart()
    await asyncio.sleep(100.0)
    assert deadline.expired_at == [14.0]


async def test_a_closed_deadline_holds_no_timer() -> None:
    deadline = Watched()
    deadline.restart()
    deadline.close()
    assert timers() == 0
    deadline.close()
    await asyncio.sleep(100.0)
    assert deadline.expired_at == []


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not there")
def test_what_came_while_the_loop_was_busy_puts_it_off() -> None:
    """uvloop runs timers before it looks at sockets: both are due after a turn that took long."""
    uvloop = pytest.importorskip("uvloop")

    async def busy() -> list[str]:
        loop = asyncio.get_running_loop()
        happened: list[str] = []
        ours, theirs = socket.socketpair()
        with ours, theirs:
            deadline = Deadline(loop, 0.05, lambda: happened.append("expired"))

            def read() -> None:
                happened.append(ours.recv(1).decode())
                deadline.restart()
                if happened == ["a"]:  # in a callback of the poll, after which timers come before the next
                    theirs.send(b"b")
                    time.sleep(0.1)

            loop.add_reader(ours, read)
            deadline.restart()
            theirs.send(b"a")
            await turns(9)
            loop.remove_reader(ours)
            deadline.close()
        return happened

    assert uvloop.run(busy()) == ["a", "b"]
