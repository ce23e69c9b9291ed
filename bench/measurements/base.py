"""The interface of a measurement: its cases, and how one or two parties run each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..job import Result
from ..parties import Party


@dataclass(frozen=True)
class Scale:
    """How long a measurement takes."""

    #: Factor for the times of a run.
    time: float = 1.0
    quick: bool = False


class Measurement(ABC):
    """One kind of work, done by every contender that is able to.

    The docstring of a subclass is printed on the page.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: The unit of a case.
    axis: ClassVar[str]
    cases: ClassVar[tuple[int, ...]]
    #: Each metric, and whether more of it is better. The first one is compared.
    metrics: ClassVar[Mapping[str, bool]]
    #: The role that a contender must have.
    needs: ClassVar[str] = "sink"
    #: The largest case of a contender, and why larger ones are left out.
    at_most: ClassVar[Mapping[str, tuple[int, str]]] = {}
    #: Whether each case needs new processes.
    fresh: ClassVar[bool] = False
    #: The largest case of ``--quick``.
    quick_at_most: ClassVar[int] = 1 << 40
    #: The share of the repetitions to run. Cases with thousands of connections take long.
    repetitions: ClassVar[float] = 1.0

    def skips(self, contender: str, case: int) -> str:
        """Return why ``contender`` is left out of ``case``; empty if it is not."""
        most, why = self.at_most.get(contender, (case, ""))
        return why if case > most else ""

    @abstractmethod
    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        """Run the case once."""
