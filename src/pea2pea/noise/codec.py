"""The codecs of an encrypted connection. Pure: no asyncio, no sockets. :class:`NoiseSession` makes them.

May import ``codec``, ``errors``, ``undecoded``, ``state`` and ``wire``. There are two kinds:

- :class:`NoiseCodec`, with :class:`NoiseDecoder` and :class:`NoiseEncoder` as its halves, makes a stream of the
  plaintexts. Another codec, the inner one, frames that stream, so the borders of Noise messages carry no meaning.
- :class:`NoiseMessages` makes each Noise message one message of bytes.

A :class:`NoiseDecoder` keeps bytes between its calls, unlike other codecs: a Noise message can be decrypted only once,
so its plaintext is kept until the inner frame is complete. That is bounded by what the inner codec allows for a frame
and by what one receive brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

from ..codec import Buffer, Decoder, Encoder, Framing
from ..codec.batches import sized
from ..errors import IncompleteFrameError
from ..undecoded import GATHER_FROM, Undecoded
from .errors import NoiseError
from .state import CipherState
from .wire import LENGTH as LENGTH
from .wire import MAX_PLAINTEXT, OVERHEAD, message_ends, message_size, seal

In = TypeVar("In")
Out = TypeVar("Out")
In_co = TypeVar("In_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)

#: How much of a large buffer goes into one message. AEAD implementations process up to this many multiples of 256 bytes
#: at once. The 239 bytes that a message could hold beyond it take as long as 4,000 others (ChaChaPoly with AVX-512).
PORTION: Final = MAX_PLAINTEXT // 256 * 256
#: The plaintext of one receive, plus a small remainder before it.
SCRATCH_SIZE: Final = 512 * 1024 + GATHER_FROM

# Blocks of memory to decrypt into. A decoder borrows one for the duration of a call. Two are kept, since decoders can
# be nested (Noise in Noise) and loops can run in several threads. More are allocated when needed. list.pop and
# list.append are atomic, so two threads never get the same block.
_MOST_SCRATCH: Final = 2
_scratch: list[memoryview] = []
# The memory of a decoder that has not borrowed any.
_NO_MEMORY: Final = memoryview(b"")


class InnerCodec(Protocol[In_co, Out_contra]):
    """A codec for both directions, as :meth:`NoiseSession.codec` takes it."""

    def decode(self, buffer: memoryview) -> tuple[Sequence[In_co], int]: ...

    def frame_size(self, head: memoryview) -> int: ...

    def header_size(self, head: memoryview) -> int: ...

    def finish(self, rest: memoryview) -> Sequence[In_co]: ...

    def encode(self, messages: Sequence[Out_contra]) -> Sequence[Buffer]: ...


class NoiseDecoder(Decoder[In], Generic[In]):
    """Decrypts a stream, and decodes the plaintext with ``inner``. One per connection.

    Raises :class:`DecryptError` at the first message that is not the next one the peer sent. Messages before it are
    returned first. Once it has raised, it raises the same error at every call.

    ``first`` is what is still to be decoded of the first message, if that was decrypted before (and not all of it was
    used): the message is skipped, and ``first`` takes its place.
    """

    __slots__ = ("_cipher", "_failure", "_first", "_plain")

    def __init__(self, inner: Decoder[In], cipher: CipherState, first: bytes | None = None) -> None:
        self._cipher = cipher
        self._first = first
        self._plain = Undecoded(inner, _NO_MEMORY, land=True)
        self._failure: Exception | None = None

    def decode(self, buffer: memoryview) -> tuple[Sequence[In], int]:
        if self._failure is not None:
            raise self._failure
        ends = message_ends(buffer)
        if not ends:
            return (), 0
        plain = self._plain
        plain.memory = _scratch.pop() if _scratch else memoryview(bytearray(SCRATCH_SIZE))
        messages: list[In] = []
        used = 0
        try:
            if self._first is not None:
                used, first, self._first = ends.pop(0), self._first, None
                messages += self._feed(first)
            while ends and self._failure is None and plain.failure is None:
                used = self._decrypt(buffer, used, ends, messages)
        finally:
            if len(_scratch) < _MOST_SCRATCH:
                _scratch.append(plain.memory)
            plain.memory = _NO_MEMORY
        # A failure of the inner codec comes first: its bytes precede the message that could not be decrypted.
        self._failure = plain.failure or self._failure
        if self._failure is None:
            return messages, used
        if not messages:
            raise self._failure
        # Report at least one byte unused, so that the caller calls again, which raises the failure.
        return messages, min(used, len(buffer) - 1)

    def frame_size(self, head: memoryview) -> int:
        return message_size(head)

    def finish(self, rest: memoryview) -> Sequence[In]:
        if self._failure is not None:
            raise self._failure
        _check_complete(rest)
        messages = self._plain.finish()
        if self._plain.failure is not None:
            raise self._plain.failure
        return messages

    @property
    def undecoded(self) -> memoryview:
        """The plaintext that is not decoded yet."""
        return self._plain.remainder()

    def __repr__(self) -> str:
        return f"<NoiseDecoder, {len(self._plain)} bytes of plaintext undecoded>"

    def _decrypt(self, buffer: memoryview, used: int, ends: list[int], messages: list[In]) -> int:
        """Decrypt and decode as many messages as fit the memory for plaintext, or one that does not fit.

        The messages begin at ``used`` and end at ``ends``, from which they are removed. Return the end of the last one.
        """
        cipher, memory, plaintext = self._cipher, self._plain.buffer(), b""
        room, filled, count = len(memory), 0, 0
        try:
            for end in ends:
                stop = filled + end - used - OVERHEAD
                if stop > room:
                    break
                cipher.decrypt_into(buffer[used + LENGTH.size : end], memory[filled:stop])
                used, filled, count = end, stop, count + 1
            if not count:
                plaintext = cipher.decrypt(b"", buffer[used + LENGTH.size : ends[0]])
                used, count = ends[0], 1
        except NoiseError as error:
            self._failure = error
        del ends[:count]
        messages += self._plain.receive(filled) if filled else self._feed(plaintext)
        return used

    def _feed(self, plaintext: bytes) -> list[In]:
        """Decode ``plaintext``, as much at a time as fits the memory of a large frame."""
        messages: list[In] = []
        rest = memoryview(plaintext)
        while rest and self._plain.failure is None:
            memory = self._plain.buffer()
            size = min(len(rest), len(memory))
            memory[:size] = rest[:size]
            messages += self._plain.receive(size)
            rest = rest[size:]
        return messages


class NoiseEncoder(Encoder[Out], Generic[Out]):
    """Encodes messages with ``inner``, and encrypts the bytes as a stream. One per connection.

    What it returns must be sent, in order: every Noise message moves the cipher on.
    """

    __slots__ = ("_cipher", "_inner")

    def __init__(self, inner: Encoder[Out], cipher: CipherState) -> None:
        self._inner = inner
        self._cipher = cipher

    def encode(self, messages: Sequence[Out]) -> Sequence[Buffer]:
        return seal(self._cipher, _plaintexts(self._inner.encode(messages)))

    def __repr__(self) -> str:
        return f"<NoiseEncoder of {self._inner!r}>"


class NoiseCodec(Decoder[In], Encoder[Out], Generic[In, Out]):
    """A :class:`NoiseDecoder` and a :class:`NoiseEncoder` in one, for a node's ``codec``."""

    __slots__ = ("decoder", "encoder")

    def __init__(self, decoder: NoiseDecoder[In], encoder: NoiseEncoder[Out]) -> None:
        self.decoder = decoder
        self.encoder = encoder

    def decode(self, buffer: memoryview) -> tuple[Sequence[In], int]:
        return self.decoder.decode(buffer)

    def frame_size(self, head: memoryview) -> int:
        return message_size(head)

    def finish(self, rest: memoryview) -> Sequence[In]:
        return self.decoder.finish(rest)

    def encode(self, messages: Sequence[Out]) -> Sequence[Buffer]:
        return self.encoder.encode(messages)

    def __repr__(self) -> str:
        return f"<NoiseCodec, {self.encoder!r}>"


class NoiseMessages(Framing):
    """Makes each Noise message one message of up to 65,519 bytes.

    It is a framing, for ``Codec`` or ``Json`` to build on, but unlike the others it has state: one per connection.

    Empty messages are sent and received like others. ``encode`` raises :class:`~pea2pea.errors.EncodeError` for a
    larger message, before it encrypts any of the batch. ``decode`` raises as that of :class:`NoiseDecoder`, to which
    ``first`` is the same.
    """

    __slots__ = ("_first", "_receiving", "_sending")

    def __init__(self, sending: CipherState, receiving: CipherState, first: bytes | None = None) -> None:
        self._sending = sending
        self._receiving = receiving
        self._first = first

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        decrypt = self._receiving.decrypt
        messages: list[bytes] = []
        ends, used = message_ends(buffer), 0
        if ends and self._first is not None:
            messages.append(self._first)
            used, self._first = ends.pop(0), None
        try:
            for end in ends:
                messages.append(decrypt(b"", buffer[used + LENGTH.size : end]))
                used = end
        except NoiseError:
            # A refused message leaves the cipher as it was, so the next call meets it again, and raises.
            if not messages:
                raise
        return messages, used

    def frame_size(self, head: memoryview) -> int:
        return message_size(head)

    def finish(self, rest: memoryview) -> Sequence[bytes]:
        _check_complete(rest)
        return ()

    def encode(self, messages: Sequence[Buffer]) -> Sequence[Buffer]:
        plaintexts, _ = sized(messages, MAX_PLAINTEXT)
        return seal(self._sending, plaintexts)

    def __repr__(self) -> str:
        return f"<NoiseMessages, {self._sending.nonce} sent, {self._receiving.nonce} received>"


def _check_complete(rest: memoryview) -> None:
    if rest:
        raise IncompleteFrameError(f"the stream ended inside a Noise message, after {len(rest)} bytes of it")


def _plaintexts(buffers: Sequence[Buffer]) -> Iterator[Buffer]:
    """Divide ``buffers`` into the plaintexts of Noise messages. Small buffers are joined, large ones are not copied.

    A large buffer is divided so that its end is also the end of a Noise message: the bytes by which it exceeds a
    multiple of ``PORTION`` go first, together with the small buffers before it. A frame that ends there leaves the
    peer's decoder with no remainder to copy.
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
