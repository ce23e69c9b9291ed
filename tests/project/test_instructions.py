"""The guard of the instruction counts: what it makes of counts. ``make test-instructions`` takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from instructions import check


def test_what_grew_by_more_than_a_tenth_is_told() -> None:
    baseline = {"a": 1000, "b": 1000, "c": 1000}
    assert check.compare(baseline, {"a": 1100, "b": 1, "c": 1000}) == []
    [told] = check.compare(baseline, {"a": 1101, "b": 1000, "c": 1000})
    assert told.startswith("a: 1101")


def test_a_path_that_comes_or_goes_is_told() -> None:
    assert [line.split(":")[0] for line in check.compare({"a": 1, "b": 1}, {"b": 1, "c": 1})] == ["a", "c"]


def test_what_both_runs_share_cancels_out() -> None:
    # Four marks to a path: what came before, the short run, what lay between, the long run.
    totals = [999, 100 + 5 * 10, 999, 100 + 5 * 20, 999, 7 * 2, 999, 7 * 4]
    assert check.per_unit(["one path 10", "another 2"], totals) == {"one path": 5, "another": 7}


def test_counts_of_other_builds_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    check.write(path, "one build", {"b": 2, "a": 1})
    check.write(path, "another", {"a": 3})
    assert check.read(path) == {"one build": {"a": 1, "b": 2}, "another": {"a": 3}}


def test_without_valgrind_it_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["check.py"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert check.main() == 0
    assert "nothing was counted" in capsys.readouterr().out


@pytest.mark.parametrize(("counted", "code"), [(1100, 0), (1101, 1)])
def test_it_fails_where_a_path_grew(
    counted: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["check.py"])
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(check, "count", lambda: {"a path": counted})
    monkeypatch.setattr(check, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(check, "LAST", tmp_path / "last.json")
    assert check.main() == 0  # no baseline for this build yet
    assert "no baseline" in capsys.readouterr().out
    check.write(tmp_path / "baseline.json", check.build_key(), {"a path": 1000})
    assert check.main() == code
    assert ("a path: 1101" in capsys.readouterr().out) is bool(code)
