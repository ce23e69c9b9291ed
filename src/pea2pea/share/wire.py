"""The messages between two nodes that share a file. Pure; imports the core's codecs.

First, in the handshake, both sides send a preamble of ``PREAMBLE_SIZE`` bytes and then a :class:`Hello` of
``HELLO_SIZE`` bytes. Frames follow, each one message behind its length in four bytes. The first byte of a
message is its kind. All numbers are big-endian.

=======  ================================================================================
``B``    a bitmap of the chunks that the sender has, the lowest index in the lowest bit
``G``    the indexes of chunks that the sender has received since, four bytes each
``R``    the index of a chunk that the sender requests
``N``    the index of a chunk that was requested from the sender and that it does not have
``C``    a chunk: its index, the number of hashes in its proof, the proof, the data
=======  ================================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pea2pea import CodecError, Decoder, Encoder, LengthDelimited

from .errors import PeerFaultError, ShareError
from .mode import Mode
from .tree import HASH_SIZE, MAX_PROOF, Target, chunk_size

#: The name and the version of the protocol.
MAGIC = b"pea2pea\x02"
MODES = {Mode.PLAIN: b"P", Mode.NOISE: b"N", Mode.TLS: b"T"}
PREAMBLE_SIZE = len(MAGIC) + 1
_HELLO = struct.Struct(f">BQ{HASH_SIZE}s")
HELLO_SIZE = _HELLO.size
_INDEX = struct.Struct(">I")
_CHUNK = struct.Struct(">cIB")
#: Indexes in one message. A node hardly gathers as many between two writes; this only bounds the frame.
MAX_GOT = 1024


def preamble(mode: Mode) -> bytes:
    """Return the first ``PREAMBLE_SIZE`` bytes of a connection that is secured by ``mode``."""
    return MAGIC + MODES[mode]


def mode_in(data: bytes) -> Mode:
    """Return the mode in a preamble. Raises :class:`PeerFaultError` if it is not a preamble of this version."""
    for mode in MODES:
        if data == preamble(mode):
            return mode
    if data.startswith(MAGIC[:-1]):
        raise PeerFaultError("it uses another version of the protocol of pea2pea")
    raise PeerFaultError("it does not answer as a sharer of pea2pea would")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node exchanges; ``None`` from a node that only asks what the other one shares."""

    target: Target | None

    def encode(self) -> bytes:
        """Return its ``HELLO_SIZE`` bytes."""
        target = self.target or Target(0, bytes(HASH_SIZE))
        return _HELLO.pack(self.target is not None, target.size, target.top)

    @classmethod
    def decode(cls, data: bytes) -> Hello:
        """Decode a hello. Raises :class:`PeerFaultError` if it is not one."""
        if len(data) != HELLO_SIZE:
            raise PeerFaultError(f"it sent a hello of {len(data)} bytes instead of {HELLO_SIZE}")
        knows, size, top = _HELLO.unpack(data)
        if knows > 1:
            raise PeerFaultError("it sent a hello that is neither an offer nor a question")
        try:
            chunk_size(size)
        except ShareError as error:
            raise PeerFaultError(str(error)) from error
        return cls(Target(size, top) if knows else None)


@dataclass(frozen=True, slots=True)
class Bitmap:
    """The chunks that the sender has, as the bits of a number."""

    bits: int


@dataclass(frozen=True, slots=True)
class Got:
    """Chunks that the sender has received."""

    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """The sender requests a chunk."""

    index: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The sender does not have a chunk that was requested from it."""

    index: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk and its proof."""

    index: int
    proof: tuple[bytes, ...]
    data: bytes | bytearray | memoryview


Message: TypeAlias = Bitmap | Got | Request | Refuse | Chunk


class Wire(Decoder[Message], Encoder[Message]):
    """The codec for one file: frames are no larger than its chunks and its bitmap need."""

    __slots__ = ("_count", "_frames", "_largest")

    def __init__(self, target: Target) -> None:
        self._count = target.count
        self._largest = max(
            _CHUNK.size + MAX_PROOF * HASH_SIZE + target.chunk,
            1 + self._bitmap_size(),
            1 + MAX_GOT * _INDEX.size,
        )
        self._frames = LengthDelimited(max_frame=self._largest)

    def decode(self, buffer: memoryview) -> tuple[Sequence[Message], int]:
        """Return the complete messages in ``buffer``. Raises :class:`PeerFaultError` for a malformed one."""
        frames, consumed = self._frames.decode(buffer)
        return [self._parse(frame) for frame in frames], consumed

    def frame_size(self, head: memoryview) -> int:
        """Return the size of the frame that begins with ``head``."""
        return self._frames.frame_size(head)

    def encode(self, messages: Sequence[Message]) -> Sequence[bytes | bytearray | memoryview]:
        """Return the frames of ``messages``; the data of chunks is not copied."""
        buffers: list[bytes | bytearray | memoryview] = []
        small: list[bytes] = []
        for message in messages:
            if isinstance(message, Chunk):
                buffers += self._frames.encode(small)
                buffers += self._print_chunk(message)
                small = []
            else:
                small.append(self._print(message))
        buffers += self._frames.encode(small)
        return buffers

    def _print_chunk(self, chunk: Chunk) -> tuple[bytes, bytes | bytearray | memoryview]:
        head = b"".join((_CHUNK.pack(b"C", chunk.index, len(chunk.proof)), *chunk.proof))
        size = len(head) + len(chunk.data)
        if size > self._largest:
            raise CodecError(f"chunk {chunk.index} makes a frame of {size} bytes, more than {self._largest}")
        return _INDEX.pack(size) + head, chunk.data

    def _print(self, message: Bitmap | Got | Request | Refuse) -> bytes:
        match message:
            case Bitmap(bits):
                return b"B" + bits.to_bytes(self._bitmap_size(), "little")
            case Got(indexes):
                return b"G" + struct.pack(f">{len(indexes)}I", *indexes)
            case Request(index):
                return b"R" + _INDEX.pack(index)
            case Refuse(index):
                return b"N" + _INDEX.pack(index)

    def _parse(self, frame: bytes | bytearray) -> Message:
        kind, rest = frame[:1], memoryview(frame)[1:]
        if kind == b"C":
            return self._parse_chunk(frame)
        if kind == b"B" and len(rest) == self._bitmap_size():
            bits = int.from_bytes(rest, "little")
            if bits >> self._count == 0:
                return Bitmap(bits)
        if kind in (b"R", b"N") and len(rest) == _INDEX.size:
            index = self._index(_INDEX.unpack(rest)[0])
            return Request(index) if kind == b"R" else Refuse(index)
        if kind == b"G" and len(rest) % _INDEX.size == 0:
            return Got(tuple(self._index(index) for (index,) in _INDEX.iter_unpack(rest)))
        raise PeerFaultError(f"it sent a frame of {len(frame)} bytes that is not a message")

    def _parse_chunk(self, frame: bytes | bytearray) -> Chunk:
        if len(frame) < _CHUNK.size:
            raise PeerFaultError("it sent a chunk without a header")
        _, index, hashes = _CHUNK.unpack_from(frame)
        start = _CHUNK.size + hashes * HASH_SIZE
        if hashes > MAX_PROOF or len(frame) < start:
            raise PeerFaultError(f"it sent a proof of {hashes} hashes in {len(frame)} bytes")
        proof = tuple(bytes(frame[at : at + HASH_SIZE]) for at in range(_CHUNK.size, start, HASH_SIZE))
        return Chunk(self._index(index), proof, memoryview(frame)[start:])

    def _index(self, index: int) -> int:
        if index >= self._count:
            raise PeerFaultError(f"it named chunk {index}, but there are {self._count}")
        return index

    def _bitmap_size(self) -> int:
        return (self._count + 7) // 8
