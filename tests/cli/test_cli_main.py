"""The command as a user meets it: in processes of its own, by its exit status and by what it prints."""

from __future__ import annotations

import asyncio
import builtins
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pea2pea import __version__
from pea2pea.cli import main as module
from pea2pea.cli.main import INTERRUPTED, TERMINATED, main
from pea2pea.share import runner
from pea2pea.share.mode import Mode
from pea2pea.share.partial import part_of
from pea2pea.share.tree import Target
from pea2pea.share.wire import HELLO_SIZE, PREAMBLE_SIZE, Hello, preamble
from support.cli_process import Process, process
from support.share import make_file, root_in


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 6.5)


@contextmanager
def sharing(file: Path) -> Iterator[str]:
    with process("share", file) as one:
        assert one.stdout is not None
        yield one.stdout.readline().strip()


def end(one: Process, number: int) -> tuple[int, str]:
    """Send a signal; return the exit status and what was printed on standard error."""
    one.send_signal(number)
    _, errors = one.communicate(timeout=20)
    return one.returncode, errors


def call(*args: object) -> int:
    return main([str(arg) for arg in args])


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of standard error, without the name of the command."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("pea2pea: ")
    return line.removeprefix("pea2pea: ")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pea2pea {__version__}\n"


def test_a_directory_is_not_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("share", tmp_path, "--noise") == 1
    assert the_error(capsys) == f"{tmp_path} is a directory; only single files can be shared"


def test_share_and_get(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sharing(file) as link:
        assert link.startswith("pea2pea://127.0.0.1:")
        assert call("get", link, "-o", tmp_path / "copy") == 0
    assert "verified" in capsys.readouterr().out
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_get_in_a_process_of_its_own(file: Path, tmp_path: Path) -> None:
    with sharing(file) as link, process("get", link, "-o", tmp_path / "copy") as one:
        out, errors = one.communicate(timeout=20)
    assert one.returncode == 0, errors
    assert out == f"{tmp_path / 'copy'}: 1.6 MiB, verified, root {root_in(link)}\n"
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_the_demonstration(file: Path) -> None:
    with process("demo", file, "--nodes", 3, "--topology", "ring") as one:
        out, errors = one.communicate(timeout=40)
    assert one.returncode == 0, errors
    assert out.splitlines()[-1].startswith("OK: 3 nodes (ring)")


def test_a_demonstration_that_fails(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("demo", file, "--nodes", 2, "--topology", "line", "--timeout", 0.001) == 1
    assert capsys.readouterr().out.startswith("FAILED: 2 nodes")


@contextmanager
def fetching_nothing(tmp_path: Path) -> Iterator[Process]:
    """A download that never ends: its only peer sends a hello, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
        with process("get", address, "-o", tmp_path / "copy") as one:
            with greeted(server) as asking:
                asking.recv(1)  # until it hangs up
            with greeted(server):
                yield one


@contextmanager
def greeted(server: socket.socket) -> Iterator[socket.socket]:
    """Accept a connection and exchange hellos."""
    peer, _ = server.accept()
    with peer:
        peer.sendall(preamble(Mode.PLAIN) + Hello(Target(1000, bytes(range(32)))).encode())
        size = PREAMBLE_SIZE + HELLO_SIZE
        assert len(peer.recv(size, socket.MSG_WAITALL)) == size
        yield peer


def test_ctrl_c_leaves_a_state_to_resume(tmp_path: Path) -> None:
    with fetching_nothing(tmp_path) as one:
        status, errors = end(one, signal.SIGINT)
    assert status == INTERRUPTED, errors
    assert errors.splitlines()[-1] == "pea2pea: stopped; the same command continues from here"
    assert not (tmp_path / "copy").exists()
    assert part_of(tmp_path / "copy").exists()


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    with fetching_nothing(tmp_path) as one:
        status, errors = end(one, signal.SIGTERM)
    assert status == TERMINATED, errors
    assert errors.splitlines()[-1] == "pea2pea: terminated"


def test_ctrl_c_ends_sharing(file: Path) -> None:
    with process("share", file) as one:
        assert one.stdout is not None and one.stdout.readline()
        assert end(one, signal.SIGINT)[0] == INTERRUPTED


def test_ctrl_c_ends_the_demonstration_and_its_processes(file: Path, tmp_path: Path) -> None:
    with process("demo", file, "--nodes", 3, "--timeout", 30) as one:
        children = wait_for_children(one.pid, 3)
        assert end(one, signal.SIGINT)[0] == INTERRUPTED
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def wait_for_children(pid: int, count: int) -> list[int]:
    """Return the processes that ``pid`` has started, once there are ``count``."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if not listing.exists():
        pytest.skip("this system does not list a process's children")
    while len(children := listing.read_text().split()) < count:
        os.sched_yield()
    return [int(child) for child in children]


# One clear line for each mistake


@pytest.mark.parametrize("command", ["share", "demo"])
def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert call(command, tmp_path / "nowhere") == 1
    assert the_error(capsys) == f"no such file or directory: {tmp_path / 'nowhere'}"


def test_a_port_that_is_taken(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        assert call("share", file, "--listen", address) == 1
    line = the_error(capsys)
    assert line.startswith(f"cannot listen on {address}")
    assert "in use" in line


def test_a_peer_that_cannot_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*closed.getsockname())
        assert call("get", address, "-o", tmp_path / "copy") == 1
    line = the_error(capsys)
    assert line == f"cannot reach {address}: connection refused"
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_digest(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sharing(file) as link:
        assert call("get", link.replace(root_in(link), "0" * 64), "-o", tmp_path / "copy") == 1
    assert "shares another file" in the_error(capsys)


def test_a_full_disk(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with sharing(file) as link:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        try:
            status = call("get", link, "-o", tmp_path / "copy")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert status == 1
    assert the_error(capsys) == f"the disk is full: {tmp_path / 'copy.part'}"
    assert list(tmp_path.iterdir()) == [file]


def test_verbose_adds_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, expected in (([], False), (["--verbose"], True)):
        assert call("share", tmp_path / "nowhere", *options) == 1
        errors = capsys.readouterr().err
        assert ("Traceback" in errors) is expected
        assert errors.splitlines()[-1].startswith("pea2pea: no such file")


@pytest.mark.parametrize("command", [[], ["share"], ["get"], ["demo"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: pea2pea" in capsys.readouterr().out


# How the command runs


def test_uvloop_is_used_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop = pytest.importorskip("uvloop")
    assert runner.fast_loop() is uvloop.new_event_loop
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "uvloop":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert runner.fast_loop() is None


async def interrupted() -> int:
    raise KeyboardInterrupt


async def cancelled() -> int:
    raise asyncio.CancelledError


@pytest.mark.parametrize(("how", "status"), [(interrupted, INTERRUPTED), (cancelled, TERMINATED)])
def test_how_it_ends(
    how: Any, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    monkeypatch.setitem(module.JOBS, "share", lambda args, show: how())
    assert call("share", file) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
