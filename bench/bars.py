"""The performance targets of the library, and whether a run met them. Imports only the standard library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .results import Results

C = ("pea2pea uvloop C", "pea2pea asyncio C")
PURE = ("pea2pea uvloop pure", "pea2pea asyncio pure")
OURS = C + PURE
PEERS = ("asyncio streams", "uvloop streams", "websockets", "picows", "pyzmq", "libp2p")
RAW = "raw sockets"
RATE = "messages_per_second"

#: Messages per second, by size, on the two-core machine that the targets were set on.
ABSOLUTE = {16: 4.2e6, 256: 3.0e6, 4096: 480e3, 32768: 100e3, 65536: 40e3, 1048576: 3.4e3}
AHEAD_BY = 1.5
AHEAD_UP_TO = 4096
STREAMS_BY = 8.0
RAW_SHARE = 0.9
ROUND_TRIP = {"pea2pea uvloop C": 1.35, "pea2pea asyncio C": 1.8}
CONNECTS = 8000.0
MEMORY = 4000.0
GROWTH = 1.2
FEW, MANY = 10, 10_000


@dataclass(frozen=True)
class Verdict:
    """The result for one target. ``met`` is ``None`` if it was not measured."""

    what: str
    bar: str
    measured: str
    met: bool | None


def judge(results: Results) -> list[Verdict]:
    """Return the result for every target, in order."""
    parts: tuple[Callable[[Results], Iterator[Verdict]], ...] = (
        _against_peers, _against_streams, _against_raw, _absolute, _round_trip, _connects, _memory, _growth,
    )
    return [verdict for part in parts for verdict in part(results)]


def size_of(case: int) -> str:
    """Return a size in bytes with its unit."""
    if case >= 1 << 20 and not case % (1 << 20):
        return f"{case >> 20} MiB"
    return f"{case >> 10} KiB" if case >= 1024 and not case % 1024 else f"{case} B"


def count_of(value: float) -> str:
    """Return a number with three digits and a unit prefix."""
    value = float(f"{value:.3g}")
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def _ratio(what: str, bar: float, mine: float | None, other: float | None, whose: str, *, least: bool) -> Verdict:
    wanted = f"{'at least' if least else 'at most'} {bar:g} times {whose}"
    if mine is None or other is None or not other:
        return Verdict(what, wanted, "not measured", None)
    ratio = mine / other
    return Verdict(what, wanted, f"{ratio:.2f}", ratio >= bar if least else ratio <= bar)


def _against_peers(results: Results) -> Iterator[Verdict]:
    for case in results.cases("throughput"):
        mine = results.best("throughput", case, C, RATE, more=True)
        best = results.best("throughput", case, PEERS, RATE, more=True)
        bar = AHEAD_BY if case <= AHEAD_UP_TO else 1.0
        whose = f"the best peer ({best[1]})" if best else "the best peer"
        yield _ratio(
            f"throughput, {size_of(case)}", bar, mine and mine[0], best and best[0], whose, least=True
        )


def _against_streams(results: Results) -> Iterator[Verdict]:
    for case in (16, 64, 256):
        mine = results.best("throughput", case, C, RATE, more=True)
        streams = results.median("throughput", case, "asyncio streams", RATE)
        yield _ratio(
            f"throughput, {size_of(case)}", STREAMS_BY, mine and mine[0], streams, "asyncio streams", least=True
        )


def _against_raw(results: Results) -> Iterator[Verdict]:
    for case in (65536, 1048576):
        mine = results.best("throughput", case, C, RATE, more=True)
        raw = results.median("throughput", case, RAW, RATE)
        yield _ratio(f"bytes, {size_of(case)}", RAW_SHARE, mine and mine[0], raw, RAW, least=True)


def _absolute(results: Results) -> Iterator[Verdict]:
    for kind, contenders, share in (("C module", C, 1.0), ("pure Python", PURE, 0.5)):
        for case, bar in ABSOLUTE.items():
            best = results.best("throughput", case, contenders, RATE, more=True)
            yield Verdict(
                f"messages per second, {size_of(case)}, {kind}",
                f"at least {count_of(bar * share)}",
                f"{count_of(best[0])} ({best[1]})" if best else "not measured",
                best[0] >= bar * share if best else None,
            )


def _round_trip(results: Results) -> Iterator[Verdict]:
    raw = results.median("roundtrip", 16, RAW, "median_us")
    for contender, bar in ROUND_TRIP.items():
        mine = results.median("roundtrip", 16, contender, "median_us")
        yield _ratio(f"round trip, 16 B, {contender}", bar, mine, raw, RAW, least=False)


def _connects(results: Results) -> Iterator[Verdict]:
    value = results.median("connects", 1, C[0], "per_second")
    yield Verdict(
        "connect plus disconnect, both sides done, uvloop",
        f"at least {CONNECTS:,.0f} a second",
        f"{value:,.0f}" if value else "not measured",
        value >= CONNECTS if value else None,
    )


def _memory(results: Results) -> Iterator[Verdict]:
    best = results.best("memory", MANY, C, "bytes_per_connection", more=False)
    yield Verdict(
        f"memory per idle connection, {MANY:,} open",
        f"at most {MEMORY:,.0f} bytes",
        f"{best[0]:,.0f} ({best[1]})" if best else "not measured",
        best[0] <= MEMORY if best else None,
    )


def _growth(results: Results) -> Iterator[Verdict]:
    for contender in C:
        few = results.median("growth", FEW, contender, "cpu_us_per_message")
        many = results.median("growth", MANY, contender, "cpu_us_per_message")
        yield _ratio(
            f"cost per message, {MANY:,} connections, {contender}", GROWTH, many, few, f"with {FEW}", least=False
        )
