"""Files with a secret: written atomically and for their owner only, and refused if others have access."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pea2pea import keyfile
from pea2pea.keyfile import check_private, read_private, write_private

posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")

SECRET = b"\x00\r\n\x1a\xff" * 3


class Refused(Exception):
    """What a reader here has for its error."""


def read(path: Path, most: int = 100) -> bytes:
    return read_private(path, most, Refused)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@pytest.mark.parametrize("kind", [str, Path])
def test_written_content_is_read_back(path: Path, kind: type[str] | type[Path]) -> None:
    for content in (SECRET, b""):
        write_private(kind(path), content, replace=True)
        assert read_private(kind(path), 100, Refused) == content
    assert os.listdir(path.parent) == ["secret"]


def test_a_file_that_is_too_large_is_read_one_byte_beyond_the_limit(path: Path) -> None:
    write_private(path, bytes(1000))
    assert [len(read(path, most)) for most in (100, 999, 1000, 5000)] == [101, 1000, 1000, 1000]


@posix
@pytest.mark.parametrize("umask", [0, 0o077, 0o022])
def test_only_the_owner_has_access_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_private(path, SECRET)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


@posix
def test_other_users_can_never_open_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while it is written, under its other name."""
    modes = []

    def look(descriptor: int) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        assert not path.exists()

    monkeypatch.setattr(os, "fsync", look)
    write_private(path, SECRET)
    assert modes == [0o600]


@posix
def test_replacing_keeps_neither_mode_nor_link(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"precious")
    other.chmod(0o666)
    path.symlink_to(other)
    with pytest.raises(FileExistsError):
        write_private(path, SECRET)
    write_private(path, SECRET, replace=True)
    assert not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert other.read_bytes() == b"precious"


def test_an_existing_file_is_not_overwritten(path: Path) -> None:
    write_private(path, b"first")
    with pytest.raises(FileExistsError):
        write_private(path, b"second")
    assert read(path) == b"first"
    write_private(path, b"third", replace=True)
    assert read(path) == b"third"
    assert os.listdir(path.parent) == ["secret"]


@pytest.mark.parametrize("step", ["fsync", "link", "replace"])
def test_a_failed_write_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*args: object) -> None:
        raise OSError("the disk is full")

    if step != "link":
        write_private(path, b"before")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="full"):
        write_private(path, SECRET, replace=step != "link")
    assert os.listdir(path.parent) == ([] if step == "link" else ["secret"])
    assert step == "link" or read(path) == b"before"


def test_a_missing_directory_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_private(path / "below", SECRET)
    for look in (read, lambda where: check_private(where, Refused)):
        with pytest.raises(FileNotFoundError):
            look(path)


def test_a_concurrent_reader_sees_the_old_or_the_new_content(path: Path) -> None:
    write_private(path, b"0" * 5000)
    seen = set()

    def write() -> None:
        for _ in range(50):
            write_private(path, b"1" * 5000, replace=True)

    writing = threading.Thread(target=write)
    writing.start()
    while writing.is_alive():
        seen.add(read(path, 10_000))
    writing.join()
    assert seen <= {b"0" * 5000, b"1" * 5000}
    assert read(path, 10_000) == b"1" * 5000


# What is refused


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_other_users_can_access_is_refused(path: Path, mode: int) -> None:
    write_private(path, SECRET)
    check_private(path, Refused)
    path.chmod(mode)
    for look in (read, lambda where: check_private(where, Refused)):
        with pytest.raises(Refused, match=rf"{path}: others can use it \(mode {mode:o}\): chmod 600"):
            look(path)


@posix
def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(path, SECRET)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    for look in (read, lambda where: check_private(where, Refused)):
        with pytest.raises(Refused, match="another user"):
            look(path)


@posix
def test_anything_but_a_regular_file_is_refused_without_waiting(path: Path) -> None:
    os.mkfifo(path, 0o600)
    for place in (path, path.parent, Path(os.devnull)):
        for look in (read, lambda where: check_private(where, Refused)):
            with pytest.raises(Refused, match="not a file"):
                look(place)


def test_the_mode_is_not_checked_on_platforms_without_owners(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "_HAS_OWNERS", False)
    write_private(path, SECRET)
    path.chmod(0o666)
    assert read(path) == SECRET
    check_private(path, Refused)
