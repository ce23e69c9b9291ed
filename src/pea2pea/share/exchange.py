"""The state of the exchange with one peer, and the hellos that begin it. Imports asyncio, ``security`` and ``wire``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pea2pea import Addr, Peer

from .security import Seal
from .wire import MAX_GOT, Got, Hello, Message, Request

#: How many times a host may dial and send wrong data before it is refused.
MAX_LIES = 3
#: How many such hosts are remembered. The oldest entry is dropped for a new one.
MAX_LIARS = 1024


@dataclass(slots=True, eq=False)
class Exchange:
    """What is under way with one peer. It is the peer's session."""

    peer: Peer
    #: Chunks that the peer has to be told of.
    news: list[int] = field(default_factory=list)
    #: Chunks that the peer has to be asked for.
    asks: list[int] = field(default_factory=list)
    #: Chunks that the peer asked for and has not been sent yet.
    waiting: deque[int] = field(default_factory=deque)
    #: Set when there is something to send.
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when the connection has ended.
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether the peer sent data that is not part of the file.
    lied: bool = False
    seal: Seal = field(default_factory=Seal)
    #: This side's address of the connection, as ``host:port``; empty if the network has none.
    local: str = ""
    #: Bytes of verified chunks received from the peer.
    delivered: int = 0
    #: Bytes of chunks sent to the peer.
    served: int = 0

    def messages(self) -> Iterator[Message]:
        """Take the requests and the news to send."""
        asks, news = self.asks, self.news
        self.asks, self.news = [], []
        yield from map(Request, asks)
        for start in range(0, len(news), MAX_GOT):
            yield Got(tuple(news[start : start + MAX_GOT]))


class Liars:
    """How often each host has sent wrong data."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, host: str) -> None:
        """Count one more time for ``host``."""
        count = self.counts.pop(host, 0) + 1
        if len(self.counts) >= MAX_LIARS:
            del self.counts[next(iter(self.counts))]
        self.counts[host] = count

    def refuses(self, host: str) -> bool:
        """Return whether ``host`` is no longer accepted."""
        return self.counts.get(host, 0) >= MAX_LIES


async def exchange_hellos(
    hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seal: Seal | None = None
) -> Hello:
    """Send ``hello`` and return the peer's. Raises :class:`PeerFaultError` if the peer sends anything else."""
    seal = seal or Seal()
    writer.write(seal.seal(hello))
    await writer.drain()
    return await seal.read(reader)


def local_address(writer: asyncio.StreamWriter) -> str:
    """Return this side's address of a connection, as ``host:port``; empty if the network has none."""
    name = writer.get_extra_info("sockname")
    return str(Addr.of((name[0], name[1]))) if isinstance(name, tuple) and len(name) >= 2 else ""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` and wait until they have ended. Their exceptions are dropped."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
