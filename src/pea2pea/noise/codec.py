"""What follows a handshake: a session, and codecs that encrypt what other codecs say. Pure: no asyncio, no sockets.

May import ``codec``, ``errors`` and ``state``. On the wire are Noise messages, each behind its length in two
bytes. Where they begin and end means nothing: their plaintexts are one stream, which the inner codec takes apart.

A :class:`NoiseDecoder` is the exception to the rule that a codec keeps no bytes of its own. What is
decrypted cannot be given back to be decrypted again, so it keeps the plaintext of the inner frame that
is not whole yet: at most what the inner codec allows a frame, and what arrives at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, Generic, TypeVar

from ..codec import Buffer, Decoder, Encoder, Landing
from ..errors import ConfigError, EncodeError, IncompleteFrameError, UsageError
from .crypto import TAG_SIZE
from .errors import MalformedMessageError, NoiseError
from .state import MAX_MESSAGE, CipherState, NoiseProtocol

In = TypeVar("In")
Out = TypeVar("Out")

LENGTH: Final = struct.Struct(">H")
MAX_PLAINTEXT: Final = MAX_MESSAGE - TAG_SIZE
#: How much of a large buffer goes into one message: ciphers work on up to so many times 256 bytes at once, and take
#: as long for the last 239 that a message could have besides as for 4,000 others (ChaChaPoly with AVX-512).
PORTION: Final = MAX_PLAINTEXT // 256 * 256
#: What encrypting a message adds to it on the wire.
OVERHEAD: Final = LENGTH.size + TAG_SIZE
#: Encrypted bytes that are handed to the network together. More gain nothing, and wait longer for the first.
OUTPUT_SIZE: Final = 132 * 1024
#: See ``_have_memory_kept``.
KEPT_SIZE: Final = 4 * 1024 * 1024
#: A rest of this size gets memory of its own; a smaller one is cheaper to copy.
GATHER_FROM: Final = 64 * 1024
#: Room for what one receive decrypts to, behind a small rest.
SCRATCH_SIZE: Final = 512 * 1024 + GATHER_FROM
#: Memory set aside for a large frame, as a multiple of what arrived of it.
TRUST: Final = 4

#: Memory to decrypt into, for whoever decrypts now; two, for programs with a loop in each of two threads.
#: List methods are atomic, so no two can get the same.
_scratch: list[bytearray] = []
_MOST_SCRATCH: Final = 2


class NoiseDecoder(Decoder[In], Generic[In]):
    """Decrypts, and has ``inner`` decode the plaintext. One for each connection; a :class:`NoiseSession` makes it.

    Raises :class:`DecryptError` at the first message that is not the next one that the peer sent,
    after the good ones before it were given.
    """

    __slots__ = ("_again", "_cipher", "_failure", "_filled", "_inner", "_kept", "_need", "_rekey_after")

    def __init__(
        self, inner: Decoder[In], cipher: CipherState, rekey_after: int | None = None, left: bytes | None = None
    ) -> None:
        self._inner = inner
        self._cipher = cipher
        self._rekey_after = rekey_after
        # The first _filled bytes of _kept are decrypted and not decoded yet; _need make a frame (0: unknown).
        self._kept = bytearray(left or b"")
        self._filled = len(self._kept)
        self._need = 0
        # The first message was decrypted during the handshake, and is here to have what is left of it decoded.
        self._again = left is not None
        self._failure: Exception | None = None

    def decode(self, buffer: memoryview) -> tuple[Sequence[In], int]:
        if self._failure is not None:
            raise self._failure
        ends, size = _whole_messages(buffer)
        if not ends:
            return (), 0
        done, self._again = ends.pop(0) if self._again else 0, False
        memory = self._memory_for(size)
        used, filled = self._decrypt(buffer, done, ends, memory)
        messages = self._decode(memory, filled)
        if self._failure is None:
            return messages, used
        if not messages:
            raise self._failure
        # Never all of it, so that this is called again, and raises then. It took a message at least.
        return messages, min(used, len(buffer) - 1)

    def frame_size(self, head: memoryview) -> int:
        return LENGTH.size + LENGTH.unpack_from(head)[0] if len(head) >= LENGTH.size else 0

    def finish(self, rest: memoryview) -> Sequence[In]:
        if self._failure is not None:
            raise self._failure
        if rest:
            raise IncompleteFrameError(f"the stream ended inside a Noise message, after {len(rest)} bytes of it")
        return self._inner.finish(memoryview(self._kept)[: self._filled])

    def __repr__(self) -> str:
        return f"<NoiseDecoder of {self._inner!r}>"

    def _decrypt(self, buffer: memoryview, done: int, ends: list[int], memory: bytearray) -> tuple[int, int]:
        """Decrypt the messages from ``done`` on, which end at ``ends``, behind what is kept.

        Returns how many bytes of ``buffer`` are done with, and how many of ``memory`` are filled.
        """
        cipher, rekey_after, view = self._cipher, self._rekey_after, memoryview(memory)
        used, filled = done, self._filled
        try:
            for end in ends:
                stop = filled + end - used - OVERHEAD
                if stop < filled:
                    raise MalformedMessageError(f"{end - used - LENGTH.size} bytes are no Noise message")
                cipher.decrypt_into(buffer[used + LENGTH.size : end], view[filled:stop])
                used, filled = end, stop
                if rekey_after is not None and cipher.nonce % rekey_after == 0:
                    cipher.rekey()
        except NoiseError as error:
            self._failure = error
        return used, filled

    def _decode(self, memory: bytearray, filled: int) -> Sequence[In]:
        """Have the plaintext decoded, and keep what is left of it."""
        start, view = 0, memoryview(memory)[:filled]
        messages: list[In] = []
        try:
            while start < filled and filled >= self._need:
                found, used = self._inner.decode(view[start:])
                start += used
                messages += found
                if not found and not used:
                    break
        except Exception as error:  # the inner codec's; raised by decode, now or when it is called again
            self._failure = self._failure or error
        self._keep(memory, start, filled)
        return messages

    def _memory_for(self, size: int) -> bytearray:
        """Memory that begins with what is kept and has room for ``size`` bytes more."""
        wanted = self._filled + size
        if self._filled >= GATHER_FROM and wanted <= len(self._kept):
            return self._kept
        if self._filled < GATHER_FROM and wanted <= SCRATCH_SIZE:
            memory = _scratch.pop() if _scratch else bytearray(SCRATCH_SIZE)
        else:
            memory = bytearray(max(wanted, min(self._need or TRUST * wanted, TRUST * wanted)))
        memory[: self._filled] = memoryview(self._kept)[: self._filled]
        return memory

    def _keep(self, memory: bytearray, start: int, filled: int) -> None:
        rest = filled - start
        self._filled, self._need = rest, 0
        if rest >= GATHER_FROM and not start and len(memory) != SCRATCH_SIZE:
            self._kept = memory
        else:
            self._kept = bytearray(memoryview(memory)[start:filled])
            if len(memory) == SCRATCH_SIZE and len(_scratch) < _MOST_SCRATCH:
                _scratch.append(memory)
        if rest >= GATHER_FROM and self._failure is None:
            self._need = self._inner.frame_size(memoryview(self._kept)[:rest])


class NoiseEncoder(Encoder[Out], Generic[Out]):
    """Has ``inner`` encode messages, and encrypts the bytes. One for each connection; a :class:`NoiseSession` makes it.

    What is encoded must be sent, in that order: every byte of it moves the state on.
    """

    __slots__ = ("_cipher", "_inner", "_rekey_after")

    def __init__(self, inner: Encoder[Out], cipher: CipherState, rekey_after: int | None = None) -> None:
        self._inner = inner
        self._cipher = cipher
        self._rekey_after = rekey_after

    def encode(self, messages: Sequence[Out]) -> Sequence[Buffer]:
        buffers = self._inner.encode(messages)
        return [self._seal(batch) for batch in _batches(_plaintexts(buffers))]

    def __repr__(self) -> str:
        return f"<NoiseEncoder of {self._inner!r}>"

    def _seal(self, plaintexts: list[Buffer]) -> memoryview:
        """The plaintexts as Noise messages, each behind its length."""
        cipher, rekey_after = self._cipher, self._rekey_after
        # As it comes, where a bytearray would be filled with zeroes first: all of it is written to.
        sealed = memoryview(Landing(sum(map(len, plaintexts)) + OVERHEAD * len(plaintexts)))
        start = 0
        for plaintext in plaintexts:
            stop = start + len(plaintext) + OVERHEAD
            LENGTH.pack_into(sealed, start, len(plaintext) + TAG_SIZE)
            cipher.encrypt_into(plaintext, sealed[start + LENGTH.size : stop])
            start = stop
            if rekey_after is not None and cipher.nonce % rekey_after == 0:
                cipher.rekey()
        return sealed


class NoiseSession:
    """What a handshake made: who the peer is, and the ciphers of both directions."""

    __slots__ = (
        "_left", "_lent", "_receiving", "_rekey_after", "_sending", "handshake_hash", "protocol", "remote_static",
    )

    #: The protocol that was spoken.
    protocol: NoiseProtocol
    #: The peer's static public key, which is its identity; ``None`` where the pattern has none for it.
    remote_static: bytes | None
    #: Equal on both sides of this connection, and on no other: for binding something to it.
    handshake_hash: bytes

    def __init__(
        self,
        protocol: NoiseProtocol,
        remote_static: bytes | None,
        handshake_hash: bytes,
        ciphers: tuple[CipherState, CipherState],
        rekey_after: int | None = None,
    ) -> None:
        check_rekey_after(rekey_after)
        _have_memory_kept()
        self.protocol = protocol
        self.remote_static = remote_static
        self.handshake_hash = handshake_hash
        self._sending, self._receiving = ciphers
        self._rekey_after = rekey_after
        self._lent: set[str] = set()
        self._left: bytes | None = None

    def decoder(self, inner: Decoder[In]) -> NoiseDecoder[In]:
        """Return what decrypts this connection for ``inner``. Only once: a second would miss what the first took."""
        self._lend("decoder")
        return NoiseDecoder(inner, self._receiving, self._rekey_after, self._left)

    def encoder(self, inner: Encoder[Out]) -> NoiseEncoder[Out]:
        """Return what encrypts for this connection what ``inner`` encodes. Only once."""
        self._lend("encoder")
        return NoiseEncoder(inner, self._sending, self._rekey_after)

    def seal(self, plaintext: Buffer) -> bytes:
        """Return one message with its length, to be sent by whoever still negotiates before there is an encoder.

        Raises :class:`EncodeError` above 65,519 bytes, and :class:`UsageError` once there is one.
        """
        if "encoder" in self._lent:
            raise UsageError("there is an encoder: send through that")
        if len(plaintext) > MAX_PLAINTEXT:
            raise EncodeError(f"a message of {len(plaintext)} bytes, {MAX_PLAINTEXT} are allowed")
        sealed = self._sending.encrypt(b"", plaintext)
        self._count(self._sending)
        return LENGTH.pack(len(sealed)) + sealed

    def unseal(self, message: Buffer) -> bytes:
        """Return the plaintext of one message that came, without its length. Raises as a decoder does.

        All of it is then the caller's; for reading less, there is :class:`NoiseReader`.
        """
        self.check_unread()
        if self._left is not None:
            left, self._left = self._left, None
            return left
        plaintext = self._receiving.decrypt(b"", message)
        self._count(self._receiving)
        return plaintext

    def give_back(self, left: bytes) -> None:
        """Have the message that was unsealed last come again: it is to be in front of all others that the decoder, or
        ``unseal``, is given, with its length, and ``left`` is what that makes of it."""
        self.check_unread()
        self._left = left

    def check_unread(self) -> None:
        """Raise :class:`UsageError` where there is a decoder, to which all belongs that comes."""
        if "decoder" in self._lent:
            raise UsageError("there is a decoder: what comes is its own")

    def _lend(self, what: str) -> None:
        if what in self._lent:
            raise UsageError(f"this session has given its {what} away already")
        self._lent.add(what)

    def _count(self, cipher: CipherState) -> None:
        if self._rekey_after is not None and cipher.nonce % self._rekey_after == 0:
            cipher.rekey()

    def __repr__(self) -> str:
        return f"<NoiseSession {self.protocol.name}>"


@cache
def _have_memory_kept() -> None:
    """Let the C library keep freed memory of this size for what comes next.

    glibc gives the memory of a freed batch back to the system, and each page of the next one faults: a message
    of 64 KiB then costs its sender 58 microseconds instead of 23 to 40. Memory of its own (mmap) that is freed
    once raises that limit; other C libraries do not mind.
    """
    bytes(KEPT_SIZE)


def check_rekey_after(value: object) -> None:
    """Raise :class:`ConfigError` unless ``value`` is ``None`` or a number of messages."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError("rekey_after", f"{value!r} is no whole number of 1 or more")


def _whole_messages(buffer: memoryview) -> tuple[list[int], int]:
    """Where the whole messages at the start of ``buffer`` end, and an upper bound of their plaintexts' size."""
    ends: list[int] = []
    position, last = 0, len(buffer) - LENGTH.size
    read = LENGTH.unpack_from
    while position <= last:
        stop = position + LENGTH.size + read(buffer, position)[0]
        if stop > len(buffer):
            break
        ends.append(stop)
        position = stop
    return ends, position


def _plaintexts(buffers: Sequence[Buffer]) -> Iterator[Buffer]:
    """The bytes of ``buffers``, cut for one Noise message each. Large ones are not copied, small ones are joined.

    What a large one has beyond whole Noise messages goes before them, with the small ones: where it ends, and a frame
    with it, so does a Noise message, and whoever decrypts that has nothing left to keep.
    """
    small: list[Buffer] = []
    size = 0
    for buffer in buffers:
        odd = len(buffer) % PORTION
        if size + odd > MAX_PLAINTEXT:
            yield _joined(small)
            small, size = [], 0
        view = memoryview(buffer)
        if odd:
            small.append(view[:odd])
            size += odd
        if odd < len(buffer):
            if small:
                yield _joined(small)
            small, size = [], 0
            for start in range(odd, len(buffer), PORTION):
                yield view[start : start + PORTION]
    if small:
        yield _joined(small)


def _joined(buffers: list[Buffer]) -> Buffer:
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)


def _batches(plaintexts: Iterator[Buffer]) -> Iterator[list[Buffer]]:
    """The plaintexts, in groups of about ``OUTPUT_SIZE``."""
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
