"""One node of a demonstration, in a process of its own. Imports asyncio and the rooms below.

It is told what to do by lines of JSON, and tells what it does by lines of JSON:

- told ``{"size": ..., "top": ...}``, unless it has the file: what to fetch;
- tells ``{"event": "listening", "addr": ..., "size": ..., "top": ...}``;
- told ``{"dial": ["127.0.0.1:4000", ...]}``: whom to connect to, besides those who connect to it;
- tells ``{"event": "at", "held": ..., "fetched": ..., "served": ..., "peers": ..., "dialled": [...]}`` now and then;
- tells ``{"event": "verified", "root": ...}`` when its copy was read back from disk and is right;
- tells ``{"event": "failed", "error": ...}`` otherwise.

It ends when there is nothing more to be told, so it cannot outlive who started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pea2pea import Addr

from . import store
from .errors import explain
from .jobs import Limits, every, in_thread, publish
from .security import Security
from .show import Show, Silence
from .store import PartialStore, Store
from .swarm import Swarm
from .tree import Target

#: Seconds between two reports.
REPORT = 0.2

Tell = Callable[[dict[str, Any]], None]


class Orders:
    """Lines of JSON from a descriptor, read by a thread; ``on_end`` is called in the loop when there are no more."""

    def __init__(self, descriptor: int, on_end: Callable[[], object]) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        # A thread, as not every loop of every system can watch a pipe that it was given; a daemon, as it may
        # never return; without Python's own buffer, whose lock it would hold when the interpreter ends.
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    async def next(self) -> dict[str, Any]:
        """Return the next order."""
        return await self._queue.get()

    def _read(self, descriptor: int) -> None:
        rest = b""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            while data := os.read(descriptor, 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._queue.put_nowait, json.loads(line))
            self._loop.call_soon_threadsafe(self._on_end)


async def run_node(
    descriptor: int, tell: Tell, *, file: Path | None, out: Path | None, security: Security | None = None
) -> int:
    """Be a node until there are no more orders; return the exit status."""
    me = asyncio.current_task()
    assert me is not None
    try:
        await asyncio.create_task(_node_once_told(descriptor, tell, file, out, security or Security()))
    except asyncio.CancelledError:
        if me.cancelling():  # and not only told that there are no more orders
            raise
    except Exception as error:  # the parent shows it
        tell({"event": "failed", "error": explain(error)})
        return 1
    return 0


async def _node_once_told(
    descriptor: int, tell: Tell, file: Path | None, out: Path | None, security: Security
) -> None:
    task = asyncio.current_task()
    assert task is not None
    orders = Orders(descriptor, task.cancel)
    show: Show = Silence()
    with closing(await _open(orders, show, file, out)) as chunks:
        limits = Limits(max_peers=1024, give_up=3600.0)
        async with Swarm(chunks, limits.config(), channel=security.open()) as swarm:
            tell({"event": "listening", "addr": str(swarm.listening_addr), **_describe(chunks.target)})
            addrs = [Addr.of(addr) for addr in (await orders.next())["dial"]]
            async with swarm.pursuing(addrs, give_up=limits.give_up), every(REPORT, partial(_report, swarm, tell)):
                await swarm.complete()
                if isinstance(chunks, PartialStore):
                    await publish(chunks, show, force=False)
                _report(swarm, tell)  # what was last reported is shown to the end
                tell({"event": "verified", "root": chunks.target.root.hex()})
                await swarm.failed()


async def _open(orders: Orders, show: Show, file: Path | None, out: Path | None) -> Store:
    if file is not None:
        return await in_thread(partial(store.share, file), show.at)
    assert out is not None
    order = await orders.next()
    target = Target(order["size"], bytes.fromhex(order["top"]))
    return await in_thread(partial(store.resume, out, target), show.at)


def _describe(target: Target) -> dict[str, Any]:
    return {"size": target.size, "top": target.top.hex()}


def _report(swarm: Swarm, tell: Tell) -> None:
    exchanges = swarm.exchanges
    tell(
        {
            "event": "at",
            "held": swarm.store.held,
            "fetched": swarm.fetched,
            "served": swarm.served,
            "peers": len(exchanges),
            "dialled": [str(exchange.peer.addr) for exchange in exchanges if not exchange.peer.inbound],
        }
    )
