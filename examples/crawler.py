"""A crawler: from one address it finds every node of a network whose nodes tell which peers they know.

Run it: ``python examples/crawler.py`` makes a small random network on this machine, then crawls it. The same class
works in a network of strangers: it dials a bounded number of nodes at once, waits a bounded time for each, and
remembers a bounded number of addresses.
"""

import asyncio
from contextlib import AsyncExitStack

from pea2pea import (
    Addr,
    Codec,
    ConnectError,
    Delimited,
    Node,
    NotConnectedError,
    Peer,
    Reading,
    Receiving,
    Topology,
    Writing,
    connect_nodes,
)

AT_ONCE = 8
TIMEOUT = 3.0
MAX_ADDRESSES = 10_000
MAX_PER_ANSWER = 100

#: Lines of text. ``peers?`` is answered by one address a line, and an empty line at the end.
LINES = Codec(Delimited(b"\n", max_frame=256), parse=bytes.decode, build=str.encode)


class Gossip(Node, Reading[str], Writing[str]):
    """Tells anyone who asks which peers it has dialled. It does not know where the others listen."""

    codec = LINES

    async def process_message(self, peer: Peer, message: str) -> None:
        if message == "peers?":
            known = [other.addr for other in self.peers if not other.inbound]
            for line in (*map(str, known[:MAX_PER_ANSWER]), ""):
                await self.send(peer, line)


class Crawler(Node, Receiving[str], Writing[str]):
    """Asks each node which peers it knows, then asks those. Trusts no answer: its size and its time are bounded."""

    codec = LINES

    async def ask(self, addr: Addr) -> list[Addr]:
        """Return the peers that the node at ``addr`` tells of in time."""
        found: list[Addr] = []
        try:
            async with asyncio.timeout(TIMEOUT), self.connect(addr) as peer:
                await self.send(peer, "peers?")
                while len(found) < MAX_PER_ANSWER and (line := await self.receive(peer)):
                    found.append(Addr.of(line))
        except (ConnectError, NotConnectedError, TimeoutError, ValueError) as error:
            print(f"{addr}: {type(error).__name__} {error}")
        return found

    async def crawl(self, start: Addr) -> set[Addr]:
        """Return every address that can be found from ``start``, and ``start`` itself."""
        found, frontier = {start}, [start]
        while frontier:
            batch, frontier = frontier[:AT_ONCE], frontier[AT_ONCE:]
            for addrs in await asyncio.gather(*map(self.ask, batch)):
                new = [addr for addr in dict.fromkeys(addrs) if addr not in found][: MAX_ADDRESSES - len(found)]
                found.update(new)
                frontier.extend(new)
        return found


async def main(count: int = 20) -> None:
    """Make a network, and find all of it from one of its nodes."""
    async with AsyncExitStack() as stack, Crawler() as crawler:
        nodes = [await stack.enter_async_context(Gossip(listen="127.0.0.1:0")) for _ in range(count)]
        await connect_nodes(nodes, Topology.RANDOM, degree=3)
        print(f"found {len(await crawler.crawl(nodes[0].address))} of {count} nodes")


if __name__ == "__main__":
    asyncio.run(main())
