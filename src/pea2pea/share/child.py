"""One node of a crowd, as a process of its own (``python -m pea2pea.share.child``). Imports asyncio.

It reads lines of JSON on standard input and writes lines of JSON on standard output:

- reads ``{"file": ..., "out": ..., "rate": ..., "security": {...}}`` first: the file to share, or the file to
  write; the most bytes to send per second, or null;
- reads ``{"size": ..., "top": ...}``, if it is to write one: what to fetch;
- writes ``{"event": "listening", "addr": ..., "size": ..., "top": ...}``;
- reads ``{"dial": ["127.0.0.1:4000", ...]}``: which nodes to connect to. Others connect to it;
- writes ``{"event": "at", "held": ..., "fetched": ..., "served": ..., "peers": [...]}`` regularly; each of
  the peers is ``{"addr": ..., "local": ..., "inbound": ..., "delivered": ...}``;
- writes ``{"event": "verified", "root": ..., "seconds": ...}`` when its copy was read back from disk and is right:
  the time is that from the order to dial to the last chunk;
- writes ``{"event": "failed", "error": ...}`` otherwise.

It ends at the end of its input, so it cannot outlive the process that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pea2pea import Addr

from .errors import explain
from .jobs import Limits, every, in_thread, publish
from .partial import PartialStore, resume
from .progress import Silence
from .pursuit import pursuing
from .runner import run
from .security import Security
from .store import Store, open_whole
from .swarm import Swarm
from .tree import Target

#: Seconds between two reports.
REPORT = 0.2

Tell = Callable[[dict[str, Any]], None]


class Orders:
    """Lines of JSON from a descriptor, read by a thread. ``on_end`` is called in the loop at the end of input."""

    def __init__(self, descriptor: int, on_end: Callable[[], object]) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        # A thread, because not every loop on every system can watch an inherited pipe. A daemon, because the read
        # may never return. os.read, because the lock of a buffered reader would be held when the interpreter ends.
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    async def next(self) -> dict[str, Any]:
        """Return the next order."""
        return await self._queue.get()

    def _read(self, descriptor: int) -> None:
        rest = b""
        with suppress(RuntimeError):  # the loop is closed, so the orders are not needed any more
            while data := os.read(descriptor, 65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._queue.put_nowait, json.loads(line))
            self._loop.call_soon_threadsafe(self._on_end)


async def run_node(descriptor: int, tell: Tell) -> int:
    """Be a node until the end of the orders. Returns the exit status."""
    me = asyncio.current_task()
    assert me is not None
    try:
        await asyncio.create_task(_follow(descriptor, tell))
    except asyncio.CancelledError:
        if me.cancelling():  # not the inner task alone, which is cancelled at the end of the orders
            raise
    except Exception as error:  # the parent process shows it
        tell({"event": "failed", "error": explain(error)})
        return 1
    return 0


async def _follow(descriptor: int, tell: Tell) -> None:
    task = asyncio.current_task()
    assert task is not None
    orders = Orders(descriptor, task.cancel)
    settings = await orders.next()
    limits = Limits(max_peers=1024, give_up=3600.0, security=Security.of_dict(settings["security"]))
    with closing(await _open(orders, settings)) as chunks:
        channel, rate = limits.security.open(), settings["rate"]
        async with Swarm(chunks, limits.config(), rate=rate, channel=channel) as swarm:
            tell({"event": "listening", "addr": str(swarm.listening_addr), **_describe(chunks.target)})
            addrs = [Addr.of(addr) for addr in (await orders.next())["dial"]]
            began = swarm.now()
            async with pursuing(swarm, addrs, give_up=limits.give_up), every(REPORT, partial(_report, swarm, tell)):
                await swarm.complete()
                seconds = swarm.now() - began
                if isinstance(chunks, PartialStore):
                    await publish(chunks, Silence(), force=False)
                _report(swarm, tell)  # the parent shows the last report to the end
                tell({"event": "verified", "root": chunks.target.root.hex(), "seconds": seconds})
                await swarm.failed()


async def _open(orders: Orders, settings: dict[str, Any]) -> Store:
    if settings.get("file") is not None:
        return await in_thread(partial(open_whole, Path(settings["file"])), Silence().at)
    order = await orders.next()
    target = Target(order["size"], bytes.fromhex(order["top"]))
    return await in_thread(partial(resume, Path(settings["out"]), target), Silence().at)


def _describe(target: Target) -> dict[str, Any]:
    return {"size": target.size, "top": target.top.hex()}


def _report(swarm: Swarm, tell: Tell) -> None:
    peers = [
        {
            "addr": str(exchange.peer.addr),
            "local": exchange.local,
            "inbound": exchange.peer.inbound,
            "delivered": exchange.delivered,
        }
        for exchange in swarm.exchanges
    ]
    tell(
        {
            "event": "at",
            "held": swarm.store.held,
            "fetched": swarm.fetched,
            "served": swarm.served,
            "peers": peers,
        }
    )


def main() -> int:
    """Be a node that is controlled by standard input. Returns the exit status."""
    # Ctrl-C in a terminal reaches every process in it; the parent ends its nodes itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    return run(run_node(sys.stdin.fileno(), tell))


if __name__ == "__main__":
    sys.exit(main())
