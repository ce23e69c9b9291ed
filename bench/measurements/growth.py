"""The cost of a message as the number of connections grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..job import GRACE, Job, Result
from ..parties import Party, pair
from .base import Measurement, Scale

#: Connections that carry messages, however many are open.
ACTIVE = 10
SIZE = 256


class Growth(Measurement):
    """Plain sockets send batches of 64 messages, ten of them in turn; the others are open and idle.

    The figure is the receiver's processor time per message, since the sender's is the same in all cases.
    """

    name = "growth"
    title = f"Cost per message with so many connections open, {SIZE} bytes"
    axis = "connections"
    cases = (10, 100, 1000, 10_000)
    quick_at_most = 1000
    metrics: ClassVar[Mapping[str, bool]] = {"cpu_us_per_message": False, "messages_per_second": True}
    needs = "plain"
    repetitions = 0.6

    def run(self, parties: list[Party], case: int, scale: Scale) -> Result:
        warm, window = 0.1 * scale.time, 0.3 * scale.time
        seconds = warm + window + GRACE
        job = Job(size=SIZE, connections=case, active=ACTIVE, warm=warm, window=window, seconds=seconds, handshake=True)
        return pair(parties[0], "sink", parties[1], "plain", job)[0]
