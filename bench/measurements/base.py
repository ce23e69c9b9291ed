"""What a measurement is: cases, and how two parties (or one) are asked about each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..job import Result
from ..parties import Party


@dataclass(frozen=True)
class Scale:
    """How much of a measurement to do."""

    #: Multiplies the times of a run.
    time: float = 1.0
    quick: bool = False


class Measurement(ABC):
    """One kind of work, done by every contender that can."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: What a case is counted in.
    axis: ClassVar[str]
    cases: ClassVar[tuple[int, ...]]
    #: Metric to whether more of it is better; the first is the one that is compared.
    metrics: ClassVar[Mapping[str, bool]]
    #: The role that a contender must be able to play.
    needs: ClassVar[str] = "sink"
    #: Largest case of a contender, and why it is left out above.
    at_most: ClassVar[Mapping[str, tuple[int, str]]] = {}
    #: Whether each case needs processes that did nothing before.
    fresh: ClassVar[bool] = False
    #: Largest case of a smoke test.
    quick_at_most: ClassVar[int] = 1 << 40
    #: Which share of the repetitions is done; those of thousands of connections take long.
    repetitions: ClassVar[float] = 1.0

    def skips(self, contender: str, case: int) -> str:
        """Why ``contender`` is left out of ``case``; empty if it is not."""
        most, why = self.at_most.get(contender, (case, ""))
        return why if case > most else ""

    @abstractmethod
    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        """Do it once."""
