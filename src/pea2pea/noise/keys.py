"""Static keys on disk, readable by their owner only. May import ``crypto``, ``errors`` and ``keyfile``.

A file holds one line: ``pea2pea-noise-25519:`` and the private key in base64. It is written atomically.
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
#: The largest key file, in bytes. A larger file is not a key file, and is not read to its end.
MAX_FILE: Final = 256


def save_key(key: KeyPair, path: File, *, replace: bool = False) -> None:
    """Write ``key`` to ``path`` atomically, readable by its owner only.

    Raises ``FileExistsError`` if the file exists, unless ``replace`` is true: a node that loses its key loses its
    identity.
    """
    content = f"{PREFIX}{key.curve}:{base64.b64encode(key.private_bytes()).decode()}\n"
    write_private(path, content.encode(), replace=replace)


def load_key(path: File) -> KeyPair:
    """Return the key in the file at ``path``.

    Raises :class:`KeyFileError` if it belongs to another user, if other users can access it, or if it holds no key, and
    ``OSError`` if it cannot be read.
    """
    return _parse(read_private(path, MAX_FILE, KeyFileError), path)


def load_or_make_key(path: File, curve: str = "25519") -> KeyPair:
    """Return the key in the file at ``path``, which is created with a new key if it does not exist.

    Processes that do this at the same time get the same key. Raises what :func:`load_key` and :func:`save_key` raise.
    """
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
    # The content must not be in the text of an error or in its cause.
    for name, curve in CURVES.items():
        prefix = f"{PREFIX}{name}:".encode()
        if content.startswith(prefix) and len(content) <= MAX_FILE:
            try:
                private = base64.b64decode(content.removeprefix(prefix).strip(), validate=True)
            except binascii.Error:
                break
            if len(private) == curve.size:
                return KeyPair.from_private(private, name)
    raise KeyFileError(f"{os.fspath(path)}: not a key file (expected a line that starts with {PREFIX})")
