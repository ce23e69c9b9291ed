"""``Json`` and ``Msgpack``: a framing and the functions of msgspec. May import ``codec`` and ``errors``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ..codec import Buffer, Delimited, Framing, LengthDelimited
from ..codec.mapped import Codec
from ..errors import DecodeError

T = TypeVar("T")


class _Typed(Codec[T]):
    """Messages of one type. Equal if type and framing are, although their functions are not."""

    __slots__ = ("type",)

    type: Any

    # ValueError: text that is not UTF-8. RecursionError: values that are nested too deep.
    parse_errors = (msgspec.MsgspecError, ValueError, RecursionError)

    def __init__(self, type: Any, framing: Framing, parse: Callable[[bytes], T], build: Callable[[T], Buffer]) -> None:
        super().__init__(framing, parse=parse, build=build)
        object.__setattr__(self, "type", type)

    def refusal(self, error: Exception) -> DecodeError:
        return DecodeError(f"a message is not of type {self._type_name}: {error}")

    @property
    def _type_name(self) -> str:
        return getattr(self.type, "__qualname__", None) or repr(self.type)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Typed) or self.__class__ is not other.__class__:
            return NotImplemented
        return bool(self.type == other.type and self.framing == other.framing)

    def __hash__(self) -> int:
        return hash((self.__class__, self.type, self.framing))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self._type_name}, {self.framing!r})"


class Json(_Typed[T]):
    """Values of ``type`` as JSON, one per line, or in the frames of another ``framing``.

    ``type`` is any type that msgspec can decode: a ``msgspec.Struct``, a dataclass, a ``TypedDict``, a union,
    ``dict[str, int]``. Received values are validated: one of another type raises
    :class:`~pea2pea.errors.DecodeError`. Sent values are not validated; that is left to the type checker. For it, a
    union is not a class: write ``Json[A | B](cast(Any, A | B))``, or use a tagged ``msgspec.Struct``.
    """

    __slots__ = ()

    def __init__(self, type: type[T], framing: Framing = Delimited()) -> None:  # noqa: B008 - it is immutable
        super().__init__(type, framing, msgspec.json.Decoder(type).decode, msgspec.json.Encoder().encode)


class Msgpack(_Typed[T]):
    """Values of ``type`` as MessagePack, each preceded by its length, or in the frames of another ``framing``.

    Types and errors are those of :class:`Json`.
    """

    __slots__ = ()

    def __init__(self, type: type[T], framing: Framing = LengthDelimited()) -> None:  # noqa: B008 - it is immutable
        super().__init__(type, framing, msgspec.msgpack.Decoder(type).decode, msgspec.msgpack.Encoder().encode)
