"""The loop of the tests: its clock jumps, and a deadlock is an error."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from pea2pea import testing
from pea2pea.testing import DeadlockError, VirtualClockLoop

HOUR = 3600.0


@pytest.fixture
def loop() -> Iterator[VirtualClockLoop]:
    loop = VirtualClockLoop()
    yield loop
    loop.close()


async def test_hours_pass_at_once() -> None:
    loop = asyncio.get_running_loop()
    began, really_began = loop.time(), time.monotonic()
    await asyncio.sleep(100 * HOUR)
    assert loop.time() == pytest.approx(began + 100 * HOUR)
    assert time.monotonic() - really_began < 10


async def test_timers_fire_in_the_order_of_their_times() -> None:
    loop = asyncio.get_running_loop()
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, loop.time()))

    for name, delay in (("late", 2 * HOUR), ("early", 1.5), ("middle", HOUR)):
        loop.call_later(delay, note, name)
    await asyncio.sleep(3 * HOUR)
    assert fired == [("early", 1.5), ("middle", HOUR), ("late", 2 * HOUR)]


async def test_time_stands_still_while_something_is_ready() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    for _ in range(100):
        await asyncio.sleep(0)
    assert loop.time() == before


async def test_a_timeout_ends_a_wait_that_never_would() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(24 * HOUR):
            await asyncio.Event().wait()


def test_a_deadlock_names_the_tasks_that_wait(loop: VirtualClockLoop) -> None:
    async def waits_for_ever() -> None:
        await asyncio.Event().wait()

    task = loop.create_task(waits_for_ever(), name="the one")
    with pytest.raises(DeadlockError, match=r"(?s)nothing is ready and no timer is set.*the one"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_a_deadlock_without_a_task_is_one_too(loop: VirtualClockLoop) -> None:
    with pytest.raises(DeadlockError, match="no task"):
        loop.run_forever()


async def test_real_descriptors_are_heard_before_the_clock_jumps() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.send(b"x")
        async with asyncio.timeout(HOUR):
            assert await asyncio.get_running_loop().sock_recv(left, 1) == b"x"
        assert asyncio.get_running_loop().time() == 0


async def test_a_thread_is_waited_for() -> None:
    assert await asyncio.to_thread(lambda: "done") == "done"


def test_a_real_descriptor_is_not_waited_for_without_end(
    loop: VirtualClockLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "OUTSIDE_GRACE", 0.01)
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, lambda: None)
        with pytest.raises(DeadlockError):
            loop.run_forever()
        loop.remove_reader(left)
