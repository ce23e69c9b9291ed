"""Codecs for messages of another type than the protocol's."""

from collections.abc import Sequence

from pea2pea import Decoder, Encoder, Node, Peer, Reading, Writing


class Words(Decoder[str], Encoder[str]):
    def decode(self, buffer: memoryview) -> tuple[Sequence[str], int]:
        return [str(buffer, "utf-8")], len(buffer)

    def encode(self, messages: Sequence[str]) -> Sequence[bytes]:
        return [message.encode() for message in messages]


class Wrong(Node, Reading[bytes], Writing[bytes]):
    def decoder(self, peer: Peer) -> Words:  # refused: override
        return Words()

    def encoder(self, peer: Peer) -> Words:  # refused: override
        return Words()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, message)
