"""The codecs of bytes that come with the library. Pure: no asyncio, no sockets.

``batches`` does their work, or the same functions in C.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, cast

from ..errors import ConfigError, DecodeError, EncodeError, FrameTooLargeError
from .batches import KIB, LARGEST, Layout, gathered, read_varint, sized
from .interface import Buffer, Framing

try:
    if os.environ.get("PEA2PEA_PURE"):
        raise ImportError("not wanted")
    from .. import _speedups as cores
except ImportError:
    from . import batches as cores  # type: ignore[no-redef]  # the same functions

if TYPE_CHECKING:
    from .interface import Landing as Landing
else:
    Landing = cores.Landing

MIB: Final = 1024 * KIB
#: Whether the C module is used: it was built, and ``PEA2PEA_PURE`` was not set at import.
ACCELERATED: Final = cores.__name__ == "pea2pea._speedups"


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthDelimited(Framing):
    """A length, then that many bytes: the format of tokio-util's ``LengthDelimitedCodec``, with its defaults.

    Decoding skips ``offset`` bytes, reads the length in ``length_size`` bytes (1, 2, 3, 4 or 8), adds
    ``adjustment`` to it for the size of the message, and starts the message ``skip`` bytes into the
    frame (``None``: after the length). ``max_frame`` bounds the length as read, before adjustment.

    Encoding writes the message's size less ``adjustment``, then the message; ``max_frame`` bounds
    both. As in tokio-util, nothing is written for ``offset`` and ``skip``, so encoding is the inverse of
    decoding only with their defaults. A frame without any bytes (``skip=0``) is refused, because it would be
    decoded again and again.
    """

    length_size: int = 4
    byteorder: Literal["big", "little"] = "big"
    offset: int = 0
    adjustment: int = 0
    skip: int | None = None
    max_frame: int = 8 * MIB
    _layout: Layout = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.length_size not in (1, 2, 3, 4, 8):
            raise ConfigError("length_size", f"{self.length_size!r} is not 1, 2, 3, 4 or 8")
        if self.byteorder not in ("big", "little"):
            raise ConfigError("byteorder", f"{self.byteorder!r} is neither 'big' nor 'little'")
        _check_whole("offset", self.offset, 0)
        _check_whole("adjustment", self.adjustment, -LARGEST)
        _check_whole("max_frame", self.max_frame, 1)
        if self.skip is None:
            object.__setattr__(self, "skip", self.offset + self.length_size)
        _check_whole("skip", self.skip, 0)
        highest = min(self.max_frame, (1 << 8 * self.length_size) - 1)
        largest = min(self.max_frame, highest + self.adjustment)
        skip = cast(int, self.skip)
        layout = Layout(self.length_size, self.byteorder, self.offset, self.adjustment, skip, highest, largest)
        object.__setattr__(self, "_layout", layout)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        messages, used = cores.split_lengths(buffer, self._layout)
        if not messages:
            self._measure(buffer)
        return messages, used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        return cores.join_lengths(messages, self._layout)

    def frame_size(self, head: memoryview) -> int:
        try:
            return self._measure(head)
        except DecodeError:
            return 0

    def header_size(self, head: memoryview) -> int:
        return self._layout.skip if type(self) is LengthDelimited else 0  # a subclass may decode differently

    def _measure(self, head: memoryview) -> int:
        """Return the size of the frame that begins here, 0 if it is not known yet; raise if it is refused."""
        size, order, offset, adjustment, skip, highest, _ = self._layout
        if len(head) < max(offset + size, skip):
            return 0
        length = int.from_bytes(head[offset : offset + size], order)
        if length > highest:
            raise FrameTooLargeError(f"a frame claims {length} bytes, {self.max_frame} are allowed")
        # If no header is skipped, an empty frame would be decoded again and again.
        if length + adjustment < 0 or not skip + length + adjustment:
            raise DecodeError(f"a frame claims {length} bytes, too few for an adjustment of {adjustment}")
        return skip + length + adjustment


@dataclass(frozen=True, slots=True)
class VarintDelimited(Framing):
    """An unsigned LEB128 length, then that many bytes: delimited protobuf messages, and libp2p.

    As in multiformats' unsigned-varint, a length has at most 9 bytes (63 bits) in the shortest form: one that is
    padded with zeroes is refused, although protobuf's parsers accept it. A length is refused at the first byte that
    takes it over ``max_frame``.
    """

    max_frame: int = 8 * MIB

    def __post_init__(self) -> None:
        _check_whole("max_frame", self.max_frame, 1)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        messages, used = cores.split_varints(buffer, self.max_frame)
        if not messages:
            read_varint(buffer, 0, self.max_frame)
        return messages, used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        return cores.join_varints(messages, self.max_frame)

    def frame_size(self, head: memoryview) -> int:
        try:
            return sum(read_varint(head, 0, self.max_frame))
        except DecodeError:
            return 0

    def header_size(self, head: memoryview) -> int:
        return read_varint(head, 0, self.max_frame)[1] if type(self) is VarintDelimited else 0  # as above


@dataclass(frozen=True, slots=True)
class Delimited(Framing):
    r"""Messages that each end with ``delimiter``, which is not part of them: lines, by default.

    ``max_frame`` bounds a message without its delimiter. ``encode`` refuses a message that would be cut, because it
    contains the delimiter or its end runs into it (``b"x\n"`` before ``b"\n\n"``). A stream that ends without a
    delimiter ends inside a frame: ``finish`` raises :class:`~pea2pea.errors.IncompleteFrameError`. For binary payloads,
    use a length prefix instead.
    """

    delimiter: bytes = b"\n"
    max_frame: int = 64 * KIB

    def __post_init__(self) -> None:
        if not isinstance(self.delimiter, bytes) or not self.delimiter:
            raise ConfigError("delimiter", f"{self.delimiter!r} has to be bytes, and at least one")
        _check_whole("max_frame", self.max_frame, 1)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        messages, used = cores.split_delimited(buffer, self.delimiter, self.max_frame)
        # The last bytes may be the start of a delimiter.
        if not messages and len(buffer) >= self.max_frame + len(self.delimiter):
            raise FrameTooLargeError(f"no delimiter within the {self.max_frame} bytes that are allowed")
        return messages, used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        return cores.join_delimited(messages, self.delimiter, self.max_frame)


@dataclass(frozen=True, slots=True)
class Fixed(Framing):
    """Messages of exactly ``size`` bytes, without separators."""

    size: int

    def __post_init__(self) -> None:
        _check_whole("size", self.size, 1)

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        used = len(buffer) - len(buffer) % self.size
        if not used:
            return [], 0
        return list(chain.from_iterable(struct.iter_unpack(f"{self.size}s", buffer[:used]))), used

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        plain, sizes = sized(messages, self.size)
        if min(sizes, default=self.size) < self.size:
            raise EncodeError(f"a message of {min(sizes)} bytes, where each has {self.size}")
        return gathered(plain, sizes)

    def frame_size(self, head: memoryview) -> int:
        return self.size


@dataclass(frozen=True, slots=True)
class Raw(Framing):
    """No frames: the bytes that arrived together are a message, and its size means nothing.

    For protocols that frame their messages elsewhere, and for inspecting bytes. An empty message is not sent.
    """

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        return ([buffer.tobytes()], len(buffer)) if buffer else ([], 0)

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        return gathered(*sized(messages, LARGEST))


def _check_whole(field: str, value: object, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= LARGEST:
        raise ConfigError(field, f"{value!r} is no whole number between {lowest} and {LARGEST}")
