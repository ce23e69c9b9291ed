"""A hook whose name is misspelt: the class lacks the one that it should have."""

from pea2pea import LengthDelimited, Node, Peer, Reading


class Wrong(Node, Reading[bytes]):
    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def proces_message(self, peer: Peer, message: bytes) -> None:
        print(message)


def make() -> Wrong:
    return Wrong()  # refused: abstract
