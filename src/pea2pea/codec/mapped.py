"""A framing plus two functions: messages of any type out of frames of bytes. Pure: no asyncio, no sockets."""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError
from typing import ClassVar, Generic, NoReturn, TypeVar

from ..errors import CodecError, ConfigError, DecodeError, EncodeError
from .interface import Buffer, Decoder, Encoder, Framing

Message = TypeVar("Message")


class Codec(Decoder[Message], Encoder[Message], Generic[Message]):
    """Messages that ``parse`` makes of a frame's bytes, and that ``build`` turns into bytes. Immutable.

    ``parse`` is given the content of one frame of ``framing``. An exception of ``parse_errors``, the kinds that bad
    data causes (``ValueError``, with ``UnicodeDecodeError`` and the errors of ``json``; ``LookupError``, ``TypeError``,
    ``AttributeError``, ``ArithmeticError``, ``RecursionError``, ``struct.error``), becomes a
    :class:`~pea2pea.errors.DecodeError`, the peer's doing. Any other is a mistake in ``parse``. What ``build`` raises
    becomes an :class:`~pea2pea.errors.EncodeError`. Codecs with equal parts are equal.

    The messages before the bad one are returned first. That needs a framing without state: with one that has state
    (of :mod:`pea2pea.noise`), those that arrived in the same batch as the bad one are lost.
    """

    __slots__ = ("build", "framing", "parse")

    #: The exceptions of ``parse`` that mean that the peer sent bad data.
    parse_errors: ClassVar[tuple[type[Exception], ...]] = (
        ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error,
    )  # fmt: skip

    framing: Framing
    parse: Callable[[bytes], Message]
    build: Callable[[Message], Buffer]

    def __init__(
        self, framing: Framing, *, parse: Callable[[bytes], Message], build: Callable[[Message], Buffer]
    ) -> None:
        if not isinstance(framing, Framing):
            raise ConfigError("framing", f"must be a codec of bytes such as LengthDelimited(), got {framing!r}")
        for field, function in (("parse", parse), ("build", build)):
            if not callable(function):
                raise ConfigError(field, f"must be a function, got {function!r}")
            object.__setattr__(self, field, function)
        object.__setattr__(self, "framing", framing)

    def decode(self, buffer: memoryview) -> tuple[Sequence[Message], int]:
        frames, used = self.framing.decode(buffer)
        messages: list[Message] = []
        try:
            messages.extend(map(self.parse, frames))
        except Exception as error:  # the user's function, or the frame
            used = self._end_of(buffer, len(messages)) if messages else 0
            if not used:
                self._refuse(error)
        return messages, used

    def frame_size(self, head: memoryview) -> int:
        return self.framing.frame_size(head)

    def finish(self, rest: memoryview) -> Sequence[Message]:
        frames = self.framing.finish(rest)
        try:
            return list(map(self.parse, frames))
        except Exception as error:  # as above
            self._refuse(error)

    def encode(self, messages: Sequence[Message]) -> Sequence[Buffer]:
        try:
            frames = list(map(self.build, messages))
        except CodecError:
            raise
        except Exception as error:  # the user's function, or the message
            raise EncodeError(f"build raised {type(error).__name__}: {error}") from error
        return self.framing.encode(frames)

    def refusal(self, error: Exception) -> DecodeError:
        """Return the error for a frame about which ``parse`` raised ``error``. A subclass may describe it better."""
        return DecodeError(f"parse raised {type(error).__name__}: {error}")

    def _refuse(self, error: Exception) -> NoReturn:
        if isinstance(error, CodecError) or not isinstance(error, self.parse_errors):
            raise error
        raise self.refusal(error) from error

    def _end_of(self, buffer: memoryview, count: int) -> int:
        """Return where frame number ``count`` ends, or 0 if the framing cannot decode the same bytes again.

        A framing does not report it, but a shorter buffer holds no more frames. So it is found by bisection: some
        twenty calls of ``decode``, once, for a peer that is about to be disconnected.
        """
        sizes = range(len(buffer) + 1)
        try:
            size = bisect_left(sizes, count, key=lambda size: len(self.framing.decode(buffer[:size])[0]))
            frames, used = self.framing.decode(buffer[:size])
        except Exception:  # of a framing with state, which has decoded these bytes already: parse's error is raised
            return 0
        return used if len(frames) == count else 0

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot set {name!r}: {self!r} is immutable, create another one")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.framing!r}, parse={self.parse!r}, build={self.build!r})"

    def _parts(self) -> tuple[object, ...]:
        return self.framing, self.parse, self.build
