"""The only room that touches sockets: listening, accepting, dialling. May import asyncio and socket.

A node takes its network as a parameter. :class:`TcpNetwork` is the real one; anything else that
hands out asyncio transports (:class:`pea2pea.memory.MemoryNetwork`, TLS, a simulation) can stand
in its place by implementing the three interfaces here.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from .addr import Addr
from .errors import ListenError, UsageError

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
Factory = Callable[[], ProtocolT]


class Incoming(ABC):
    """One accepted connection that has not been let in yet. Exactly one of its methods is called, once."""

    __slots__ = ("addr",)

    addr: Addr

    @abstractmethod
    async def open(self, protocol: asyncio.BaseProtocol) -> None:
        """Attach ``protocol`` (its ``connection_made`` gets the transport). Cancelled or failed: closed."""

    @abstractmethod
    def reject(self) -> None:
        """Close it at once."""


class Listener(ABC):
    """A bound, listening address. The node that asked for it closes it."""

    __slots__ = ("addr",)

    #: The bound address; its port is the real one.
    addr: Addr

    @abstractmethod
    def accept(self) -> Incoming | None:
        """Accept one waiting connection, without blocking; ``None`` where there is none.

        Raises ``OSError`` where the system cannot (``EMFILE``, ``ENFILE``, ``ENOBUFS``, ``ENOMEM``);
        a connection that was aborted while it waited is skipped.
        """

    @abstractmethod
    async def ready(self) -> None:
        """Return when :meth:`accept` is worth another try. Safe to cancel: nothing is accepted by it."""

    @abstractmethod
    def close(self) -> None:
        """Free the address. May be called twice."""


class Network(ABC):
    """Where connections come from. ``OSError`` is how it fails."""

    @abstractmethod
    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        """Bind ``addr`` and listen on it."""

    @abstractmethod
    async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: socket.socket | None = None) -> None:
        """Connect ``protocol`` to ``addr``, from ``sock`` where one is given (it then belongs to the network).

        Its ``connection_made`` has been called when this returns. Cancelled or failed: nothing is left open.
        """

    async def resolve(self, addr: Addr) -> Addr:
        """Return ``addr`` with an IP address for a host. Raises ``OSError`` for a name that is unknown."""
        return addr
