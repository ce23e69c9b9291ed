"""A crawler: from one address it finds every node of a network that tells whom it knows.

Run it: ``python examples/crawler.py`` makes a small random network on this machine, then crawls it. The same
class finds its way through a network of strangers: it dials a bounded number at once, waits for each a bounded time,
and remembers a bounded number of addresses.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from pea2pea import (
    Addr,
    Config,
    ConnectError,
    Delimited,
    DisconnectReason,
    Node,
    NotConnectedError,
    OnDisconnect,
    Peer,
    Reading,
    Writing,
)
from pea2pea.topology import Topology, connect_nodes

AT_ONCE = 8
PATIENCE = 3.0
MOST_ADDRESSES = 10_000
MOST_PER_ANSWER = 100


class Lines(Node, Reading[bytes], Writing[bytes]):
    """What all of them speak: lines. ``peers?`` is answered by one address a line, and an empty line at the end."""

    def decoder(self, peer: Peer) -> Delimited:
        return Delimited(b"\n", max_frame=256)

    def encoder(self, peer: Peer) -> Delimited:
        return Delimited(b"\n", max_frame=256)


class Gossip(Lines):
    """Tells whoever asks whom it has dialled: of the others it knows only the port that they came from."""

    async def process_message(self, peer: Peer, message: bytes) -> None:
        if message == b"peers?":
            known = [other.addr for other in self.peers if not other.inbound]
            for line in (*map(str, known[:MOST_PER_ANSWER]), ""):
                await self.send(peer, line.encode())


@dataclass
class Answer:
    """What one peer has told so far."""

    addrs: list[Addr] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Crawler(Lines, OnDisconnect):
    """Asks each whom it knows, then asks those. Believes nobody: an answer is bounded, and so is the wait for it."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.answers: dict[Peer, Answer] = {}

    async def process_message(self, peer: Peer, message: bytes) -> None:
        answer = self.answers.get(peer)
        if answer is None or not message or len(answer.addrs) == MOST_PER_ANSWER:
            self.end(peer)
        else:
            # What is no address raises, and with that the peer is disconnected.
            answer.addrs.append(Addr.of(message.decode()))

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.end(peer)

    def end(self, peer: Peer) -> None:
        """No more comes from ``peer``."""
        if answer := self.answers.get(peer):
            answer.ended.set()

    async def ask(self, addr: Addr) -> list[Addr]:
        """Return whom the node at ``addr`` knows, as far as it tells in time; nobody if it cannot be reached."""
        try:
            peer = await self.connect(addr)
        except ConnectError as error:
            print(f"{addr}: {error}")
            return []
        answer = self.answers[peer] = Answer()
        try:
            async with asyncio.timeout(PATIENCE):
                await self.send(peer, b"peers?")
                await answer.ended.wait()
        except (TimeoutError, NotConnectedError) as error:
            print(f"{addr}: {type(error).__name__} {error}")
        finally:
            await self.disconnect(peer)
            del self.answers[peer]
        return answer.addrs

    async def crawl(self, start: Addr) -> set[Addr]:
        """Return every address that can be found from ``start``, and that itself."""
        found, frontier = {start}, [start]
        while frontier:
            batch, frontier = frontier[:AT_ONCE], frontier[AT_ONCE:]
            for addrs in await asyncio.gather(*map(self.ask, batch)):
                new = [addr for addr in dict.fromkeys(addrs) if addr not in found][: MOST_ADDRESSES - len(found)]
                found.update(new)
                frontier.extend(new)
        return found


async def main(count: int = 20) -> None:
    """Make a network, and find all of it from one of its nodes."""
    async with AsyncExitStack() as stack:
        config = Config(listen="127.0.0.1:0", max_connections_per_ip=count)
        nodes = [await stack.enter_async_context(Gossip(config)) for _ in range(count)]
        await connect_nodes(nodes, Topology.RANDOM, degree=3)
        crawler = await stack.enter_async_context(Crawler(Config(max_connections_per_ip=AT_ONCE)))
        start = nodes[0].listening_addr
        assert start is not None
        print(f"found {len(await crawler.crawl(start))} of {count} nodes")


if __name__ == "__main__":
    asyncio.run(main())
