"""A codec out of a framing and two functions: every chunking gives the same messages, and errors name their cause."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.codec import Delimited, Framing, LengthDelimited, Raw, VarintDelimited
from pea2pea.codec.mapped import Codec
from pea2pea.errors import ConfigError, DecodeError, EncodeError, FrameTooLargeError, IncompleteFrameError

FRAMINGS: list[Framing] = [LengthDelimited(), VarintDelimited(), Delimited()]


def number(content: bytes) -> int:
    return int(content)


def digits(value: int) -> bytes:
    return b"%d" % value


def feed(codec: Codec[Any], stream: bytes, size: int) -> tuple[list[Any], Exception | None]:
    """Decode ``stream`` in chunks of ``size`` bytes, as a connection does."""
    messages: list[Any] = []
    rest = b""
    for start in range(0, len(stream), size):
        rest += stream[start : start + size]
        used = 1
        while rest and used:
            try:
                found, used = codec.decode(memoryview(rest))
            except DecodeError as error:
                return messages, error
            messages += found
            rest = rest[used:]
    return messages, None


@given(st.sampled_from(FRAMINGS), st.lists(st.integers(), max_size=9), st.integers(1, 99))
def test_messages_survive_any_chunks(framing: Framing, messages: list[int], size: int) -> None:
    codec = Codec(framing, parse=number, build=digits)
    assert feed(codec, b"".join(map(bytes, codec.encode(messages))), size) == (messages, None)


@given(st.sampled_from(FRAMINGS), st.lists(st.sampled_from([b"1", b"22", b"x"]), max_size=9), st.integers(1, 99))
def test_messages_before_a_bad_one_are_returned_first(framing: Framing, frames: list[bytes], size: int) -> None:
    codec = Codec(framing, parse=number, build=digits)
    good = frames[: frames.index(b"x")] if b"x" in frames else frames
    messages, error = feed(codec, b"".join(map(bytes, framing.encode(frames))), size)
    assert messages == list(map(int, good))
    assert (error is None) is (b"x" not in frames)


@pytest.mark.parametrize(
    ("parse", "content"),
    [(number, b"x"), (bytes.decode, b"\xff"), (json.loads, b"{"), (json.loads, b"[" * 100_000), ({}.__getitem__, b"k")],
)
def test_bad_data_is_a_decode_error_with_its_cause(parse: Any, content: bytes) -> None:
    codec = Codec(LengthDelimited(), parse=parse, build=digits)
    stream = memoryview(b"".join(map(bytes, LengthDelimited().encode([content]))))
    with pytest.raises(DecodeError, match="parse raised") as caught:
        codec.decode(stream)
    assert caught.value.__cause__ is not None


def test_other_errors_of_parse_are_raised_as_they_are() -> None:
    def mistaken(content: bytes) -> int:
        raise FileNotFoundError("a table of mine")

    def strict(content: bytes) -> int:
        raise FrameTooLargeError("my own limit")

    stream = memoryview(b"1\n")
    with pytest.raises(FileNotFoundError):
        Codec(Delimited(), parse=mistaken, build=digits).decode(stream)
    with pytest.raises(FrameTooLargeError, match="my own limit") as caught:
        Codec(Delimited(), parse=strict, build=digits).decode(stream)
    assert caught.value.__cause__ is None


def test_errors_of_build_and_of_the_framing() -> None:
    codec = Codec(LengthDelimited(max_frame=2), parse=number, build=digits)
    with pytest.raises(EncodeError, match="build raised TypeError"):
        codec.encode([1, "x"])  # type: ignore[list-item]
    with pytest.raises(EncodeError, match="3 bytes"):
        codec.encode([100])

    def strict(value: int) -> bytes:
        raise EncodeError("my own limit")

    with pytest.raises(EncodeError, match=r"^my own limit$"):
        Codec(LengthDelimited(), parse=number, build=strict).encode([1])
    with pytest.raises(IncompleteFrameError):
        codec.finish(memoryview(b"\0"))
    assert codec.frame_size(memoryview(b"\0\0\0\2")) == 6


class Whole(Raw):
    """A framing in which the end of the stream completes a message."""

    __slots__ = ()

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        return (), 0

    def finish(self, rest: memoryview) -> Sequence[bytes]:
        return [bytes(rest)]


def test_the_end_of_the_stream_can_complete_a_message() -> None:
    codec = Codec(Whole(), parse=number, build=digits)
    assert codec.finish(memoryview(b"12")) == [12]
    with pytest.raises(DecodeError):
        codec.finish(memoryview(b"x"))


def test_codecs_are_values() -> None:
    codec = Codec(Delimited(), parse=number, build=digits)
    assert codec == Codec(Delimited(), parse=number, build=digits)
    assert hash(codec) == hash(Codec(Delimited(), parse=number, build=digits))
    assert codec not in [Codec(Raw(), parse=number, build=digits), Codec(Delimited(), parse=int, build=digits), None]
    assert repr(codec).startswith("Codec(Delimited(")
    with pytest.raises(FrozenInstanceError, match="immutable"):
        codec.framing = Raw()


@pytest.mark.parametrize("bad", [{"framing": b"x"}, {"parse": 1}, {"build": None}])
def test_a_bad_part_is_refused_with_its_name(bad: dict[str, Any]) -> None:
    parts: dict[str, Any] = {"framing": Raw(), "parse": number, "build": digits, **bad}
    with pytest.raises(ConfigError) as caught:
        Codec(parts.pop("framing"), **parts)
    assert caught.value.field == next(iter(bad))
