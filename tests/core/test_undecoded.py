"""Undecoded bytes: however a stream is cut, the messages are the same, and memory is bounded by what has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Decoder, LengthDelimited
from pea2pea.codec import Delimited, Landing, VarintDelimited
from pea2pea.errors import FrameTooLargeError, IncompleteFrameError, UsageError
from pea2pea.undecoded import GATHER_FROM, TRUST, Undecoded

SHARED = memoryview(bytearray(2 * GATHER_FROM))
ZEROES = bytes(len(SHARED))


# Pieces that a stream is cut into as drawn. The rest comes in large ones: a mebibyte byte by byte takes too long.
PIECES = 4_000


def receive(undecoded: Undecoded[bytes], data: bytes | memoryview) -> list[bytes]:
    """Give ``data`` as a transport would: as much at a time as fits the memory that is offered."""
    messages: list[bytes] = []
    while data:
        buffer = undecoded.buffer()
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        messages += undecoded.receive(size)
        data = data[size:]
    return messages


def frames(messages: Sequence[bytes]) -> bytes:
    return b"".join(LengthDelimited().encode(messages))


sizes = st.one_of(st.integers(0, 40), st.sampled_from([GATHER_FROM - 4, GATHER_FROM, GATHER_FROM + 1, 5 * GATHER_FROM]))


@given(st.lists(sizes, max_size=6), st.lists(st.integers(1, 3 * GATHER_FROM), min_size=1, max_size=5), st.booleans())
def test_how_a_stream_is_cut_does_not_matter(sizes: list[int], cuts: list[int], land: bool) -> None:
    messages = [bytes([n]) * size for n, size in enumerate(sizes)]
    data = memoryview(frames(messages))
    undecoded = Undecoded(LengthDelimited(), SHARED, land=land)
    got: list[bytes] = []
    for n in count():
        if not data:
            break
        cut = cuts[n % len(cuts)] if n < PIECES else 3 * GATHER_FROM
        got += receive(undecoded, data[:cut])
        SHARED[:] = ZEROES  # another stream uses the shared memory in between
        data = data[cut:]
    assert got == messages
    assert not len(undecoded) and undecoded.failure is None


@given(st.lists(sizes, max_size=6), st.integers(1, 3 * GATHER_FROM))
def test_feeding_bytes_gives_the_same(sizes: list[int], cut: int) -> None:
    messages = [bytes([n]) * size for n, size in enumerate(sizes)]
    data = frames(messages)
    undecoded = Undecoded(LengthDelimited(), SHARED)
    first = min(len(data), cut * PIECES)
    steps = [*range(0, first, cut), *range(first, len(data), 3 * GATHER_FROM), len(data)]
    got = [m for start, stop in pairwise(steps) for m in undecoded.feed(data[start:stop])]
    assert got == messages and not len(undecoded)


def test_what_is_reserved_is_never_smaller_than_asked_for() -> None:
    undecoded = Undecoded(LengthDelimited(), SHARED)
    claim = (6 * GATHER_FROM).to_bytes(4, "big") + bytes(GATHER_FROM)
    assert not undecoded.feed(claim)
    assert len(undecoded.reserve(20 * GATHER_FROM)) >= 20 * GATHER_FROM
    assert bytes(undecoded.remainder()) == claim


@pytest.mark.parametrize("land", [True, False])
def test_a_claim_makes_nobody_allocate_it(land: bool) -> None:
    undecoded = Undecoded(LengthDelimited(), SHARED, land=land)
    receive(undecoded, (8 << 20).to_bytes(4, "big") + bytes(GATHER_FROM))
    assert len(undecoded.buffer()) <= TRUST * (GATHER_FROM + 4)


def test_a_large_message_is_received_in_place() -> None:
    undecoded = Undecoded(LengthDelimited(), SHARED, land=True)
    receive(undecoded, (3 * GATHER_FROM).to_bytes(4, "big") + bytes(GATHER_FROM))
    memory = undecoded.buffer().obj
    assert isinstance(memory, Landing)
    assert receive(undecoded, bytes(2 * GATHER_FROM)) == [bytes(3 * GATHER_FROM)]


def test_messages_before_bad_bytes_count() -> None:
    undecoded = Undecoded(LengthDelimited(max_frame=10), SHARED)
    assert receive(undecoded, frames([b"a", b"b"]) + b"\xff\xff\xff\xff") == [b"a", b"b"]
    assert isinstance(undecoded.failure, FrameTooLargeError)
    assert not len(undecoded)


class Wrong(Decoder[bytes]):
    def __init__(self, used: int) -> None:
        self.used = used

    def decode(self, buffer: memoryview) -> tuple[Sequence[bytes], int]:
        return [b"x"], self.used


@pytest.mark.parametrize("used", [-1, 0, 5])
def test_a_decoder_that_reports_an_impossible_size_fails(used: int) -> None:
    undecoded = Undecoded(Wrong(used), SHARED)
    receive(undecoded, b"1234")
    assert isinstance(undecoded.failure, UsageError)


def test_the_end_of_a_stream_inside_a_frame_fails() -> None:
    undecoded = Undecoded(VarintDelimited(), SHARED)
    receive(undecoded, b"\x05abc")
    assert undecoded.finish() == ()
    assert isinstance(undecoded.failure, IncompleteFrameError)


def test_the_end_between_frames_is_in_good_order() -> None:
    undecoded = Undecoded(Delimited(), SHARED)
    assert receive(undecoded, b"one\n") == [b"one"]
    assert undecoded.finish() == () and undecoded.failure is None
