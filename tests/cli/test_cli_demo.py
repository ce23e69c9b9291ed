"""The demonstration: real processes, and what is printed if something goes wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pea2pea import ConfigError, Topology
from pea2pea.cli import demo as module
from pea2pea.cli.demo import MOST_NODES, Plan, demo, summary, verdict
from pea2pea.cli.figures import Row
from pea2pea.cli.show import Show
from pea2pea.share.crowd import Child, promise
from pea2pea.share.crowd import spread as real_spread
from pea2pea.share.errors import ShareError
from support.share import Notes, Printed, length, listing, make_file


class Table(Notes, Show):
    """Writes down the table, too."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.is_closed = False

    def table(self, head: Row, rows: Sequence[Row], lines: Sequence[str], optional: Sequence[str] = ()) -> None:
        self.rows = [list(row) for row in rows]

    def close(self) -> None:
        self.is_closed = True


pytestmark = pytest.mark.loop("tcp")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Plan(file=make_file(tmp_path / "file", 4.5), nodes=3, topology=Topology.LINE, timeout=40)


def plan_file(plan: Plan) -> Path:
    assert plan.file is not None
    return plan.file


def with_spread(monkeypatch: pytest.MonkeyPatch, spoil: Any) -> list[int]:
    """Call ``spoil`` with the processes once they have started. Returns the list that their ids will be in."""
    real = real_spread
    pids: list[int] = []

    async def spread(children: Sequence[Child], dials: Sequence[tuple[int, int]]) -> list[str]:
        pids.extend(child.process.pid for child in children)
        spoil(children)
        return await real(children, dials)

    monkeypatch.setattr(module, "spread", spread)
    return pids


def assert_gone(pids: Sequence[int]) -> None:
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_it_spreads_and_everything_is_gone_afterwards(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = with_spread(monkeypatch, lambda children: None)
    notes, printed = Table(), Printed()
    assert await demo(plan, notes, printed)
    assert printed.lines.items[-1].startswith("OK: 3 nodes (line), file of 1.1 MiB: 3 of 3 copies verified in ")
    assert [row[0] for row in notes.rows] == ["0", "1", "2"]
    assert {row[-1] for row in notes.rows} == {"verified"}
    assert {row[4] for row in notes.rows} == {"100 %"}
    assert notes.is_closed
    assert len(pids) == 3
    assert_gone(pids)
    assert listing(tmp_path) == {plan_file(plan).name}


async def test_a_node_that_is_killed(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = with_spread(monkeypatch, lambda children: children[1].process.kill())
    printed = Printed()
    assert not await demo(plan, Table(), printed)
    assert printed.lines.items[-1].startswith("FAILED: 3 nodes")
    assert "node 1 failed: it ended with status -9" in printed.lines.items[-1]
    assert_gone(pids)
    assert listing(tmp_path) == {plan_file(plan).name}


async def test_copies_that_differ(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def swap(children: Sequence[Child]) -> None:
        children[2].verified.set_result("another root")

    with_spread(monkeypatch, swap)
    printed = Printed()
    assert not await demo(plan, Table(), printed)
    assert "the copies differ" in printed.lines.items[-1]


async def test_it_fails_after_its_timeout(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = with_spread(monkeypatch, lambda children: None)
    hasty = Plan(file=plan.file, nodes=2, topology=Topology.LINE, timeout=0.001)
    printed = Printed()
    assert not await demo(hasty, Table(), printed)
    assert "not done after 0.001 seconds" in printed.lines.items[-1]
    assert_gone(pids)
    assert listing(tmp_path) == {plan_file(plan).name}


async def test_cancelled_it_leaves_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()
    pids = with_spread(monkeypatch, lambda children: started.set())
    task = asyncio.create_task(demo(plan, Table(), Printed()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_gone(pids)
    assert listing(tmp_path) == {plan_file(plan).name}


async def test_a_demonstration_that_cannot_be_run(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    for nodes, error, why in ((MOST_NODES + 1, ShareError, "at most 64"), (1, ConfigError, "nodes")):
        with pytest.raises(error, match=why):
            await demo(Plan(file=plan.file, nodes=nodes, topology=Topology.LINE), Table(), Printed())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ShareError, match=r"the copies need 2\.2 MiB"):
        await demo(plan, Table(), Printed())


async def test_without_a_file_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    show, printed = Table(), Printed()
    assert await demo(Plan(nodes=2, topology=Topology.LINE, size=3 << 20, rate=None), show, printed)
    assert show.lines[0] == "spreading a new file of 3.0 MiB of random bytes from node 0"
    assert printed.lines.items[-1].startswith("OK: 2 nodes (line), random.bin of 3.0 MiB: 2 of 2 copies verified in ")
    assert listing(tmp_path) == set()


async def test_a_limited_rate_is_reported_and_kept(plan: Plan) -> None:
    show, rate = Table(), 1 << 20
    began = asyncio.get_running_loop().time()
    assert await demo(replace(plan, nodes=2, rate=rate), show, Printed())
    assert asyncio.get_running_loop().time() - began > length(plan_file(plan)) / rate - 0.5
    assert "each sends at most 1.0 MiB/s (--rate 0: no limit)" in show.lines


def child(index: int, addr: str, *peers: tuple[str, int], seconds: float = 2.0) -> Child:
    process: Any = None
    one = Child(index, process, Path("log"), promise(), promise(), seconds=seconds)
    one.listening.set_result({"addr": addr})
    one.verified.set_result("root")
    known = [{"addr": peer, "local": "", "inbound": False, "delivered": count} for peer, count in peers]
    fetched = sum(count for _, count in peers)
    one.take({"event": "at", "fetched": fetched, "served": 3 << 20, "held": 8 << 20, "peers": known})
    return one


async def test_the_summary_says_who_got_how_much_from_whom_and_how_fast() -> None:
    mib = 1 << 20
    children = [
        child(0, "h:10"),
        child(1, "h:11", ("h:10", 6 * mib), ("h:12", 2 * mib)),
        child(2, "h:12", ("h:11", 8 * mib - 1), ("h:10", 1), seconds=0.5),
    ]
    assert summary(children, 8 * mib, 100) == [
        "node       got     in        rate  from",
        "   0  had the file, and sent 3.0 MiB",
        "   1   8.0 MiB  2.0 s   4.0 MiB/s  0: 75 %, 2: 25 %",
        "   2   8.0 MiB  0.5 s  16.0 MiB/s  1: 100 %, 0: 1 %",
    ]
    assert summary(children, 8 * mib, 50)[2:4] == [
        "   1   8.0 MiB  2.0 s   4.0 MiB/s  0: 75 %,",
        "                                   2: 25 %",
    ]


def test_the_verdict(tmp_path: Path) -> None:
    plan, x = Plan(nodes=8, topology=Topology.GRID), tmp_path / "x"
    assert verdict(plan, x, 1024, 8, "", 1.23) == "OK: 8 nodes (grid), x of 1.0 KiB: 8 of 8 copies verified in 1.2 s"
    failed = "FAILED: 8 nodes (grid), x of 1.0 KiB: 7 of 8 copies verified; why"
    assert verdict(plan, x, 1024, 7, "why", 1.0) == failed
