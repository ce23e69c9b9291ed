"""Dialling for a swarm: addresses are dialled again after a loss, and peers that stall are dropped. Imports asyncio.

An address is dialled again after a growing delay for as long as chunks are missing, but not if its peer
sent wrong data, and not if it shares another file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from pea2pea import Addr, ConnectError

from .errors import PeerFaultError, ShareError, why_unreachable
from .exchange import Exchange, end
from .swarm import Swarm

#: Seconds before an address is dialled again: doubled after each attempt, up to the longest.
BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
#: Seconds between two checks for peers that stall.
TICK = 0.25


@asynccontextmanager
async def pursuing(swarm: Swarm, addrs: Iterable[Addr], *, give_up: float = 60.0) -> AsyncIterator[None]:
    """Keep ``swarm`` connected to ``addrs`` and drop peers that stall.

    ``swarm.complete()`` raises :class:`ShareError` after ``give_up`` seconds without a new chunk, or when
    no address is left to fetch from.
    """
    pursuit = Pursuit(swarm, list(dict.fromkeys(addrs)), give_up)
    tasks = [asyncio.create_task(pursuit.run(chore)) for chore in pursuit.chores()]
    try:
        yield
    finally:
        await end(tasks)


class Pursuit:
    """The dialling and watching for one swarm."""

    def __init__(self, swarm: Swarm, addrs: list[Addr], give_up: float) -> None:
        swarm.progress_at = swarm.now()
        self._swarm = swarm
        self._addrs = addrs
        self._give_up = give_up
        #: How many addresses are not given up.
        self._left = len(addrs)

    def chores(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Return what has to run, each as a coroutine function."""
        return [self.watch, *(partial(self.pursue, addr) for addr in self._addrs)]

    async def run(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``chore``. What it raises becomes the failure of the swarm."""
        try:
            await chore()
        except Exception as error:  # raised again by complete() and failed()
            self._swarm.fail(error)

    async def pursue(self, addr: Addr) -> None:
        """Dial ``addr``, and again whenever the connection is lost, until it turns out to be useless."""
        wait = BACKOFF
        while True:
            try:
                exchange = await self._attend(addr)
            except ConnectError as error:
                if isinstance(error.__cause__, PeerFaultError):
                    self._swarm.note(f"gave up on {addr}: {error.__cause__}")
                    break
                self._swarm.note(f"cannot reach {addr}, will try again ({why_unreachable(error)})")
            else:
                if exchange.lied:
                    break
                wait = BACKOFF if exchange.delivered else wait
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_BACKOFF)
        self._left -= 1
        self._check_sources()

    async def _attend(self, addr: Addr) -> Exchange:
        """Connect to ``addr`` and return when the connection has ended."""
        exchange: Exchange | None = (await self._swarm.connect(addr)).session
        if exchange is None:
            raise ConnectError(f"{addr} shares nothing") from PeerFaultError("it shares nothing")
        await exchange.gone.wait()
        return exchange

    def _check_sources(self) -> None:
        if self._swarm.plan.missing and not self._left and not self._swarm.exchanges:
            raise ShareError(f"no peer is left to fetch from: {self._swarm.last_note}")

    async def watch(self) -> None:
        """Drop peers that stall, request late chunks from others, and give up when nothing arrives for too long."""
        swarm, plan = self._swarm, self._swarm.plan
        tick = min(TICK, plan.patience / 4)
        while True:
            await asyncio.sleep(tick)
            now = swarm.now()
            overdue = set(plan.overdue(now))
            for exchange in swarm.exchanges:
                if exchange.peer.id in overdue:
                    swarm.note(f"disconnected {exchange.peer.addr}: it stalled")
                    await swarm.disconnect(exchange.peer)
            swarm.ask_all()
            if plan.missing and now - swarm.progress_at > self._give_up:
                raise ShareError(f"received nothing for {self._give_up:g} seconds; run again to continue from here")
