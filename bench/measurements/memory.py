"""The memory of the accepting side for each connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import Job, Result
from ..parties import Party, pair
from .base import Measurement, Scale


class Memory(Measurement):
    """Plain sockets connect, do the handshake and stay open. The accepting process measures its growth in memory."""

    name = "memory"
    title = "Memory per idle connection"
    axis = "connections"
    cases = (1, 100, 10_000)
    quick_at_most = 100
    metrics: ClassVar[Mapping[str, bool]] = {"bytes_per_connection": False}
    needs = "plain"
    fresh = True
    repetitions = 0.6

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        return pair(parties[0], "sink", parties[1], "plain", Job(connections=case, memory=True, handshake=True))[0]
