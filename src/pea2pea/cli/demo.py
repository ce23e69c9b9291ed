"""The demonstration: a file that spreads through many nodes on this machine, shown as a table. Imports asyncio."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pea2pea import Topology
from pea2pea.share import Mode, ShareError
from pea2pea.share.crowd import Child, crowd, spread, traffic
from pea2pea.share.files import size_of
from pea2pea.share.jobs import every
from pea2pea.share.security import crowd_security

from .figures import Rate, percent, size
from .show import Show

MOST_NODES = 64
#: The file that is made if none is given, in MiB.
USUAL_SIZE = 64
#: The most MiB that each node sends per second, unless another limit is given. Without one, 64 MiB reach eight
#: nodes within a second, which is too fast to watch.
USUAL_RATE = 24
#: Seconds between two drawings of the table.
REDRAW = 0.25
HEAD = ("node", "pid", "port", "connected to", "has", "down", "up", "state")
#: The columns that are left out first in a narrow terminal.
OPTIONAL = ("pid", "port", "connected to")
#: The width of the summary if it is not printed on a terminal.
WIDE = 100
SUMMARY = "{:>4}  {:>8}  {:>5}  {:>10}  "


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to show."""

    nodes: int
    topology: Topology
    #: The file to spread. ``None``: one of ``size`` bytes is made.
    file: Path | None = None
    size: int = USUAL_SIZE << 20
    #: The most bytes that each node sends per second; ``None``: no limit.
    rate: float | None = USUAL_RATE << 20
    width: int | None = None
    height: int | None = None
    degree: int | None = None
    seed: int | None = None
    timeout: float = 120.0
    mode: Mode = Mode.PLAIN

    def edges(self) -> list[tuple[int, int]]:
        """Return which node dials which. Raises ``ConfigError``, or :class:`ShareError` for too many nodes."""
        if self.nodes > MOST_NODES:
            raise ShareError(f"at most {MOST_NODES} nodes can be run on one machine, got {self.nodes}")
        return self.topology.edges(self.nodes, width=self.width, height=self.height, degree=self.degree, seed=self.seed)


async def demo(plan: Plan, show: Show, out: TextIO) -> bool:
    """Run the demonstration, print a summary and the verdict, and return whether every copy matched.

    Raises :class:`ShareError`, ``ConfigError`` or ``OSError`` if it cannot be run.
    """
    dials = plan.edges()
    total = plan.size if plan.file is None else size_of(plan.file)
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="pea2pea-demo-") as name:
        directory = Path(name)
        check_space(directory, total * (plan.nodes if plan.file is None else plan.nodes - 1))
        file = plan.file if plan.file is not None else await asyncio.to_thread(make_file, directory, total)
        for line in introduction(plan, total):
            show.say(line)
        securities = crowd_security(directory, plan.nodes, plan.mode)
        began = loop.time()
        async with crowd(file, directory, securities, rate=plan.rate) as children:
            async with every(REDRAW, Board(show, children, total).draw):
                problem = await attempt(plan, children, dials)
            seconds = loop.time() - began
            right = sum(child.is_right for child in children)
    show.close()
    if not problem:
        print("\n".join(["", *summary(children, total, width_of(out)), ""]), file=out)
    print(verdict(plan, file, total, right, problem, seconds), file=out, flush=True)
    return not problem


async def attempt(plan: Plan, children: Sequence[Child], dials: Sequence[tuple[int, int]]) -> str:
    """Spread the file. Returns what went wrong; empty if nothing did."""
    try:
        async with asyncio.timeout(plan.timeout):
            roots = await spread(children, dials)
    except TimeoutError:
        return f"not done after {plan.timeout:g} seconds"
    except ShareError as error:
        return str(error)
    return "" if len(set(roots)) == 1 else "the copies differ"


class Board:
    """The table that is shown while the file spreads."""

    def __init__(self, show: Show, children: Sequence[Child], total: int) -> None:
        self._show = show
        self._children = children
        self._total = total
        self._down = [Rate(span=2.0) for _ in children]
        self._up = [Rate(span=2.0) for _ in children]

    def draw(self) -> None:
        """Show the table as it is now."""
        now = asyncio.get_running_loop().time()
        near = [sorted(got) for got in traffic(self._children)]
        rows = [self._row(child, near[child.index], now) for child in self._children]
        self._show.table(HEAD, rows, [_line(row) for row in rows], OPTIONAL)

    def _row(self, child: Child, near: Sequence[int], now: float) -> list[str]:
        down = self._down[child.index].read(child.at.get("fetched", 0), now)
        return [
            str(child.index),
            str(child.process.pid),
            child.addr.rpartition(":")[2],
            " ".join(map(str, near)),
            percent(child.at.get("held", 0), self._total),
            _rate(down) if not child.is_right else "",
            _rate(self._up[child.index].read(child.at.get("served", 0), now)),
            child.state,
        ]


def _line(row: Sequence[str]) -> str:
    node, *_, has, down, up, state = row
    rates = [f"{name} {rate}" for name, rate in (("down", down), ("up", up)) if rate]
    return f"node {node}: {', '.join([has, *rates, state])}"


def _rate(rate: float) -> str:
    return f"{size(rate)}/s" if rate >= 1 else ""


def introduction(plan: Plan, total: int) -> list[str]:
    """Return the first lines."""
    what = f"{plan.file} ({size(total)})" if plan.file is not None else f"a new file of {size(total)} of random bytes"
    lines = [f"spreading {what} from node 0", f"through {plan.nodes} processes ({plan.topology.value})"]
    if plan.rate is not None:
        lines.append(f"each sends at most {size(plan.rate)}/s (--rate 0: no limit)")
    return lines


def summary(children: Sequence[Child], total: int, width: int) -> list[str]:
    """Return a table of who got how much from whom, and how fast."""
    lines = [SUMMARY.format("node", "got", "in", "rate") + "from"]
    for child, got in zip(children, traffic(children), strict=True):
        if child.index == 0:
            lines.append(f"{child.index:>4}  had the file, and sent {size(child.at.get('served', 0))}")
            continue
        fetched, seconds = child.at.get("fetched", 0), child.seconds
        rate = f"{size(fetched / seconds)}/s" if seconds else ""
        start = SUMMARY.format(child.index, size(fetched), f"{seconds:.1f} s", rate)
        first, *rest = _wrap(_sources(got, total), max(12, width - len(start)))
        lines += [start + first, *(" " * len(start) + line for line in rest)]
    return [line.rstrip() for line in lines]


def _sources(got: dict[int, int], total: int) -> list[str]:
    """Return the share of each node, the largest first."""
    most_first = sorted((node for node in got if got[node]), key=lambda node: -got[node])
    return [f"{node}: {max(1, round(100 * got[node] / total))} %" for node in most_first]


def _wrap(items: Sequence[str], width: int) -> list[str]:
    """Return lines of ``items``, none of which is cut."""
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 2 > width:
            lines[-1] += ","
            lines.append("")
        lines[-1] += f", {item}" if lines[-1] else item
    return lines


def verdict(plan: Plan, file: Path, total: int, right: int, problem: str, seconds: float) -> str:
    """Return the last line."""
    what = f"{plan.nodes} nodes ({plan.topology.value}), {file.name} of {size(total)}"
    if problem:
        return f"FAILED: {what}: {right} of {plan.nodes} copies verified; {problem}"
    return f"OK: {what}: {right} of {plan.nodes} copies verified in {seconds:.1f} s"


def make_file(directory: Path, count: int) -> Path:
    """Make a file of ``count`` random bytes."""
    path = directory / "random.bin"
    with path.open("wb") as file:
        for start in range(0, count, 1 << 20):
            file.write(os.urandom(min(1 << 20, count - start)))
    return path


def check_space(directory: Path, needed: int) -> None:
    """Raise :class:`ShareError` if the copies do not fit on the disk."""
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise ShareError(f"the copies need {size(needed)} in {directory.parent}, where {size(free)} are free")


def width_of(out: TextIO) -> int:
    """Return how wide the summary may be."""
    return shutil.get_terminal_size().columns if out.isatty() else WIDE
