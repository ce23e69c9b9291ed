"""The only room that touches sockets: listening, accepting, dialling. May import asyncio and socket.

A node takes its network as a parameter. :class:`TcpNetwork` is the real one; anything else that
hands out asyncio transports (:class:`pea2pea.memory.MemoryNetwork`, TLS, a simulation) can stand
in its place by implementing the three interfaces here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from abc import ABC, abstractmethod

from .addr import Addr
from .errors import UsageError

Socket = socket.socket

#: Why ``accept`` fails when the system, not the connection, is at fault: worth waiting out.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


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


class TcpNetwork(Network):
    """TCP over IPv4 and IPv6, through the running event loop."""

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        addr = await self.resolve(addr)
        sock = _tcp_socket(addr)
        try:
            sock.setblocking(False)
            if os.name == "posix":  # elsewhere this lets another process take the port over
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
                raise UsageError("reuse_port: this platform has no SO_REUSEPORT")
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if addr.is_wildcard and sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(addr)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return TcpListener(sock)

    async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: socket.socket | None = None) -> None:
        loop = asyncio.get_running_loop()
        sock = sock or _tcp_socket(addr)
        try:
            sock.setblocking(False)
            if not _connected_at_once(sock, addr):
                await loop.sock_connect(sock, addr)
            # A port of the ephemeral range that nobody listens on can be met by itself
            # (simultaneous open, RFC 9293, 3.5).
            if sock.getsockname()[:2] == addr:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the socket met itself: nobody listens there")
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            _hand_over(sock, transport)
        except BaseException:
            sock.close()
            raise

    async def resolve(self, addr: Addr) -> Addr:
        if addr.ip is not None:
            return addr
        try:
            found = await asyncio.get_running_loop().getaddrinfo(addr.host, addr.port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:  # a label of more than 63 characters, for one
            raise OSError(errno.EINVAL, f"{addr.host!r} can be no name") from exc
        return Addr.of((str(found[0][4][0]), addr.port))


class TcpListener(Listener):
    """A listening socket."""

    __slots__ = ("_held", "_sock", "_waiter", "_watching")

    def __init__(self, sock: socket.socket) -> None:
        self.addr = Addr.of(sock.getsockname()[:2])
        self._sock = sock
        self._waiter: asyncio.Future[None] | None = None
        # The loop that watches the socket: across waits, since starting and stopping to costs two system calls.
        self._watching: asyncio.AbstractEventLoop | None = None
        self._held: tuple[socket.socket, tuple[str, int]] | None = None

    def accept(self) -> Incoming | None:
        held, self._held = self._held, None
        try:
            sock, name = held or self._sock.accept()
        except OSError as exc:
            if exc.errno in EXHAUSTED:
                raise
            return None  # none waits, or the one that did is gone: accept(2) says to try again
        sock.setblocking(False)
        # The kernel's text of an IPv4 address, which has two parts where an IPv6 one has four, is canonical already.
        return TcpIncoming(sock, Addr(*name) if len(name) == 2 else Addr.of(name[:2]))

    async def ready(self) -> None:
        loop = asyncio.get_running_loop()
        if self._watching is None:
            try:
                loop.add_reader(self._sock, self._wake)
            except NotImplementedError:  # the proactor loop of Windows can only wait by accepting
                self._held = await loop.sock_accept(self._sock)
                return
            self._watching = loop
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        self._unwatch()  # before the descriptor is closed: its number may be another's after that
        if self._held is not None:
            self._held[0].close()
        self._sock.close()

    def _wake(self) -> None:
        if self._waiter is None:
            # Whoever waits out there is left to wait, and must not keep the loop busy meanwhile.
            self._unwatch()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.remove_reader(self._sock)
            self._watching = None


class TcpIncoming(Incoming):
    """An accepted socket."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket, addr: Addr) -> None:
        self._sock = sock
        self.addr = addr

    async def open(self, protocol: asyncio.BaseProtocol) -> None:
        try:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, self._sock)
            _hand_over(self._sock, transport)
        except BaseException:
            self._sock.close()
            raise

    def reject(self) -> None:
        self._sock.close()


def _tcp_socket(addr: Addr) -> socket.socket:
    # asyncio sets TCP_NODELAY on sockets that say themselves that they are TCP, and on what they accept.
    family = socket.AF_INET6 if ":" in addr.host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def _connected_at_once(sock: socket.socket, addr: Addr) -> bool:
    """Whether ``sock`` is connected already: on the same machine it is, which spares the loop a third of a dial."""
    if os.name != "posix":
        return False
    code = sock.connect_ex(addr) and sock.connect_ex(addr)
    if code in (0, errno.EISCONN):
        return True
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return False
    raise OSError(code, os.strerror(code))


def _hand_over(sock: socket.socket, transport: asyncio.BaseTransport) -> None:
    # A transport of uvloop that is closed as soon as it is made has closed the descriptor without telling
    # ``sock``, which would close it again: by then it may be another's.
    if transport.is_closing() and type(transport).__module__.startswith("uvloop"):
        sock.detach()
