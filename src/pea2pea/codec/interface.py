"""What a codec is: bytes in to messages, messages out to bytes. Pure: no asyncio, no sockets.

A codec works on batches and keeps no bytes of its own, so that feeding it in one chunk or byte
by byte gives the same messages. Raising in one ends its connection and no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeAlias, TypeVar

from ..errors import IncompleteFrameError

#: What an encoder may hand to the network without a copy.
Buffer: TypeAlias = bytes | bytearray | memoryview

In_co = TypeVar("In_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)


class Landing(bytearray):
    """Memory that a large message is received into, by way of a ``memoryview``, and then taken from as ``bytes``.

    The one in C hands out the very memory, uncopied. So: fill all of it, then take it, then write to it no more.
    """

    def take(self) -> bytes:
        """The message, once all of the memory was written to."""
        return bytes(self)


class Decoder(ABC, Generic[In_co]):
    """Takes bytes apart into messages."""

    __slots__ = ()

    @abstractmethod
    def decode(self, buffer: memoryview) -> tuple[Sequence[In_co], int]:
        """Return the whole messages at the start of ``buffer`` and how many bytes they took.

        The rest is given again: at once where it took any, so that it may stop before bytes that it will refuse, and
        the good messages before them count; else with what arrives after it. Messages must not refer to ``buffer``,
        which is written over afterwards. Raises :class:`~pea2pea.errors.DecodeError` on bytes that can never become
        a message, and :class:`~pea2pea.errors.FrameTooLargeError` as soon as a header claims too much.
        """

    def frame_size(self, head: memoryview) -> int:
        """Return the size, header included, of the frame that begins with ``head``; 0 where that is unknown.

        Asked about the rest that :meth:`decode` left: an answer lets a large frame be received
        straight into memory of its own, and decoding wait until it is whole.
        """
        return 0

    def header_size(self, head: memoryview) -> int:
        """Return the size of the header of that frame where all behind it is one message, as ``bytes``; else 0.

        Asked where :meth:`frame_size` gave an answer: one lets the rest of the message be received into the very
        memory of the ``bytes`` that it becomes. :meth:`decode` then never sees it.
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

    The ready ones are immutable and equal where their settings are. Where bad bytes follow
    good frames, the good ones are given first and the next :meth:`decode` raises, so how the bytes
    were cut into chunks changes nothing. ``encode`` takes empty messages too, and raises
    :class:`~pea2pea.errors.EncodeError` for what is not bytes.
    """

    __slots__ = ()
