"""Starting and closing a listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import Job, Result
from ..parties import Party
from .base import Measurement, Scale


class Life(Measurement):
    """A listener is started and closed, again and again, without a connection."""

    name = "life"
    title = "Start and close of a node"
    axis = "at a time"
    cases = (1,)
    metrics: ClassVar[Mapping[str, bool]] = {"per_second": True}
    needs = "life"

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        job = Job(count=5000, seconds=0.3 * scale.time)
        parties[0].ask("life", job)
        return parties[0].hear_result(job)
