"""Goes round the contenders: each repetition of each case once for each, before the next."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from .contenders import CONTENDERS
from .facts import machine, versions
from .measurements.base import Measurement, Scale
from .parties import Party, PartyError
from .results import Results

#: A piece of work that takes more seconds than this is told about: together they decide how long a run takes.
SLOW = 5.0


class Crew:
    """The parties of a repetition, started when first needed. One that failed is replaced by another."""

    def __init__(self) -> None:
        self._parties: dict[str, list[Party]] = {}

    def muster(self, contenders: Iterable[str]) -> None:
        """Start all at once, then wait until each has imported what it needs: none does so while others measure."""
        for contender in contenders:
            self._parties[contender] = [Party(contender) for _ in range(2)]
        for contender in tuple(self._parties):
            self._wait(contender)

    def of(self, contender: str) -> list[Party]:
        if contender not in self._parties:
            self._parties[contender] = [Party(contender) for _ in range(2)]
            self._wait(contender)
        return self._parties[contender]

    def dismiss(self, contender: str) -> None:
        for party in self._parties.pop(contender, ()):
            party.close()

    def close(self) -> None:
        for contender in tuple(self._parties):
            self.dismiss(contender)

    def _wait(self, contender: str) -> None:
        for party in self._parties[contender]:
            party.wait_ready()
            if contender.endswith(("C", "pure")) and party.accelerated != contender.endswith("C"):
                raise PartyError(f"{contender} runs {'with' if party.accelerated else 'without'} the C module")


def run(
    measurements: Sequence[Measurement], contenders: Sequence[str], repetitions: int, scale: Scale
) -> Results:
    """Measure it all."""
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
    """Each time another begins, so that none always follows the same one."""
    first = repetition % max(1, len(contenders))
    return contenders[first:] + contenders[:first]


def _round(
    measurements: Sequence[Measurement], contenders: Sequence[str], progress: float, scale: Scale, results: Results
) -> None:
    """One repetition, in processes of its own."""
    crew = Crew()
    try:
        crew.muster(contenders)
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
            crew.dismiss(contender)
        result = measurement.run(crew.of(contender), case, scale)
    except PartyError as exc:
        results.errors.append(f"{measurement.name} {case} {contender}: {exc}")
        print(results.errors[-1], file=sys.stderr, flush=True)
        crew.dismiss(contender)
        return
    results.add(measurement.name, case, contender, result)
    if (took := time.monotonic() - started) > SLOW:
        print(f"{measurement.name} {case} {contender} took {took:.1f} s", file=sys.stderr, flush=True)


def _lacks(measurement: Measurement, contender: str, results: Results) -> str:
    why = CONTENDERS[contender].lacks.get(measurement.needs, "")
    if why:
        results.skipped[f"{measurement.name}, {contender}"] = why
    return why
