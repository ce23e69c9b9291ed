"""Codecs: bytes in to messages, messages out to bytes. Pure: no asyncio, no sockets.

A codec works on batches and keeps no bytes of its own, so that feeding it in one chunk or byte
by byte gives the same messages. Raising in one ends its connection and no other.

The two interfaces come first, then the ready codecs, then the functions that take whole batches
apart and put them together: all the speed there is lies in those.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast

from .errors import ConfigError, DecodeError, EncodeError, FrameTooLargeError, IncompleteFrameError

KIB: Final = 1024
MIB: Final = 1024 * KIB
#: No size may be above this: a signed 64-bit number, which is also what 9 bytes of a varint hold.
LARGEST: Final = (1 << 63) - 1
#: From this size on a message is cut out of the receive buffer itself; below it, copying all of the buffer
#: to ``bytes`` first is faster (measured: equal at 4 KiB, 1.25 times at 8 KiB, 1.5 times at 16 KiB).
SLICED_IN_PLACE: Final = 8 * KIB
#: From this size on a message is handed to the network as it is; below it, joining costs no more than a
#: buffer of its own does in the system call.
PASSED_UNCOPIED: Final = 64 * KIB

In_co = TypeVar("In_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)

_FIELDS: Final = {
    (size, order): struct.Struct(mark + letter)
    for order, mark in (("big", ">"), ("little", "<"))
    for size, letter in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))
}
#: The types of which ``len`` surely counts bytes; a ``memoryview`` may hold larger items.
_COUNTED: Final = frozenset((bytes, bytearray))

#: What an encoder may hand to the network without a copy.
Buffer: TypeAlias = bytes | bytearray | memoryview
Bytes: TypeAlias = bytes | memoryview


def _derived() -> Any:
    """A field that follows from the settings, so is neither given, compared nor shown."""
    return field(init=False, repr=False, compare=False)


class Decoder(ABC, Generic[In_co]):
    """Takes bytes apart into messages."""

    __slots__ = ()

    @abstractmethod
    def decode(self, buffer: memoryview) -> tuple[Sequence[In_co], int]:
        """Return the whole messages at the start of ``buffer`` and how many bytes they took.

        The rest is given again, with what arrives after it. Messages must not refer to ``buffer``,
        which is written over afterwards. Raises :class:`~pea2pea.errors.DecodeError` on bytes that
        can never become a message, and :class:`~pea2pea.errors.FrameTooLargeError` as soon as a
        header claims too much.
        """

    def frame_size(self, head: memoryview) -> int:
        """Return the size, header included, of the frame that begins with ``head``; 0 where that is unknown.

        Asked about the rest that :meth:`decode` left: an answer lets a large frame be received
        straight into memory of its own, and decoding wait until it is whole.
        """
        return 0

    def finish(self, rest: memoryview) -> Sequence[In_co]:
        """Return the messages that the end of the stream completes.

        Called once, with the bytes that were left when the peer ended its stream in good order.
        Raises :class:`~pea2pea.errors.IncompleteFrameError` where they are part of a frame.
        """
        if rest:
            raise IncompleteFrameError(f"the stream ended inside a frame, after {len(rest)} bytes of it")
        return ()


class Encoder(ABC, Generic[Out_contra]):
    """Turns messages into bytes."""

    __slots__ = ()

    @abstractmethod
    def encode(self, messages: Sequence[Out_contra]) -> Sequence[Buffer]:
        """Return the bytes of ``messages``, in order, as few buffers: small ones joined, large ones uncopied.

        Raises :class:`~pea2pea.errors.EncodeError` for a message that cannot be sent.
        """


class Framing(Decoder[bytes], Encoder[Buffer]):
    """A codec of ``bytes``: it says where a message ends, and nothing about what is in it.

    The ready ones below are immutable and equal where their settings are. Where bad bytes follow
    good frames, the good ones are given first and the next :meth:`decode` raises, so how the bytes
    were cut into chunks changes nothing. ``encode`` takes empty messages too, and raises
    :class:`~pea2pea.errors.EncodeError` for what is not bytes.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthDelimited(Framing):
    """A length, then so many bytes: what tokio-util's ``LengthDelimitedCodec`` speaks, with its defaults.

    Decoding skips ``offset`` bytes, reads the length in ``length_size`` bytes (1, 2, 3, 4 or 8), adds
    ``adjustment`` to it for the size of the message, and starts the message ``skip`` bytes into the
    frame (``None``: after the length). ``max_frame`` bounds the length as read, before adjustment.

    Encoding writes the message's size less ``adjustment``, then the message; ``max_frame`` bounds
    both. As in tokio-util nothing is written for ``offset`` and ``skip``, so it is the inverse of
    decoding only where they are left alone. A frame that would take no bytes at all
    (``skip=0``) is refused, as it would be found again for ever.
    """

    length_size: int = 4
    byteorder: Literal["big", "little"] = "big"
    offset: int = 0
    adjustment: int = 0
    skip: int | None = None
    max_frame: int = 8 * MIB
    _head: int = _derived()  # what must be there before a frame can be judged
    _start: int = _derived()  # ``skip`` as a number
    _lowest: int = _derived()  # the bounds of the length as read
    _highest: int = _derived()
    _plain: bool = _derived()  # only size and order of the length differ from the defaults

    def __post_init__(self) -> None:
        if self.length_size not in (1, 2, 3, 4, 8):
            raise ConfigError("length_size", f"{self.length_size!r} is not 1, 2, 3, 4 or 8")
        if self.byteorder not in ("big", "little"):
            raise ConfigError("byteorder", f"{self.byteorder!r} is neither 'big' nor 'little'")
        _check_whole("offset", self.offset, 0)
        _check_whole("adjustment", self.adjustment, -LARGEST)
        _check_whole("max_frame", self.max_frame, 1)
        after = self.offset + self.length_size
        if self.skip is None:
            object.__setattr__(self, "skip", after)
        _check_whole("skip", self.skip, 0)
        self._derive(after, cast(int, self.skip))

    def _derive(self, after: int, skip: int) -> None:
        # Neither the message nor, with ``skip=0``, the frame may have less than nothing in it.
        lowest = -self.adjustment if skip else 1 - self.adjustment
        plain = self.length_size != 3 and (self.offset, self.adjustment, skip) == (0, 0, self.length_size)
        object.__setattr__(self, "_head", max(after, skip))
        object.__setattr__(self, "_start", skip)
        object.__setattr__(self, "_lowest", lowest)
        object.__setattr__(self, "_highest", min(self.max_frame, (1 << 8 * self.length_size) - 1))
        object.__setattr__(self, "_plain", plain)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        if self._plain:
            field = _FIELDS[self.length_size, self.byteorder]
            messages, used = _split_lengths(buffer, field, self.max_frame)
        else:
            messages, used = self._split(buffer)
        if not messages:
            self._measure(buffer)
        return messages, used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        if self._plain:
            return _join_lengths(messages, _FIELDS[self.length_size, self.byteorder], self._highest)
        size, order, adjustment = self.length_size, self.byteorder, self.adjustment
        plain, sizes = _sized(messages, min(self.max_frame, self._highest + adjustment))
        if min(sizes, default=adjustment) < adjustment:
            raise EncodeError(f"a message of {min(sizes)} bytes is shorter than the adjustment of {adjustment}")
        return _interleaved([(length - adjustment).to_bytes(size, order) for length in sizes], plain, sizes)

    def frame_size(self, head: memoryview) -> int:
        try:
            return self._measure(head)
        except DecodeError:
            return 0

    def _measure(self, head: memoryview) -> int:
        """The size of the frame that begins here, 0 where that is not known yet; raises where it is refused."""
        if len(head) < self._head:
            return 0
        length = int.from_bytes(head[self.offset : self.offset + self.length_size], self.byteorder)
        if length > self._highest:
            raise FrameTooLargeError(f"a frame claims {length} bytes, {self.max_frame} are allowed")
        if length < self._lowest:
            raise DecodeError(f"a frame claims {length} bytes, too few for an adjustment of {self.adjustment}")
        return self._start + length + self.adjustment

    def _split(self, buffer: memoryview) -> tuple[list[bytes], int]:
        size, order, offset, adjustment = self.length_size, self.byteorder, self.offset, self.adjustment
        lowest, highest, skip = self._lowest, self._highest, self._start
        whole = len(buffer)
        last = whole - self._head
        data = buffer.tobytes() if self.frame_size(buffer) < SLICED_IN_PLACE else buffer
        messages: list[bytes | memoryview] = []
        position = 0
        while position <= last:
            field = position + offset
            length = int.from_bytes(data[field : field + size], order)
            start = position + skip
            stop = start + length + adjustment
            if stop > whole or not lowest <= length <= highest:
                break
            messages.append(data[start:stop])
            position = stop
        return _owned(messages, data), position


@dataclass(frozen=True, slots=True)
class VarintDelimited(Framing):
    """An unsigned LEB128 length, then so many bytes: delimited protobuf messages, and libp2p.

    As in multiformats' unsigned-varint a length has at most 9 bytes (63 bits) and the shortest form
    only: one that is padded with zeroes is refused, which protobuf's parsers would let pass. A length
    is refused at the first byte that takes it over ``max_frame``.
    """

    max_frame: int = 8 * MIB

    def __post_init__(self) -> None:
        _check_whole("max_frame", self.max_frame, 1)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        messages, used = _split_varints(buffer, self.max_frame)
        if not messages:
            _read_varint(buffer, 0, self.max_frame)
        return messages, used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        plain, sizes = _sized(messages, self.max_frame)
        return _interleaved(map(_varint, sizes), plain, sizes)

    def frame_size(self, head: memoryview) -> int:
        try:
            return sum(_read_varint(head, 0, self.max_frame))
        except DecodeError:
            return 0


@dataclass(frozen=True, slots=True)
class Delimited(Framing):
    r"""Messages that each end with ``delimiter``, which is not part of them: lines, by default.

    ``max_frame`` bounds a message without its delimiter. A message that would be cut, since it holds
    the delimiter or its end runs into it (``b"x\n"`` before ``b"\n\n"``), is refused by ``encode``.
    A stream that ends without a delimiter ends inside a frame: ``finish`` raises
    :class:`~pea2pea.errors.IncompleteFrameError`. Binary payloads want a length in front instead.
    """

    delimiter: bytes = b"\n"
    max_frame: int = 64 * KIB

    def __post_init__(self) -> None:
        if not isinstance(self.delimiter, bytes) or not self.delimiter:
            raise ConfigError("delimiter", f"{self.delimiter!r} is no bytes of 1 or more")
        _check_whole("max_frame", self.max_frame, 1)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        delimiter, limit = self.delimiter, self.max_frame
        messages = buffer.tobytes().split(delimiter)
        rest = messages.pop()
        if max(map(len, messages), default=0) > limit:
            good = next(i for i, message in enumerate(messages) if len(message) > limit)
            del messages[good:]
            used = sum(map(len, messages)) + good * len(delimiter)
        else:
            used = len(buffer) - len(rest)
            # The last bytes may be the beginning of a delimiter.
            good = len(messages) or len(rest) < limit + len(delimiter)
        if not good:
            raise FrameTooLargeError(f"no delimiter within the {limit} bytes that are allowed")
        return messages, used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        plain, _ = _sized(messages, self.max_frame)
        # Large ones are joined as well: searching them for the delimiter costs as much as the copy.
        frames = [*plain, b""]
        joined = self.delimiter.join(frames)
        # Counting is faster, and enough where the delimiter cannot overlap with another.
        cut = joined.count(self.delimiter) != len(plain)
        if cut or (len(self.delimiter) > 1 and joined.split(self.delimiter) != frames):
            raise EncodeError(f"a message holds or runs into the delimiter {self.delimiter!r}")
        return [joined] if joined else []


@dataclass(frozen=True, slots=True)
class Fixed(Framing):
    """Messages of exactly ``size`` bytes with nothing between them."""

    size: int

    def __post_init__(self) -> None:
        _check_whole("size", self.size, 1)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        used = len(buffer) - len(buffer) % self.size
        if not used:
            return [], 0
        return list(chain.from_iterable(struct.iter_unpack(f"{self.size}s", buffer[:used]))), used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        plain, sizes = _sized(messages, self.size)
        if min(sizes, default=self.size) < self.size:
            raise EncodeError(f"a message of {min(sizes)} bytes, where each has {self.size}")
        return _gathered(plain, sizes)

    def frame_size(self, head: memoryview) -> int:
        return self.size


@dataclass(frozen=True, slots=True)
class Raw(Framing):
    """No frames: whatever arrived together is a message, and how much that is means nothing.

    For protocols whose messages are found elsewhere, and for looking at bytes. An empty message
    leaves no trace in the stream.
    """

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        return ([buffer.tobytes()], len(buffer)) if buffer else ([], 0)

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        return _gathered(*_sized(messages, LARGEST))


# The cores of the hot path. Each takes a whole batch and keeps to the good frames at its start: a header
# that is not whole, or refused, only ends the batch, so that a faster one need not know any error.


def _split_lengths(buffer: memoryview, field: struct.Struct, limit: int) -> tuple[list[bytes], int]:
    read, head, whole = field.unpack_from, field.size, len(buffer)
    last = whole - head
    if last < 0:
        return [], 0
    data = buffer.tobytes() if read(buffer)[0] < SLICED_IN_PLACE else buffer
    messages: list[bytes | memoryview] = []
    append = messages.append
    position = 0
    while position <= last:
        (length,) = read(data, position)
        start = position + head
        stop = start + length
        if stop > whole or length > limit:
            break
        append(data[start:stop])
        position = stop
    return _owned(messages, data), position


def _join_lengths(messages: Sequence[Buffer], field: struct.Struct, limit: int) -> list[Buffer]:
    if len(messages) == 1 and type(messages[0]) is bytes and len(messages[0]) <= min(limit, PASSED_UNCOPIED - 1):
        # A reply, most likely, and somebody waits for it: this takes a quarter of the time.
        return [field.pack(len(messages[0])) + messages[0]]
    plain, sizes = _sized(messages, limit)
    return _interleaved(map(field.pack, sizes), plain, sizes)


def _split_varints(buffer: memoryview, limit: int) -> tuple[list[bytes], int]:
    whole = len(buffer)
    # The second byte carries bits 7 to 13 and whether more follow.
    large = whole > 1 and buffer[0] > 127 and buffer[1] >= SLICED_IN_PLACE >> 7
    data = buffer if large else buffer.tobytes()
    messages: list[bytes | memoryview] = []
    append = messages.append
    position = 0
    while position < whole:
        length = data[position]
        start = position + 1
        if length > 127:
            if start < whole and 0 < data[start] < 128:
                length += (data[start] - 1) << 7
                start += 1
            elif (larger := _large_varint(data, position, limit)) is None:
                break
            else:
                length, start = larger
        stop = start + length
        if stop > whole or length > limit:
            break
        append(data[start:stop])
        position = stop
    return _owned(messages, data), position


def _read_varint(data: Bytes, position: int, limit: int) -> tuple[int, int]:
    """The number at ``position`` and where it ends; (0, 0) where it is not whole. Raises where it is refused."""
    value = shift = 0
    for at in range(position, len(data)):
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
        # More bytes to come, the last of which is not zero, make it this at least.
        if (value if byte < 128 else 1 << shift) > limit:
            raise FrameTooLargeError(f"a frame claims more than the {limit} bytes that are allowed")
        if byte < 128:
            if not byte and shift > 7:
                raise DecodeError("the length of a frame is padded with zeroes")
            return value, at + 1
    return 0, 0


def _large_varint(data: Bytes, position: int, limit: int) -> tuple[int, int] | None:
    try:
        length, start = _read_varint(data, position, limit)
    except DecodeError:
        return None
    return (length, start) if start else None


@lru_cache(maxsize=1024)  # traffic has few sizes; a hit takes a third of the time
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _owned(messages: list[bytes | memoryview], data: Bytes) -> list[bytes]:
    """The slices of ``data`` as ``bytes`` of their own."""
    return cast("list[bytes]", messages) if isinstance(data, bytes) else list(map(bytes, messages))


def _sized(messages: Sequence[Buffer], limit: int) -> tuple[Sequence[Buffer], list[int]]:
    """The messages, each of which ``len`` counts in bytes, and their sizes.

    Raises :class:`~pea2pea.errors.EncodeError` where one is larger than ``limit`` or is not bytes.
    """
    if not _COUNTED.issuperset(map(type, messages)):
        messages = list(map(_flat, messages))
    sizes = list(map(len, messages))
    if sizes and max(sizes) > limit:
        raise EncodeError(f"a message of {max(sizes)} bytes, {limit} are allowed")
    return messages, sizes


def _flat(message: Buffer) -> Buffer:
    try:
        view = memoryview(message)
        return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
    except (TypeError, ValueError) as error:
        raise EncodeError(f"a message of type {type(message).__name__} is no readable bytes") from error


def _interleaved(heads: Iterable[bytes], messages: Sequence[Buffer], sizes: list[int]) -> list[Buffer]:
    """Each message behind its head, as few buffers."""
    parts: list[Buffer] = [b""] * (2 * len(sizes))
    parts[0::2] = heads
    parts[1::2] = messages
    return _gathered(parts, sizes)


def _gathered(parts: Sequence[Buffer], sizes: list[int]) -> list[Buffer]:
    """The parts as few buffers: one, unless some of them are large enough to be passed on as they are."""
    if max(sizes, default=0) < PASSED_UNCOPIED:
        joined = b"".join(parts)
        return [joined] if joined else []
    buffers: list[Buffer] = []
    small: list[Buffer] = []
    for part in parts:
        if len(part) < PASSED_UNCOPIED:
            small.append(part)
            continue
        if small:
            buffers.append(b"".join(small))
            small.clear()
        buffers.append(part)
    if small:
        buffers.append(b"".join(small))
    return buffers


def _check_whole(field: str, value: object, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= LARGEST:
        raise ConfigError(field, f"{value!r} is no whole number between {lowest} and {LARGEST}")
