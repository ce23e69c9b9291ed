"""Counters of traffic and of trouble. Pure: no asyncio, no sockets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .lifecycle import Cause


@dataclass(slots=True)
class Stats:
    """The traffic of one peer, or of a whole node. Frame headers count as bytes; the handshake does not count."""

    messages_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    bytes_received: int = 0

    def add(self, other: Stats) -> None:
        """Add the counts of ``other`` to these."""
        self.messages_sent += other.messages_sent
        self.bytes_sent += other.bytes_sent
        self.messages_received += other.messages_received
        self.bytes_received += other.bytes_received


@dataclass(slots=True)
class Heuristics:
    """What went wrong at a node: the first place to look when something is odd."""

    #: Connections refused by the node's own gate, both ways, by the name of the rule.
    refused: Counter[str] = field(default_factory=Counter)
    #: Outbound connections refused by the node's own gate.
    limit_rejections: int = 0
    #: Inbound connections closed immediately: refused by the gate, or from an address that is connected already.
    inbound_rejections: int = 0
    #: Failures of ``accept`` because the system ran out of descriptors or memory.
    accept_errors: int = 0
    #: How often a listener stopped working and had to be resumed.
    listener_failures: int = 0
    #: Handshakes that took longer than ``handshake_timeout``.
    handshake_timeouts: int = 0
    #: Messages dropped because the inbox was full (``backpressure = False``).
    messages_dropped: int = 0
    #: Connections that were open and ended, by cause.
    ended: Counter[Cause] = field(default_factory=Counter)

    @property
    def idle_timeouts(self) -> int:
        """Peers disconnected because no message arrived within ``idle_timeout``."""
        return self.ended[Cause.IDLE]

    @property
    def write_timeouts(self) -> int:
        """Peers disconnected because a batch was not written within ``write_timeout``."""
        return self.ended[Cause.TOO_SLOW]
