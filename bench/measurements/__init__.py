"""The measurements, each in a module of its own."""

from __future__ import annotations

from typing import Final

from .base import Measurement
from .chain import Chain
from .connects import Connects
from .growth import Growth
from .life import Life
from .memory import Memory
from .roundtrip import RoundTrip
from .senders import Senders
from .throughput import Throughput

MEASUREMENTS: Final[tuple[Measurement, ...]] = (
    Throughput(), Senders(), RoundTrip(), Chain(), Connects(), Life(), Memory(), Growth(),
)
