"""The limits of one Yamux connection. Pure. May import ``config``."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import MIB
from ..settings import check_count


@dataclass(frozen=True, kw_only=True, slots=True)
class YamuxLimits:
    """What one connection may cost. Raises :class:`ConfigError`, which names the field, for a value below 1."""

    #: Streams opened by the peer that may be open at once; further ones are reset.
    max_inbound: int = 256
    #: Streams opened by this side that may be open at once.
    max_outbound: int = 1024
    #: Streams opened by this side that the peer has not acknowledged yet.
    max_unacknowledged: int = 256
    #: Streams reset because of ``max_inbound``, one after the other, before the connection is closed.
    max_refused: int = 1024
    #: Bytes that one stream may receive without being read: its largest receive window.
    max_window: int = 16 * MIB
    #: Bytes by which the receive windows of all streams together may exceed their initial 256 KiB each.
    growth: int = 64 * MIB
    #: Replies (to pings, opened and refused streams) that may be queued before the connection is closed.
    max_replies: int = 1024

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_count(name, getattr(self, name))
