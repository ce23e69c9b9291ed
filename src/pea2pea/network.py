"""What a network is: where connections come from. May import asyncio.

A node takes its network as a parameter. Anything that gives asyncio transports can be one, by implementing the three
interfaces here: TCP (:mod:`pea2pea.tcp`), memory (:mod:`pea2pea.memory`), TLS over another one (:mod:`pea2pea.tls`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from .addr import Addr

Socket = socket.socket

#: Errors of ``accept`` that mean that the system ran out of resources. The connection waits in the backlog.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Abilities(NamedTuple):
    """What the transports of a network can do."""

    #: They fill the buffer of a ``BufferedProtocol`` and hand it over in one step, so connections can share it.
    fills_at_once: bool = True
    #: ``writelines`` writes several buffers with one system call, and pauses the protocol if not all were accepted.
    gathers: bool = False


class Incoming(ABC):
    """An accepted connection that is not attached to a protocol yet. Exactly one of its methods is called, once."""

    __slots__ = ("addr",)

    addr: Addr

    @abstractmethod
    async def open(self, protocol: asyncio.BaseProtocol) -> None:
        """Attach ``protocol``, whose ``connection_made`` gets the transport. Closes it if cancelled or failed."""

    @abstractmethod
    def reject(self) -> None:
        """Close it at once."""


class Listener(ABC):
    """A bound address that accepts connections. Closed by the node that asked for it."""

    __slots__ = ("addr",)

    #: The bound address; its port is the real one.
    addr: Addr

    @abstractmethod
    def accept(self) -> Incoming | None:
        """Accept one waiting connection, without blocking; ``None`` if there is none.

        Raises ``OSError`` if the system cannot (``EMFILE``, ``ENFILE``, ``ENOBUFS``, ``ENOMEM``). A connection that was
        aborted while it waited is skipped.
        """

    @abstractmethod
    async def ready(self) -> None:
        """Return when :meth:`accept` is worth another try. Accepts nothing itself, so it is safe to cancel.

        Raises if the listener no longer works; the node then binds its address again.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the address. May be called twice."""


class Network(ABC):
    """Where connections come from. Failures are raised as ``OSError``."""

    @abstractmethod
    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        """Bind ``addr`` and listen on it."""

    @abstractmethod
    async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: socket.socket | None = None) -> None:
        """Connect ``protocol`` to ``addr``, from ``sock`` if one is given, which then belongs to the network.

        ``protocol.connection_made`` has been called when this returns. If cancelled or failed, nothing is left open.
        """

    async def resolve(self, addr: Addr) -> Sequence[Addr]:
        """Return the addresses of ``addr``, at least one, in the order in which they are to be tried.

        Raises ``OSError`` for a name that is unknown.
        """
        return (addr,)

    def abilities(self, loop: asyncio.AbstractEventLoop) -> Abilities:
        """Return what transports on ``loop`` can do."""
        return Abilities()
