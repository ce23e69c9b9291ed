"""What the benchmarks make of figures: verdicts and the page. No time is measured here."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.bars import ABSOLUTE, OURS, PEERS, PURE, RAW, C, count_of, judge, size_of
from bench.contenders import CONTENDERS
from bench.job import Job, latencies
from bench.measurements import MEASUREMENTS
from bench.page import ratio_to_best_of_ours, table, write_page
from bench.results import Results


@pytest.fixture
def results() -> Results:
    return Results({"processor": "any"}, {"pea2pea": "0"}, {"repetitions": "3"})


def rates(results: Results, case: int, **by_contender: float) -> None:
    for contender, rate in by_contender.items():
        results.add("throughput", case, contender.replace("_", " "), {"messages_per_second": rate})


def test_nothing_measured_meets_and_misses_nothing(results: Results) -> None:
    assert {verdict.met for verdict in judge(results)} == {None}


def test_ahead_of_the_best_peer_and_no_other(results: Results) -> None:
    rates(results, 16, pea2pea_uvloop_C=3.0, pea2pea_asyncio_C=2.0, picows=2.0, pyzmq=1.0, raw_sockets=9.0)
    verdict = judge(results)[0]
    assert (verdict.measured, verdict.met) == ("1.50", True)
    assert "picows" in verdict.bar


def test_behind_the_best_peer(results: Results) -> None:
    rates(results, 65536, pea2pea_uvloop_C=0.99, picows=1.0)
    assert judge(results)[0].met is False


def test_a_bar_at_a_size_is_judged_by_the_median(results: Results) -> None:
    for rate in (1.0, 4.3e6, 9e6):
        rates(results, 16, pea2pea_uvloop_C=rate)
    by_name = {verdict.what: verdict for verdict in judge(results)}
    assert by_name["messages per second, 16 B, C module"].met is True
    rates(results, 16, pea2pea_uvloop_pure=2.0e6)
    by_name = {verdict.what: verdict for verdict in judge(results)}
    assert by_name["messages per second, 16 B, pure Python"].met is False


def test_less_is_better_for_latency_memory_and_cost(results: Results) -> None:
    results.add("roundtrip", 16, RAW, {"median_us": 20.0})
    results.add("roundtrip", 16, "pea2pea uvloop C", {"median_us": 27.0})
    results.add("roundtrip", 16, "pea2pea asyncio C", {"median_us": 37.0})
    results.add("memory", 10_000, "pea2pea asyncio C", {"bytes_per_connection": 4000.0})
    for case, cost in ((10, 1.0), (10_000, 1.3)):
        results.add("growth", case, "pea2pea uvloop C", {"cpu_us_per_message": cost})
    met = [verdict.met for verdict in judge(results) if verdict.met is not None]
    assert met == [True, False, True, False]


def test_the_bars_speak_of_contenders_that_are_there() -> None:
    assert {*OURS, *PEERS, RAW} == set(CONTENDERS)
    assert set(C).isdisjoint(PURE)
    assert set(ABSOLUTE) <= set(MEASUREMENTS[0].cases)


def test_ratios_are_above_one_where_the_library_is_better(results: Results) -> None:
    throughput, roundtrip = MEASUREMENTS[0], MEASUREMENTS[2]
    rates(results, 16, pea2pea_uvloop_C=3.0, picows=2.0)
    results.add("roundtrip", 16, "pea2pea asyncio pure", {"median_us": 30.0})
    results.add("roundtrip", 16, "picows", {"median_us": 20.0})
    assert ratio_to_best_of_ours(results, throughput, 16, "picows") == 1.5
    assert ratio_to_best_of_ours(results, roundtrip, 16, "picows") == pytest.approx(2 / 3)
    assert ratio_to_best_of_ours(results, throughput, 16, "libp2p") is None


def test_results_are_kept_as_they_were(results: Results, tmp_path: Path) -> None:
    rates(results, 16, pea2pea_uvloop_C=3.0, picows=2.0)
    results.missing["libp2p"] = "no compiler"
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_the_page_shows_ratios_verdicts_losses_and_what_is_missing(results: Results, tmp_path: Path) -> None:
    rates(results, 16, pea2pea_uvloop_C=3e6, picows=6e6, raw_sockets=9e6)
    results.missing["libp2p"] = "no compiler"
    write_page(results, tmp_path / "page.md", {"throughput": tmp_path / "plots" / "throughput.png"})
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings.index("## Ratios") < headings.index("## Targets") < headings.index("## Where the library is behind")
    assert "16 B: picows is 2.00 times as good" in text
    assert "raw sockets is" not in text
    assert "**not met**" in text
    assert "(plots/throughput.png)" in text
    assert "libp2p: no compiler" in text


def test_a_table_has_a_column_for_each_head() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


@pytest.mark.parametrize(("size", "said"), [(16, "16 B"), (1024, "1 KiB"), (65536, "64 KiB"), (1 << 20, "1 MiB")])
def test_sizes(size: int, said: str) -> None:
    assert size_of(size) == said


@pytest.mark.parametrize(("value", "said"), [(4.68e6, "4.68 M"), (999_900, "1 M"), (480_000, "480 k"), (17.25, "17.2")])
def test_counts(value: float, said: str) -> None:
    assert count_of(value) == said


def test_a_message_has_its_size() -> None:
    assert [len(Job(size=size).message) for size in (16, 256, 1000, 1 << 20)] == [16, 256, 1000, 1 << 20]


def test_latencies() -> None:
    assert latencies([1000 * n for n in range(1, 101)]) == {"median_us": 51.0, "p99_us": 100.0}
