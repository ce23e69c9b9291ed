"""``share`` and ``get`` as a whole, in this process and over TCP."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pea2pea import ConfigError
from pea2pea.cli import jobs, store
from pea2pea.cli.errors import CliError, FileChangedError
from pea2pea.cli.jobs import Limits, get, in_thread, share
from pea2pea.cli.store import Store, Tick, part_of, tree_of
from pea2pea.cli.swarm import end
from support.cli import Notes, Printed, any_line, length, listing, make_file, same
from support.cli_process import running

pytestmark = pytest.mark.loop("tcp")

LIMITS = Limits(give_up=5.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 9.5)


@asynccontextmanager
async def sharing(file: Path, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    printed = Printed()
    async with running(share(file, Limits(listen=listen), Notes(), printed), printed) as link:
        yield link


async def fetch(out: Path, *sources: str, **options: bool) -> tuple[Notes, Printed]:
    notes, printed = Notes(), Printed()
    await get(sources, out, LIMITS, notes, printed, **options)
    return notes, printed


async def test_a_link_is_enough(file: Path, tmp_path: Path) -> None:
    async with sharing(file) as link:
        notes, printed = await fetch(tmp_path / "copy", link)
    root = link.rpartition("/")[2]
    assert printed.lines.items == [f"{tmp_path / 'copy'}: 2.4 MiB, verified, root {root}"]
    assert same(tmp_path / "copy", file)
    assert [what for what, _ in notes.begun.items] == ["checking", "fetching", "verifying"]
    assert notes.last["fetching"] == length(file)
    assert not any_line(notes.lines, "trusting")
    assert listing(tmp_path) == {"copy", "file"}


async def test_a_plain_address_is_trusted_and_that_is_said(file: Path, tmp_path: Path) -> None:
    async with sharing(file) as link:
        address = link.removeprefix("pea2pea://").partition("/")[0]
        notes, _ = await fetch(tmp_path / "copy", address)
    assert any_line(notes.lines, "trusting the first root that was told", link.rpartition("/")[2])
    assert same(tmp_path / "copy", file)


async def test_from_several_some_of_which_are_not_there(file: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sharing(file) as one, sharing(file) as two:
            await fetch(tmp_path / "copy", one, two, one, f"127.0.0.1:{closed.getsockname()[1]}")
    assert same(tmp_path / "copy", file)


async def test_who_stays_serves_others(file: Path, tmp_path: Path) -> None:
    notes, printed = Notes(), Printed()
    async with sharing(file) as link:
        job = get([link], tmp_path / "one", LIMITS, notes, printed, stay=True)
        async with running(job, printed):
            served_at = next(line for line in notes.lines if "offering" in line).split()[-1]
            await fetch(tmp_path / "two", served_at)
    assert same(tmp_path / "two", file)
    assert notes.last["served"] == length(file)


async def test_a_file_that_is_there_already_is_not_fetched(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "copy")
    async with sharing(file) as link:
        notes, printed = await fetch(tmp_path / "copy", link)
        (tmp_path / "copy").write_bytes(b"other")
        with pytest.raises(CliError, match="--force"):
            await fetch(tmp_path / "copy", link)
        await fetch(tmp_path / "copy", link, force=True)
    assert "verified" in printed.lines.items[0]
    assert "fetching" not in notes.last
    assert same(tmp_path / "copy", file)


async def test_a_fetch_that_is_cancelled_can_be_resumed(file: Path, tmp_path: Path) -> None:
    copy, notes = tmp_path / "copy", Notes()
    async with sharing(file) as link:
        task = asyncio.create_task(get([link], copy, LIMITS, notes, Printed()))
        await notes.begun.has(("fetching", length(file)))
        await end([task])
        assert not copy.exists()
        assert part_of(copy).exists() and tree_of(copy).exists()
        await fetch(copy, link)
    assert same(copy, file)
    assert not part_of(copy).exists() and not tree_of(copy).exists()


async def test_another_root_than_the_link_names(file: Path, tmp_path: Path) -> None:
    async with sharing(file) as link:
        with pytest.raises(CliError, match="offers another file"):
            await fetch(tmp_path / "copy", link[:-64] + "0" * 64)
    assert not (tmp_path / "copy").exists()


async def test_a_shared_file_that_changes_ends_the_sharing(file: Path, tmp_path: Path) -> None:
    printed = Printed()
    task = asyncio.create_task(share(file, Limits(), Notes(), printed))
    link = (await printed.lines.count(1))[0]
    os.utime(file, ns=(1, 1))
    with pytest.raises(CliError):
        await get([link], tmp_path / "copy", Limits(give_up=0.5), Notes(), Printed())
    with pytest.raises(FileChangedError):
        await task


async def test_a_wildcard_is_no_address_for_others(file: Path) -> None:
    async with sharing(file, listen="0.0.0.0:0") as link:
        assert "0.0.0.0" not in link


async def test_a_machine_without_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unplugged(socket.socket):
        def connect(self, address: Any) -> None:
            raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "socket", Unplugged)
    assert jobs.outward_host() == "127.0.0.1"


async def test_wrong_settings(file: Path) -> None:
    with pytest.raises(ConfigError, match="max_connections"):
        await share(file, Limits(max_peers=0), Notes(), Printed())
    with pytest.raises(ConfigError, match="listen"):
        await share(file, Limits(listen="nowhere"), Notes(), Printed())


async def test_work_in_a_thread_is_stopped_when_nobody_waits_for_it(file: Path) -> None:
    loop, begun, ticks = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work(tick: Tick) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not ticks.wait(0.01):
            tick(0)

    task = asyncio.create_task(in_thread(work, lambda done: None))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_thread_has_opened_meanwhile_is_closed(file: Path) -> None:
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work(tick: Tick) -> Store:
        chunks = partial(store.share, file)(lambda done: None)
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        return chunks

    task = asyncio.create_task(in_thread(work, lambda done: None))
    await begun.wait()
    task.cancel()
    loop.call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
