"""Counters of traffic and of trouble. Pure: no asyncio, no sockets.

Plain slotted integers that only grow; a batch of messages adds to them once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Traffic, of one peer or of a whole node, since it began. Frame headers count as bytes."""

    messages_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    bytes_received: int = 0


@dataclass(slots=True)
class Heuristics:
    """What a node ran into: the first place to look when something is odd."""

    #: Outbound connections refused by this node's own limits.
    limit_rejections: int = 0
    #: Inbound connections closed at once: over ``max_connections`` or ``max_connections_per_ip``.
    inbound_rejections: int = 0
    #: Failures of ``accept`` for lack of descriptors or memory.
    accept_errors: int = 0
    #: Handshakes that took longer than ``handshake_timeout``.
    handshake_timeouts: int = 0
    #: Peers disconnected because no message came within ``idle_timeout``.
    idle_timeouts: int = 0
    #: Peers disconnected because a batch was not written within ``write_timeout``.
    write_timeouts: int = 0
    #: Messages dropped by a full inbox (``backpressure = False``).
    messages_dropped: int = 0
