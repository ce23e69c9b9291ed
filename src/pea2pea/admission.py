"""Who may connect. Pure: no asyncio, no sockets; all of it runs in one step of the loop.

Counts connections in total, being set up, and per site (see :func:`pea2pea.addr.site`). A
:class:`Slot` is held from before a dial or after an accept until the connection is gone.
"""

from __future__ import annotations

from collections.abc import Callable

from .addr import site
from .config import Config
from .errors import LimitError


class Admission:
    """The counters, and the only place that changes them.

    ``on_room`` is called, synchronously, whenever a setup slot becomes free.
    """

    __slots__ = ("_config", "_on_room", "_per_site", "pending", "total")

    def __init__(self, config: Config, on_room: Callable[[], object]) -> None:
        self._config = config
        self.total = 0
        self.pending = 0
        # Holds no site without a connection, so it is never larger than max_connections.
        self._per_site: dict[str, int] = {}
        self._on_room = on_room

    @property
    def has_room(self) -> bool:
        """Whether one more connection may be set up."""
        return self.pending < self._config.max_connecting

    def count(self, host: str) -> int:
        """How many connections the site of ``host`` has."""
        return self._per_site.get(site(host), 0)

    def reserve(self, host: str) -> Slot:
        """Take a slot for a connection with ``host``, or raise :class:`LimitError` and change nothing."""
        key, config = site(host), self._config
        held = self._per_site.get(key, 0)
        if self.total >= config.max_connections:
            raise LimitError("max_connections", config.max_connections)
        if held >= config.max_connections_per_ip:
            raise LimitError("max_connections_per_ip", config.max_connections_per_ip)
        if not self.has_room:
            raise LimitError("max_connecting", config.max_connecting)
        self.total += 1
        self.pending += 1
        self._per_site[key] = held + 1
        return Slot(self, key)

    def _settle(self) -> None:
        self.pending -= 1
        self._on_room()

    def _release(self, key: str) -> None:
        self.total -= 1
        self._per_site[key] -= 1
        if not self._per_site[key]:
            del self._per_site[key]


class Slot:
    """One reservation. Settling and releasing it count once, however often they are asked for."""

    __slots__ = ("_admission", "_held", "_key", "_pending")

    def __init__(self, admission: Admission, key: str) -> None:
        self._admission = admission
        self._key = key
        self._pending = True
        self._held = True

    def settle(self) -> None:
        """The connection is set up: it is pending no more."""
        if self._pending:
            self._pending = False
            self._admission._settle()

    def release(self) -> None:
        """The connection is gone, or never came to be."""
        self.settle()
        if self._held:
            self._held = False
            self._admission._release(self._key)
