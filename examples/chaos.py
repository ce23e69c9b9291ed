"""Testing a node by subclassing it: a peer that corrupts, drops and doubles what it sends, and one that it is tried on.

Run it: ``python examples/chaos.py [SEED]``. The node under test loses connections, never itself: at the end an
honest peer is still answered. The seed makes what went wrong happen again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from echo import Client, Echo
from pea2pea import (
    Addr,
    Config,
    DisconnectReason,
    Encoder,
    LengthDelimited,
    NotConnectedError,
    OnDisconnect,
    Peer,
)

HEADER = 4
ROUNDS = 50
MESSAGES = 20


class Saboteur(Encoder[bytes]):
    """Another codec's bytes, damaged now and then."""

    def __init__(self, encoder: Encoder[bytes], rng: random.Random) -> None:
        self.encoder = encoder
        self.rng = rng

    def encode(self, messages: Sequence[bytes]) -> list[bytearray]:
        return [self.damage(bytearray().join(self.encoder.encode([message]))) for message in messages]

    def damage(self, frame: bytearray) -> bytearray:
        """Flip a bit of the length, cut the end off, lose it all, say it twice; mostly, leave it as it is."""
        place = self.rng.randrange(len(frame))
        match self.rng.randrange(100):
            case 0:
                frame[place % HEADER] ^= 1 << self.rng.randrange(8)
            case 1:
                del frame[place:]
            case 2:
                frame.clear()
            case 3:
                frame *= 2
        return frame


class Chaos(Client):
    """A client that cannot be trusted."""

    def __init__(self, rng: random.Random, config: Config) -> None:
        super().__init__(config)
        self.rng = rng

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return Saboteur(LengthDelimited(), self.rng)

    async def process_message(self, peer: Peer, message: bytes) -> None:
        """Whatever the answer is, it does not care."""


class Victim(Echo, OnDisconnect):
    """The node under test. Writes down how its connections end."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ended: asyncio.Queue[str] = asyncio.Queue(maxsize=ROUNDS)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.ended.put_nowait("in order" if reason.exception is None else type(reason.exception).__name__)


async def pester(chaos: Chaos, addr: Addr) -> None:
    """Connect, send, leave."""
    peer = await chaos.connect(addr)
    # Being thrown out is no news to it.
    with suppress(NotConnectedError):
        for _ in range(MESSAGES):
            await chaos.send(peer, chaos.rng.randbytes(chaos.rng.randrange(100)))
    await chaos.disconnect(peer)


async def main(seed: int) -> None:
    """Let chaos loose on a node, and see whether it still serves."""
    # What the node has to say about its peers would drown what is said here.
    logging.getLogger("pea2pea").setLevel(logging.CRITICAL)
    async with (
        Victim(Config(listen="127.0.0.1:0", max_connections_per_ip=100)) as victim,
        Client(Config()) as honest,
        Chaos(random.Random(seed), Config()) as chaos,
    ):
        addr = victim.listening_addr
        assert addr is not None
        witness = await honest.connect(addr)
        for _ in range(ROUNDS):
            await pester(chaos, addr)
        endings = Counter([await victim.ended.get() for _ in range(ROUNDS)])
        await honest.send(witness, b"still there")
        how = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        print(f"seed {seed}: {ROUNDS} connections ended, {how}")
        print((await honest.replies.get()).decode())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1 << 32)))
