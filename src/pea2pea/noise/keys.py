"""Static keys on disk: made once, readable by their owner alone. May import ``crypto`` and ``errors``.

A file holds one line, ``pea2pea-noise-25519:`` and the private key in base64. It is written whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from .crypto import CURVES, KeyPair
from .errors import KeyFileError

PREFIX: Final = "pea2pea-noise-"
#: More than any key needs; a file that is larger is not one, and is not read further.
MAX_FILE: Final = 256
#: Only the owner reads and writes.
MODE: Final = 0o600
_OTHERS: Final = 0o077
_HAS_OWNERS: Final = hasattr(os, "geteuid")


def save_key(key: KeyPair, path: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Write ``key`` to ``path``, for its owner alone; what others read of it at any time is all or nothing.

    Raises ``FileExistsError`` where there is a file already, unless it is to be replaced: with its
    key a node loses its identity.
    """
    path = Path(path)
    content = f"{PREFIX}{key.curve}:{base64.b64encode(key.private_bytes()).decode()}\n".encode()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
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


def load_key(path: str | os.PathLike[str]) -> KeyPair:
    """Return the key in the file at ``path``.

    Raises :class:`KeyFileError` where it belongs to or can be used by others, or holds no key, and
    ``OSError`` where it cannot be read at all.
    """
    with open(path, "rb") as file:
        _check_owner(os.fstat(file.fileno()), path)
        content = file.read(MAX_FILE + 1)
    return _parse(content, path)


def load_or_make_key(path: str | os.PathLike[str], curve: str = "25519") -> KeyPair:
    """Return the key at ``path``, or make one there; whoever else does so at once gets the same. Raises as both."""
    try:
        return load_key(path)
    except FileNotFoundError:
        key = KeyPair.generate(curve)
    try:
        save_key(key, path)
    except FileExistsError:
        return load_key(path)
    return key


def _check_owner(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{os.fspath(path)}: not a file")
    if not _HAS_OWNERS:  # Windows: the permissions of the directory hold
        return
    if status.st_uid != os.geteuid():
        raise KeyFileError(f"{os.fspath(path)}: belongs to another user")
    if status.st_mode & _OTHERS:
        raise KeyFileError(f"{os.fspath(path)}: others can use it (mode {status.st_mode & 0o777:o}): chmod 600")


def _parse(content: bytes, path: str | os.PathLike[str]) -> KeyPair:
    # No error has the content as its cause or in its text.
    for name, curve in CURVES.items():
        prefix = f"{PREFIX}{name}:".encode()
        if content.startswith(prefix) and len(content) <= MAX_FILE:
            try:
                private = base64.b64decode(content.removeprefix(prefix).strip(), validate=True)
            except binascii.Error:
                break
            if len(private) == curve.size:
                return KeyPair.from_private(private, name)
    raise KeyFileError(f"{os.fspath(path)}: holds no key")
