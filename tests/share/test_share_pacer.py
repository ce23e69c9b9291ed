"""The limit on a rate, on a virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from pea2pea.share.pacer import Pacer


async def elapsed(pacer: Pacer, *counts: int) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(pacer.take(count) for count in counts))
    return loop.time() - began


async def test_what_is_sent_at_once_is_spread_over_time() -> None:
    pacer = Pacer(100.0)
    assert await elapsed(pacer, 100, 300, 50) == pytest.approx(4.0), "the last waits for those before it"
    assert await elapsed(pacer, 100) == pytest.approx(0.5)


async def test_unused_time_is_not_saved_up() -> None:
    pacer = Pacer(100.0)
    await asyncio.sleep(1000)
    assert await elapsed(pacer, 100, 100) == pytest.approx(1.0)


async def test_without_a_limit_nothing_waits() -> None:
    assert await elapsed(Pacer(None), 1 << 40, 1 << 40) == 0.0
