"""The ready codecs: by property over many settings, against the vectors of others, and at their edges."""

from __future__ import annotations

import array
import copy
import dataclasses
import pickle
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.codec import Buffer, Delimited, Fixed, Framing, LengthDelimited, Raw, VarintDelimited, batches
from pea2pea.codec import ready as codec_module
from pea2pea.codec.batches import LARGEST, PASSED_UNCOPIED, SLICED_IN_PLACE
from pea2pea.errors import CodecError, ConfigError, DecodeError, EncodeError, FrameTooLargeError, IncompleteFrameError


@pytest.fixture(params=["Python", "C"], autouse=True)
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs twice: on the functions in Python and on those in C."""
    chosen = batches if request.param == "Python" else pytest.importorskip("pea2pea._speedups")
    monkeypatch.setattr(codec_module, "cores", chosen)


def feed(codec: Framing, chunks: Iterable[bytes]) -> tuple[list[bytes], bytes, CodecError | None]:
    """Decode ``chunks`` as the pipeline does: the messages, the rest, and the error that ended it, if one did.

    The buffer is overwritten after each call, as the receive buffer is.
    """
    messages: list[bytes] = []
    rest = b""
    for chunk in chunks:
        rest += chunk
        decoded = True
        while rest and decoded:
            buffer = bytearray(rest)
            try:
                found, used = codec.decode(memoryview(buffer))
            except CodecError as error:
                return messages, rest, error
            finally:
                buffer[:] = b"\xee" * len(buffer)
            assert 0 <= used <= len(rest)
            assert bool(found) == bool(used), "messages without progress, or progress without messages"
            assert all(type(message) is bytes for message in found)
            decoded = bool(found)
            messages += found
            rest = rest[used:]
    return messages, rest, None


def encoded(codec: Framing, *messages: Buffer) -> bytes:
    return b"".join(codec.encode(messages))


def decoded(codec: Framing, stream: bytes) -> list[bytes]:
    """What a whole stream decodes to; raises where it is refused or ends inside a frame."""
    messages, rest, error = feed(codec, [stream])
    if error is not None:
        raise error
    return [*messages, *codec.finish(memoryview(rest))]


def cut(stream: bytes, seed: int) -> list[bytes]:
    """``stream`` in chunks, mostly small ones, some of them empty."""
    source = random.Random(seed)
    chunks = []
    while stream:
        size = source.choice((0, 1, 1, 2, 3, 7, 64, len(stream)))
        chunks.append(stream[:size])
        stream = stream[size:]
    return chunks


#: Inverse in both directions: what is encoded decodes to the same.
lengths = st.builds(
    LengthDelimited,
    length_size=st.sampled_from((1, 2, 3, 4, 8)),
    byteorder=st.sampled_from(("big", "little")),
    adjustment=st.integers(-9, 0),
    max_frame=st.sampled_from((1, 5, 200, 70_000, LARGEST)),
)
varints = st.builds(VarintDelimited, max_frame=st.sampled_from((1, 127, 128, 300, 16_383, 16_384, LARGEST)))
delimiters = st.sampled_from((b"\n", b"\r\n", b"\0", b"\n\n", b"abab", b"\r\n\r\n"))
delimited = st.builds(Delimited, delimiters, max_frame=st.sampled_from((1, 5, 300, 70_000)))
framings: st.SearchStrategy[Framing] = lengths | varints | delimited | st.builds(Fixed, st.integers(1, 9))

#: Those that only decode as they were set.
headers = st.builds(
    LengthDelimited,
    length_size=st.sampled_from((1, 2, 3, 4, 8)),
    byteorder=st.sampled_from(("big", "little")),
    offset=st.integers(0, 5),
    adjustment=st.integers(-9, 9),
    skip=st.none() | st.integers(0, 12),
    max_frame=st.sampled_from((1, 5, 200, 70_000)),
)
decoders: st.SearchStrategy[Framing] = framings | headers | st.just(Raw())

payloads = st.binary(max_size=40) | st.text("ab\r\n", max_size=9).map(str.encode) | st.just(b"\0" * 300)
#: Small numbers, so that a good part of it is frames.
garbage = st.lists(st.sampled_from((0, 0, 0, 1, 2, 3, 9, 10, 13, 97, 98, 127, 128, 129, 255)), max_size=60).map(bytes)


def accepted(codec: Framing, messages: Sequence[bytes]) -> list[bytes]:
    """Those of ``messages`` that ``codec`` agrees to encode."""
    good = []
    for message in messages:
        try:
            codec.encode([message])
        except EncodeError:
            continue
        good.append(message)
    return good


# By property


@given(framings, st.lists(payloads, max_size=12), st.integers())
def test_what_is_encoded_is_decoded_however_it_is_cut(codec: Framing, messages: list[bytes], seed: int) -> None:
    messages = accepted(codec, messages)
    stream = encoded(codec, *messages)
    assert stream == b"".join(encoded(codec, message) for message in messages)
    assert feed(codec, cut(stream, seed)) == (messages, b"", None)


@given(decoders.filter(lambda codec: not isinstance(codec, Raw)), st.lists(garbage, max_size=4), st.integers())
def test_garbage_gives_the_same_however_it_is_cut(codec: Framing, pieces: list[bytes], seed: int) -> None:
    stream = b"".join(encoded(codec, *accepted(codec, [piece])) + piece for piece in pieces)
    messages, rest, error = feed(codec, [stream])
    again, rest_again, error_again = feed(codec, cut(stream, seed))
    assert again == messages
    assert type(error_again) is type(error)
    # A refusal may come before all of the bytes have.
    assert error is not None or rest_again == rest
    if error is not None:
        assert isinstance(error, DecodeError)


@given(decoders, garbage)
def test_the_end_of_the_stream_completes_nothing(codec: Framing, stream: bytes) -> None:
    _, rest, error = feed(codec, [stream])
    if error is None and rest:
        with pytest.raises(IncompleteFrameError, match=f"after {len(rest)} bytes"):
            codec.finish(memoryview(rest))
    assert list(codec.finish(memoryview(b""))) == []


@given(decoders, garbage)
def test_the_size_of_a_frame_is_right_or_unknown(codec: Framing, stream: bytes) -> None:
    size = codec.frame_size(memoryview(stream))
    _, rest, error = feed(codec, [stream])
    if rest == stream and error is not None:
        assert size == 0
    elif rest == stream and size:
        assert size > len(rest), "it was whole, and not decoded"
        size_to_try = min(size, 100_000)
        found, used = codec.decode(memoryview(stream + bytes(size_to_try - len(stream))))
        assert (len(found), used) == ((1, size) if size_to_try == size else (0, 0))


@given(lengths | varints | headers, garbage)
def test_a_message_is_all_that_stands_behind_its_header(codec: Framing, stream: bytes) -> None:
    size = codec.frame_size(memoryview(stream))
    if 0 < size <= len(stream) and (header := codec.header_size(memoryview(stream))):
        assert codec.decode(memoryview(stream[:size])) == ([stream[header:size]], size)


@given(decoders)
def test_nothing_at_all_is_no_message(codec: Framing) -> None:
    found, used = codec.decode(memoryview(b""))
    assert (list(found), used) == ([], 0)
    assert list(codec.encode([])) == []


@given(lengths | varints, st.integers(min_value=0))
def test_the_prefix_alone_is_enough_to_refuse(codec: LengthDelimited | VarintDelimited, surplus: int) -> None:
    length = codec.max_frame + 1 + surplus % 100
    if isinstance(codec, VarintDelimited):
        head = leb128(length)
    elif length < 1 << 8 * codec.length_size:
        head = length.to_bytes(codec.length_size, codec.byteorder)
    else:
        return
    with pytest.raises(FrameTooLargeError):
        codec.decode(memoryview(head))
    assert codec.frame_size(memoryview(head)) == 0
    good = accepted(codec, [b"x", b"", b"x"])
    assert feed(codec, [encoded(codec, *good) + head])[0] == good


@given(st.sampled_from((0, 1, -1, -1 << 16)), st.integers(1, 8), st.integers(0, 3))
def test_large_messages_among_small_ones(difference: int, count: int, where: int) -> None:
    large = bytes(max(0, SLICED_IN_PLACE + difference)) + b"x"
    messages = [b"", *[b"abc"] * count]
    messages.insert(min(where, count), large)
    for codec in (LengthDelimited(), LengthDelimited(length_size=3), VarintDelimited(), Delimited()):
        assert feed(codec, [encoded(codec, *messages)]) == (messages, b"", None)


def leb128(value: int) -> bytes:
    """The plain definition: groups of seven bits, lowest first, all but the last one marked."""
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


# LengthDelimited: the cases of tokio-util's tests/length_delimited.rs

TOKIO_READS: list[tuple[dict[str, Any], list[bytes], list[bytes]]] = [
    ({}, [], []),
    ({}, [b"\x00\x00\x00\x09abcdefghi"], [b"abcdefghi"]),
    ({"byteorder": "little"}, [b"\x09\x00\x00\x00abcdefghi"], [b"abcdefghi"]),
    (
        {},
        [b"\x00\x00\x00\x09abcdefghi\x00\x00\x00\x03123\x00\x00\x00\x0bhello world"],
        [b"abcdefghi", b"123", b"hello world"],
    ),
    ({}, [b"\x00\x00", b"\x00\x09abc", b"defghi"], [b"abcdefghi"]),
    (
        {},
        [b"\x00\x00", b"\x00\x09abc", b"defghi", b"\x00\x00\x00\x0312", b"3\x00\x00\x00\x0bhello world"],
        [b"abcdefghi", b"123", b"hello world"],
    ),
    ({"length_size": 1}, [b"\x09abcdefghi"], [b"abcdefghi"]),
    ({"length_size": 2, "offset": 4}, [b"zzzz\x00\x09abcdefghi"], [b"abcdefghi"]),
    (
        {"length_size": 2, "offset": 2, "skip": 0, "adjustment": 4},
        [b"xx\x00\x09abcdefghi", b"yy\x00\x03123", b"zz\x00\x0bhello world"],
        [b"xx\x00\x09abcdefghi", b"yy\x00\x03123", b"zz\x00\x0bhello world"],
    ),
    ({"length_size": 3, "skip": 4}, [b"\x00\x00\x0b\x0cHello world"], [b"Hello world"]),
    (
        {"length_size": 2, "adjustment": -2},
        [b"\x00\x0babcdefghi", b"\x00\x05123", b"\x00\x0dhello world"],
        [b"abcdefghi", b"123", b"hello world"],
    ),
]


@pytest.mark.parametrize(("settings", "chunks", "messages"), TOKIO_READS)
def test_reads_as_tokio_util_does(settings: dict[str, Any], chunks: list[bytes], messages: list[bytes]) -> None:
    assert feed(LengthDelimited(**settings), chunks) == (messages, b"", None)
    assert feed(LengthDelimited(**settings), [b"".join(chunks)]) == (messages, b"", None)


@pytest.mark.parametrize("stream", [b"\x00\x00", b"\x00", b"\x00\x00\x00\x09ab", b"\x00\x00\x00\x09abcd"])
def test_a_stream_that_ends_inside_a_frame(stream: bytes) -> None:
    with pytest.raises(IncompleteFrameError):
        decoded(LengthDelimited(), stream)


@pytest.mark.parametrize(
    ("settings", "messages", "stream"),
    [
        ({"adjustment": -2}, [b"abcdefghi"], b"\x00\x00\x00\x0babcdefghi"),
        ({}, [], b""),
        ({}, [b"abcdefghi"], b"\x00\x00\x00\x09abcdefghi"),
        (
            {},
            [b"abcdefghi", b"123", b"hello world"],
            b"\x00\x00\x00\x09abcdefghi\x00\x00\x00\x03123\x00\x00\x00\x0bhello world",
        ),
        ({"byteorder": "little"}, [b"abcdefghi"], b"\x09\x00\x00\x00abcdefghi"),
        ({"length_size": 1}, [b"abcdefghi"], b"\x09abcdefghi"),
        # From its source: nothing is written in front of the length, and nothing is left between.
        ({"length_size": 2, "offset": 3, "skip": 7}, [b"abc"], b"\x00\x03abc"),
        ({"length_size": 2, "adjustment": 2}, [b"abc"], b"\x00\x01abc"),
    ],
)
def test_writes_as_tokio_util_does(settings: dict[str, Any], messages: list[bytes], stream: bytes) -> None:
    assert encoded(LengthDelimited(**settings), *messages) == stream


def test_its_defaults_are_those_of_tokio_util() -> None:
    assert LengthDelimited() == LengthDelimited(
        length_size=4, byteorder="big", offset=0, adjustment=0, skip=4, max_frame=8 * 1024 * 1024
    )


def test_the_limit_holds_both_ways() -> None:
    codec = LengthDelimited(max_frame=5)
    assert decoded(codec, encoded(codec, b"abcde")) == [b"abcde"]
    with pytest.raises(FrameTooLargeError, match="claims 9 bytes, 5 are allowed"):
        decoded(codec, b"\x00\x00\x00\x09abcdefghi")
    for messages in ([b"abcdef"], [b"", b"abcdef"]):
        with pytest.raises(EncodeError, match="6 bytes, 5 are allowed"):
            codec.encode(messages)


@pytest.mark.parametrize("length_size", [1, 2, 3])
def test_a_message_too_long_for_its_length_is_refused(length_size: int) -> None:
    codec, most = LengthDelimited(length_size=length_size, max_frame=LARGEST), (1 << 8 * length_size) - 1
    assert decoded(codec, encoded(codec, bytes(most))) == [bytes(most)]
    with pytest.raises(EncodeError):
        codec.encode([bytes(most + 1)])


def test_what_adjustment_would_take_over_the_limit_is_not_sent() -> None:
    codec = LengthDelimited(adjustment=-2, max_frame=5)
    assert decoded(codec, encoded(codec, b"abc")) == [b"abc"]
    with pytest.raises(EncodeError):
        codec.encode([b"abcd"])


def test_a_length_below_nothing_is_refused() -> None:
    codec = LengthDelimited(length_size=1, adjustment=-2)
    assert feed(codec, [b"\x03a\x02\x01"])[:2] == ([b"a", b""], b"\x01")
    with pytest.raises(DecodeError, match="claims 1 bytes, too few for an adjustment of -2"):
        codec.decode(memoryview(b"\x01"))
    with pytest.raises(EncodeError, match="shorter than the adjustment of 3"):
        LengthDelimited(adjustment=3).encode([b"abcd", b"ab"])


def test_a_frame_of_no_bytes_cannot_wedge_the_parser() -> None:
    codec = LengthDelimited(length_size=1, skip=0)
    with pytest.raises(DecodeError):
        codec.decode(memoryview(b"\x00\x00"))
    assert feed(codec, [b"\x02a\x01\x00"])[:2] == ([b"\x02a", b"\x01"], b"\x00")


def test_empty_messages() -> None:
    for codec in (LengthDelimited(), LengthDelimited(length_size=3), VarintDelimited(), Delimited()):
        assert decoded(codec, encoded(codec, b"", b"", b"x", b"")) == [b"", b"", b"x", b""]
        assert decoded(codec, encoded(codec, b"")) == [b""]


# VarintDelimited


@pytest.mark.parametrize(
    ("value", "head"),
    [
        # Protocol Buffers, "Encoding": 1, 150 and 300.
        (1, b"\x01"),
        (150, b"\x96\x01"),
        (300, b"\xac\x02"),
        # multiformats, unsigned-varint.
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (255, b"\xff\x01"),
        (16384, b"\x80\x80\x01"),
        (0, b"\x00"),
        (16383, b"\xff\x7f"),
        (2097151, b"\xff\xff\x7f"),
    ],
)
def test_varints(value: int, head: bytes) -> None:
    codec = VarintDelimited()
    message = bytes(value)
    assert encoded(codec, message) == head + message
    assert codec.frame_size(memoryview(head)) == len(head) + value
    assert feed(codec, [head, message, head + message]) == ([message, message], b"", None)


def test_the_largest_varint_has_nine_bytes() -> None:
    codec = VarintDelimited(max_frame=LARGEST)
    assert codec.frame_size(memoryview(b"\xff" * 8 + b"\x7f")) == 9 + LARGEST
    assert codec.frame_size(memoryview(b"\xff" * 8)) == 0
    assert codec.decode(memoryview(b"\xff" * 8)) == ([], 0)
    with pytest.raises(FrameTooLargeError):
        codec.decode(memoryview(b"\xff" * 9))


@pytest.mark.parametrize("head", [b"\x80\x00", b"\xff\x00", b"\x81\x80\x00", b"\x80\x80\x80\x00"])
def test_a_padded_varint_is_refused(head: bytes) -> None:
    codec = VarintDelimited()
    assert codec.frame_size(memoryview(head)) == 0
    with pytest.raises(DecodeError, match="padded"):
        codec.decode(memoryview(head))
    assert feed(codec, [b"\x01a" + head])[0] == [b"a"]


@pytest.mark.parametrize(("limit", "head"), [(1, b"\x80"), (300, b"\x80\x80"), (300, b"\xad\x02"), (100, b"\x65")])
def test_a_varint_is_refused_at_the_first_byte_that_is_too_much(limit: int, head: bytes) -> None:
    codec = VarintDelimited(max_frame=limit)
    assert codec.decode(memoryview(head[:-1])) == ([], 0)
    with pytest.raises(FrameTooLargeError):
        codec.decode(memoryview(head))


# Delimited


def test_lines() -> None:
    codec = Delimited()
    assert encoded(codec, b"one", b"", b"two") == b"one\n\ntwo\n"
    assert feed(codec, [b"one\n", b"\nt", b"wo\nthr"]) == ([b"one", b"", b"two"], b"thr", None)
    with pytest.raises(IncompleteFrameError):
        decoded(codec, b"one\ntwo")


def test_a_delimiter_across_chunks() -> None:
    codec = Delimited(b"\r\n", max_frame=3)
    assert feed(codec, [b"abc", b"\r", b"\n", b"a\rb\r", b"\n"]) == ([b"abc", b"a\rb"], b"", None)
    assert codec.frame_size(memoryview(b"ab")) == 0


@pytest.mark.parametrize(
    ("delimiter", "message"),
    [(b"\n", b"\n"), (b"\n", b"a\nb"), (b"\r\n", b"a\r\n"), (b"\n\n", b"x\n"), (b"abab", b"xab"), (b"\n\n", b"\n")],
)
def test_a_message_that_would_be_cut_is_refused(delimiter: bytes, message: bytes) -> None:
    for messages in ([message], [b"fine", message, b"fine"]):
        with pytest.raises(EncodeError, match="delimiter"):
            Delimited(delimiter).encode(messages)


def test_a_message_may_hold_a_part_of_the_delimiter() -> None:
    codec = Delimited(b"\r\n")
    assert decoded(codec, encoded(codec, b"\r", b"\n", b"\n\r")) == [b"\r", b"\n", b"\n\r"]


def test_a_line_over_the_limit_is_refused_after_the_good_ones() -> None:
    codec = Delimited(b"\r\n", max_frame=3)
    assert codec.decode(memoryview(b"abc\r\na\r\nabcd\r\na\r\n")) == ([b"abc", b"a"], 8)
    assert feed(codec, [b"abc\r\na\r\nabcd\r\na\r\n"])[:2] == ([b"abc", b"a"], b"abcd\r\na\r\n")


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    codec = Delimited(b"\r\n", max_frame=3)
    assert codec.decode(memoryview(b"abc\r")) == ([], 0)
    for stream in (b"abcd\r", b"abcde", b"abcd\r\n"):
        with pytest.raises(FrameTooLargeError, match="within the 3 bytes"):
            codec.decode(memoryview(stream))
    with pytest.raises(EncodeError):
        codec.encode([b"abcd"])


# Fixed and Raw


def test_fixed() -> None:
    codec = Fixed(3)
    assert feed(codec, [b"ab", b"cdef", b"gh"]) == ([b"abc", b"def"], b"gh", None)
    assert codec.frame_size(memoryview(b"a")) == 3
    assert encoded(codec, b"abc", b"def") == b"abcdef"
    for message in (b"", b"ab", b"abcd"):
        with pytest.raises(EncodeError):
            codec.encode([b"abc", message])


def test_raw() -> None:
    codec = Raw()
    assert feed(codec, [b"ab", b"", b"c"]) == ([b"ab", b"c"], b"", None)
    assert encoded(codec, b"ab", b"", b"c") == b"abc"
    assert codec.encode([b""]) == []
    assert codec.frame_size(memoryview(b"a")) == 0


# What is handed to the network

LARGE = bytes(PASSED_UNCOPIED)


def test_small_messages_become_one_buffer() -> None:
    for codec in (LengthDelimited(), VarintDelimited(), Delimited(), Fixed(1), Raw()):
        assert [type(buffer) for buffer in codec.encode([b"x"] * 100)] == [bytes]


@pytest.mark.parametrize("codec", [LengthDelimited(), LengthDelimited(length_size=3), VarintDelimited()])
@pytest.mark.parametrize("large", [LARGE, bytearray(LARGE)])
def test_large_messages_are_not_copied(codec: Framing, large: Buffer) -> None:
    buffers = codec.encode([b"a", large, b"b", b"c", large, large])
    assert [buffer is large for buffer in buffers] == [False, True, False, True, False, True]
    assert decoded(codec, b"".join(buffers)) == [b"a", LARGE, b"b", b"c", LARGE, LARGE]
    assert codec.encode([large])[1] is large
    assert len(codec.encode([large, b"end"])) == 3


def test_large_messages_without_headers_are_not_copied() -> None:
    for codec in (Raw(), Fixed(len(LARGE))):
        assert [buffer is LARGE for buffer in codec.encode([LARGE, LARGE])] == [True, True]
    view = memoryview(LARGE)
    (buffer,) = Raw().encode([view])
    assert isinstance(buffer, memoryview)
    assert buffer.obj is LARGE


@pytest.mark.parametrize("codec", [LengthDelimited(), VarintDelimited(), Delimited(), Fixed(4), Raw()])
@pytest.mark.parametrize(
    "message",
    [
        bytearray(b"abcd"),
        memoryview(b"abcd"),
        memoryview(array.array("I", [0x41424344])),
        memoryview(b"a.b.c.d.")[::2],
        memoryview(b"abcd").cast("B", (2, 2)),
    ],
)
def test_all_that_is_bytes_can_be_sent(codec: Framing, message: Buffer) -> None:
    plain = bytes(message)
    assert encoded(codec, message) == encoded(codec, plain)
    assert encoded(codec, plain, message) == encoded(codec, plain, plain)


@pytest.mark.parametrize("codec", [LengthDelimited(), VarintDelimited(), Delimited(), Raw()])
def test_an_empty_view_can_be_sent(codec: Framing) -> None:
    assert encoded(codec, memoryview(b"")) == encoded(codec, b"")


@pytest.mark.parametrize("codec", [LengthDelimited(), VarintDelimited(), Delimited(), Fixed(3), Raw()])
@pytest.mark.parametrize("message", ["abc", 3, None, [1, 2, 3], memoryview(b"abc")])
def test_what_is_not_bytes_is_refused(codec: Framing, message: Any) -> None:
    if isinstance(message, memoryview):
        message.release()
    with pytest.raises(EncodeError, match="no readable bytes") as caught:
        codec.encode([b"abc", message])
    assert caught.value.__cause__ is not None


# Settings


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("length_size", (0, 5, 9, -1, "4", None)),
        ("byteorder", ("middle", None)),
        ("offset", (-1, 1.5, True, LARGEST + 1)),
        ("adjustment", ("1", None, -LARGEST - 1)),
        ("skip", (-1, "0", False)),
        ("max_frame", (0, -1, None, 2.0, LARGEST + 1)),
    ],
)
def test_length_delimited_refuses_bad_settings(field: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            LengthDelimited(**{field: value})
        assert caught.value.field == field


@pytest.mark.parametrize("kind", [VarintDelimited, Delimited])
@pytest.mark.parametrize("limit", [0, -1, None, "1", True, LARGEST + 1])
def test_bad_limits_are_refused(kind: Any, limit: object) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(max_frame=limit)
    assert caught.value.field == "max_frame"


@pytest.mark.parametrize("delimiter", [b"", "\n", bytearray(b"\n"), None])
def test_bad_delimiters_are_refused(delimiter: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Delimited(delimiter)
    assert caught.value.field == "delimiter"


@pytest.mark.parametrize("size", [0, -1, None, 1.0, True])
def test_bad_sizes_are_refused(size: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Fixed(size)
    assert caught.value.field == "size"


SETTINGS: list[Framing] = [
    LengthDelimited(),
    LengthDelimited(length_size=2),
    LengthDelimited(byteorder="little"),
    LengthDelimited(offset=1),
    LengthDelimited(adjustment=1),
    LengthDelimited(skip=5),
    LengthDelimited(max_frame=1),
    VarintDelimited(),
    VarintDelimited(1),
    Delimited(),
    Delimited(b"\r\n"),
    Delimited(max_frame=1),
    Fixed(1),
    Fixed(2),
    Raw(),
]


@pytest.mark.parametrize("codec", SETTINGS, ids=repr)
def test_codecs_are_values(codec: Framing) -> None:
    assert [codec == other for other in SETTINGS].count(True) == 1
    twin = eval(repr(codec), vars(codec_module))
    assert (twin, hash(twin)) == (codec, hash(codec))
    assert pickle.loads(pickle.dumps(codec)) == copy.deepcopy(codec) == codec
    assert not hasattr(codec, "__dict__")
    for field in dataclasses.fields(codec):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(codec, field.name, 1)


def test_a_codec_shows_its_settings() -> None:
    assert repr(VarintDelimited(5)) == "VarintDelimited(max_frame=5)"
    assert repr(LengthDelimited()) == (
        "LengthDelimited(length_size=4, byteorder='big', offset=0, adjustment=0, skip=4, max_frame=8388608)"
    )
