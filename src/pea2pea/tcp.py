"""TCP: the only module that touches sockets. May import asyncio and socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Sequence
from itertools import chain, zip_longest

from .addr import Addr
from .errors import UsageError
from .network import EXHAUSTED, Abilities, Incoming, Listener, Network

# Whether asyncio writes several buffers with one system call, and pauses its protocol if not all of them were accepted.
# Up to 3.11 it copied them into one; before 3.12.9 and 3.13.2 it did not pause (CVE-2024-12254), so that a slow peer
# would take all memory.
GATHERING = (3, 12, 9) <= sys.version_info < (3, 13) or sys.version_info >= (3, 13, 2)
# The most addresses of one name that are tried; a resolver may return any number.
MAX_ADDRESSES = 16


class TcpNetwork(Network):
    """TCP over IPv4 and IPv6, through the running event loop."""

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        addr = (await self.resolve(addr))[0]
        sock = _tcp_socket(addr)
        try:
            sock.setblocking(False)
            if os.name == "posix":  # elsewhere this would let another process take over the port
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
            # A socket can connect to itself, if it dials an ephemeral port that nobody listens on and is given the same
            # one (simultaneous open, RFC 9293, 3.5).
            if sock.getsockname()[:2] == addr:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "the socket connected to itself: nobody listens there")
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            _hand_over(sock, transport)
        except BaseException:
            sock.close()
            raise

    async def resolve(self, addr: Addr) -> Sequence[Addr]:
        if addr.ip is not None:
            return (addr,)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(addr.host, addr.port, type=socket.SOCK_STREAM)
        except UnicodeError as exc:  # such as a label of more than 63 characters
            raise OSError(errno.EINVAL, f"{addr.host!r} is not a valid host name") from exc
        addrs = dict.fromkeys(Addr.of((str(info[4][0]), addr.port)) for info in found)
        return interleaved(list(addrs)[:MAX_ADDRESSES])

    def abilities(self, loop: asyncio.AbstractEventLoop) -> Abilities:
        proactor = getattr(asyncio, "ProactorEventLoop", None)  # of Windows
        is_proactor = proactor is not None and isinstance(loop, proactor)
        # asyncio's own loops derive from BaseEventLoop; uvloop, which always gathers, does not.
        gathers = GATHERING if isinstance(loop, asyncio.BaseEventLoop) else True
        return Abilities(fills_at_once=not is_proactor, gathers=gathers and not is_proactor)


class TcpListener(Listener):
    """A listening socket."""

    __slots__ = ("_held", "_sock", "_waiter", "_watching")

    def __init__(self, sock: socket.socket) -> None:
        self.addr: Addr = Addr.of(sock.getsockname()[:2])
        self._sock = sock
        self._waiter: asyncio.Future[None] | None = None
        # The loop that watches the socket. It goes on between waits: starting and stopping costs two system calls.
        self._watching: asyncio.AbstractEventLoop | None = None
        self._held: tuple[socket.socket, tuple[str, int]] | None = None

    def accept(self) -> Incoming | None:
        held, self._held = self._held, None
        try:
            sock, name = held or self._sock.accept()
        except OSError as exc:
            if exc.errno in EXHAUSTED:
                raise
            return None  # there is none, or it is gone: accept(2) says to try again
        sock.setblocking(False)
        # The kernel writes IPv4 addresses in canonical form. (The name of an IPv6 socket has four parts.)
        return TcpIncoming(sock, Addr(name[0], name[1]) if len(name) == 2 else Addr.of(name[:2]))

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
        self._unwatch()  # before the descriptor is closed, since its number may be reused
        if self._held is not None:
            self._held[0].close()
        self._sock.close()

    def _wake(self) -> None:
        if self._waiter is None:
            # Connections wait in the backlog, and must not keep the loop busy meanwhile.
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
    # asyncio sets TCP_NODELAY on sockets whose protocol is given as TCP, and on those accepted from them.
    family = socket.AF_INET6 if ":" in addr.host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def _connected_at_once(sock: socket.socket, addr: Addr) -> bool:
    """Whether ``sock`` is connected immediately, as within one machine. That saves a third of the cost of a dial."""
    if os.name != "posix":
        return False
    code = sock.connect_ex(addr) and sock.connect_ex(addr)
    if code in (0, errno.EISCONN):
        return True
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return False
    raise OSError(code, os.strerror(code))


def _hand_over(sock: socket.socket, transport: asyncio.BaseTransport) -> None:
    # A uvloop transport that is closed as soon as it is made closes the descriptor, but not ``sock``, which would close
    # it again. By then the number may belong to another connection.
    if transport.is_closing() and type(transport).__module__.startswith("uvloop"):
        sock.detach()


def interleaved(addrs: Sequence[Addr]) -> list[Addr]:
    """Alternate between address families, beginning with that of the first (RFC 8305, section 4)."""
    first = [addr for addr in addrs if (":" in addr.host) == (":" in addrs[0].host)]
    second = [addr for addr in addrs if addr not in first]
    return [addr for addr in chain.from_iterable(zip_longest(first, second)) if addr is not None]
