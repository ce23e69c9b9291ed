"""What a codec is: bytes in to messages, messages out to bytes. Pure: no asyncio, no sockets.

A codec works on batches and keeps no bytes of its own, so that one chunk or many give the same messages. An exception
of a codec ends its connection and no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

from ..errors import IncompleteFrameError

#: What an encoder may pass to the network without a copy.
Buffer: TypeAlias = bytes | bytearray | memoryview

In_co = TypeVar("In_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)


class Landing(bytearray):
    """Memory that a large message is received into through a ``memoryview``, and then taken from as ``bytes``.

    The C implementation returns the same memory, without a copy: fill it, take it once, and do not write to it again.
    """

    def take(self) -> bytes:
        """Return the message, after the memory was filled."""
        return bytes(self)


class Decoder(ABC, Generic[In_co]):
    """Turns bytes into messages."""

    __slots__ = ()

    @abstractmethod
    def decode(self, buffer: memoryview) -> tuple[Sequence[In_co], int]:
        """Return the whole messages at the start of ``buffer`` and how many bytes they took.

        The remainder is passed again: at once if any bytes were used, so that a decoder may stop before bytes that it
        will refuse and still deliver the good messages; otherwise with what arrives after it. Messages must not refer
        to ``buffer``, which is overwritten afterwards. Raises :class:`~pea2pea.errors.DecodeError` for bytes that can
        never become a message, and :class:`~pea2pea.errors.FrameTooLargeError` as soon as a header claims too much.
        """

    def frame_size(self, head: memoryview) -> int:
        """Return the size, header included, of the frame that begins with ``head``; 0 if it is unknown.

        Called with the remainder that :meth:`decode` left. If the size is known, a large frame is received into memory
        of its own, and decoded once it is complete.
        """
        return 0

    def header_size(self, head: memoryview) -> int:
        """Return the size of that frame's header if everything behind it is one message of ``bytes``; otherwise 0.

        Called if :meth:`frame_size` returned a size. If the header is known, the rest of the message is received into
        the memory of the ``bytes`` that it becomes, and is not passed to :meth:`decode`.
        """
        return 0

    def finish(self, rest: memoryview) -> Sequence[In_co]:
        """Return the messages that the end of the stream completes.

        Called once, with the bytes that were left when the peer ended its stream in good order. Raises
        :class:`~pea2pea.errors.IncompleteFrameError` if they are part of a frame.
        """
        if rest:
            raise IncompleteFrameError(f"the stream ended inside a frame, after {len(rest)} bytes of it")
        return ()


class Encoder(ABC, Generic[Out_contra]):
    """Turns messages into bytes."""

    __slots__ = ()

    @abstractmethod
    def encode(self, messages: Sequence[Out_contra]) -> Sequence[Buffer]:
        """Return the bytes of ``messages``, in order, as few buffers: small ones joined, large ones without a copy.

        Raises :class:`~pea2pea.errors.EncodeError` for a message that cannot be sent.
        """


class Framing(Decoder[bytes], Encoder[Buffer]):
    """A codec of ``bytes``: it defines where a message ends, not what is in it.

    Those of this library are immutable, and equal if their settings are. If bad bytes follow good frames, the good ones
    are returned first and the next :meth:`decode` raises, so that chunks make no difference. ``encode`` accepts empty
    messages, and raises :class:`~pea2pea.errors.EncodeError` for anything that is not bytes.
    """

    __slots__ = ()
