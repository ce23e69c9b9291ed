"""Static keys on disk: made once, readable by their owner alone. May import ``crypto``, ``errors`` and ``keyfile``.

A file holds one line, ``pea2pea-noise-25519:`` and the private key in base64. It is written whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

from ..keyfile import File, read_private, write_private
from .crypto import CURVES, KeyPair
from .errors import KeyFileError

PREFIX: Final = "pea2pea-noise-"
#: More than any key needs; a file that is larger is not one, and is not read further.
MAX_FILE: Final = 256


def save_key(key: KeyPair, path: File, *, replace: bool = False) -> None:
    """Write ``key`` to ``path``, for its owner alone; what others read of it at any time is all or nothing.

    Raises ``FileExistsError`` where there is a file already, unless it is to be replaced: with its
    key a node loses its identity.
    """
    content = f"{PREFIX}{key.curve}:{base64.b64encode(key.private_bytes()).decode()}\n"
    write_private(path, content.encode(), replace=replace)


def load_key(path: File) -> KeyPair:
    """Return the key in the file at ``path``.

    Raises :class:`KeyFileError` where it belongs to or can be used by others, or holds no key, and
    ``OSError`` where it cannot be read at all.
    """
    return _parse(read_private(path, MAX_FILE, KeyFileError), path)


def load_or_make_key(path: File, curve: str = "25519") -> KeyPair:
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


def _parse(content: bytes, path: File) -> KeyPair:
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
