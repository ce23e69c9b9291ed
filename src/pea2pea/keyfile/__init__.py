"""Files that contain a secret: written atomically, accessible to their owner only. Imports the standard library only.

The callers decide what a file contains and which error is raised: :mod:`pea2pea.noise`, :mod:`pea2pea.tls` and
:mod:`pea2pea.libp2p`.
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

#: Read and write for the owner, nothing for others.
MODE: Final = 0o600
_OTHERS: Final = 0o077
_HAS_OWNERS: Final = hasattr(os, "geteuid")
#: Windows has no O_NONBLOCK, and translates line ends without O_BINARY.
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def write_private(path: File, content: bytes, *, replace: bool = False) -> None:
    """Write ``content`` to ``path`` atomically, accessible to its owner only.

    A concurrent reader sees all of it or the file as it was. Raises ``FileExistsError`` if the file exists, unless
    ``replace`` is set, and ``OSError`` if it cannot be written; the directory is left as it was then.
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
    """Return the first ``most`` bytes of the file at ``path``, and one more if it is larger.

    Raises ``error`` if it is not a regular file, or if another user owns it or has access to it, and ``OSError`` if it
    cannot be read. The checks are made on the opened file, so replacing it in between does not evade them.
    """
    # Non-blocking: opening a pipe would wait for a writer. Pipes are refused, as is all that is not a regular file.
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor), path, error)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most + 1)
    finally:
        os.close(descriptor)


def check_private(path: File, error: Callable[[str], Exception]) -> None:
    """Check the file at ``path`` as :func:`read_private` does, before another library reads it."""
    _check(os.stat(path), path, error)


def _check(status: os.stat_result, path: File, error: Callable[[str], Exception]) -> None:
    name = os.fspath(path)
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{name}: not a file")
    if not _HAS_OWNERS:  # Windows: the permissions of the directory apply
        return
    if status.st_uid != os.geteuid():
        raise error(f"{name}: belongs to another user")
    if status.st_mode & _OTHERS:
        raise error(f"{name}: others can use it (mode {status.st_mode & 0o777:o}): chmod 600")
