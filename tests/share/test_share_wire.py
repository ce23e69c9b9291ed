"""The messages: encode then decode is the identity however they are chopped; garbage is an error of the peer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import CodecError
from pea2pea.share.errors import PeerFaultError
from pea2pea.share.tree import MAX_PROOF, MAX_SIZE, MIN_CHUNK, Target
from pea2pea.share.wire import HELLO_SIZE, MAGIC, MAX_GOT, Bitmap, Chunk, Got, Hello, Message, Refuse, Request, Wire

COUNT = 11
TARGET = Target(MIN_CHUNK * COUNT - 5, b"t" * 32)

indexes = st.integers(0, COUNT - 1)
messages = st.one_of(
    st.integers(0, (1 << COUNT) - 1).map(Bitmap),
    st.lists(indexes, max_size=20).map(tuple).map(Got),
    indexes.map(Request),
    indexes.map(Refuse),
    st.builds(
        Chunk, indexes, st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF).map(tuple), st.binary()
    ),
)


def plain(message: Message) -> Message:
    return Chunk(message.index, message.proof, bytes(message.data)) if isinstance(message, Chunk) else message


def printed(batch: list[Message]) -> bytes:
    return b"".join(bytes(buffer) for buffer in Wire(TARGET).encode(batch))


def parsed(stream: bytes) -> list[Message]:
    found, consumed = Wire(TARGET).decode(memoryview(stream))
    assert consumed <= len(stream)
    return [plain(message) for message in found]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@given(st.lists(messages, max_size=6), st.data())
def test_messages_are_decoded_however_they_are_split(batch: list[Message], draw: st.DataObject) -> None:
    stream, wire, rest, found = printed(batch), Wire(TARGET), b"", []
    while stream:
        cut = draw.draw(st.integers(1, len(stream)))
        rest, stream = rest + stream[:cut], stream[cut:]
        some, consumed = wire.decode(memoryview(rest))
        found += [plain(message) for message in some]
        rest = rest[consumed:]
    assert (found, rest) == (batch, b"")


@given(st.binary(max_size=200))
def test_garbage_is_messages_or_an_error_of_the_peer(body: bytes) -> None:
    try:
        found = parsed(frame(body))
    except (PeerFaultError, CodecError):
        return
    assert parsed(printed(found)) == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"X",
        b"B",
        b"B\x00",
        b"B\x00\x00\x00",
        b"B\x00\x08",  # chunk 11 of 11
        b"R\x00\x00\x00",
        b"R\x00\x00\x00\x0b",
        b"N\x00\x00\x00\x0b",
        b"G\x00\x00",
        b"G\x00\x00\x00\x0b",
        b"C",
        b"C\x00\x00\x00\x01",
        b"C\x00\x00\x00\x0b\x00",
        b"C\x00\x00\x00\x01\x01" + bytes(31),
        b"C\x00\x00\x00\x01" + bytes([MAX_PROOF + 1]) + bytes(32 * (MAX_PROOF + 1)),
    ],
)
def test_a_malformed_message(body: bytes) -> None:
    with pytest.raises(PeerFaultError):
        parsed(frame(body))


def test_the_largest_messages_fit_and_nothing_larger() -> None:
    largest = Chunk(1, (bytes(32),) * MAX_PROOF, bytes(TARGET.chunk))
    assert parsed(printed([largest])) == [largest]
    with pytest.raises(CodecError):
        parsed(frame(b"C" + bytes(len(printed([largest])))))
    with pytest.raises(CodecError):
        printed([Chunk(1, largest.proof, bytes(TARGET.chunk + 1))])
    many = Got(tuple(range(COUNT)) * (MAX_GOT // COUNT))
    assert parsed(printed([many])) == [many]


def test_the_size_of_a_large_frame_is_known_from_its_head() -> None:
    stream = printed([Chunk(1, (), bytes(1000))])
    assert Wire(TARGET).frame_size(memoryview(stream)[:100]) == len(stream)


@given(st.none() | st.builds(Target, st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32)))
def test_a_hello_is_decoded_as_it_was_encoded(target: Target | None) -> None:
    data = Hello(target).encode()
    assert len(data) == HELLO_SIZE
    assert Hello.decode(data) == Hello(target)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n".ljust(HELLO_SIZE, b" "),
        MAGIC,
        MAGIC + b"\x02" + bytes(40),
        MAGIC + b"\x01" + b"\xff" * 8 + bytes(32),
        Hello(TARGET).encode() + b"x",
    ],
)
def test_a_malformed_hello(data: bytes) -> None:
    with pytest.raises(PeerFaultError):
        Hello.decode(data)
