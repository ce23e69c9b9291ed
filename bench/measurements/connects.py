"""Connections opened and closed, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import Job, Result
from ..parties import PATIENCE, Party
from .base import Measurement, Scale

#: Connections of one run. Each leaves a port in TIME_WAIT, so there is a limit.
MOST = 5000


class Connects(Measurement):
    """The dialler connects, disconnects, and then connects again. Both sides must be done with all connections."""

    name = "connects"
    title = "Connect plus disconnect"
    axis = "at a time"
    cases = (1,)
    metrics: ClassVar[Mapping[str, bool]] = {"per_second": True, "dialler_per_second": True}
    needs = "accept"

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        job = Job(count=MOST, seconds=0.6 * scale.time)
        server, client = parties
        server.ask("accept", job)
        port = int(server.hear(PATIENCE)["port"])
        client.ask("dial", Job(**{**job.to_json(), "port": port}))
        dialled = client.hear_result(job)
        server.tell(expected=dialled["done"])
        accepted = server.hear_result(job)
        # Both sides read the same monotonic clock, which all processes of a machine share.
        ended = max(accepted["ended_at"], dialled["ended_at"])
        return {
            "per_second": dialled["done"] / (ended - dialled["started_at"]),
            "dialler_per_second": dialled["done"] / (dialled["ended_at"] - dialled["started_at"]),
        }
