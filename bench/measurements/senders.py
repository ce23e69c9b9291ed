"""Many senders to one receiver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import GRACE, Job, Result
from ..parties import Party, pair
from .base import Measurement, Scale

SIZE = 256


class Senders(Measurement):
    """All senders are in one process, each with a connection of its own. The receiver counts."""

    name = "senders"
    title = f"Many senders to one receiver, {SIZE} bytes"
    axis = "senders"
    cases = (1, 10, 50, 100)
    quick_at_most = 50
    metrics: ClassVar[Mapping[str, bool]] = {"messages_per_second": True, "cpu_us_per_message": False}
    at_most: ClassVar[Mapping[str, tuple[int, str]]] = {
        "libp2p": (10, "setting up that many connections takes longer than all other work"),
    }

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        warm, window = 0.1 * scale.time, 0.3 * scale.time
        job = Job(size=SIZE, connections=case, warm=warm, window=window, seconds=warm + window + GRACE)
        return pair(parties[0], "sink", parties[1], "source", job)[0]
