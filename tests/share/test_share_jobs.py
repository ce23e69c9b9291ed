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
from pea2pea.share import jobs
from pea2pea.share.errors import FileChangedError, ShareError
from pea2pea.share.exchange import end
from pea2pea.share.files import Tick
from pea2pea.share.jobs import Limits, in_thread
from pea2pea.share.link import Link
from pea2pea.share.partial import part_of, tree_of
from pea2pea.share.store import Store, open_whole
from support.cli_process import running
from support.share import Notes, Printed, any_line, get, length, listing, make_file, root_in, same, share

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
    root = root_in(link)
    assert printed.lines.items == [f"verified {root}"]
    assert same(tmp_path / "copy", file)
    assert [what for what, _ in notes.begun.items] == ["checking", "getting", "verifying"]
    assert notes.last["getting"] == length(file)
    assert not any_line(notes.lines, "trusting")
    assert listing(tmp_path) == {"copy", "file"}


async def test_an_unsafe_name_is_left_out_of_the_link(tmp_path: Path) -> None:
    hidden, notes, printed = make_file(tmp_path / ".hidden", 1), Notes(), Printed()
    async with running(share(hidden, Limits(), notes, printed), printed) as link:
        assert Link.parse(link).name is None
    assert notes.lines == ["the link will not contain the name '.hidden', under which others could not save the file"]


async def test_the_link_comes_after_the_progress_has_ended(file: Path) -> None:
    notes, printed = Notes(), Printed()
    async with running(share(file, Limits(), notes, printed), printed) as link:
        assert Link.parse(link).name == "file"
        assert notes.ended == 1


async def test_a_plain_address_is_trusted_with_a_notice(file: Path, tmp_path: Path) -> None:
    async with sharing(file) as link:
        address = link.removeprefix("pea2pea://").partition("/")[0]
        notes, _ = await fetch(tmp_path / "copy", address)
    assert any_line(notes.lines, "trusting the first answer", root_in(link))
    assert same(tmp_path / "copy", file)


async def test_getting_from_several_addresses_some_of_which_refuse(file: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with sharing(file) as one, sharing(file) as two:
            await fetch(tmp_path / "copy", one, two, one, f"127.0.0.1:{closed.getsockname()[1]}")
    assert same(tmp_path / "copy", file)


async def test_with_stay_the_copy_is_served_to_others(file: Path, tmp_path: Path) -> None:
    notes, printed = Notes(), Printed()
    async with sharing(file) as link:
        job = get([link], tmp_path / "one", LIMITS, notes, printed, stay=True)
        async with running(job, printed):
            served_at = next(line for line in notes.lines if "others can get it at" in line).split()[-1]
            await fetch(tmp_path / "two", served_at)
    assert same(tmp_path / "two", file)
    assert notes.last["served"] == length(file)


async def test_a_file_that_is_there_already_is_not_fetched(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "copy")
    async with sharing(file) as link:
        notes, printed = await fetch(tmp_path / "copy", link)
        (tmp_path / "copy").write_bytes(b"other")
        with pytest.raises(ShareError, match="--force"):
            await fetch(tmp_path / "copy", link)
        await fetch(tmp_path / "copy", link, force=True)
    assert printed.lines.items[0]
    assert "getting" not in notes.last
    assert same(tmp_path / "copy", file)


async def test_a_fetch_that_is_cancelled_can_be_resumed(file: Path, tmp_path: Path) -> None:
    copy, notes = tmp_path / "copy", Notes()
    async with sharing(file) as link:
        task = asyncio.create_task(get([link], copy, LIMITS, notes, Printed()))
        await notes.begun.has(("getting", length(file)))
        await end([task])
        assert not copy.exists()
        assert part_of(copy).exists() and tree_of(copy).exists()
        await fetch(copy, link)
    assert same(copy, file)
    assert not part_of(copy).exists() and not tree_of(copy).exists()


async def test_another_root_than_the_link_names(file: Path, tmp_path: Path) -> None:
    async with sharing(file) as link:
        with pytest.raises(ShareError, match="shares another file"):
            await fetch(tmp_path / "copy", link.replace(root_in(link), "0" * 64))
    assert not (tmp_path / "copy").exists()


async def test_a_shared_file_that_changes_ends_the_sharing(file: Path, tmp_path: Path) -> None:
    printed = Printed()
    task = asyncio.create_task(share(file, Limits(), Notes(), printed))
    link = (await printed.lines.count(1))[0]
    os.utime(file, ns=(1, 1))
    with pytest.raises(ShareError):
        await get([link], tmp_path / "copy", Limits(give_up=0.5), Notes(), Printed())
    with pytest.raises(FileChangedError):
        await task


async def test_a_link_does_not_contain_a_wildcard_address(file: Path) -> None:
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


async def test_work_in_a_thread_is_stopped_when_it_is_cancelled(file: Path) -> None:
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


async def test_a_store_opened_by_a_cancelled_thread_is_closed(file: Path) -> None:
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work(tick: Tick) -> Store:
        chunks = partial(open_whole, file)(lambda done: None)
        loop.call_soon_threadsafe(begun.set)
        go_on.wait()
        return chunks

    task = asyncio.create_task(in_thread(work, lambda done: None))
    await begun.wait()
    task.cancel()
    loop.call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await task
