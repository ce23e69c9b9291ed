"""Files with a secret in them: written whole or not at all, for their owner alone. Imports the standard library only.

What a file holds, and which error its reader raises, is for those who use this: :mod:`pea2pea.noise`,
:mod:`pea2pea.tls` and :mod:`pea2pea.libp2p`.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["File", "check_private", "read_private", "write_private"]

File = str | os.PathLike[str]

#: Only the owner reads and writes.
MODE: Final = 0o600
_OTHERS: Final = 0o077
_HAS_OWNERS: Final = hasattr(os, "geteuid")
#: Windows has no non-blocking ones, and translates the ends of lines unless told.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def write_private(path: File, content: bytes, *, replace: bool = False) -> None:
    """Write ``content`` to ``path``, for its owner alone; what anybody reads of it at any time is all or nothing.

    Raises ``FileExistsError`` where there is a file already, unless it is to be replaced, and ``OSError``
    where it cannot be written; then nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_private(path: File, most: int, error: Callable[[str], Exception]) -> bytes:
    """Return what is in the file at ``path``: its first ``most`` bytes, and one more where there are more.

    Raises ``error`` where it belongs to or can be used by others, or is no file, and ``OSError`` where it
    cannot be read at all. What is checked is what is read, whoever moves files meanwhile.
    """
    # Without waiting: a pipe that nobody writes to would never open, and is refused like all that is no file.
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor), path, error)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most + 1)
    finally:
        os.close(descriptor)


def check_private(path: File, error: Callable[[str], Exception]) -> None:
    """Raise as :func:`read_private`; for a file that somebody else is going to read."""
    _check(os.stat(path), path, error)


def _check(status: os.stat_result, path: File, error: Callable[[str], Exception]) -> None:
    name = os.fspath(path)
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{name}: not a file")
    if not _HAS_OWNERS:  # Windows: the permissions of the directory hold
        return
    if status.st_uid != os.geteuid():
        raise error(f"{name}: belongs to another user")
    if status.st_mode & _OTHERS:
        raise error(f"{name}: others can use it (mode {status.st_mode & 0o777:o}): chmod 600")
