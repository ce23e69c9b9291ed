"""``Json`` and ``Msgpack``: a framing and msgspec put together. May import ``codec`` and ``errors``."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from ..codec import Buffer, Decoder, Delimited, Encoder, Framing, LengthDelimited
from ..errors import DecodeError, EncodeError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# ValueError: text that is no UTF-8. RecursionError: values nested too deep, or that hold themselves.
_BAD_BYTES: Final = (msgspec.MsgspecError, ValueError, RecursionError)
# TypeError: a type that msgspec cannot encode. OverflowError: a number that the format has no room for.
_BAD_VALUE: Final = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)


class _FromBytes(Protocol[T_co]):
    def decode(self, content: bytes, /) -> T_co: ...


class _ToBytes(Protocol):
    def encode(self, value: object, /) -> bytes: ...


class _Typed(Decoder[T], Encoder[T], Generic[T]):
    """Messages of one type over a framing. Immutable; equal where type and framing are."""

    __slots__ = ("_from_bytes", "_to_bytes", "framing", "type")

    type: Any
    framing: Framing
    _from_bytes: _FromBytes[T]
    _to_bytes: _ToBytes

    def __init__(self, type: Any, framing: Framing) -> None:
        for name, value in (("type", type), ("framing", framing)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_from_bytes", self._new_from_bytes(type))
        object.__setattr__(self, "_to_bytes", self._new_to_bytes())

    @staticmethod
    @abstractmethod
    def _new_from_bytes(type: Any) -> _FromBytes[Any]: ...

    @staticmethod
    @abstractmethod
    def _new_to_bytes() -> _ToBytes: ...

    def decode(self, buffer: memoryview) -> tuple[Sequence[T], int]:
        frames, used = self.framing.decode(buffer)
        messages: list[T] = []
        try:
            messages.extend(map(self._from_bytes.decode, frames))
        except _BAD_BYTES as error:
            if not messages:
                raise self._refused(error) from error
            return messages, self._end_of(buffer, len(messages))
        return messages, used

    def encode(self, messages: Sequence[T]) -> Sequence[Buffer]:
        try:
            frames = list(map(self._to_bytes.encode, messages))
        except _BAD_VALUE as error:
            raise EncodeError(f"a message cannot be encoded: {error}") from error
        return self.framing.encode(frames)

    def frame_size(self, head: memoryview) -> int:
        return self.framing.frame_size(head)

    def finish(self, rest: memoryview) -> Sequence[T]:
        try:
            return list(map(self._from_bytes.decode, self.framing.finish(rest)))
        except _BAD_BYTES as error:
            if isinstance(error, DecodeError):
                raise
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> DecodeError:
        return DecodeError(f"a message is no {self._type_name}: {error}")

    def _end_of(self, buffer: memoryview, count: int) -> int:
        """Where frame number ``count`` ends. A framing does not say; but less of the buffer holds no more frames.

        So it is found by halving: some twenty calls of ``decode``, once, for a peer that is to be disconnected.
        """
        sizes = range(len(buffer) + 1)
        size = bisect_left(sizes, count, key=lambda size: len(self.framing.decode(buffer[:size])[0]))
        return self.framing.decode(buffer[:size])[1]

    @property
    def _type_name(self) -> str:
        return getattr(self.type, "__qualname__", None) or repr(self.type)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot set {name!r}: {self!r} is immutable, make another one")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Typed) or self.__class__ is not other.__class__:
            return NotImplemented
        return bool(self.type == other.type and self.framing == other.framing)

    def __hash__(self) -> int:
        return hash((self.__class__, self.type, self.framing))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self._type_name}, {self.framing!r})"


class Json(_Typed[T]):
    """Values of ``type`` as JSON: a line each, unless another ``framing`` is given.

    ``type`` is whatever msgspec can decode: a ``msgspec.Struct``, a dataclass, a ``TypedDict``, a
    union, ``dict[str, int]``. What is received is checked against it and refused with
    :class:`~pea2pea.errors.DecodeError`; what is sent is the business of the type checker. To that a
    union is no class: write ``Json[A | B](cast(Any, A | B))``, or better a tagged ``msgspec.Struct``.
    """

    __slots__ = ()

    def __init__(self, type: type[T], framing: Framing = Delimited()) -> None:  # noqa: B008 - it is immutable
        super().__init__(type, framing)

    @staticmethod
    def _new_from_bytes(type: Any) -> _FromBytes[Any]:
        return msgspec.json.Decoder(type)

    @staticmethod
    def _new_to_bytes() -> _ToBytes:
        return msgspec.json.Encoder()


class Msgpack(_Typed[T]):
    """Values of ``type`` as MessagePack behind a length, unless another ``framing`` is given.

    ``type`` and errors are as those of :class:`Json`.
    """

    __slots__ = ()

    def __init__(self, type: type[T], framing: Framing = LengthDelimited()) -> None:  # noqa: B008 - it is immutable
        super().__init__(type, framing)

    @staticmethod
    def _new_from_bytes(type: Any) -> _FromBytes[Any]:
        return msgspec.msgpack.Decoder(type)

    @staticmethod
    def _new_to_bytes() -> _ToBytes:
        return msgspec.msgpack.Encoder()
