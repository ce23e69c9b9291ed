"""``share`` and ``get``, as coroutines. Imports asyncio and the rooms below."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO, TypeVar

from pea2pea import Addr, Config

from . import store
from .link import Link, wanted
from .security import Channel, Security
from .show import Show, size
from .store import PartialStore, Store, Tick
from .swarm import Asker, Swarm, end

T = TypeVar("T")

#: Seconds between two looks at the figures that are shown.
REFRESH = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What both jobs take: where to listen, and how much to put up with."""

    listen: str = "127.0.0.1:0"
    max_peers: int = 64
    #: Seconds before a peer counts as stalled; ``None`` leaves it to the chunk size.
    stall: float | None = None
    #: Seconds without a new chunk after which a fetch fails.
    give_up: float = 60.0
    security: Security = field(default_factory=Security)

    def config(self, *, listen: bool = True) -> Config:
        """Return the node's settings. Raises ``ConfigError``."""
        # Several peers behind one address are usual here: a household, or all of them on this machine.
        return Config(
            listen=self.listen if listen else None,
            max_connections=self.max_peers,
            max_connections_per_ip=self.max_peers,
        )


class StoppedError(Exception):
    """Work in a thread ended because nobody waits for it any more."""


async def share(path: Path, limits: Limits, show: Show, out: TextIO) -> None:
    """Offer ``path``, print its link, and serve until cancelled. Raises what makes that impossible."""
    config = limits.config()
    channel = open_channel(limits, show)
    show.begin("hashing", store.size_of(path))
    with closing(await in_thread(partial(store.share, path), show.at)) as whole:
        async with Swarm(whole, config, note=show.say, patience=limits.stall, channel=channel) as swarm:
            print(link_to(swarm), file=out, flush=True)
            show.begin("served", None)
            async with showing(swarm, show):
                await swarm.failed()


async def get(
    sources: Sequence[str],
    path: Path,
    limits: Limits,
    show: Show,
    out: TextIO,
    *,
    force: bool = False,
    stay: bool = False,
) -> None:
    """Fetch ``path`` from ``sources``; with ``stay``, go on serving it until cancelled.

    Raises what makes that impossible.
    """
    links = [Link.parse(text) for text in sources]
    root, addrs, config = wanted(links), [link.addr for link in links], limits.config()
    channel = open_channel(limits, show)
    async with Asker(limits.config(listen=False), channel) as asker:
        target = await asker.ask_all(addrs, root)
    if root is None:
        show.say(f"no link was given: trusting the first root that was told, {target.root.hex()}")
    show.begin("checking", target.size)
    with closing(await in_thread(partial(store.resume, path, target, force=force), show.at)) as chunks:
        async with Swarm(chunks, config, note=show.say, patience=limits.stall, channel=channel) as swarm:
            show.say(f"offering what is here at {link_to(swarm)}")
            if isinstance(chunks, PartialStore):
                await fetch(swarm, chunks, addrs, limits, show, force=force)
            print(f"{path}: {size(target.size)}, verified, root {target.root.hex()}", file=out, flush=True)
            if stay:
                show.begin("served", None)
                async with showing(swarm, show):
                    await swarm.failed()


def open_channel(limits: Limits, show: Show) -> Channel:
    """Return what secures connections, and tell what others have to know of it."""
    channel = limits.security.open()
    if channel.told:
        show.say(channel.told)
    return channel


async def fetch(
    swarm: Swarm, chunks: PartialStore, addrs: Sequence[Addr], limits: Limits, show: Show, *, force: bool
) -> None:
    """Fetch what is missing, verify the whole and give it its name."""
    show.begin("fetching", chunks.target.size)
    show.at(chunks.held)
    async with swarm.pursuing(addrs, give_up=limits.give_up), showing(swarm, show):
        await swarm.complete()
    await publish(chunks, show, force=force)


async def publish(chunks: PartialStore, show: Show, *, force: bool) -> None:
    """Verify what was fetched, on the disk, and give it its name."""
    show.begin("verifying", chunks.target.size)
    await in_thread(chunks.verify, show.at)
    chunks.publish(force=force)
    show.close()


@asynccontextmanager
async def showing(swarm: Swarm, show: Show) -> AsyncIterator[None]:
    """Show how far ``swarm`` is: what is there of a file that is fetched, what was served of a whole one."""

    def draw() -> None:
        peers = len(swarm.exchanges)
        note = f"{peers} peer{'' if peers == 1 else 's'}"
        show.at(swarm.store.held if fetching else swarm.served, note)

    fetching = not swarm.store.complete
    async with every(REFRESH, draw):
        yield


@asynccontextmanager
async def every(seconds: float, draw: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``draw`` again and again, and a last time at the end."""

    async def repeat() -> None:
        while True:
            draw()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        await end([task])
        draw()


async def in_thread(work: Callable[[Tick], T], tick: Tick) -> T:
    """Return what ``work`` returns. Cancelled, it is stopped at its next tick, and has ended when this raises."""
    stopped = threading.Event()

    def watched(done: int) -> None:
        if stopped.is_set():
            raise StoppedError
        tick(done)

    task = asyncio.create_task(asyncio.to_thread(work, watched))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stopped.set()
        with suppress(StoppedError):
            result = await task
            if isinstance(result, Store):
                result.close()
        raise


def link_to(swarm: Swarm) -> Link:
    """Return the link by which others find ``swarm``, which listens."""
    addr = swarm.listening_addr
    assert addr is not None
    return Link(Addr(outward_host(), addr.port) if addr.is_wildcard else addr, swarm.target.root)


def outward_host() -> str:
    """Return the address by which this machine reaches others; that of loopback where it reaches none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses a route and sends nothing; RFC 5737 keeps this address for examples.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        host: str = probe.getsockname()[0]
        return host
