"""Noise messages on the wire: each is preceded by its length in two bytes, big-endian, as in libp2p. Pure.

May import ``codec``, ``errors`` and ``state``. This is framing and sealing alone; which plaintext goes into which
message is decided in ``codec``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from ..codec import Buffer, Landing
from .crypto import TAG_SIZE
from .state import MAX_MESSAGE, CipherState

LENGTH: Final = struct.Struct(">H")
#: The largest plaintext of one Noise message: 65,519 bytes.
MAX_PLAINTEXT: Final = MAX_MESSAGE - TAG_SIZE
#: Bytes that encrypting a message adds to it on the wire.
OVERHEAD: Final = LENGTH.size + TAG_SIZE
#: Encrypted bytes that are passed to the transport as one buffer. Larger ones gain nothing and delay the first byte.
OUTPUT_SIZE: Final = 132 * 1024


def framed(message: Buffer) -> bytes:
    """Return ``message``, encrypted already, with its length in front."""
    return LENGTH.pack(len(message)) + message


def message_size(head: memoryview) -> int:
    """Return the size on the wire of the message that begins with ``head``, or 0 if its length is incomplete."""
    return LENGTH.size + LENGTH.unpack_from(head)[0] if len(head) >= LENGTH.size else 0


def message_ends(buffer: memoryview) -> list[int]:
    """Return the end of each complete message at the start of ``buffer``."""
    ends: list[int] = []
    position, last = 0, len(buffer) - LENGTH.size
    read = LENGTH.unpack_from
    while position <= last:
        stop = position + LENGTH.size + read(buffer, position)[0]
        if stop > len(buffer):
            break
        ends.append(stop)
        position = stop
    return ends


def seal(cipher: CipherState, plaintexts: Iterable[Buffer]) -> list[Buffer]:
    """Encrypt each plaintext as one message, and return the messages in buffers of about ``OUTPUT_SIZE``."""
    return [_seal_batch(cipher, batch) for batch in _batches(plaintexts)]


def _seal_batch(cipher: CipherState, plaintexts: list[Buffer]) -> memoryview:
    # Landing is not zeroed when it is allocated, unlike bytearray. Every byte of it is written below.
    sealed = memoryview(Landing(sum(map(len, plaintexts)) + OVERHEAD * len(plaintexts)))
    start = 0
    for plaintext in plaintexts:
        stop = start + len(plaintext) + OVERHEAD
        LENGTH.pack_into(sealed, start, len(plaintext) + TAG_SIZE)
        cipher.encrypt_into(plaintext, sealed[start + LENGTH.size : stop])
        start = stop
    return sealed


def _batches(plaintexts: Iterable[Buffer]) -> Iterator[list[Buffer]]:
    batch: list[Buffer] = []
    size = 0
    for plaintext in plaintexts:
        if batch and size + len(plaintext) > OUTPUT_SIZE:
            yield batch
            batch, size = [], 0
        batch.append(plaintext)
        size += len(plaintext)
    if batch:
        yield batch
