"""Yamux frames and their codec. Pure. May import ``codec`` and ``errors``.

A frame is a header of 12 bytes (version, type, flags, stream, length), followed in a Data frame by ``length`` bytes of
payload.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..codec import Buffer, Decoder, Encoder
from ..errors import FrameTooLargeError
from .errors import MalformedFrameError

HEADER: Final = struct.Struct(">BBHII")
VERSION: Final = 0

DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8

#: Both windows of a new stream. The specification fixes this value.
INITIAL_WINDOW: Final = 256 * 1024
_TYPES: Final = ("Data", "WindowUpdate", "Ping", "GoAway")
_FLAGS: Final = ((SYN, "SYN"), (ACK, "ACK"), (FIN, "FIN"), (RST, "RST"))


class Frame(NamedTuple):
    """One frame. ``length`` is the size of the payload, the growth of a window, a ping's value or a GoAway code."""

    kind: int
    flags: int
    stream: int
    length: int
    payload: Buffer = b""

    def __str__(self) -> str:
        flags = "|".join(name for flag, name in _FLAGS if self.flags & flag)
        return f"{_TYPES[self.kind]}{'|' if flags else ''}{flags} of stream {self.stream}, {self.length}"


class FrameDecoder(Decoder[Frame]):
    """Decodes frames. Raises :class:`MalformedFrameError`, and :class:`FrameTooLargeError` from the header alone.

    ``head`` is the beginning of the stream, if it was received before the decoder was made: less than one frame.
    """

    __slots__ = ("_head", "max_payload")

    def __init__(self, head: bytes = b"") -> None:
        #: The largest payload allowed. The connection raises it when a window grows: no frame may exceed a window.
        self.max_payload: int = INITIAL_WINDOW
        self._head = head

    def decode(self, buffer: memoryview) -> tuple[Sequence[Frame], int]:
        if self._head:
            return self._decode_after_head(buffer)
        frames: list[Frame] = []
        position, size = 0, len(buffer)
        while size - position >= HEADER.size:
            version, kind, flags, stream, length = HEADER.unpack_from(buffer, position)
            stop = position + HEADER.size
            if version or kind or flags > 15 or length > self.max_payload:
                try:
                    self._check(version, kind, flags, length)
                except ValueError:
                    if frames:  # return these; the next call raises
                        break
                    raise
            if kind:
                frames.append(Frame(kind, flags, stream, length))
            else:
                start, stop = stop, stop + length
                if stop > size:
                    break
                frames.append(Frame(DATA, flags, stream, length, bytes(buffer[start:stop])))
            position = stop
        return frames, position

    def frame_size(self, head: memoryview) -> int:
        if self._head or len(head) < HEADER.size:
            return 0
        _, kind, _, _, length = HEADER.unpack_from(head)
        return HEADER.size if kind else HEADER.size + min(length, self.max_payload)

    def finish(self, rest: memoryview) -> Sequence[Frame]:
        return super().finish(memoryview(self._head + bytes(rest)))

    def _decode_after_head(self, buffer: memoryview) -> tuple[Sequence[Frame], int]:
        head, self._head = self._head, b""
        frames, used = self.decode(memoryview(head + bytes(buffer)))
        if not used:
            self._head = head
            return (), 0
        # The head is shorter than a frame, so the first frame has used all of it.
        return frames, used - len(head)

    def _check(self, version: int, kind: int, flags: int, length: int) -> None:
        if version != VERSION or kind > GO_AWAY or flags > (SYN | ACK | FIN | RST):
            raise MalformedFrameError(f"not a Yamux frame: version {version}, type {kind}, flags {flags:#x}")
        if not kind and length > self.max_payload:
            raise FrameTooLargeError(f"a frame of {length} bytes exceeds the largest window ({self.max_payload} bytes)")


class FrameEncoder(Encoder[Frame]):
    """Encodes frames. It has no state, so all encoders are equal."""

    __slots__ = ()

    def encode(self, messages: Sequence[Frame]) -> Sequence[Buffer]:
        buffers: list[Buffer] = []
        for kind, flags, stream, length, payload in messages:
            buffers.append(HEADER.pack(VERSION, kind, flags, stream, length))
            if payload:
                buffers.append(payload)
        return buffers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrameEncoder)

    def __hash__(self) -> int:
        return hash(FrameEncoder)
