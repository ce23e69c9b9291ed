"""The sizes in which records are received, decrypted, encrypted and written. May import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

#: The most plaintext bytes in a TLS record.
RECORD: Final = 16 * 1024
#: Bytes decrypted, or encrypted and written, at once: as many as fit a processor's cache. OpenSSL keeps a buffer of
#: about this size for each connection that used it.
PORTION: Final = 12 * RECORD
#: The most bytes that are given to OpenSSL in one call.
PART: Final = 4 * RECORD
#: Bytes received at once. With half of them, the system takes twice as long to deliver them.
RECEIVE_SIZE: Final = 512 * 1024

_receive_memory: WeakKeyDictionary[asyncio.AbstractEventLoop, list[memoryview]] = WeakKeyDictionary()


def receive_memory(loop: asyncio.AbstractEventLoop) -> list[memoryview]:
    """Return the buffers into which the connections of ``loop`` receive records.

    They share them: a transport fills the buffer and hands it over in one step, so no two connections need it at once.
    """
    if hasattr(asyncio, "ProactorEventLoop") and isinstance(loop, asyncio.ProactorEventLoop):
        return [memoryview(bytearray(PART))]  # it fills the buffer while other connections go on
    return _receive_memory.setdefault(loop, [])


def parts_of(buffers: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of ``buffers``, cut so that every record but the last is full.

    Even an empty record costs each side a microsecond. Less than two records of each buffer are copied.
    """
    small: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if small and size + len(view) >= RECORD:
            odd = RECORD - size
            yield b"".join([*small, view[:odd]])
            small, size, view = [], 0, view[odd:]
        whole = len(view) // RECORD * RECORD
        for start in range(0, whole, PART):
            yield view[start : min(start + PART, whole)]
        if whole < len(view):
            small.append(view[whole:])
            size += len(view) - whole
    if small:
        yield b"".join(small)
