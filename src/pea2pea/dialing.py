"""Making connections: one address, or the fastest of several. May import asyncio."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .addr import Addr
from .connection import Connection
from .context import Context
from .errors import AlreadyConnectedError, ConnectError, DialError, SelfConnectError
from .network import Network, Socket
from .peer import Peer
from .setup import Setup

if TYPE_CHECKING:
    from .node import Node

#: Seconds before the next address of a name is tried as well: the Connection Attempt Delay of RFC 8305, section 5.
ATTEMPT_DELAY = 0.25


class Connecting(Coroutine[Any, Any, Peer[Any]]):
    """What ``Node.connect`` returns: await it for the peer, or enter it to disconnect at the end.

    A coroutine, so that it can be given to ``asyncio.create_task``.
    """

    __slots__ = ("_node", "_peer", "_work")

    def __init__(self, node: Node, work: Coroutine[Any, Any, Peer[Any]]) -> None:
        self._node = node
        self._work = work

    def __await__(self) -> Generator[Any, Any, Peer[Any]]:
        return self._work.__await__()

    async def __aenter__(self) -> Peer[Any]:
        self._peer = await self._work
        return self._peer

    async def __aexit__(self, *exc_info: object) -> None:
        await self._node.disconnect(self._peer)

    def send(self, value: Any) -> Any:
        """As of any coroutine."""
        return self._work.send(value)

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None) -> Any:
        """As of any coroutine."""
        return self._work.throw(typ) if val is None and tb is None else self._work.throw(typ, val, tb)

    def close(self) -> None:
        """As of any coroutine."""
        self._work.close()


class SharedDials:
    """Attempts to connect that several callers wait for. One attempt per address, as long as anyone waits for it."""

    def __init__(self) -> None:
        self._tasks: dict[Addr, asyncio.Task[Peer[Any]]] = {}
        self._waiting: Counter[Addr] = Counter()

    async def join(self, addr: Addr, start: Callable[[], Coroutine[Any, Any, Peer[Any]]]) -> Peer[Any]:
        """Return what the attempt for ``addr`` returns; ``start`` it if there is none."""
        task = self._tasks.get(addr)
        if task is None:
            task = self._tasks[addr] = asyncio.create_task(start(), name=f"connect to {addr}")
        self._waiting[addr] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[addr] -= 1
            if not self._waiting[addr]:
                del self._waiting[addr], self._tasks[addr]
                task.cancel()
                await asyncio.wait({task})


async def dial(context: Context, network: Network, addr: Addr, sock: Socket | None) -> Peer[Any]:
    """Connect to ``addr``, within ``connect_timeout`` and then the handshake's time. Raises :class:`ConnectError`."""
    async with Setup(context, addr, context.node.connect_timeout) as setup:
        try:
            candidates = await network.resolve(addr)
        except OSError as exc:
            raise DialError(f"{addr}: {exc.strerror or exc}") from exc
        for candidate in candidates:
            if _is_self(context.local, candidate):
                raise SelfConnectError(f"{addr} is an address that this node listens on")
        if len(candidates) == 1:
            connection = Connection.admit(context, candidates[0], inbound=False)
            await connection.attach(network.dial(candidates[0], connection.link, sock=sock))
        else:
            connection = await _race(context, network, addr, candidates)
        await connection.set_up(setup)
        return connection.peer


async def _attempt(context: Context, network: Network, addr: Addr) -> Connection:
    connection = Connection.admit(context, addr, inbound=False)
    await connection.attach(network.dial(addr, connection.link))
    return connection


async def _race(context: Context, network: Network, name: Addr, candidates: Sequence[Addr]) -> Connection:
    """Try the addresses of a name one after the other, each a short time after the last (happy eyeballs, RFC 8305)."""
    for addr in candidates:
        if addr in context.connected or addr in context.connecting:
            raise AlreadyConnectedError(f"{name} is {addr}, which is connected or being connected")
    remaining = list(candidates)
    running: list[asyncio.Task[Connection]] = []
    errors: list[ConnectError] = []
    try:
        while remaining or running:
            if remaining:
                work = _attempt(context, network, remaining.pop(0))
                running.append(asyncio.create_task(work, name=f"dial {name}"))
            delay = ATTEMPT_DELAY if remaining else None
            done, _ = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task in done]:
                error = task.exception()
                if error is None:
                    running.remove(task)
                    return task.result()
                running.remove(task)
                if not isinstance(error, ConnectError):
                    raise error
                errors.append(error)
    finally:
        await _abandon(running)
    if len({type(error) for error in errors}) == 1 and not isinstance(errors[0], DialError):
        raise errors[0]
    raise DialError(f"{name}: no address could be connected: {'; '.join(map(str, errors))}") from errors[0]


async def _abandon(tasks: list[asyncio.Task[Connection]]) -> None:
    """Cancel attempts that are no longer needed, and close those that succeeded at the same time."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            task.result().discard(DialError("another address of the name was faster"))


def _is_self(own: Addr | None, addr: Addr) -> bool:
    if own is None or own.port != addr.port:
        return False
    return own.host == addr.host or (addr.is_loopback and (own.is_wildcard or addr.is_wildcard))
