"""The gate: whether a connection may exist. Pure: no asyncio, no sockets; everything runs in one step of the loop.

A node asks its gate before it dials, right after it accepts, and again after the handshake. The gate gives a
:class:`Slot`, which is released exactly once, or raises :class:`~pea2pea.errors.RefusedError`. The default is
:class:`Admission`: limits on the number of connections. One gate may serve many nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from .addr import Addr, is_local, site
from .errors import LimitError

#: Called, synchronously, when setups have room again.
OnRoom = Callable[[], object]


class Attempt(NamedTuple):
    """A connection that a gate is asked about."""

    #: The address that is dialled, or that the connection comes from.
    addr: Addr
    #: Whether the other side dialled.
    inbound: bool
    #: The address that the node listens on, if it does.
    local: Addr | None
    #: The time on the loop's clock, in seconds.
    time: float


class Slot(ABC):
    """Permission for one connection. Both methods may be called more than once, and count once."""

    __slots__ = ()

    @abstractmethod
    def settle(self) -> None:
        """The connection is set up: it is no longer pending."""

    @abstractmethod
    def release(self) -> None:
        """The connection is gone, was never made, or no longer counts because it is being replaced."""


class Gate(ABC):
    """Decides which connections may exist."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether one more inbound connection may be set up. If not, nodes leave it in the kernel's backlog."""

    @abstractmethod
    def admit(self, attempt: Attempt) -> Slot:
        """Return a slot for the connection, or raise :class:`~pea2pea.errors.RefusedError` and change nothing.

        Any other exception refuses the connection too.
        """

    def confirm(self, attempt: Attempt, session: Any) -> None:  # noqa: B027 - optional
        """Raise :class:`~pea2pea.errors.RefusedError` to refuse a connection after its handshake.

        ``session`` is what the handshake returned, ``None`` without one.
        """

    @abstractmethod
    def watch(self, on_room: OnRoom) -> None:
        """Have ``on_room`` called whenever :attr:`has_room` may have become true."""

    @abstractmethod
    def unwatch(self, on_room: OnRoom) -> None:
        """Undo :meth:`watch`."""


class Admission(Gate):
    """Limits on all connections, on those being set up, and on those with one IP address.

    ``max_connecting`` is lowered to ``max_connections`` if it is larger. An IPv6 /64 counts as one address, because it
    is what one customer gets (RFC 6177). Addresses of the machine itself are exempt from the limit per address unless
    ``exempt_loopback`` is false.
    """

    __slots__ = (
        "_on_room", "_per_site", "exempt_loopback", "max_connecting", "max_connections", "max_connections_per_ip",
        "pending", "total",
    )

    def __init__(
        self,
        max_connections: int = 100,
        max_connecting: int = 100,
        max_connections_per_ip: int = 1,
        *,
        exempt_loopback: bool = True,
    ) -> None:
        self.max_connections: int = max_connections
        self.max_connecting: int = min(max_connecting, max_connections)
        self.max_connections_per_ip: int = max_connections_per_ip
        self.exempt_loopback: bool = exempt_loopback
        #: Connections that hold a slot, and how many of them are being set up.
        self.total = self.pending = 0
        # Has no entry without a connection, so it is never larger than max_connections.
        self._per_site: dict[str, int] = {}
        self._on_room: list[OnRoom] = []

    @property
    def has_room(self) -> bool:
        return self.pending < self.max_connecting

    def count(self, host: str) -> int:
        """Return how many connections count for the address of ``host``."""
        return self._per_site.get(site(host), 0)

    def admit(self, attempt: Attempt) -> Slot:
        host = attempt.addr.host
        # Exempt addresses have no key.
        key = "" if self.exempt_loopback and is_local(host) else site(host)
        held = self._per_site.get(key, 0)
        if self.total >= self.max_connections:
            raise LimitError("max_connections", self.max_connections)
        if held >= self.max_connections_per_ip and key:
            raise LimitError("max_connections_per_ip", self.max_connections_per_ip)
        if self.pending >= self.max_connecting:
            raise LimitError("max_connecting", self.max_connecting)
        self.total += 1
        self.pending += 1
        if key:
            self._per_site[key] = held + 1
        return _Slot(self, key)

    def watch(self, on_room: OnRoom) -> None:
        self._on_room.append(on_room)

    def unwatch(self, on_room: OnRoom) -> None:
        self._on_room.remove(on_room)

    def settled(self) -> None:
        """A slot reports that its connection is set up or gone."""
        self.pending -= 1
        for on_room in self._on_room:
            on_room()

    def released(self, key: str) -> None:
        """A slot reports that its connection is gone."""
        self.total -= 1
        if key:
            self._per_site[key] -= 1
            if not self._per_site[key]:
                del self._per_site[key]


class _Slot(Slot):
    __slots__ = ("_admission", "_held", "_key", "_pending")

    def __init__(self, admission: Admission, key: str) -> None:
        self._admission = admission
        self._key = key
        self._pending = self._held = True

    def settle(self) -> None:
        if self._pending:
            self._pending = False
            self._admission.settled()

    def release(self) -> None:
        self.settle()
        if self._held:
            self._held = False
            self._admission.released(self._key)
