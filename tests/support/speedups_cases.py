"""Random calls of the functions that exist in Python and in C, and whether the two agree on one.

``test_speedups`` lets hypothesis make the choices; ``make fuzz`` runs this file, with a C module that was built with
address sanitizer: ``speedups_cases.py MODULE SECONDS [SEED]``.
"""

from __future__ import annotations

import array
import importlib.util
import sys
import time
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

from pea2pea.codec import LengthDelimited, batches
from pea2pea.codec.batches import LARGEST, PASSED_UNCOPIED
from pea2pea.errors import ConfigError

FORMS = ("lengths", "varints", "delimited")
LIMITS = (1, 2, 5, 127, 128, 300, 16_383, 16_384, PASSED_UNCOPIED, 1 << 23, LARGEST)
DELIMITERS = (b"\n", b"\0", b"ab", b"aa", b"abab", b"\r\n\r\n")
#: Small numbers, so that a good part of what is made of them is frames.
BYTES = (0, 0, 0, 1, 2, 3, 9, 10, 13, 97, 98, 127, 128, 129, 255)
SIZES = (0, 0, 1, 2, 3, 9, 126, 127, 128, 129, 300, 16_383, 16_384)
LARGE_SIZES = (PASSED_UNCOPIED - 1, PASSED_UNCOPIED, PASSED_UNCOPIED + 1, 100_000)

Case = tuple[str, tuple[Any, ...]]


class OwnBytes(bytes):
    """A subclass, to which nothing special may happen."""


def layout(source: Random) -> batches.Layout:
    """Any settings that ``LengthDelimited`` accepts, the extremes among them."""
    extremes = (LARGEST, LARGEST - 1, 1 << 62)
    while True:
        skip = source.choice((None, None, 0, 1, source.randint(0, 12), source.choice(extremes)))
        adjustment = source.choice((0, 0, source.randint(-9, 9), source.choice(extremes), -source.choice(extremes)))
        try:
            return LengthDelimited(
                length_size=source.choice((1, 2, 3, 4, 8)),
                byteorder=source.choice(("big", "little")),
                offset=source.choice((0, 0, source.randint(0, 5), source.choice(extremes))),
                adjustment=adjustment,
                skip=skip,
                max_frame=source.choice(LIMITS),
            )._layout
        except ConfigError:  # the offset leaves no room for the length
            continue


def garbage(source: Random, most: int = 40) -> bytes:
    return bytes(source.choice(BYTES) for _ in range(source.randint(0, most)))


def stream(source: Random, form: str, settings: tuple[Any, ...]) -> bytes:
    """Frames with something else between or behind them, most times."""
    pieces = []
    for _ in range(source.randint(0, 4)):
        message = source.choice((garbage(source), bytes(source.choice(SIZES))))
        try:
            pieces += getattr(batches, f"join_{form}")([message], *settings)
        except ValueError:
            pieces.append(message)
        if source.random() < 0.3:
            pieces.append(garbage(source))
    joined = b"".join(pieces)
    return joined[: source.randint(0, len(joined))] if source.random() < 0.3 else joined


def view(source: Random, content: bytes) -> memoryview:
    """``content`` as a buffer to decode; now and then one that no decoder is given."""
    whole = memoryview(bytearray(content))
    kind = source.randint(0, 20)
    if kind == 0:
        return whole[::2]
    if kind == 1:
        whole.release()
    return whole


def message(source: Random) -> object:
    if source.random() < 0.1:
        content = bytes(source.choice(LARGE_SIZES))
    else:
        content = source.choice((garbage(source), bytes(source.choice(SIZES))))
    return source.choice((lambda plain: plain, lambda plain: plain, *DISGUISES))(content)


def released(content: bytes) -> memoryview:
    gone = memoryview(content)
    gone.release()
    return gone


#: Other things that a user may send, for better or worse.
DISGUISES: tuple[Callable[[bytes], object], ...] = (
    bytearray,
    memoryview,
    OwnBytes,
    lambda content: memoryview(bytearray(content)),
    lambda content: memoryview(content)[::2],
    lambda content: memoryview(content)[::-1],
    lambda content: memoryview(array.array("I", content[: len(content) // 4 * 4])),
    lambda content: array.array("B", content),
    lambda content: memoryview(content[:6].ljust(6)).cast("B", (2, 3)),
    released,
    lambda content: content.decode("latin-1"),
    lambda content: list(content[:3]),
    lambda content: None,
    len,
)


def case(source: Random) -> Case:
    """The name of a function and what to call it with."""
    form = source.choice(FORMS)
    settings: tuple[Any, ...] = (source.choice(LIMITS),)
    if form == "lengths":
        settings = (layout(source),)
    elif form == "delimited":
        settings = (source.choice(DELIMITERS), *settings)
    if source.random() < 0.5:
        return f"split_{form}", (view(source, stream(source, form, settings)), *settings)
    clean = source.random() < 0.5
    messages: list[Any] = [garbage(source) if clean else message(source) for _ in range(source.randint(0, 6))]
    return f"join_{form}", (source.choice((list, tuple))(messages), *settings)


def outcome(module: ModuleType, case: Case) -> tuple[Any, ...] | list[Any]:
    """All there is to see of a call: values with their types, what was passed uncopied, or the error with its cause."""
    name, arguments = case
    try:
        result = getattr(module, name)(*arguments)
    except Exception as error:
        return [(type(e), str(e)) for e in (error, error.__cause__)]
    if name.startswith("split"):
        return result, [type(message) for message in result[0]]
    passed = [[buffer is message for message in arguments[0]] for buffer in result]
    return [(type(buffer), bytes(buffer)) for buffer in result], passed if len(result) > 1 else None


def load(path: str) -> ModuleType:
    """The C module in the file at ``path``."""
    spec = importlib.util.spec_from_file_location("pea2pea._speedups", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_memory(module: ModuleType, case: Case, allowed: int) -> None:
    """Make the allocation after so many fail: an error or a result, nothing else, may come of it."""
    import _testcapi  # type: ignore[import-not-found]  # part of most builds of Python, but not of its stubs

    name, arguments = case
    function = getattr(module, name)
    try:
        _testcapi.set_nomemory(allowed, allowed + 1)
        function(*arguments)
    except (MemoryError, ValueError):
        pass
    finally:
        _testcapi.remove_mem_hooks()


def main(path: str, seconds: str, seed: str = "") -> int:
    """Compare until the time is up; return 1 with the case where the two differ."""
    module = load(path)
    starve = importlib.util.find_spec("_testcapi") is not None
    source = Random(chosen := int(seed) if seed else time.time_ns())
    print(f"seed {chosen}, allocations {'fail too' if starve else 'do not fail'}", flush=True)
    end = time.monotonic() + float(seconds)
    count = 0
    while time.monotonic() < end:
        tried = case(source)
        expected, found = outcome(batches, tried), outcome(module, tried)
        if found != expected:
            print(f"{tried}\nPython: {expected}\nC: {found}")
            return 1
        # Where an error is due as well, some versions of Python lose both.
        if starve and isinstance(expected, tuple) and count % 8 == 0:
            without_memory(module, tried, source.randint(0, 12))
        count += 1
    print(f"{count} calls, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
