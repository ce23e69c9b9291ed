"""The demonstration: real processes, in every shape, and what is said when something goes wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pea2pea import ConfigError, Topology
from pea2pea.cli import demo as module
from pea2pea.cli.demo import MOST_NODES, Child, Plan, demo, neighbours, verdict
from pea2pea.cli.errors import CliError
from pea2pea.cli.show import Meter
from support.cli import Notes, Printed, listing, make_file

pytestmark = pytest.mark.loop("tcp")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Plan(file=make_file(tmp_path / "file", 4.5), nodes=3, topology=Topology.LINE, timeout=40)


def with_spread(monkeypatch: pytest.MonkeyPatch, spoil: Any) -> list[int]:
    """Have ``spoil`` done to the processes once they are started; return where their ids will be."""
    real = module.spread
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
    notes, printed = Notes(), Printed()
    assert await demo(plan, notes, printed)
    assert printed.lines.items[-1].startswith("OK: 3 nodes (line), file of 1.1 MiB: 3 of 3 copies verified in ")
    assert [row[0] for row in notes.rows] == ["0", "1", "2"]
    assert {row[-1] for row in notes.rows} == {"verified"}
    assert {row[4] for row in notes.rows} == {"100 %"}
    assert notes.is_closed
    assert len(pids) == 3
    assert_gone(pids)
    assert listing(tmp_path) == {plan.file.name}


async def test_a_node_that_is_killed(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = with_spread(monkeypatch, lambda children: children[1].process.kill())
    printed = Printed()
    assert not await demo(plan, Notes(), printed)
    assert printed.lines.items[-1].startswith("FAILED: 3 nodes")
    assert "node 1 failed: it ended with status -9" in printed.lines.items[-1]
    assert_gone(pids)
    assert listing(tmp_path) == {plan.file.name}


async def test_copies_that_differ(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def swap(children: Sequence[Child]) -> None:
        children[2].verified.set_result("another root")

    with_spread(monkeypatch, swap)
    printed = Printed()
    assert not await demo(plan, Notes(), printed)
    assert "the copies differ" in printed.lines.items[-1]


async def test_it_takes_no_longer_than_it_may(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = with_spread(monkeypatch, lambda children: None)
    hasty = Plan(file=plan.file, nodes=2, topology=Topology.LINE, timeout=0.001)
    printed = Printed()
    assert not await demo(hasty, Notes(), printed)
    assert "not done after 0.001 seconds" in printed.lines.items[-1]
    assert_gone(pids)
    assert listing(tmp_path) == {plan.file.name}


async def test_cancelled_it_leaves_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()
    pids = with_spread(monkeypatch, lambda children: started.set())
    task = asyncio.create_task(demo(plan, Notes(), Printed()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_gone(pids)
    assert listing(tmp_path) == {plan.file.name}


async def test_who_does_not_end_by_itself_is_ended(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is stopped neither sees the end of its orders nor takes a polite signal."""
    monkeypatch.setattr(module, "GRACE", 0.2)

    def stop(children: Sequence[Child]) -> None:
        os.kill(children[1].process.pid, 19)
        raise CliError("enough")

    pids = with_spread(monkeypatch, stop)
    printed = Printed()
    assert not await demo(plan, Notes(), printed)
    assert printed.lines.items[-1].endswith("0 of 3 copies verified; enough")
    assert_gone(pids)


async def test_what_cannot_be_shown(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    for nodes, error, why in ((MOST_NODES + 1, CliError, "more than"), (1, ConfigError, "nodes")):
        with pytest.raises(error, match=why):
            await demo(Plan(file=plan.file, nodes=nodes, topology=Topology.LINE), Notes(), Printed())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(CliError, match=r"the copies need 2\.2 MiB"):
        await demo(plan, Notes(), Printed())


def child(index: int, log: Path) -> Child:
    process: Any = None
    return Child(index, process, log, module._promise(), module._promise(), Meter(0), Meter(0))


async def test_what_a_child_tells(tmp_path: Path) -> None:
    one, two = child(0, tmp_path / "log"), child(1, tmp_path / "log")
    assert one.addr == ""
    for each, port in ((one, 1), (two, 2)):
        each.take({"event": "listening", "addr": f"127.0.0.1:{port}"})
    assert (one.state, two.state) == ("sharing", "fetching")
    two.take({"event": "at", "dialled": ["127.0.0.1:1"]})
    assert neighbours([one, two]) == [{1}, {0}]
    two.take({"event": "failed", "error": "the disk is full"})
    assert two.state == "failed"
    with pytest.raises(CliError, match="node 1 failed: the disk is full"):
        await two.verified
    one.take({"event": "verified", "root": "ab"})
    one.fail("too late")
    assert (one.state, await one.verified) == ("verified", "ab")


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\nlast\n\n")
    assert module._last_line(tmp_path / "log") == ": last"
    assert module._last_line(tmp_path / "none") == ""


def test_the_verdict(tmp_path: Path) -> None:
    plan = Plan(file=tmp_path / "x", nodes=8, topology=Topology.GRID)
    assert verdict(plan, 1024, 8, "", 1.23) == "OK: 8 nodes (grid), x of 1.0 KiB: 8 of 8 copies verified in 1.2 s"
    assert verdict(plan, 1024, 7, "why", 1.0) == "FAILED: 8 nodes (grid), x of 1.0 KiB: 7 of 8 copies verified; why"
