"""The smallest useful node: it sends every message back. Run it: ``python examples/echo.py``."""

import asyncio

from pea2pea import LengthDelimited, Node, Peer, Reading, Receiving, Writing


class Echo(Node, Reading[bytes], Writing[bytes]):
    """Answers each message with itself."""

    codec = LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, message)


class Client(Node, Receiving[bytes], Writing[bytes]):
    """Speaks the same protocol, and pulls the answers."""

    codec = LengthDelimited()


async def main() -> None:
    """Start both on this machine, and send one message there and back."""
    async with Echo(listen="127.0.0.1:0") as echo, Client() as client, client.connect(echo.address) as peer:
        await client.send(peer, b"hello")
        print((await client.receive(peer)).decode())


if __name__ == "__main__":
    asyncio.run(main())
