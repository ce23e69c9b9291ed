"""The C module: it gives what the Python beside it gives, keeps nothing, and can be left out."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pea2pea.codec import Buffer, LengthDelimited, batches
from pea2pea.codec.batches import LARGEST, PASSED_UNCOPIED
from pea2pea.errors import EncodeError
from support.speedups_cases import DISGUISES, case, main, outcome

SOURCE = Path(__file__).parents[2] / "src" / "pea2pea" / "_speedups.c"

if os.environ.get("CI") and shutil.which("cc"):
    # Where there is a compiler, a C module that does not build is a failure, and not a reason to skip.
    importlib.import_module("pea2pea._speedups")

_speedups: Any = pytest.importorskip("pea2pea._speedups")
LAYOUT = LengthDelimited()._layout
SETTINGS: list[tuple[str, tuple[Any, ...]]] = [
    ("lengths", (LAYOUT,)),
    ("varints", (LARGEST,)),
    ("delimited", (b"\n", LARGEST)),
]
NARROW: list[tuple[str, tuple[Any, ...]]] = [
    ("lengths", (LengthDelimited(max_frame=5)._layout,)),
    ("varints", (5,)),
    ("delimited", (b"\n", 5)),
]


@given(st.randoms(use_true_random=False))
def test_the_two_give_the_same_for_any_call(source: Random) -> None:
    tried = case(source)
    assert outcome(_speedups, tried) == outcome(batches, tried)


def test_the_two_give_the_same_for_many_calls() -> None:
    """More than hypothesis has time for."""
    source = Random(3)
    for tried in (case(source) for _ in range(5_000)):
        assert outcome(_speedups, tried) == outcome(batches, tried), tried


@given(st.binary(max_size=20), st.sampled_from((1, 300, 1 << 21, LARGEST)))
@example(b"\xff" * 8 + b"\x7f", LARGEST)
@example(b"\x80" * 9 + b"\x01", LARGEST)
@example(b"\x80\x00", LARGEST)
def test_any_varint(head: bytes, limit: int) -> None:
    tried = ("split_varints", (memoryview(head + bytes(300)), limit))
    assert outcome(_speedups, tried) == outcome(batches, tried)


@pytest.mark.parametrize("size", [PASSED_UNCOPIED - 1, PASSED_UNCOPIED, PASSED_UNCOPIED + 1])
@pytest.mark.parametrize("around", [[], [b"a"], [b"a", b""], [bytes(PASSED_UNCOPIED)]])
def test_the_same_messages_are_passed_uncopied(size: int, around: list[Buffer]) -> None:
    for large in (bytes(size), bytearray(size), memoryview(bytes(size))):
        messages = [*around, large, *around]
        for name, settings in (("join_lengths", LAYOUT), ("join_varints", LARGEST)):
            tried = (name, (messages, settings))
            assert outcome(_speedups, tried) == outcome(batches, tried)


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("size", [0, 12, PASSED_UNCOPIED])
@pytest.mark.parametrize(("form", "settings"), SETTINGS)
def test_what_is_not_plain_bytes(form: str, settings: tuple[Any, ...], size: int, disguise: Any) -> None:
    for messages in ([disguise(bytes(size))], [b"abc", disguise(bytes(size)), b""]):
        tried = (f"join_{form}", (messages, *settings))
        assert outcome(_speedups, tried) == outcome(batches, tried)


def calls() -> list[tuple[str, tuple[Any, ...]]]:
    """One for each way through the C: results, errors, and what is left to Python."""
    stream = memoryview(b"".join(batches.join_lengths([b"x" * 20, b"", b"y" * 300], LAYOUT)))
    plain: list[Any] = [b"x" * 20, b"", bytes(PASSED_UNCOPIED), bytearray(b"abc"), memoryview(b"abc")[::2]]
    return [
        ("split_lengths", (stream, LAYOUT)),
        ("split_lengths", (memoryview(b"\xff" * 9), LAYOUT)),
        ("split_lengths", (memoryview(b"abcdefgh")[::2], LAYOUT)),
        ("split_varints", (memoryview(b"\x01a\x02bc\xff"), LARGEST)),
        ("split_delimited", (memoryview(b"a\nbc\n\nd"), b"\n", 5)),
        *((f"join_{form}", (plain, *settings)) for form, settings in SETTINGS),
        *((f"join_{form}", ([b"x" * 20, b"", bytes(PASSED_UNCOPIED)], *settings)) for form, settings in SETTINGS),
        *((f"join_{form}", ([b"a", bytearray(1 << 17)], *settings)) for form, settings in SETTINGS),
        *((f"join_{form}", ([b"a", bytes(9)], *settings)) for form, settings in NARROW),
        *((f"join_{form}", ([bytearray(2), object()], *settings)) for form, settings in SETTINGS),
        ("join_delimited", ([b"a\nb"], b"\n", 5)),
    ]


@pytest.mark.parametrize("call", calls(), ids=lambda call: call[0])
def test_nothing_is_kept(call: tuple[str, tuple[Any, ...]]) -> None:
    def run(times: int) -> int:
        for _ in range(times):
            outcome(_speedups, call)
        return tracemalloc.get_traced_memory()[0]

    subject = call[1][0]
    parts = [*subject, subject] if isinstance(subject, list) else [subject, subject.obj]
    tracemalloc.start()
    try:
        before = run(20), list(map(sys.getrefcount, parts))
        after = run(1_000), list(map(sys.getrefcount, parts))
    finally:
        tracemalloc.stop()
    assert after[1] == before[1]
    assert after[0] - before[0] < 16 * 1_000, "the smallest object has twice as many bytes"


def test_no_buffer_stays_held() -> None:
    memory, sent = bytearray(b"\x01a\x05"), bytearray(b"abc")
    assert _speedups.split_varints(memoryview(memory), 9) == ([b"a"], 2)
    assert _speedups.join_varints([sent], 9) == [b"\x03abc"]
    with pytest.raises(EncodeError):
        _speedups.join_varints([sent, bytearray(10)], 9)
    memory.append(1)
    sent.append(1)


def test_a_messages_own_error_is_passed_on() -> None:
    if sys.version_info < (3, 12):
        pytest.skip("a class in Python has no buffer before 3.12")

    class Broken:
        def __buffer__(self, flags: int) -> memoryview:
            raise RuntimeError("mine")

    for join in (batches.join_varints, _speedups.join_varints):
        with pytest.raises(RuntimeError, match="mine"):
            join([b"a", Broken()], 9)


@pytest.mark.parametrize("landing", [batches.Landing, _speedups.Landing], ids=["Python", "C"])
@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 300])
def test_a_message_lands_in_its_own_memory(landing: Any, content: bytes) -> None:
    memory = landing(len(content))
    for start in range(0, len(content), 5_000):
        part = content[start : start + 5_000]
        memoryview(memory)[start : start + len(part)] = part
    # As a transport does, the test still holds what it wrote to.
    view = memoryview(memory)
    message = memory.take()
    assert (type(message), message) == (bytes, content)
    del memory
    assert view == content


def test_what_landed_is_not_copied_and_cannot_be_changed() -> None:
    memory = _speedups.Landing(3)
    memoryview(memory)[:] = b"abc"
    message = memory.take()
    assert memory.take() is message
    assert memoryview(memory).readonly
    before = sys.getrefcount(message)
    del memory
    assert sys.getrefcount(message) == before - 1


def test_memory_that_there_is_not() -> None:
    for landing in (batches.Landing, _speedups.Landing):
        with pytest.raises((MemoryError, OverflowError)):
            landing(LARGEST)


@pytest.mark.parametrize("pure", ["", "1"])
def test_python_can_be_chosen(pure: str) -> None:
    script = "import pea2pea.codec.ready as c; print(c.ACCELERATED, c.cores.__name__)"
    environment = {**os.environ, "PEA2PEA_PURE": pure}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == (["False", "pea2pea.codec.batches"] if pure else ["True", "pea2pea._speedups"])


def test_the_c_stays_small() -> None:
    assert len(SOURCE.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_fuzzer_finds_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_speedups.__file__, "0.1", "5") == 0
    assert "no difference" in capsys.readouterr().out
