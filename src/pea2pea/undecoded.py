"""The bytes of one stream that are not decoded yet, with the decoder that takes messages from them. Pure.

A stream is received in three steps: ask where the next bytes go (:meth:`Undecoded.buffer`), write them there, and call
:meth:`Undecoded.receive`, which returns the messages that they complete. A connection does this with the bytes of its
transport; codecs that decrypt do it with their plaintext.

Streams that are received one after the other may share one block of memory: it is in use only between the first step
and the last. A small remainder is copied aside and back. A large frame gets memory of its own and is received in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from .codec.interface import Decoder
from .codec.ready import Landing
from .errors import UsageError

In = TypeVar("In")

#: A remainder of this many bytes gets memory of its own; copying a smaller one back is cheaper.
GATHER_FROM: Final = 64 * 1024
#: Memory allocated for a frame, as a multiple of what has arrived of it. A peer that only claims to send a large frame
#: makes the node allocate no more than this.
TRUST: Final = 4


class Undecoded(Generic[In]):
    """The undecoded bytes of one stream.

    ``memory`` receives what comes behind a small remainder, and must be larger than ``GATHER_FROM``. With ``land``, a
    large message is received straight into the ``bytes`` that it becomes, if its decoder tells the size of its header.
    Then the memory offered may be smaller than what the caller has to write, so it suits only callers that can write
    less.
    """

    __slots__ = ("_decoder", "_filled", "_frame", "_land", "_need", "_tail", "failure", "memory")

    def __init__(self, decoder: Decoder[In], memory: memoryview, *, land: bool = False) -> None:
        self.memory: memoryview = memory
        #: What the decoder raised. Nothing is decoded after that.
        self.failure: Exception | None = None
        self._decoder = decoder
        self._land = land
        # The remainder is _tail, or the first _filled bytes of _frame. If both are set, _tail is the header of the
        # message that is received in _frame. The next frame takes _need bytes (0: unknown).
        self._tail: bytes = b""
        self._frame: bytearray | None = None
        self._filled = self._need = 0

    def __len__(self) -> int:
        return len(self._tail) + (self._filled if self._frame is not None else 0)

    def buffer(self) -> memoryview:
        """Return the memory to write the next bytes to."""
        if self._frame is not None:
            return memoryview(self._frame)[self._filled :]
        if not self._tail:
            return self.memory
        kept = len(self._tail)
        self.memory[:kept] = self._tail
        return self.memory[kept:]

    def receive(self, size: int) -> Sequence[In]:
        """Return the messages completed by ``size`` bytes that were written to :meth:`buffer`.

        If the decoder raises, return the messages before that and set ``failure``.
        """
        if self._frame is None:
            view = self.memory[: len(self._tail) + size]
        else:
            self._filled += size
            if self._filled < self._need and self._filled < len(self._frame):
                return ()
            if isinstance(self._frame, Landing):
                return self._land_message(self._frame)
            view = memoryview(self._frame)[: self._filled]
        if len(view) < self._need:
            self._keep(view)
            return ()
        try:
            messages, used = self._decoder.decode(view)
        except Exception as exc:  # the user's decoder, or the peer's bytes
            self._fail(exc)
            return ()
        if used == len(view):
            self._tail, self._frame, self._need = b"", None, 0
            return messages
        return self._decode_more(view, messages, used)

    def feed(self, data: bytes | memoryview) -> Sequence[In]:
        """Return the messages completed by ``data``. Not for a stream that lands its messages."""
        self.reserve(len(data))[: len(data)] = data
        return self.receive(len(data))

    def reserve(self, size: int) -> memoryview:
        """Like :meth:`buffer`, but for ``size`` bytes at least. Not for a stream that lands its messages."""
        kept = len(self)
        wanted = kept + size
        if wanted > len(self.memory if self._frame is None else self._frame):
            larger = bytearray(max(wanted, min(self._need or TRUST * wanted, TRUST * wanted)))
            larger[:kept] = self.remainder()
            self._tail, self._frame, self._filled = b"", larger, kept
        return self.buffer()

    def restore(self, data: bytes) -> None:
        """Take ``data`` for the remainder of a stream that nothing was received of yet."""
        self._keep(memoryview(data))

    def remainder(self) -> memoryview:
        """Return the bytes that are not decoded yet."""
        if self._frame is None:
            return memoryview(self._tail)
        arrived = memoryview(self._frame)[: self._filled]
        return memoryview(self._tail + arrived) if self._tail else arrived

    def finish(self) -> Sequence[In]:
        """Return the messages completed by the end of the stream; if the decoder raises, set ``failure``."""
        if self.failure is not None:
            return ()
        try:
            return self._decoder.finish(self.remainder())
        except Exception as exc:  # as above
            self._fail(exc)
            return ()

    def clear(self) -> None:
        """Forget the bytes, and free their memory."""
        self._tail, self._frame, self._filled, self._need = b"", None, 0, 0

    def _decode_more(self, view: memoryview, messages: Sequence[In], used: int) -> Sequence[In]:
        """Go on behind the first ``used`` bytes, since a decoder may stop before bytes that it will refuse."""
        found: list[In] = []
        start, end = 0, len(view)
        try:
            while used or messages:
                if not 0 < used <= end - start:
                    raise UsageError(f"the decoder reported {used} of {end - start} bytes used for its messages")
                start += used
                found += messages
                if start == end:
                    self.clear()
                    return found
                messages, used = self._decoder.decode(view[start:])
        except Exception as exc:  # as above
            self._fail(exc)
            return found
        if start or self._frame is None or self._filled == len(self._frame):
            self._keep(view[start:])
        return found

    def _land_message(self, landing: Landing) -> Sequence[In]:
        if self._filled < self._need:  # a frame claims more than was allocated: allocate again, for what has arrived
            self._frame = _gather(Landing, memoryview(landing)[: self._filled], self._need)
            return ()
        self.clear()
        return (landing.take(),)  # type: ignore[return-value]  # a decoder that tells its header makes bytes

    def _keep(self, rest: memoryview) -> None:
        if len(rest) < GATHER_FROM:
            self._tail, self._frame, self._need = bytes(rest), None, 0
            return
        whole, header = self._sizes(rest)
        if not 0 < header < len(rest) < whole:  # nothing of the message has arrived yet, or all of it
            header = 0
        self._tail, rest, self._need = bytes(rest[:header]), rest[header:], whole - header
        self._frame, self._filled = _gather(Landing if header else bytearray, rest, self._need), len(rest)

    def _sizes(self, head: memoryview) -> tuple[int, int]:
        """The sizes of the frame that begins with ``head`` and of its header, as far as the decoder tells them."""
        try:
            size = int(self._decoder.frame_size(head))
            return size, int(self._decoder.header_size(head)) if size and self._land else 0
        except Exception as exc:  # as above
            self.failure = exc
            return 0, 0

    def _fail(self, exc: Exception) -> None:
        self.failure = exc
        self.clear()


def _gather(kind: type[bytearray], arrived: memoryview, size: int) -> bytearray:
    """Allocate memory for ``size`` bytes (0: unknown), or for ``TRUST`` times what has arrived, and copy that there."""
    room = TRUST * len(arrived)
    if len(arrived) < size < room + GATHER_FROM:  # all of it, if only a header is beyond
        room = size
    memory = kind(room)
    memoryview(memory)[: len(arrived)] = arrived
    return memory
