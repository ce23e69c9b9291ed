"""How figures are printed: sizes, percentages, times, rates, and lines and tables that fit a width. Pure.

All sizes are binary (1 KiB is 1024 bytes).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
#: Seconds over which a rate is measured.
SPAN = 5.0
#: Seconds between two samples of a rate, so that frequent updates do not pile up.
RESOLUTION = 0.1
#: The narrowest bar that still shows something.
LEAST_BAR = 6
GAP = "  "

Row = Sequence[str]


def size(count: float) -> str:
    """Return a number of bytes in the unit that makes it readable."""
    return _in_unit(count, _exponent(count))


def share_of(done: int, total: int) -> str:
    """Return two numbers of bytes in the unit of the second, such as ``12.0/64.0 MiB``."""
    exponent = _exponent(total)
    return f"{_in_unit(done, exponent).split()[0]}/{_in_unit(total, exponent)}"


def percent(done: int, total: int) -> str:
    """Return how much of ``total`` is done. It is 100 % only when all of it is."""
    return f"{100 * done // total if total else 100} %"


def duration(seconds: float) -> str:
    """Return a time as minutes and seconds, or with hours if there are any."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}"


class Rate:
    """The rate of a counter over the last ``span`` seconds."""

    def __init__(self, *, span: float = SPAN) -> None:
        self._span = span
        # Bounded by the resolution: a sample that is too close to the last one replaces it.
        self._samples: deque[tuple[float, int]] = deque()

    def read(self, count: int, now: float) -> float:
        """Return the rate per second, the counter being at ``count``. The first call returns 0."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now - self._span:
            samples.popleft()
        if len(samples) > 1 and now - samples[-2][0] < RESOLUTION:
            samples.pop()
        samples.append((now, count))
        began, base = samples[0]
        return (count - base) / (now - began) if now > began else 0.0


def line_of(parts: Sequence[str], optional: Sequence[int], width: int) -> tuple[str, int, str]:
    """Return a line of ``parts``, with the room for a bar after the first, as (text before, bar width, text after).

    Where ``width`` is too small, the parts with the numbers ``optional`` are left out, in that order.
    """
    left = [part if part else None for part in parts]
    for number in (*optional, None):
        first, *rest = (part for part in left if part is not None)
        after = GAP.join(rest)
        bar = width - len(first) - len(GAP) - (len(after) + len(GAP) if after else 0)
        if bar >= LEAST_BAR or number is None:
            break
        left[number] = None
    return first, max(0, bar), after


def fit_columns(head: Row, rows: Sequence[Row], optional: Sequence[str], width: int) -> list[int]:
    """Return the numbers of the columns that fit ``width``, after leaving out ``optional`` ones in that order."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    kept = list(range(len(head)))
    for name in optional:
        if sum(widths[at] for at in kept) + len(GAP) * (len(kept) - 1) <= width:
            break
        kept.remove(list(head).index(name))
    return kept


def _exponent(count: float) -> int:
    exponent = 0
    # 1023.96 would be printed as 1024.0
    while exponent < len(UNITS) - 1 and round(abs(count) / 1024**exponent, 1 if exponent else 0) >= 1024:
        exponent += 1
    return exponent


def _in_unit(count: float, exponent: int) -> str:
    return f"{count / 1024**exponent:.{1 if exponent else 0}f} {UNITS[exponent]}"
