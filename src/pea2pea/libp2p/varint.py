"""Unsigned varints as multiformats defines them: at most 9 bytes, shortest form only. Pure. May import ``errors``."""

from __future__ import annotations

from typing import Final

from ..errors import DecodeError

#: Bytes for the 63 bits that the specification allows.
MAX_SIZE: Final = 9


def encode_varint(value: int) -> bytes:
    """Return ``value`` (0 to 2**63 - 1) as a varint."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_varint(data: bytes, position: int = 0) -> tuple[int, int]:
    """Return the number that starts at ``position``, and the position after it. Raises :class:`DecodeError`."""
    value = 0
    for index, byte in enumerate(data[position : position + MAX_SIZE]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            if not byte and index:
                raise DecodeError("a varint that is not in its shortest form")
            return value, position + index + 1
    raise DecodeError("a truncated or oversized varint")
