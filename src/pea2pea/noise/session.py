"""The session that a handshake results in: the peer's identity, and the ciphers of both directions. Pure.

May import ``codec``, ``errors``, ``state``, ``wire`` and its own ``codec``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeVar, cast

from ..codec import Buffer, Decoder, Encoder
from ..errors import EncodeError, UsageError
from .codec import InnerCodec, NoiseCodec, NoiseDecoder, NoiseEncoder, NoiseMessages
from .state import CipherState, NoiseProtocol
from .wire import MAX_PLAINTEXT, framed

In = TypeVar("In")
Out = TypeVar("Out")

#: See :func:`_keep_freed_memory`.
KEPT_SIZE: Final = 4 * 1024 * 1024


class NoiseSession:
    """A finished handshake: who the peer is, and what encrypts the connection.

    Each direction has one cipher, and so one codec: those of :meth:`decoder` and :meth:`encoder`, or that of
    :meth:`codec`, or that of :meth:`message_codec`. Another one raises :class:`~pea2pea.errors.UsageError`.
    """

    __slots__ = ("_codec", "_first", "_receiving", "_sending", "_used", "handshake_hash", "protocol", "remote_static")

    #: The protocol of the handshake.
    protocol: NoiseProtocol
    #: The peer's static public key, which is its identity; ``None`` if the pattern has none for it.
    remote_static: bytes | None
    #: The same on both sides of this connection and different on every other, for channel binding.
    handshake_hash: bytes

    def __init__(
        self,
        protocol: NoiseProtocol,
        remote_static: bytes | None,
        handshake_hash: bytes,
        ciphers: tuple[CipherState, CipherState],
    ) -> None:
        _keep_freed_memory()
        self.protocol = protocol
        self.remote_static = remote_static
        self.handshake_hash = handshake_hash
        self._sending, self._receiving = ciphers
        self._used: set[str] = set()
        self._codec: NoiseCodec[Any, Any] | NoiseMessages | None = None
        self._first: bytes | None = None

    def decoder(self, inner: Decoder[In]) -> NoiseDecoder[In]:
        """Return a decoder that decrypts the stream and decodes the plaintext with ``inner``."""
        self._use("decoder")
        return NoiseDecoder(inner, self._receiving, self._first)

    def encoder(self, inner: Encoder[Out]) -> NoiseEncoder[Out]:
        """Return an encoder that encodes with ``inner`` and encrypts the bytes as a stream."""
        self._use("encoder")
        return NoiseEncoder(inner, self._sending)

    def codec(self, inner: InnerCodec[In, Out]) -> NoiseCodec[In, Out]:
        """Return a codec for both directions: :meth:`decoder` and :meth:`encoder` in one.

        Called again, for the other direction, it returns the same codec.
        """
        if not isinstance(self._codec, NoiseCodec):
            both = cast(Any, inner)
            self._codec = NoiseCodec(self.decoder(both), self.encoder(both))
        return self._codec

    def message_codec(self) -> NoiseMessages:
        """Return a codec for both directions that makes each Noise message one message of up to 65,519 bytes.

        Called again, for the other direction, it returns the same codec.
        """
        if not isinstance(self._codec, NoiseMessages):
            self._use("decoder")
            self._use("encoder")
            self._codec = NoiseMessages(self._sending, self._receiving, self._first)
        return self._codec

    def seal(self, plaintext: Buffer) -> bytes:
        """Return one message with its length, to send before there is an encoder (in a handshake that goes on).

        Raises :class:`EncodeError` above 65,519 bytes, and :class:`UsageError` if there is an encoder.
        """
        if "encoder" in self._used:
            raise UsageError("the session has an encoder, which must encrypt everything that is sent")
        if len(plaintext) > MAX_PLAINTEXT:
            raise EncodeError(f"a Noise message holds at most {MAX_PLAINTEXT} bytes, got {len(plaintext)}")
        return framed(self._sending.encrypt(b"", plaintext))

    def unseal(self, message: Buffer) -> bytes:
        """Return the plaintext of one message, which is given without its length.

        Raises what a decoder raises, and :class:`UsageError` if there is one. To read only a part of the plaintext, use
        :class:`NoiseReader`.
        """
        self.check_unread()
        if self._first is not None:
            plaintext, self._first = self._first, None
            return plaintext
        return self._receiving.decrypt(b"", message)

    def give_back(self, rest: bytes) -> None:
        """Undo a part of the last :meth:`unseal`: the message will be read again, and its plaintext is then ``rest``.

        The next message given to the decoder, or to ``unseal``, must be the one that was unsealed last.
        """
        self.check_unread()
        self._first = rest

    def check_unread(self) -> None:
        """Raise :class:`UsageError` if there is a decoder, which must then receive everything."""
        if "decoder" in self._used:
            raise UsageError("the session has a decoder, which must decrypt everything that is received")

    def _use(self, direction: str) -> None:
        if direction in self._used:
            raise UsageError(f"a session has one {direction}, and this one is in use already")
        self._used.add(direction)

    def __repr__(self) -> str:
        return f"<NoiseSession {self.protocol.name}>"


@cache
def _keep_freed_memory() -> None:
    """Make the C library keep freed blocks of up to ``KEPT_SIZE`` instead of returning them to the system.

    glibc returns the memory of each sent batch (munmap), and every page of the next batch faults: a message of 64 KiB
    then costs its sender 58 microseconds instead of 23 to 40. Freeing one mapped block raises glibc's threshold for
    that (M_MMAP_THRESHOLD is dynamic). Other C libraries are not affected.
    """
    bytes(KEPT_SIZE)
