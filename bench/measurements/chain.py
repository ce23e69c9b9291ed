"""The latency of a message from node to node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import Job, Result
from ..parties import Party
from .base import Measurement, Scale


class Chain(Measurement):
    """All nodes are in one process, connected in a line. One message at a time travels from the first to the last."""

    name = "chain"
    title = "Latency per hop, 16 bytes"
    axis = "nodes"
    cases = (10, 100, 1000)
    quick_at_most = 100
    metrics: ClassVar[Mapping[str, bool]] = {"median_us": False, "p99_us": False}
    needs = "chain"
    repetitions = 0.6

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        job = Job(nodes=case, count=2000, seconds=0.3 * scale.time)
        parties[0].ask("chain", job)
        return parties[0].hear_result(job)
