"""The figures of a run, stored as JSON. Imports only the standard library."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

#: Measurement, case, contender, metric.
Key: TypeAlias = tuple[str, int, str, str]


@dataclass
class Results:
    """The values of all repetitions."""

    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    #: Contenders that could not run on this machine, and why.
    missing: dict[str, str] = field(default_factory=dict)
    #: Cases that were left out on purpose, and why.
    skipped: dict[str, str] = field(default_factory=dict)
    #: Failures, in order.
    errors: list[str] = field(default_factory=list)
    values: dict[Key, list[float]] = field(default_factory=dict)

    def add(self, measurement: str, case: int, contender: str, result: dict[str, float]) -> None:
        for metric, value in result.items():
            self.values.setdefault((measurement, case, contender, metric), []).append(value)

    def median(self, measurement: str, case: int, contender: str, metric: str) -> float | None:
        values = self.values.get((measurement, case, contender, metric))
        return statistics.median(values) if values else None

    def best(
        self, measurement: str, case: int, contenders: Iterable[str], metric: str, *, more: bool
    ) -> tuple[float, str] | None:
        """Return the best median among ``contenders``, and the contender."""
        found = [
            (value, name) for name in contenders if (value := self.median(measurement, case, name, metric)) is not None
        ]
        if not found:
            return None
        return max(found) if more else min(found)

    def cases(self, measurement: str) -> list[int]:
        return sorted({case for name, case, _, _ in self.values if name == measurement})

    def contenders(self, measurement: str) -> list[str]:
        """Return the contenders of a measurement, sorted by name."""
        return sorted({contender for name, _, contender, _ in self.values if name == measurement})

    def save(self, path: Path) -> None:
        plain = asdict(self)
        plain["values"] = [
            {
                "measurement": measurement,
                "case": case,
                "contender": contender,
                "metric": metric,
                "median": _short(statistics.median(values)),
                "min": _short(min(values)),
                "max": _short(max(values)),
                "runs": [_short(value) for value in values],
            }
            for (measurement, case, contender, metric), values in sorted(self.values.items())
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        plain = json.loads(path.read_text(encoding="utf-8"))
        rows = plain.pop("values")
        values = {(r["measurement"], r["case"], r["contender"], r["metric"]): r["runs"] for r in rows}
        return cls(**plain, values=values)


def _short(value: float) -> float:
    """Round to five digits; no more than four are significant."""
    return float(f"{value:.5g}")
