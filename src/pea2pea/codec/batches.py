"""Splits a buffer into frames and joins messages into frames, a batch per call. Pure: no asyncio, no sockets.

``_speedups.c`` has the same functions for the common case, and calls these for everything else; ``ready`` uses those if
they were built.

Each ``split`` returns the good frames at the start of its buffer and how many bytes they took. A header that is
incomplete or refused only ends the batch, so that the C needs no errors. Each ``join`` raises
:class:`~pea2pea.errors.EncodeError` for a message that cannot be sent.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby, takewhile
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from ..errors import DecodeError, EncodeError, FrameTooLargeError
from .interface import Buffer
from .interface import Landing as Landing

KIB: Final = 1024
#: The largest size: a signed 64-bit number, which is also what 9 bytes of a varint hold.
LARGEST: Final = (1 << 63) - 1
#: A message of at least this size is sliced out of the receive buffer; for smaller ones, copying the buffer to
#: ``bytes`` first is faster (measured: equal at 4 KiB, 1.25 times at 8 KiB, 1.5 times at 16 KiB).
SLICED_IN_PLACE: Final = 8 * KIB
#: A message of at least this size is passed to the network without a copy; for smaller ones, joining costs no more
#: than another buffer costs in the system call.
PASSED_UNCOPIED: Final = 64 * KIB

Bytes: TypeAlias = bytes | memoryview

_LETTERS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
#: The types whose ``len`` counts bytes; the items of a ``memoryview`` may be larger.
_COUNTED: Final = frozenset((bytes, bytearray))


class Layout(NamedTuple):
    """Where the length is in a frame, what it counts, and its bounds."""

    size: int
    order: Literal["big", "little"]
    offset: int
    adjustment: int
    skip: int
    highest: int  # of the length as read
    largest: int  # message that can be sent


def split_lengths(buffer: memoryview, layout: Layout) -> tuple[list[bytes], int]:
    whole, skip, most = len(buffer), layout.skip, layout.highest + layout.adjustment
    last = whole - max(layout.offset + layout.size, skip)
    if last < 0:
        return [], 0
    read = _reader(layout)
    data = buffer.tobytes() if read(buffer, 0)[0] < SLICED_IN_PLACE else buffer
    messages: list[Bytes] = []
    append = messages.append
    position = 0
    while position <= last:
        (size,) = read(data, position)
        start = position + skip
        stop = start + size
        if stop > whole or size > most:
            break
        append(data[start:stop])
        position = stop
    return _owned(messages, data), position


def join_lengths(messages: Sequence[Buffer], layout: Layout) -> list[Buffer]:
    size, order, _, adjustment, _, _, largest = layout
    plain, sizes = sized(messages, largest)
    if min(sizes, default=adjustment) < adjustment:
        raise EncodeError(f"a message of {min(sizes)} bytes is shorter than the adjustment of {adjustment}")
    return _headed(lambda length: (length - adjustment).to_bytes(size, order), plain, sizes)


def split_varints(buffer: memoryview, limit: int) -> tuple[list[bytes], int]:
    whole = len(buffer)
    # The second byte carries bits 7 to 13 and whether more follow.
    large = whole > 1 and buffer[0] > 127 and buffer[1] >= SLICED_IN_PLACE >> 7
    data = buffer if large else buffer.tobytes()
    messages: list[Bytes] = []
    append = messages.append
    position = 0
    with suppress(DecodeError):
        while position < whole:
            length = data[position]
            start = position + 1
            if length > 127 and start < whole and 0 < data[start] < 128:
                length += (data[start] - 1) << 7
                start += 1
            elif length > 127:
                length, start = read_varint(data, position, limit)
            stop = start + length
            if stop > whole or length > limit or not start:
                break
            append(data[start:stop])
            position = stop
    return _owned(messages, data), position


def join_varints(messages: Sequence[Buffer], limit: int) -> list[Buffer]:
    return _headed(_varint, *sized(messages, limit))


def split_delimited(buffer: memoryview, delimiter: bytes, limit: int) -> tuple[list[bytes], int]:
    messages = buffer.tobytes().split(delimiter)
    rest = messages.pop()
    if max(map(len, messages), default=0) <= limit:
        return messages, len(buffer) - len(rest)
    messages = list(takewhile(lambda message: len(message) <= limit, messages))
    return messages, sum(map(len, messages)) + len(messages) * len(delimiter)


def join_delimited(messages: Sequence[Buffer], delimiter: bytes, limit: int) -> list[Buffer]:
    # Large messages are joined too: searching them for the delimiter costs as much as the copy.
    frames = [*sized(messages, limit)[0], b""]
    joined = delimiter.join(frames)
    # Counting is faster, and enough where the delimiter cannot overlap with another.
    cut = joined.count(delimiter) != len(frames) - 1
    if cut or (len(delimiter) > 1 and joined.split(delimiter) != frames):
        raise EncodeError(f"a message holds or runs into the delimiter {delimiter!r}")
    return [joined] if joined else []


def read_varint(data: Bytes, position: int, limit: int) -> tuple[int, int]:
    """Return the number at ``position`` and where it ends; (0, 0) if it is incomplete. Raise if it is refused."""
    value = shift = 0
    for at in range(position, len(data)):
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
        # If more bytes follow, the last of them is not zero, so the number is at least this.
        if (value if byte < 128 else 1 << shift) > limit:
            raise FrameTooLargeError(f"a frame claims more than the {limit} bytes that are allowed")
        if byte < 128:
            if not byte and shift > 7:
                raise DecodeError("the length of a frame is padded with zeroes")
            return value, at + 1
    return 0, 0


def sized(messages: Sequence[Buffer], limit: int) -> tuple[Sequence[Buffer], list[int]]:
    """Return the messages, as objects whose ``len`` counts bytes, and their sizes.

    Raises :class:`~pea2pea.errors.EncodeError` if one is larger than ``limit`` or is not bytes.
    """
    if not _COUNTED.issuperset(map(type, messages)):
        messages = [message if type(message) in _COUNTED else _flat(message) for message in messages]
    sizes = list(map(len, messages))
    if sizes and max(sizes) > limit:
        raise EncodeError(f"a message of {max(sizes)} bytes, {limit} are allowed")
    return messages, sizes


def gathered(parts: Sequence[Buffer], sizes: list[int]) -> list[Buffer]:
    """Return the parts as few buffers: one, unless some parts are large enough to be passed without a copy."""
    if max(sizes, default=0) < PASSED_UNCOPIED:
        joined = b"".join(parts)
        return [joined] if joined else []
    buffers: list[Buffer] = []
    for large, group in groupby(parts, lambda part: len(part) >= PASSED_UNCOPIED):
        run = list(group)
        buffers += run if large else [b"".join(run)]
    return buffers


def _headed(head: Callable[[int], bytes], messages: Sequence[Buffer], sizes: list[int]) -> list[Buffer]:
    """Return each message behind its header, as few buffers."""
    heads = {size: head(size) for size in set(sizes)}  # traffic has few sizes
    parts: list[Buffer] = [b""] * (2 * len(sizes))
    parts[0::2] = map(heads.__getitem__, sizes)
    parts[1::2] = messages
    return gathered(parts, sizes)


def _varint(value: int) -> bytes:
    shifts = range(0, max(value.bit_length(), 1), 7)
    return bytes(value >> shift & 127 | (128 if value >> shift > 127 else 0) for shift in shifts)


@lru_cache
def _reader(layout: Layout) -> Callable[[Bytes, int], tuple[int]]:
    """Return a function for the size of the message in the frame at a position; above the limit if it is refused."""
    size, order, offset, adjustment, skip, highest, _ = layout
    if size in _LETTERS and not adjustment and skip:
        mark = "<" if order == "little" else ">"
        return cast("Callable[[Bytes, int], tuple[int]]", struct.Struct(f"{mark}{offset}x{_LETTERS[size]}").unpack_from)

    def read(data: Bytes, position: int) -> tuple[int]:
        field = position + offset
        length = int.from_bytes(data[field : field + size], order)
        # An empty frame would be decoded again and again.
        good = length <= highest and length + adjustment >= (0 if skip else 1)
        return ((length if good else highest + 1) + adjustment,)

    return read


def _owned(messages: list[Bytes], data: Bytes) -> list[bytes]:
    """Return the slices of ``data`` as ``bytes`` of their own."""
    return cast("list[bytes]", messages) if isinstance(data, bytes) else list(map(bytes, messages))


def _flat(message: Buffer) -> Buffer:
    try:
        view = memoryview(message)
        return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
    except (TypeError, ValueError) as error:
        raise EncodeError(f"a message of type {type(message).__name__} is no readable bytes") from error
