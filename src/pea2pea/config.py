"""A node's settings. Pure: no asyncio, no sockets. Every bad value is refused with its name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .addr import Addr, AddrLike
from .errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """How a node listens and whom it admits. Frozen; raises :class:`ConfigError` when made wrong.

    Settings of a protocol (timeouts, queue depths) are class attributes of that protocol.
    """

    #: The node's name in logs; a sequential number where there is none.
    name: str | None = None
    #: Where to listen, as ``"host:port"`` or a pair; port 0 lets the system pick. ``None``: a node that only dials.
    listen: AddrLike | None = None
    #: How many connections the kernel queues before they are accepted.
    backlog: int = 128
    #: Share the port with other sockets that ask for the same (``SO_REUSEPORT``).
    reuse_port: bool = False
    #: All connections, those being set up included.
    max_connections: int = 100
    #: Connections being set up, both ways together; lowered to ``max_connections`` where above it.
    max_connecting: int = 100
    #: Connections with one IPv4 address or one IPv6 /64. One is what strangers on the open internet need;
    #: many nodes on one machine need more.
    max_connections_per_ip: int = 1
    #: Seconds that dialling may take, name resolution included.
    connect_timeout: float = 5.0

    def __post_init__(self) -> None:
        if self.name is not None and not (isinstance(self.name, str) and self.name):
            raise ConfigError("name", f"{self.name!r} is no text")
        if self.listen is not None:
            object.__setattr__(self, "listen", Addr.of(self.listen, field="listen"))
        for field in ("backlog", "max_connections", "max_connecting", "max_connections_per_ip"):
            check_count(field, getattr(self, field))
        object.__setattr__(self, "max_connecting", min(self.max_connecting, self.max_connections))
        check_seconds("connect_timeout", self.connect_timeout)


def check_count(field: str, value: object) -> None:
    """Raise :class:`ConfigError` naming ``field`` unless ``value`` is a whole number of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(field, f"{value!r} is no whole number of 1 or more")


def check_seconds(field: str, value: object) -> None:
    """Raise :class:`ConfigError` naming ``field`` unless ``value`` is a finite number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not (value > 0 and math.isfinite(value)):
        raise ConfigError(field, f"{value!r} is no number of seconds above 0")
