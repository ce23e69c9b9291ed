"""Writes the page about a run: ratios first, then the bars, where the library loses, and the figures."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

from .bars import OURS, RAW, count_of, judge, size_of
from .contenders import CONTENDERS
from .measurements import MEASUREMENTS
from .measurements.base import Measurement
from .results import Results

INTRODUCTION = """# Benchmarks

Written by `make bench` from `bench/results.json`; do not edit it by hand. `make bench` takes about fifteen minutes;
`python -m bench --quick` takes two, leaves out the largest cases, and writes into `build/bench`.

## How to read this

- All contenders do the same work in the same run, in turn: each repetition goes once round all of them, case by case,
  before the next begins, in processes that are started for it. What is shown is the median of the repetitions, and
  beside it from the least to the most. Figures of another run, or of another machine, are not comparable with these;
  **ratios within a run are**, so they come first.
- Where there would be two parties there are two processes, which talk over the loopback interface. On a machine of two
  cores a contender with a thread of its own for I/O has to share them. Chains run in one process, whoever's they are.
- Throughput is counted at the receiver, within a window that opens when sender and receiver are warm. It ends where a
  message is handed to its user: for the library that is `process_message`, from `send_nowait` and `send`, with its
  statistics, queue bounds, frame limit, admission, write timeout and idle timeout on.
- Raw sockets are the limit, not a contender: nothing is taken apart, and nobody is handed a message.
- No test asserts a time. What the tests hold is the number of instructions: see `make test-instructions`.
"""

OBSTACLES = """## What stands in the way

By profile (cProfile and py-spy, CPython 3.11.7 built without profile-guided optimization, on the machine below):

- **Round trip.** A protocol of uvloop that does nothing but write back what came takes 1.07 to 1.22 times as long as
  blocking sockets, one of asyncio 1.3: `epoll_wait` and the loop's own turn. To receive a message of 16 bytes, process
  it and reply takes the library 3.8 microseconds a side, some 40,000 instructions, while it is warm: seventeen calls of
  Python functions at some 900 each, the user's two among them. A core that slept meanwhile takes 15 to 20 microseconds
  for the same. Flushing a reply within the callback that brought the message, and running the consumer there, is done
  already; the bar would leave all of that about one microsecond.
- **Latency per hop.** What is sent to another peer than the one whose message is being processed leaves in the next
  turn of the loop, together with what others had for it in this one: a hub with many senders would otherwise make a
  system call for each of them.
- **Connect plus disconnect.** Of the 110 microseconds on the dialling side, more than half are the system's and the
  loop's: `connect`, `close`, making a transport, six turns of the loop. The library adds the slot, the peer, its link,
  inbox and outbox, and a task that tears them down in order. Streams, which do none of that and share a task with their
  caller, are ahead. The same instructions take from 50 to 110 microseconds here, by what the machine's neighbours do.
- **1 MiB.** Two copies are left, both the kernel's, and they take most of the time on either side; how the kernel wakes
  the two processes makes runs differ from each other by more than the contenders do. What is copied besides, from the
  shared memory into the message's own, is 64 to 320 KiB; setting the memory aside at once, or receiving only the head
  of a message into the shared one, was tried and could not be told from the noise.
"""


def write_page(results: Results, path: Path, plots: dict[str, Path]) -> None:
    """Write the page about ``results`` to ``path``; ``plots`` are shown with the measurement of their name."""
    parts = [INTRODUCTION, _setting(results), _ratios(results), _bars(results), _losses(results), OBSTACLES]
    parts += [_section(results, m, plots.get(m.name), path) for m in MEASUREMENTS if results.cases(m.name)]
    parts += [_contenders(results), _left_out(results)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(part for part in parts if part), encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def case_name(measurement: Measurement, case: int) -> str:
    return size_of(case) if measurement.axis.startswith("bytes") else f"{case:,}"


def shown(results: Results, measurement: Measurement) -> list[str]:
    """The contenders of ``measurement``, in the order that they have everywhere."""
    there = results.contenders(measurement.name)
    return [contender for contender in CONTENDERS if contender in there]


def ratio_to_best_of_ours(results: Results, measurement: Measurement, case: int, contender: str) -> float | None:
    """How many times as good the best of the library is as ``contender``, in the measurement's first metric."""
    metric, more = next(iter(measurement.metrics.items()))
    ours = results.best(measurement.name, case, OURS, metric, more=more)
    other = results.median(measurement.name, case, contender, metric)
    if ours is None or not other or not ours[0]:
        return None
    return ours[0] / other if more else other / ours[0]


def _setting(results: Results) -> str:
    facts = {**results.machine, **results.settings}
    libraries = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return "## Where\n\n" + table(("", ""), [*facts.items(), ("libraries", libraries)])


def _ratios(results: Results) -> str:
    others = [name for name in CONTENDERS if name not in OURS]
    rows = []
    for measurement in MEASUREMENTS:
        for case in results.cases(measurement.name):
            found = [ratio_to_best_of_ours(results, measurement, case, other) for other in others]
            named = f"{measurement.title}: {case_name(measurement, case)}" if len(measurement.cases) > 1 else ""
            rows.append([named or measurement.title, *(f"{ratio:.2f}" if ratio else "" for ratio in found)])
    return (
        "## Ratios\n\nHow many times as good the best of the library's variants is: above 1 the library is ahead,"
        " below 1 it is behind.\n\n" + table(("", *others), rows)
    )


def _bars(results: Results) -> str:
    words = {True: "met", False: "**not met**", None: "not measured"}
    rows = [(v.what, v.bar, v.measured, words[v.met]) for v in judge(results)]
    met = sum(row[3] == "met" for row in rows)
    return (
        f"## The bars\n\nWhat the library set out to reach, with the C module and on the better of the two loops where"
        f" nothing else is said: {met} of {len(rows)} met in this run. Those in messages per second were set on the"
        " two-core machine of the design.\n\n" + table(("what", "bar", "measured", ""), rows)
    )


def _losses(results: Results) -> str:
    rows = [
        f"- {m.title}, {case_name(m, case)}: {other} is {1 / ratio:.2f} times as good."
        for m in MEASUREMENTS
        for case in results.cases(m.name)
        for other in CONTENDERS
        if other not in OURS and other != RAW
        if (ratio := ratio_to_best_of_ours(results, m, case, other)) and ratio < 1
    ]
    text = "\n".join(rows) if rows else "Nowhere in this run, but to raw sockets, which are the limit."
    return f"## Where the library loses\n\n{text}\n"


def _section(results: Results, measurement: Measurement, plot: Path | None, page: Path) -> str:
    doc = (type(measurement).__doc__ or "").strip()
    doc = " ".join(doc.split())
    text = f"## {measurement.title}\n\n{doc}\n\n"
    if plot is not None:
        text += f"![{measurement.title}]({os.path.relpath(plot, page.parent)})\n\n"
    for metric in measurement.metrics:
        text += f"{metric.replace('_us', ', in microseconds').replace('_', ' ')}:\n\n"
        cases = results.cases(measurement.name)
        rows = list(_rows(results, measurement, metric, cases))
        text += table(("", *(case_name(measurement, case) for case in cases)), rows) + "\n"
    return text


def _rows(results: Results, measurement: Measurement, metric: str, cases: list[int]) -> Iterator[list[str]]:
    for contender in shown(results, measurement):
        values = [results.values.get((measurement.name, case, contender, metric), []) for case in cases]
        if any(values):
            yield [contender, *map(_spread, values)]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return count_of(values[0])
    return f"{count_of(statistics.median(values))} ({count_of(min(values))} to {count_of(max(values))})"


def _contenders(results: Results) -> str:
    rows = [(name, entry.note) for name, entry in CONTENDERS.items()]
    return "## How each is used\n\n" + table(("", ""), rows)


def _left_out(results: Results) -> str:
    lines = [f"- {name}: {why}" for name, why in (*results.missing.items(), *results.skipped.items())]
    lines += [f"- failed: {error}" for error in results.errors]
    return "## Left out\n\n" + ("\n".join(lines) or "Nothing.") + "\n"
