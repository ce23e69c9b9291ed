"""How instruction counts are compared. ``make test-instructions`` counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from instructions import check


def test_a_path_that_grew_by_more_than_a_tenth_is_reported() -> None:
    baseline = {"a": 1000, "b": 1000, "c": 1000}
    assert check.compare(baseline, {"a": 1100, "b": 1, "c": 1000}) == []
    [problem] = check.compare(baseline, {"a": 1101, "b": 1000, "c": 1000})
    assert problem.startswith("a: 1101")


def test_a_path_that_comes_or_goes_is_told() -> None:
    assert [line.split(":")[0] for line in check.compare({"a": 1, "b": 1}, {"b": 1, "c": 1})] == ["a", "c"]


def test_the_overhead_of_both_runs_cancels() -> None:
    # Four dumps per path: what came before, the short run, what lay between, the long run.
    totals = [999, 100 + 5 * 10, 999, 100 + 5 * 20, 999, 7 * 2, 999, 7 * 4]
    assert check.per_unit(["one path 10", "another 2"], totals) == {"one path": 5, "another": 7}


def test_counts_of_other_builds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    check.write(path, "one build", {"b": 2, "a": 1})
    check.write(path, "another", {"a": 3})
    assert check.read(path) == {"one build": {"a": 1, "b": 2}, "another": {"a": 3}}


def test_without_valgrind_it_reports_that_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["check.py"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert check.main() == 0
    assert "nothing was counted" in capsys.readouterr().out


@pytest.mark.parametrize(("counted", "code"), [(1100, 0), (1101, 1)])
def test_it_fails_if_a_path_grew(
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
