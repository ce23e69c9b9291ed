"""Sharing a file and getting one, as coroutines. Imports asyncio, threads and the modules below."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from pea2pea import Addr, Settings

from .asker import Asker
from .exchange import end
from .files import Tick, open_regular, size_of
from .link import Link, is_safe_name, wanted
from .partial import PartialStore, resume
from .progress import Progress
from .pursuit import pursuing
from .security import Channel, Security
from .store import Store, open_whole
from .swarm import Swarm
from .tree import Target

T = TypeVar("T")

#: Seconds between two progress reports.
REFRESH = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What both jobs take: where to listen, and what to tolerate."""

    listen: str = "127.0.0.1:0"
    max_peers: int = 64
    #: Seconds without a chunk after which a peer counts as stalled. ``None``: depends on the chunk size.
    stall: float | None = None
    #: Seconds without a new chunk after which a download fails.
    give_up: float = 60.0
    security: Security = field(default_factory=Security)

    def config(self, *, listen: bool = True) -> Settings:
        """Return the settings of the node. Raises ``ConfigError``."""
        # Several peers behind one address are usual here: a household, or all of them on this machine.
        return Settings(
            listen=self.listen if listen else None,
            max_connections=self.max_peers,
            max_connections_per_ip=self.max_peers,
        )


class StoppedError(Exception):
    """The work of a thread was stopped because its result is not awaited any more."""


async def share_file(path: Path, limits: Limits, progress: Progress, ready: Callable[[Link], None]) -> None:
    """Share ``path`` until cancelled. ``ready`` is called with the link once peers can connect.

    Raises :class:`ShareError`, ``OSError`` or the errors of the node if that becomes impossible.
    """
    config = limits.config()
    open_regular(path).close()  # an error in the name comes first
    channel = open_channel(limits, progress)
    if not is_safe_name(path.name):
        progress.say(f"the link will not contain the name {path.name!r}, under which others could not save the file")
    progress.begin("hashing", size_of(path))
    with closing(await in_thread(partial(open_whole, path), progress.at)) as whole:
        async with Swarm(whole, config, note=progress.say, patience=limits.stall, channel=channel) as swarm:
            # On a terminal the link and the progress share the screen, so the progress has to end first.
            progress.end()
            ready(link_to(swarm, channel, path.name))
            await serve(swarm, progress)


async def get_file(
    links: Sequence[Link],
    path: Path,
    limits: Limits,
    progress: Progress,
    done: Callable[[Target], None],
    *,
    found: Callable[[Target], None] = lambda target: None,
    force: bool = False,
    stay: bool = False,
) -> None:
    """Download what ``links`` name to ``path``, and offer it to others meanwhile.

    ``found`` is called once it is known what it is, ``done`` once the file is there and verified. With
    ``stay``, go on sharing it until cancelled. Raises :class:`ShareError`, ``OSError`` or the errors of the
    node if that becomes impossible.
    """
    root, addrs, config = wanted(links), [link.addr for link in links], limits.config()
    channel = open_channel(limits, progress, links)
    async with Asker(limits.config(listen=False), channel) as asker:
        target = await asker.ask_all(addrs, root)
    if root is None:
        progress.say(f"no link was given: trusting the first answer, root hash {target.root.hex()}")
    found(target)
    progress.begin("checking", target.size)
    with closing(await in_thread(partial(resume, path, target, force=force), progress.at)) as chunks:
        async with Swarm(chunks, config, note=progress.say, patience=limits.stall, channel=channel) as swarm:
            if stay or limits.listen != Limits().listen:
                progress.say(f"others can get it at {link_to(swarm, channel, path.name)}")
            if isinstance(chunks, PartialStore):
                await fetch(swarm, chunks, addrs, limits, progress, force=force)
            progress.end()
            done(target)
            if stay:
                await serve(swarm, progress)


def open_channel(limits: Limits, progress: Progress, links: Sequence[Link] = ()) -> Channel:
    """Return what secures the connections, and report what the user has to tell others about it."""
    channel = limits.security.open(links)
    if channel.told:
        progress.say(channel.told)
    return channel


async def serve(swarm: Swarm, progress: Progress) -> None:
    """Serve until cancelled or until that becomes impossible."""
    progress.begin("served", None)
    async with showing(swarm, progress):
        await swarm.failed()


async def fetch(
    swarm: Swarm, chunks: PartialStore, addrs: Sequence[Addr], limits: Limits, progress: Progress, *, force: bool
) -> None:
    """Download the missing chunks, verify the whole file and give it its name."""
    progress.begin("getting", chunks.target.size)
    progress.at(chunks.held)
    async with pursuing(swarm, addrs, give_up=limits.give_up), showing(swarm, progress):
        await swarm.complete()
    await publish(chunks, progress, force=force)


async def publish(chunks: PartialStore, progress: Progress, *, force: bool) -> None:
    """Verify the downloaded file on disk and give it its name."""
    progress.begin("verifying", chunks.target.size)
    await in_thread(chunks.verify, progress.at)
    chunks.publish(force=force)
    progress.end()


@asynccontextmanager
async def showing(swarm: Swarm, progress: Progress) -> AsyncIterator[None]:
    """Report the progress of ``swarm``: bytes received while it downloads, bytes served when it is complete."""

    def report() -> None:
        peers = len(swarm.exchanges)
        note = f"{peers} peer{'' if peers == 1 else 's'}"
        progress.at(swarm.store.held if fetching else swarm.served, note)

    fetching = not swarm.store.complete
    async with every(REFRESH, report):
        yield


@asynccontextmanager
async def every(seconds: float, call: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``call`` every ``seconds`` seconds, and once more at the end."""

    async def repeat() -> None:
        while True:
            call()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        await end([task])
        call()


async def in_thread(work: Callable[[Tick], T], tick: Tick) -> T:
    """Run ``work`` in a thread and return its result.

    If this is cancelled, ``work`` is stopped at its next tick and has ended when the cancellation is raised.
    """
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


def link_to(swarm: Swarm, channel: Channel, name: str) -> Link:
    """Return the link under which others can reach ``swarm``, which is listening."""
    addr = swarm.listening_addr
    assert addr is not None
    return Link(
        Addr(outward_host(), addr.port) if addr.is_wildcard else addr,
        swarm.target.root,
        channel.mode,
        channel.key,
        name if is_safe_name(name) else None,
    )


def outward_host() -> str:
    """Return the address of this machine towards others, or the loopback address if there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket selects a route and sends nothing. RFC 5737 reserves this address
            # for documentation.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        host: str = probe.getsockname()[0]
        return host
