"""The counters."""

from __future__ import annotations

from dataclasses import fields

import pytest

from pea2pea import Heuristics, Stats


@pytest.mark.parametrize("kind", [Stats, Heuristics])
def test_counters_start_at_0_and_there_are_no_others(kind: type[Stats] | type[Heuristics]) -> None:
    counters = kind()
    assert {getattr(counters, field.name) for field in fields(counters)} == {0}
    with pytest.raises(AttributeError):
        counters.misspelt = 1  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [Stats, Heuristics])
def test_counters_of_one_are_not_those_of_another(kind: type[Stats] | type[Heuristics]) -> None:
    one, other = kind(), kind()
    assert one == other
    for field in fields(one):
        setattr(one, field.name, 1)
    assert {getattr(other, field.name) for field in fields(other)} == {0}
    assert one != other
