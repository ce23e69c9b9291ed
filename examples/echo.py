"""The smallest useful node: whatever a peer sends comes back to it. Run it: ``python examples/echo.py``."""

from __future__ import annotations

import asyncio

from pea2pea import Config, Decoder, Encoder, LengthDelimited, Node, Peer, Reading, Writing


class Echo(Node, Reading[bytes], Writing[bytes]):
    """Answers each message with itself."""

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, message)


class Client(Echo):
    """Speaks the same protocol; keeps what comes back instead of answering."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.replies: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.replies.put(message)


async def main() -> None:
    """Start both on this machine and send one message there and back."""
    async with Echo(Config(listen="127.0.0.1:0")) as echo, Client(Config()) as client:
        assert echo.listening_addr is not None
        peer = await client.connect(echo.listening_addr)
        await client.send(peer, b"hello")
        print((await client.replies.get()).decode())


if __name__ == "__main__":
    asyncio.run(main())
