"""Messages per second over one connection, by message size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import GRACE, Job, Result
from ..parties import Party, pair
from .base import Measurement, Scale


class Throughput(Measurement):
    """One process sends as fast as it can. The other counts in a window that opens when both are warm."""

    name = "throughput"
    title = "Throughput of one connection"
    axis = "bytes per message"
    cases = (16, 64, 256, 1024, 4096, 32768, 65536, 1048576)
    metrics: ClassVar[Mapping[str, bool]] = {"messages_per_second": True, "cpu_us_per_message": False}

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        warm, window = 0.1 * scale.time, 0.3 * scale.time
        job = Job(size=case, warm=warm, window=window, seconds=warm + window + GRACE)
        return pair(parties[0], "sink", parties[1], "source", job)[0]
