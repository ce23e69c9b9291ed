"""Reading, writing and hashing files, as the stores need it. No asyncio; imports ``errors`` and ``tree``."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import ModuleType

from .errors import ShareError
from .tree import Target, Tree, leaf_hash

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has no flock: two downloads of one file are detected when the result is verified
    fcntl = None

#: Called with the number of bytes done so far. It may raise to stop the work.
Tick = Callable[[int], None]


def size_of(path: Path) -> int:
    """Return the size of ``path`` in bytes. Raises ``OSError`` if it does not exist."""
    return path.stat().st_size


def open_regular(path: Path) -> FileIO:
    """Open ``path`` for reading. Raises :class:`ShareError` if it is not a regular file."""
    if path.is_dir():
        raise ShareError(f"{path} is a directory; only single files can be shared")
    if not stat.S_ISREG(path.stat().st_mode):  # checked before opening, because opening a pipe would block
        raise ShareError(f"{path} is not a regular file")
    return FileIO(path)


def open_to_update(path: Path) -> FileIO:
    """Open ``path`` for reading and writing; create it if it does not exist.

    Symbolic links are not followed: the name is predictable, so another user could have planted one.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return FileIO(os.open(path, flags, 0o666), "r+")


def lock(file: FileIO, path: Path) -> None:
    """Take the lock that keeps two processes from downloading ``path`` at once. Raises :class:`ShareError`."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ShareError(f"another process is downloading {path}") from None


def allocate(file: FileIO, size: int) -> None:
    """Make ``file`` ``size`` bytes long and reserve the disk space, so that a full disk shows now and not later."""
    file.truncate(size)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def stamp(file: FileIO) -> tuple[int, int]:
    """Return the size and the modification time, which differ after the file has been changed."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def hash_file(file: FileIO, size: int, tick: Tick) -> Target:
    """Return the target for the first ``size`` bytes of ``file``."""
    return Target(size, Tree.of(list(leaves(file, Target(size, b""), tick))).top)


def leaves(file: FileIO, target: Target, tick: Tick) -> Iterator[bytes]:
    """Yield the hash of each chunk of ``file``. Stops early if the file is shorter than ``target``."""
    buffer, done = memoryview(bytearray(min(target.chunk, target.size))), 0
    file.seek(0)
    for index in range(target.count):
        chunk = buffer[: target.length(index)]
        if fill(file, chunk) != len(chunk):
            return
        yield leaf_hash(chunk)
        done += len(chunk)
        tick(done)


def fill(file: FileIO, buffer: memoryview) -> int:
    """Read into ``buffer`` until it is full or the file ends. Returns the number of bytes read."""
    done = 0
    while done < len(buffer):
        got = file.readinto(buffer[done:])
        if not got:
            break
        done += got
    return done


def write_at(file: FileIO, at: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data`` at offset ``at``; one system call may write only a part of it."""
    rest = memoryview(data)
    file.seek(at)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add ``path`` to an ``OSError`` that names no file, so that the error message does."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_directory(directory: Path) -> None:
    """Make a rename in ``directory`` durable. Some systems do not allow opening a directory; they are left out."""
    with suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
