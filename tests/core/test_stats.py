"""The counters."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest

from pea2pea import Cause, Heuristics, Stats


def zero(value: int | Counter[object]) -> bool:
    return not value


@pytest.mark.parametrize("kind", [Stats, Heuristics])
def test_counters_start_at_0_and_there_are_no_others(kind: type[Stats] | type[Heuristics]) -> None:
    counters = kind()
    assert all(zero(getattr(counters, field.name)) for field in fields(counters))
    with pytest.raises(AttributeError):
        counters.misspelt = 1  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [Stats, Heuristics])
def test_counters_of_one_are_not_those_of_another(kind: type[Stats] | type[Heuristics]) -> None:
    one, other = kind(), kind()
    assert one == other
    for field in fields(one):
        value = getattr(one, field.name)
        if isinstance(value, Counter):
            value["something"] += 1
        else:
            setattr(one, field.name, 1)
    assert all(zero(getattr(other, field.name)) for field in fields(other))
    assert one != other


def test_stats_add_up() -> None:
    total = Stats(1, 2, 3, 4)
    total.add(Stats(10, 20, 30, 40))
    assert total == Stats(11, 22, 33, 44)


def test_timeouts_are_ends_for_that_cause() -> None:
    heuristics = Heuristics()
    heuristics.ended[Cause.IDLE] += 2
    heuristics.ended[Cause.TOO_SLOW] += 3
    heuristics.ended[Cause.DISCONNECTED] += 5
    assert (heuristics.idle_timeouts, heuristics.write_timeouts) == (2, 3)
