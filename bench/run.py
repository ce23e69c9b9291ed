"""Runs the measurements: in each repetition, each case once for each contender, before the next case."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from .contenders import CONTENDERS
from .facts import machine, versions
from .measurements.base import Measurement, Scale
from .parties import Party, PartyError
from .results import Results

#: A case that takes more seconds is reported on standard error, since such cases determine how long a run takes.
SLOW = 5.0


class Crew:
    """The parties of a repetition. They are started when first needed, and started again after a failure."""

    def __init__(self) -> None:
        self._parties: dict[str, list[Party]] = {}

    def start(self, contenders: Iterable[str]) -> None:
        """Start all parties and wait until they have imported their libraries: none does so during a measurement."""
        for contender in contenders:
            self._parties[contender] = [Party(contender) for _ in range(2)]
        for contender in tuple(self._parties):
            self._wait(contender)

    def of(self, contender: str) -> list[Party]:
        if contender not in self._parties:
            self._parties[contender] = [Party(contender) for _ in range(2)]
            self._wait(contender)
        return self._parties[contender]

    def stop(self, contender: str) -> None:
        for party in self._parties.pop(contender, ()):
            party.close()

    def close(self) -> None:
        for contender in tuple(self._parties):
            self.stop(contender)

    def _wait(self, contender: str) -> None:
        for party in self._parties[contender]:
            party.wait_ready()
            if contender.endswith(("C", "pure")) and party.accelerated != contender.endswith("C"):
                found = "with" if party.accelerated else "without"
                raise PartyError(f"{contender}: the process runs {found} the C module")


def run(
    measurements: Sequence[Measurement], contenders: Sequence[str], repetitions: int, scale: Scale
) -> Results:
    """Run all measurements, and return the results."""
    settings = {"repetitions": str(repetitions), "times": "short, for a smoke test" if scale.quick else "full"}
    results = Results(machine(), versions(), settings)
    for contender in contenders:
        if why := CONTENDERS[contender].missing():
            results.missing[contender] = why
    able = [contender for contender in contenders if contender not in results.missing]
    started = time.monotonic()
    for repetition in range(repetitions):
        _round(measurements, _turn(able, repetition), repetition / repetitions, scale, results)
        print(f"{repetition + 1} of {repetitions}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    results.settings["minutes"] = f"{(time.monotonic() - started) / 60:.1f}"
    return results


def _turn(contenders: list[str], repetition: int) -> list[str]:
    """Rotate the order of the contenders, so that another one is first in each repetition."""
    first = repetition % max(1, len(contenders))
    return contenders[first:] + contenders[:first]


def _round(
    measurements: Sequence[Measurement], contenders: Sequence[str], progress: float, scale: Scale, results: Results
) -> None:
    """Run one repetition, in new processes."""
    crew = Crew()
    try:
        crew.start(contenders)
        for measurement in measurements:
            if progress < measurement.repetitions:
                playing = [contender for contender in contenders if not _lacks(measurement, contender, results)]
                cases = [c for c in measurement.cases if not scale.quick or c <= measurement.quick_at_most]
                for case in cases:
                    for contender in playing:
                        _one(measurement, case, contender, crew, scale, results)
    finally:
        crew.close()


def _one(
    measurement: Measurement, case: int, contender: str, crew: Crew, scale: Scale, results: Results
) -> None:
    if why := measurement.skips(contender, case):
        results.skipped[f"{measurement.name}, {contender}, more than {measurement.at_most[contender][0]}"] = why
        return
    started = time.monotonic()
    try:
        if measurement.fresh:
            crew.stop(contender)
        result = measurement.run(crew.of(contender), case, scale)
    except PartyError as exc:
        results.errors.append(f"{measurement.name} {case} {contender}: {exc}")
        print(results.errors[-1], file=sys.stderr, flush=True)
        crew.stop(contender)
        return
    results.add(measurement.name, case, contender, result)
    if (took := time.monotonic() - started) > SLOW:
        print(f"{measurement.name} {case} {contender} took {took:.1f} s", file=sys.stderr, flush=True)


def _lacks(measurement: Measurement, contender: str, results: Results) -> str:
    why = CONTENDERS[contender].lacks.get(measurement.needs, "")
    if why:
        results.skipped[f"{measurement.name}, {contender}"] = why
    return why
