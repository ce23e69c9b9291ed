"""Messages of another type than the protocol's."""

from pea2pea import LengthDelimited, Node, Peer, Reading, Writing


class Wrong(Node, Reading[bytes], Writing[bytes]):
    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, "text")  # refused: arg-type
        self.send_nowait(peer, 1)  # refused: arg-type
        self.broadcast(None)  # refused: arg-type


class Unexpected(Node, Reading[bytes]):
    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: str) -> None:  # refused: override
        print(message)
