"""The time until an answer arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import Job, Result
from ..parties import PATIENCE, Party
from .base import Measurement, Scale


class RoundTrip(Measurement):
    """One message is sent, the same message is sent back, then the next one is sent."""

    name = "roundtrip"
    title = "Round trip"
    axis = "bytes per message"
    cases = (16,)
    metrics: ClassVar[Mapping[str, bool]] = {"median_us": False, "p99_us": False}
    needs = "echo"

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        job = Job(size=case, count=20_000, seconds=0.5 * scale.time)
        server, client = parties
        server.ask("echo", job)
        port = int(server.hear(PATIENCE)["port"])
        client.ask("ping", Job(**{**job.to_json(), "port": port}))
        result = client.hear_result(job)
        server.tell(over=True)
        server.hear_result(job)
        return result
