"""Many nodes on this machine, each a process of its own, that exchange one file. Imports asyncio.

The processes run :mod:`pea2pea.share.child`. They are ended on every way out, by closing their input,
then by signals; and they end by themselves when this process does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ShareError
from .security import Security

#: Seconds that processes get to end by themselves, and again after they were asked to.
GRACE = 3.0


@dataclass(slots=True, eq=False)
class Child:
    """One process, and what it reported last."""

    index: int
    process: asyncio.subprocess.Process
    log: Path
    listening: asyncio.Future[dict[str, Any]]
    verified: asyncio.Future[str]
    state: str = "starting"
    #: How long the download took, in seconds.
    seconds: float = 0.0
    at: dict[str, Any] = field(default_factory=dict)
    #: What was reported of each peer, by its address; also of those that are gone.
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    reported: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def addr(self) -> str:
        """The address it listens on; empty before it does."""
        return str(self.listening.result()["addr"]) if has_result(self.listening) else ""

    @property
    def is_right(self) -> bool:
        """Whether its copy is verified."""
        return has_result(self.verified)

    def order(self, order: dict[str, Any]) -> None:
        """Send it an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def listen(self) -> None:
        """Process its events until it ends. Whatever it has not reported by then has failed."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.take(json.loads(line))
        await self.process.wait()
        self.reported.set()
        if self.state != "failed":
            self.fail(f"it ended with status {self.process.returncode}{last_line(self.log)}")

    def take(self, event: dict[str, Any]) -> None:
        """Process one event."""
        match event["event"]:
            case "at":
                self.at = event
                self.peers |= {peer["addr"]: peer for peer in event["peers"]}
                self.reported.set()
            case "listening":
                self.state = "getting" if self.index else "sharing"
                _settle(self.listening, event)
            case "verified":
                self.state = "verified"
                self.seconds = event["seconds"]
                _settle(self.verified, event["root"])
            case "failed":
                self.fail(event["error"])

    async def report(self) -> None:
        """Wait for its next report, or for its end."""
        self.reported.clear()
        await self.reported.wait()

    def fail(self, why: str) -> None:
        """Fail whatever it has not reported yet."""
        for future in (self.listening, self.verified):
            if not future.done():
                self.state = "failed"
                future.set_exception(ShareError(f"node {self.index} failed: {why}"))


async def spread(children: Sequence[Child], dials: Sequence[tuple[int, int]]) -> list[str]:
    """Have the first node's file fetched by the others, and return the root hashes of all when all are verified.

    By then, each has reported its final figures.
    """
    first, *others = children
    offer = await first.listening
    for child in others:
        child.order({"size": offer["size"], "top": offer["top"]})
    await asyncio.gather(*(child.listening for child in others))
    for child in children:
        child.order({"dial": [children[dialled].addr for dialler, dialled in dials if dialler == child.index]})
    roots = await asyncio.gather(*(child.verified for child in children))
    await asyncio.gather(*(child.report() for child in children))
    return roots


@asynccontextmanager
async def crowd(
    file: Path, directory: Path, securities: Sequence[Security], *, rate: float | None = None
) -> AsyncIterator[list[Child]]:
    """Start one process for each of ``securities``, and end all of them at the end.

    The first shares ``file``; the others write files of the same name below ``directory``.
    Each sends at most ``rate`` bytes per second.
    """
    children: list[Child] = []
    listeners: list[asyncio.Task[None]] = []
    try:
        for index, security in enumerate(securities):
            child = await start(file, index, directory, security, rate)
            children.append(child)
            listeners.append(asyncio.create_task(child.listen()))
        yield children
    finally:
        await dismiss(children)
        await asyncio.gather(*listeners, return_exceptions=True)


async def start(file: Path, index: int, directory: Path, security: Security, rate: float | None) -> Child:
    """Start one process and tell it what to be."""
    place = directory / f"node-{index}"
    place.mkdir()
    log = place / "log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pea2pea.share.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    child = Child(index, process, log, promise(), promise())
    what = {"file": str(file)} if index == 0 else {"out": str(place / file.name)}
    child.order({**what, "rate": rate, "security": security.to_dict()})
    return child


async def dismiss(children: Sequence[Child]) -> None:
    """End the processes: by closing their input, then by SIGTERM, then by SIGKILL."""
    for child in children:
        assert child.process.stdin is not None
        child.process.stdin.close()
    for force in (None, asyncio.subprocess.Process.terminate, asyncio.subprocess.Process.kill):
        alive = [child.process for child in children if child.process.returncode is None]
        for process in alive:
            if force is not None:
                with suppress(ProcessLookupError):
                    force(process)
        if alive:
            await asyncio.wait([asyncio.create_task(process.wait()) for process in alive], timeout=GRACE)


def traffic(children: Sequence[Child]) -> list[dict[int, int]]:
    """Return, for each node, the bytes it received from each node that it is or was connected to.

    A dialled peer is known by the address it listens on. A peer that dialled is known by the local address
    of its end, which it reports itself.
    """
    index_of = {child.addr: child.index for child in children if child.addr}
    for child in children:
        index_of |= {peer["local"]: child.index for peer in child.peers.values() if not peer["inbound"]}
    table: list[dict[int, int]] = []
    for child in children:
        got: dict[int, int] = {}
        for addr, peer in child.peers.items():
            if addr in index_of:
                got[index_of[addr]] = got.get(index_of[addr], 0) + peer["delivered"]
        table.append(got)
    return table


def promise() -> asyncio.Future[Any]:
    """Return a future whose exception may stay unretrieved: if several nodes fail, only one error is shown."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def has_result(future: asyncio.Future[Any]) -> bool:
    """Return whether ``future`` is done and has a result."""
    return future.done() and not future.cancelled() and future.exception() is None


def last_line(log: Path) -> str:
    """Return the last line of a log, after a colon; empty if there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((f": {line}" for line in reversed(lines) if line.strip()), "")


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)
