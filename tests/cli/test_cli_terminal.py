"""What a person sees: the command on a pseudo-terminal, and its output in a pipe."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from pea2pea.share.link import Link
from support.cli_process import process
from support.share import make_file, same
from support.terminal import Screen, on_terminal

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

LINK = re.compile(r"^pea2pea\S*://\S+/[0-9a-f]{64}/file$", re.M)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_file(tmp_path / "file", 12.5)


def link_on(screen: Screen) -> str | None:
    found = LINK.search(screen.text)
    return found.group() if found else None


def test_the_progress_of_hashing_does_not_damage_the_link(tmp_path: Path) -> None:
    """The file is large enough (and sparse) for the progress to be on the screen when the link is printed."""
    large = tmp_path / "file"
    large.touch()
    os.truncate(large, 1 << 30)
    with on_terminal("share", large, columns=60) as one:
        screen = one.until(lambda screen: "hashing" in screen.text)
        one.until(lambda screen: "served" in screen.text)
        assert link_on(screen)
        assert len(screen.text.splitlines()) == 2, "the link, and the progress of serving"


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("options", [[], ["--noise"]])
def test_the_link_is_on_a_line_of_its_own(file: Path, tmp_path: Path, columns: int, options: list[str]) -> None:
    """The progress of hashing has ended when the link is printed, and that of serving begins below it."""
    with on_terminal("share", file, *options, columns=columns) as one:
        screen = one.until(lambda screen: link_on(screen) and "served" in screen.text)
        link = link_on(screen)
        assert link is not None
        with process("get", link, "-o", tmp_path / "copy") as other:
            assert other.wait(timeout=20) == 0
        one.until(lambda screen: "served  3.1 MiB" in screen.text)
        assert link_on(screen) == link, "it stays intact while the progress is drawn again and again"
        assert "hashing" not in screen.text
        assert all(len(line) <= columns for line in screen.lines)
        one.interrupt()
        assert screen.text.splitlines()[-1] == "pea2pea: stopped"
    assert same(file, tmp_path / "copy")


@pytest.mark.parametrize("columns", [60, 100])
def test_a_download_ends_with_what_was_downloaded(file: Path, tmp_path: Path, columns: int) -> None:
    (tmp_path / "out").mkdir()
    with process("share", file) as sharer:
        assert sharer.stdout is not None
        link = sharer.stdout.readline().strip()
        for _ in range(2):  # the second time it is there already
            with on_terminal("get", link, "-o", tmp_path / "out", columns=columns) as one:
                assert one.finish() == 0
                first, *_, last = one.screen.text.splitlines()
                assert first == f"getting {tmp_path / 'out' / 'file'}, 3.1 MiB"
                root = Link.parse(link).root
                assert root is not None
                assert last == f"{tmp_path / 'out' / 'file'}: 3.1 MiB, verified, root {root.hex()}"
                assert len(one.screen.text.splitlines()) == 2
    assert same(file, tmp_path / "out" / "file")


def test_what_is_printed_when_it_is_stopped(file: Path, tmp_path: Path) -> None:
    """Once the file is complete, there is nothing to continue."""
    with process("share", file) as sharer:
        assert sharer.stdout is not None
        with on_terminal("get", sharer.stdout.readline().strip(), "-o", tmp_path / "copy", "--stay") as one:
            one.until(lambda screen: "served" in screen.text)
            assert one.interrupt() == 130
    assert any(line.startswith("others can get it at pea2pea://") for line in one.screen.text.splitlines())
    assert one.screen.text.splitlines()[-1] == "pea2pea: stopped"


@pytest.mark.parametrize("columns", [60, 100])
def test_the_demonstration_fits(file: Path, columns: int) -> None:
    with on_terminal("demo", file, "--nodes", 5, "--rate", 0, columns=columns) as one:
        assert one.finish() == 0
    lines = one.screen.text.splitlines()
    assert lines[-1].startswith("OK: 5 nodes (random), file of 3.1 MiB: 5 of 5 copies verified in ")
    head = next(line for line in lines if line.startswith("node ") and line.rstrip().endswith("state")).split()
    assert ("pid" in head) is (columns == 100)
    assert head[-4:] == ["has", "down", "up", "state"]
    assert all(len(line) <= columns for line in one.screen.lines[:-1])
    assert "\u2026" not in one.screen.text, "nothing is cut"


def test_a_dumb_terminal_gets_plain_lines(file: Path, tmp_path: Path) -> None:
    with on_terminal("share", file, columns=60, term="dumb") as one:
        link = link_on(one.until(link_on))
        with on_terminal("get", link, "-o", tmp_path / "copy", columns=60, term="dumb") as other:
            assert other.finish() == 0
        one.interrupt()
    for session in (one, other):
        assert "\x1b" not in session.raw
    assert other.screen.text.splitlines()[-1].startswith(f"{tmp_path / 'copy'}: 3.1 MiB, verified")


def test_a_pipe_gets_the_link_and_lines_on_change_alone(file: Path, tmp_path: Path) -> None:
    with process("share", file) as sharer:
        assert sharer.stdout is not None
        link = sharer.stdout.readline().strip()
        with process("get", link, "-o", tmp_path / "copy") as one:
            out, errors = one.communicate(timeout=20)
        sharer.send_signal(signal.SIGINT)
        rest, told = sharer.communicate(timeout=20)
    assert (rest, told) == ("", "pea2pea: stopped\n")
    assert errors == f"getting {tmp_path / 'copy'}, 3.1 MiB\n"
    assert out.startswith(f"{tmp_path / 'copy'}: 3.1 MiB, verified")
