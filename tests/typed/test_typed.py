"""JSON and MessagePack over the framings: a received message is of the type, or refused."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.codec import Decoder, Delimited, Fixed, Framing, LengthDelimited, Raw, VarintDelimited
from pea2pea.errors import CodecError, DecodeError, EncodeError, FrameTooLargeError, IncompleteFrameError

pytest.importorskip("msgspec")

import msgspec

from pea2pea.typed import Json, Msgpack


class Chat(msgspec.Struct, frozen=True):
    sender: str
    text: str
    number: int = 0


KINDS = [Json, Msgpack]
both = pytest.mark.parametrize("kind", KINDS)
FRAMINGS: list[Framing] = [LengthDelimited(), LengthDelimited(length_size=3), VarintDelimited()]

chats = st.builds(Chat, st.text(max_size=9), st.text(max_size=99), st.integers(-(2**63), 2**63 - 1))
codecs = st.sampled_from([*(kind(Chat, framing) for kind in KINDS for framing in FRAMINGS), Json(Chat)])
values = st.none() | st.booleans() | st.integers(0, 300) | st.text(max_size=5) | st.dictionaries(st.text(), st.none())


def feed(codec: Decoder[Any], stream: bytes, size: int) -> tuple[list[Any], bytes, CodecError | None]:
    """Decode ``stream`` in chunks of ``size`` bytes, as a connection does."""
    messages: list[Any] = []
    rest = b""
    for start in range(0, len(stream), size):
        rest += stream[start : start + size]
        decoded = True
        while rest and decoded:
            buffer = bytearray(rest)
            try:
                found, used = codec.decode(memoryview(buffer))
            except CodecError as error:
                return messages, rest, error
            finally:
                buffer[:] = b"\xee" * len(buffer)
            assert bool(found) == bool(used)
            decoded = bool(found)
            messages += found
            rest = rest[used:]
    return messages, rest, None


@given(codecs, st.lists(chats, max_size=8), st.integers(1, 300))
def test_what_is_encoded_is_decoded(codec: Json[Chat] | Msgpack[Chat], messages: list[Chat], size: int) -> None:
    stream = b"".join(codec.encode(messages))
    assert feed(codec, stream, size) == (messages, b"", None)


@given(codecs, st.lists(chats | values, max_size=8), st.integers(1, 300))
def test_good_messages_come_before_the_refusal(codec: Any, messages: list[Any], size: int) -> None:
    good = next((i for i, message in enumerate(messages) if not isinstance(message, Chat)), None)
    found, rest, error = feed(codec, b"".join(codec.encode(messages)), size)
    assert found == messages[:good]
    assert (type(error), bool(rest)) == ((type(None), False) if good is None else (DecodeError, True))


@given(codecs, st.lists(st.binary(max_size=9), max_size=5), st.integers())
def test_garbage_gives_messages_or_a_codec_error(codec: Any, pieces: list[bytes], seed: int) -> None:
    framing = LengthDelimited() if isinstance(codec.framing, Delimited) else codec.framing
    codec = type(codec)(Any, framing)
    stream = b"".join(framing.encode(pieces)) + random.Random(seed).randbytes(5)
    whole = feed(codec, stream, len(stream))
    again = feed(codec, stream, 1)
    assert repr(again[0]) == repr(whole[0])  # NaN is not equal to itself
    assert type(again[2]) is type(whole[2])


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Json, b""),
        (Json, b"{"),
        (Json, b'{"sender": "a"}'),
        (Json, b'{"sender": "a", "text": 1}'),
        (Json, b'{"sender": "\xff", "text": ""}'),
        (Json, b"[" * 100_000),
        (Msgpack, b""),
        (Msgpack, b"\xc1"),
        (Msgpack, b"\x01"),
        (Msgpack, b"\xdd\xff\xff\xff\xff"),
        (Msgpack, b"\x82\xa6sender\xa1\xff\xa4text\xa0"),
        (Msgpack, b"\x91" * 100_000),
    ],
)
def test_bad_content_is_a_decode_error_with_its_cause(kind: Any, content: bytes) -> None:
    # A type without a limit for nesting.
    codec = kind(Any if len(content) > 1000 else Chat, LengthDelimited())
    stream = b"".join(codec.framing.encode([content]))
    with pytest.raises(DecodeError, match="a message is not of type") as caught:
        codec.decode(memoryview(stream))
    assert caught.value.__cause__ is not None


@both
def test_values_that_cannot_be_encoded(kind: Any) -> None:
    endless: list[object] = []
    endless.append(endless)
    for value in (object(), endless, "\ud800", 1j):
        with pytest.raises(EncodeError) as caught:
            kind(object).encode([1, value])
        assert caught.value.__cause__ is not None


def test_a_number_that_the_format_cannot_hold() -> None:
    with pytest.raises(EncodeError):
        Msgpack(int).encode([1 << 64])
    assert Json(int).encode([1 << 64]) == [b"18446744073709551616\n"]


def test_limits_are_those_of_the_framing() -> None:
    codec = Msgpack(bytes, VarintDelimited(max_frame=8))
    with pytest.raises(EncodeError, match="8 are allowed"):
        codec.encode([bytes(9)])
    with pytest.raises(FrameTooLargeError):
        codec.decode(memoryview(b"\x09"))


def test_frame_size_and_finish_are_those_of_the_framing() -> None:
    codec = Msgpack(int)
    assert codec.frame_size(memoryview(b"\x00\x00\x01\x00\xcc")) == 260
    assert codec.finish(memoryview(b"")) == []
    with pytest.raises(IncompleteFrameError):
        codec.finish(memoryview(b"\x00"))
    with pytest.raises(IncompleteFrameError):
        Json(int).finish(memoryview(b"1"))


class Leftover(Raw):
    """A framing in which the end of the stream completes a message."""

    __slots__ = ()

    def finish(self, rest: memoryview) -> list[bytes]:
        return [rest.tobytes()]


def test_messages_completed_by_the_end_are_validated_too() -> None:
    codec = Json(int, Leftover())
    assert codec.finish(memoryview(b"12")) == [12]
    with pytest.raises(DecodeError, match="a message is not of type int"):
        codec.finish(memoryview(b"x"))


def test_the_wire() -> None:
    assert Json(Chat).encode([Chat("a", "x\ny")]) == [b'{"sender":"a","text":"x\\ny","number":0}\n']
    assert Msgpack(list[int]).encode([[1, 2]]) == [b"\x00\x00\x00\x03\x92\x01\x02"]


def test_unions() -> None:
    codec = Json[int | str](cast(Any, int | str))
    assert codec.decode(memoryview(b'1\n"a"\n')) == ([1, "a"], 6)
    assert repr(codec) == "Json(int | str, Delimited(delimiter=b'\\n', max_frame=65536))"


@both
def test_codecs_are_values(kind: Any) -> None:
    codec = kind(Chat, Fixed(4))
    assert codec == kind(Chat, Fixed(4))
    assert hash(codec) == hash(kind(Chat, Fixed(4)))
    others = [
        kind(int, Fixed(4)),
        kind(Chat, Fixed(5)),
        kind(Chat),
        *(k(Chat, Fixed(4)) for k in KINDS if k is not kind),
    ]
    assert codec not in [*others, Fixed(4), None]
    assert repr(codec) == f"{kind.__name__}(Chat, Fixed(size=4))"
    assert not hasattr(codec, "__dict__")
    with pytest.raises(FrozenInstanceError, match="immutable"):
        codec.framing = Raw()


def test_without_msgspec_the_error_says_what_to_install() -> None:
    script = """
import sys
sys.modules["msgspec"] = None
import pea2pea.codec
try:
    import pea2pea.typed
except ImportError as error:
    assert error.name == "msgspec", error.name
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'pea2pea[msgspec]'" in result.stdout
