"""A demonstration: many nodes, each a process of its own, and a file that spreads through them. Imports asyncio.

The processes are the command itself in the mode of :mod:`pea2pea.cli.child`. They are ended on
every way out, by closing what tells them what to do, then by their process ids; and they end by
themselves when this process does.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pea2pea import Topology

from .errors import CliError
from .jobs import every
from .security import Security, crowd_security
from .show import Meter, Show, percent, size
from .store import size_of

MOST_NODES = 64
#: Seconds between two drawings of the table.
REDRAW = 0.25
#: Seconds that processes get to end by themselves, and then again when they are told to.
GRACE = 3.0
HEAD = ("node", "pid", "port", "connected to", "has", "down", "up", "state")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to show."""

    file: Path
    nodes: int
    topology: Topology
    width: int | None = None
    height: int | None = None
    degree: int | None = None
    seed: int | None = None
    timeout: float = 120.0
    noise: bool = False
    tls: bool = False

    def edges(self) -> list[tuple[int, int]]:
        """Return who dials whom. Raises ``ConfigError``, or :class:`CliError` for too many nodes."""
        if self.nodes > MOST_NODES:
            raise CliError(f"{self.nodes} nodes are more than the {MOST_NODES} that one machine is asked to run")
        return self.topology.edges(self.nodes, width=self.width, height=self.height, degree=self.degree, seed=self.seed)


@dataclass(slots=True, eq=False)
class Child:
    """One process, and what it told last."""

    index: int
    process: asyncio.subprocess.Process
    log: Path
    listening: asyncio.Future[dict[str, Any]]
    verified: asyncio.Future[str]
    down: Meter
    up: Meter
    state: str = "starting"
    at: dict[str, Any] = field(default_factory=dict)

    @property
    def addr(self) -> str:
        """Where it listens; empty while it does not."""
        return str(self.listening.result()["addr"]) if _has_result(self.listening) else ""

    def order(self, order: dict[str, Any]) -> None:
        """Tell it what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def listen(self) -> None:
        """Take in what it tells, until it ends; what it has not told by then, it failed to."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.take(json.loads(line))
        await self.process.wait()
        if self.state != "failed":
            self.fail(f"it ended with status {self.process.returncode}{_last_line(self.log)}")

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event."""
        match event["event"]:
            case "at":
                self.at = event
            case "listening":
                self.state = "fetching" if self.index else "sharing"
                _settle(self.listening, event)
            case "verified":
                self.state = "verified"
                _settle(self.verified, event["root"])
            case "failed":
                self.fail(event["error"])

    def fail(self, why: str) -> None:
        """Let whoever waits for it know that there is nothing to wait for."""
        for future in (self.listening, self.verified):
            if not future.done():
                self.state = "failed"
                future.set_exception(CliError(f"node {self.index} failed: {why}"))


async def demo(plan: Plan, show: Show, out: TextIO) -> bool:
    """Run it and print the verdict; return whether every copy matched. Raises what keeps it from being run."""
    dials = plan.edges()
    total = size_of(plan.file)
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="pea2pea-demo-") as name:
        _check_room(Path(name), total * (plan.nodes - 1))
        began = loop.time()
        async with crowd(plan, Path(name)) as children, every(REDRAW, lambda: draw(show, children, total)):
            try:
                async with asyncio.timeout(plan.timeout):
                    roots = await spread(children, dials)
                problem = "" if len(set(roots)) == 1 else "the copies differ"
            except TimeoutError:
                problem = f"not done after {plan.timeout:g} seconds"
            except CliError as error:
                problem = str(error)
            right = sum(_has_result(child.verified) for child in children)
    show.close()
    print(verdict(plan, total, right, problem, loop.time() - began), file=out, flush=True)
    return not problem


async def spread(children: Sequence[Child], dials: Sequence[tuple[int, int]]) -> list[str]:
    """Tell all nodes what to fetch and whom to dial, and return the roots of their copies when all are verified."""
    first, *others = children
    offer = await first.listening
    for child in others:
        child.order({"size": offer["size"], "top": offer["top"]})
    await asyncio.gather(*(child.listening for child in others))
    for child in children:
        child.order({"dial": [children[dialled].addr for dialler, dialled in dials if dialler == child.index]})
    return await asyncio.gather(*(child.verified for child in children))


@asynccontextmanager
async def crowd(plan: Plan, directory: Path) -> AsyncIterator[list[Child]]:
    """Start the processes, and end every one of them."""
    children: list[Child] = []
    listeners: list[asyncio.Task[None]] = []
    securities = crowd_security(directory, plan.nodes, noise=plan.noise, tls=plan.tls)
    try:
        for index in range(plan.nodes):
            child = await start(plan, index, directory, securities[index])
            children.append(child)
            listeners.append(asyncio.create_task(child.listen()))
        yield children
    finally:
        await dismiss(children)
        await asyncio.gather(*listeners, return_exceptions=True)


async def start(plan: Plan, index: int, directory: Path, security: Security) -> Child:
    """Start one process; the first has the file, the others write to files of the same name."""
    room = directory / f"node-{index}"
    room.mkdir()
    log = room / "log"
    what = ["--file", str(plan.file)] if index == 0 else ["--out", str(room / plan.file.name)]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pea2pea", "node", *what, *security.arguments()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    now = asyncio.get_running_loop().time()
    return Child(index, process, log, _promise(), _promise(), Meter(now), Meter(now))


async def dismiss(children: Sequence[Child]) -> None:
    """End the processes: by having nothing more to tell them, then by asking, then by force."""
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


def draw(show: Show, children: Sequence[Child], total: int) -> None:
    """Show the table as it is now."""
    now = asyncio.get_running_loop().time()
    near = neighbours(children)
    show.table(HEAD, [_row(child, near[child.index], total, now) for child in children])


def neighbours(children: Sequence[Child]) -> list[set[int]]:
    """Return who is connected to whom, as those who dialled tell it."""
    index_of = {child.addr: child.index for child in children if child.addr}
    near: list[set[int]] = [set() for _ in children]
    for child in children:
        for addr in child.at.get("dialled", ()):
            other = index_of[addr]
            near[child.index].add(other)
            near[other].add(child.index)
    return near


def _row(child: Child, near: set[int], total: int, now: float) -> list[str]:
    return [
        str(child.index),
        str(child.process.pid),
        child.addr.rpartition(":")[2],
        " ".join(map(str, sorted(near))),
        percent(child.at.get("held", 0), total),
        _rate(child.down, child.at.get("fetched", 0), now),
        _rate(child.up, child.at.get("served", 0), now),
        child.state,
    ]


def _rate(meter: Meter, count: int, now: float) -> str:
    rate = meter.read(count, now)
    return f"{size(rate)}/s" if rate >= 1 else ""


def verdict(plan: Plan, total: int, right: int, problem: str, seconds: float) -> str:
    """Return the last line."""
    what = f"{plan.nodes} nodes ({plan.topology.value}), {plan.file.name} of {size(total)}"
    if problem:
        return f"FAILED: {what}: {right} of {plan.nodes} copies verified; {problem}"
    return f"OK: {what}: {right} of {plan.nodes} copies verified in {seconds:.1f} s"


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise CliError(f"the copies need {size(needed)} in {directory.parent}, where {size(free)} are free")


def _promise() -> asyncio.Future[Any]:
    """Return a future whose exception may go unseen: of several that fail together, one is told."""
    promise: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    promise.add_done_callback(lambda done: done.cancelled() or done.exception())
    return promise


def _has_result(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((f": {line}" for line in reversed(lines) if line.strip()), "")
