"""A limit on a rate. Imports asyncio."""

from __future__ import annotations

import asyncio


class Pacer:
    """Lets at most ``rate`` bytes per second pass; any number if ``rate`` is ``None``.

    Time that was not used is not saved up, so that there are no bursts.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait until ``count`` bytes more may pass."""
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        start = max(now, self._free_at)
        self._free_at = start + count / self._rate
        await asyncio.sleep(start - now)
