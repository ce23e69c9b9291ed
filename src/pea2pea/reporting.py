"""The log records of a node. May import logging and asyncio's clock.

Every record carries the node's name in its text and as ``extra`` field ``node``; records about a connection carry
``peer`` (its id) and ``address`` as well. Records that strangers can cause are limited per second, and the next one
that is let through says how many were left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .peer import Peer

logger: logging.Logger = logging.getLogger("pea2pea")

# Records per second, on average and at once, that strangers can cause. At 300 bytes a record this is 90 kB a minute.
RECORDS_PER_SECOND = 5.0
RECORDS_AT_ONCE = 20.0


class _Allowance:
    """A token bucket: how many records may be logged now."""

    __slots__ = ("_last", "_tokens", "left_out")

    def __init__(self) -> None:
        self._tokens = RECORDS_AT_ONCE
        self._last = 0.0
        #: Records that were left out since the last one.
        self.left_out = 0

    def take(self, now: float) -> bool:
        """Return whether a record may be logged at the time ``now``."""
        self._tokens = min(RECORDS_AT_ONCE, self._tokens + (now - self._last) * RECORDS_PER_SECOND)
        self._last = now
        if self._tokens < 1:
            self.left_out += 1
            return False
        self._tokens -= 1
        return True


class Report(logging.LoggerAdapter[logging.Logger]):
    """Logs under ``pea2pea`` for one node. ``now`` is the clock, in seconds."""

    def __init__(self, node: str, now: Callable[[], float]) -> None:
        super().__init__(logger, {"node": node})
        self._now = now
        self._node = node
        # By level, so that a flood of what is usual does not suppress a warning.
        self._allowances: dict[int, _Allowance] = {}

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the node's name to the record."""
        kwargs["extra"] = {"node": self._node, **kwargs.get("extra", {})}
        return f"[{self._node}] {msg}", kwargs

    def about(
        self, peer: Peer[Any], level: int, msg: str, *args: object, exc_info: BaseException | None = None
    ) -> None:
        """Log a record about ``peer``."""
        if self.isEnabledFor(level):
            extra = {"peer": peer.id, "address": str(peer.addr)}
            self.log(level, f"%s: {msg}", peer.addr, *args, exc_info=exc_info, extra=extra)

    def stranger(self, level: int, addr: object, msg: str, *args: object) -> None:
        """Log one line about something that a stranger can cause, unless there are too many of them."""
        if not self.isEnabledFor(level):
            return
        allowance = self._allowances.setdefault(level, _Allowance())
        if allowance.take(self._now()):
            left_out, allowance.left_out = allowance.left_out, 0
            hint = f" ({left_out} similar records left out)" if left_out else ""
            self.log(level, f"%s: {msg}{hint}", addr, *args, extra={"address": str(addr)})
