"""Addresses, listeners with their backlogs, and dialling in memory. May import asyncio.

``socket`` is imported only for the names of a type and of an error.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import itertools
import socket
from collections import deque
from collections.abc import Sequence

from ..addr import Addr
from ..errors import UsageError
from ..network import Incoming, Listener, Network
from .transport import MemorySocket, MemoryTransport, os_error

# Each direction of a connection holds at most this much; a loopback socket of Linux holds about as much.
CAPACITY = 256 * 1024
# Ephemeral ports come round again after this many; the ports below belong to those who ask for one.
FIRST_PORT, LAST_PORT = 1024, 65535


class _Incoming(Incoming):
    __slots__ = ("_sock",)

    def __init__(self, sock: MemorySocket) -> None:
        self._sock = sock
        self.addr = sock.peer.local

    async def open(self, protocol: asyncio.BaseProtocol) -> None:
        await _attach(self._sock, protocol)

    def reject(self) -> None:
        self._sock.close()


class _Listener(Listener):
    """A bound address, and the connections that wait there. Bound: ``backlog``."""

    __slots__ = ("_arrived", "_closed", "_network", "_room", "_waiting", "host", "reuse_port")

    def __init__(self, network: MemoryNetwork, addr: Addr, host: str, backlog: int, reuse_port: bool) -> None:
        self.addr = addr
        self.host = host
        self.reuse_port = reuse_port
        self._network = network
        self._waiting: deque[MemorySocket] = deque()
        self._room = asyncio.Semaphore(backlog)
        self._arrived = asyncio.Event()
        self._closed = False

    def takes(self, addr: Addr) -> bool:
        """Whether a dial to ``addr`` arrives here."""
        if not self.addr.is_wildcard:
            return addr == self.addr
        is_ours = addr.host == self.host or (_is_loopback(addr.host) and _is_loopback(self.host))
        return is_ours and addr.port == self.addr.port

    def is_in_the_way_of(self, other: _Listener) -> bool:
        """Whether the two cannot be bound at once."""
        is_same = self.addr == other.addr and (self.host == other.host or not self.addr.is_wildcard)
        overlaps = is_same or self.takes(other.addr) or other.takes(self.addr)
        return overlaps and not (self.reuse_port and other.reuse_port)

    async def room(self) -> None:
        """Wait for room in the backlog, and take it. Raises ``ConnectionRefusedError`` if closed meanwhile."""
        await self._room.acquire()
        if self._closed:
            self._room.release()  # the next that waits is to see the same
            raise os_error(errno.ECONNREFUSED)

    def push(self, sock: MemorySocket) -> None:
        self._waiting.append(sock)
        self._arrived.set()

    def accept(self) -> Incoming | None:
        if not self._closed:
            self._network._raise_injected()
        while self._waiting:
            sock = self._waiting.popleft()
            self._room.release()
            if not sock.reset:
                return _Incoming(sock)
        self._arrived.clear()
        return None

    async def ready(self) -> None:
        await self._arrived.wait()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._network._unbind(self)
        for sock in self._waiting:
            sock.abort()
        self._waiting.clear()
        self._arrived.clear()
        self._room.release()  # dials that wait for room see that the listener is closed


class MemoryNetwork(Network):
    """A network whose every address is in this object. Use it within one event loop at a time.

    ``capacity`` is how many bytes each direction of a connection holds before its writer has to wait.
    Dials come from ``127.0.0.1``, or from the host of :meth:`at`. :meth:`resolve` knows
    ``localhost`` and what is added to ``names``.
    """

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        self.names: dict[str, str | Sequence[str]] = {"localhost": "127.0.0.1"}
        self._host = "127.0.0.1"
        self._capacity = capacity
        self._ports = itertools.cycle(range(FIRST_PORT, LAST_PORT + 1))
        self._listeners: list[_Listener] = []
        self._failures: deque[OSError] = deque()

    @property
    def listening(self) -> list[Addr]:
        """The addresses that are bound."""
        return [listener.addr for listener in self._listeners]

    def at(self, host: str) -> MemoryNetwork:
        """Return this same network as seen from the machine whose address is ``host``."""
        view = copy.copy(self)
        view._host = host
        return view

    def fail_accept(self, error: OSError, *, times: int = 1) -> None:
        """Have the next ``times`` calls of ``accept`` raise ``error``, whichever listener's they are."""
        self._failures.extend([error] * times)

    async def resolve(self, addr: Addr) -> Sequence[Addr]:
        if addr.ip is not None:
            return (addr,)
        if addr.host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, f"{addr.host} is unknown")
        hosts = self.names[addr.host]
        return [Addr(host, addr.port) for host in ([hosts] if isinstance(hosts, str) else hosts)]

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        port = addr.port or self._free_port()
        listener = _Listener(self, Addr(addr.host, port), self._host, backlog, reuse_port)
        if any(map(listener.is_in_the_way_of, self._listeners)):
            raise os_error(errno.EADDRINUSE)
        self._listeners.append(listener)
        return listener

    async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: socket.socket | None = None) -> None:
        if sock is not None:
            raise UsageError("there are no sockets in memory; to dial from another address use network.at(host)")
        local = Addr("::1" if ":" in addr.host and _is_loopback(self._host) else self._host, next(self._ports))
        if addr.is_wildcard:
            addr = Addr(local.host, addr.port)
        listeners = [listener for listener in self._listeners if listener.takes(addr)]
        if not listeners:
            raise os_error(errno.ECONNREFUSED)
        listener = listeners[local.port % len(listeners)]
        await listener.room()
        ours, theirs = MemorySocket.pair(local, addr, self._capacity)
        listener.push(theirs)
        await _attach(ours, protocol)

    def _free_port(self) -> int:
        taken = {addr.port for addr in self.listening}
        for port in itertools.islice(self._ports, LAST_PORT - FIRST_PORT + 1):
            if port not in taken:
                return port
        raise os_error(errno.EADDRINUSE)

    def _unbind(self, listener: _Listener) -> None:
        self._listeners.remove(listener)

    def _raise_injected(self) -> None:
        if self._failures:
            raise self._failures.popleft()


async def _attach(sock: MemorySocket, protocol: asyncio.BaseProtocol) -> None:
    """Give ``protocol`` a transport over ``sock``; its ``connection_made`` has been called on return."""
    transport = MemoryTransport(asyncio.get_running_loop(), sock, protocol)
    try:
        # The loop keeps the order: connection_made was queued before this task's next step.
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        transport.abort()
        raise


def _is_loopback(host: str) -> bool:
    ip = Addr(host, 0).ip
    return ip is not None and ip.is_loopback
