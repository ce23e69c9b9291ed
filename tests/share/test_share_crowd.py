"""Many nodes, each a process: what they report, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pea2pea.share import crowd as module
from pea2pea.share.crowd import Child, crowd, last_line, promise, spread, traffic
from pea2pea.share.errors import ShareError
from pea2pea.share.security import Security
from support.share import length, make_file, same

pytestmark = pytest.mark.loop("tcp")

LINE = [(0, 1), (1, 2)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 4.5)


@asynccontextmanager
async def three(file: Path) -> AsyncIterator[list[Child]]:
    """Three processes, which are gone at the end."""
    async with crowd(file, file.parent, [Security()] * 3, rate=None) as children:
        yield children
    assert_gone(children)


def assert_gone(children: Sequence[Child]) -> None:
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child.process.pid, 0)


async def test_a_file_spreads_and_the_processes_end(file: Path) -> None:
    async with three(file) as children:
        roots = await spread(children, LINE)
        assert len(roots) == 3 and len(set(roots)) == 1
        assert [child.state for child in children] == ["verified"] * 3
        got = traffic(children)
        assert got[0] == {1: 0}
        assert got[1][0] + got[1][2] == got[2][1] == length(file)
        assert all(child.seconds > 0 for child in children[1:])
    assert same(file, *(file.parent / f"node-{index}" / "file" for index in (1, 2)))


async def test_a_process_that_is_killed(file: Path) -> None:
    async with three(file) as children:
        children[1].process.kill()
        with pytest.raises(ShareError, match="node 1 failed: it ended with status -9"):
            await spread(children, LINE)


async def test_a_process_that_does_not_end_by_itself_is_killed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process notices neither the end of its input nor SIGTERM."""
    monkeypatch.setattr(module, "GRACE", 0.2)
    async with three(file) as children:
        os.kill(children[1].process.pid, 19)


def child(index: int, log: Path) -> Child:
    process: Any = None
    return Child(index, process, log, promise(), promise())


async def test_what_a_process_reports(tmp_path: Path) -> None:
    one, two = child(0, tmp_path / "log"), child(1, tmp_path / "log")
    assert one.addr == ""
    for each, port in ((one, 1), (two, 2)):
        each.take({"event": "listening", "addr": f"127.0.0.1:{port}"})
    assert (one.state, two.state) == ("sharing", "getting")
    away = {"addr": "127.0.0.1:1", "local": "127.0.0.1:77", "inbound": False, "delivered": 5}
    back = {"addr": "127.0.0.1:77", "local": "127.0.0.1:1", "inbound": True, "delivered": 7}
    stranger = {"addr": "127.0.0.1:99", "local": "127.0.0.1:1", "inbound": True, "delivered": 0}
    one.take({"event": "at", "peers": [back, stranger]})
    two.take({"event": "at", "peers": [away]})
    assert traffic([one, two]) == [{1: 7}, {0: 5}]
    two.take({"event": "at", "peers": []})
    assert traffic([one, two]) == [{1: 7}, {0: 5}], "a connection that has ended is still counted"
    two.take({"event": "failed", "error": "the disk is full"})
    assert two.state == "failed"
    with pytest.raises(ShareError, match="node 1 failed: the disk is full"):
        await two.verified
    one.take({"event": "verified", "root": "ab", "seconds": 0.0})
    one.fail("too late")
    assert (one.state, await one.verified, one.is_right, two.is_right) == ("verified", "ab", True, False)


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("first\nlast\n\n")
    assert last_line(tmp_path / "log") == ": last"
    assert last_line(tmp_path / "none") == ""


async def test_a_failure_that_is_not_awaited_is_not_reported() -> None:
    promise().set_exception(ShareError("not looked at"))
    await asyncio.sleep(0)
