"""How figures are printed: one unit of size, a rate over the last seconds, lines and tables that fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.cli.figures import GAP, SPAN, Rate, duration, fit_columns, line_of, percent, share_of, size


def test_sizes() -> None:
    counts = [0, 1023, 1024, 1536 << 10, (1 << 20) - 1, 5 << 30, 3 << 40, 5000 << 40]
    assert [size(count) for count in counts] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "1.0 MiB",
        "5.0 GiB",
        "3.0 TiB",
        "5000.0 TiB",
    ]
    assert [percent(0, 0), percent(0, 3), percent(2, 3), percent(999, 1000), percent(3, 3)] == [
        "100 %",
        "0 %",
        "66 %",
        "99 %",
        "100 %",
    ]
    assert [share_of(0, 0), share_of(3 << 19, 64 << 20), share_of(100, 1023)] == ["0/0 B", "1.5/64.0 MiB", "100/1023 B"]
    assert [duration(seconds) for seconds in (0.9, 61, 3599, 3600, 90061)] == [
        "0:00",
        "1:01",
        "59:59",
        "1:00:00",
        "25:01:01",
    ]


def test_a_rate_forgets_what_is_long_ago() -> None:
    rate = Rate()
    assert rate.read(1000, 0.0) == 0.0, "what was there at the beginning does not count"
    assert rate.read(1100, 1.0) == 100.0
    for second in range(2, 20):
        rate.read(1100, float(second))
    assert rate.read(1100, 20.0) == 0.0
    for step in range(1, 1 + int(SPAN)):
        rate.read(1100 + 10 * step, 20.0 + step)
    assert rate.read(1160, 26.0) == 10.0


def test_frequent_updates_do_not_pile_up() -> None:
    rate = Rate()
    for step in range(10_000):
        rate.read(step, step / 1000)
    assert rate.read(10_000, 10.0) == pytest.approx(1000, rel=0.05)
    assert len(vars(rate)["_samples"]) < 100


PARTS = ["getting", "45 %", "28.9/64.0 MiB", "10.0 MiB/s", "0:03", "3 peers"]


@pytest.mark.parametrize(
    ("width", "after"),
    [
        (100, "45 %  28.9/64.0 MiB  10.0 MiB/s  0:03  3 peers"),
        (60, "28.9/64.0 MiB  10.0 MiB/s  0:03  3 peers"),
        (50, "28.9/64.0 MiB  10.0 MiB/s  0:03"),
        (43, "28.9/64.0 MiB  10.0 MiB/s"),
    ],
)
def test_a_line_leaves_out_what_does_not_fit(width: int, after: str) -> None:
    before, bar, found = line_of(PARTS, (1, 5, 4), width)
    assert (before, found) == ("getting", after)
    assert len(before) + len(GAP) + bar + len(GAP) + len(after) == width
    assert bar >= 6


def test_a_terminal_that_is_too_narrow_for_anything() -> None:
    assert line_of(PARTS, (1, 5, 4), 10) == ("getting", 0, "28.9/64.0 MiB  10.0 MiB/s")
    assert line_of(["served", "", "1 B"], (1,), 10)[2] == "1 B"


@given(st.lists(st.text(max_size=9), min_size=3, max_size=3), st.integers(0, 60))
def test_columns_fit_or_all_optional_ones_are_gone(row: list[str], width: int) -> None:
    head = ("node", "pid", "state")
    kept = fit_columns(head, [row], ("pid", "state"), width)
    total = sum(max(len(head[at]), len(row[at])) for at in kept) + len(GAP) * (len(kept) - 1)
    assert total <= width or kept == [0]
