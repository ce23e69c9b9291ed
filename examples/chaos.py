"""Fault injection by subclassing: a peer that corrupts, drops and doubles what it sends, and the node it is tried on.

Run it: ``python examples/chaos.py [SEED]``. The node under test loses connections, never itself: at the end an honest
peer still gets its answer. The seed reproduces a run.
"""

import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Unpack

from echo import Client, Echo
from pea2pea import (
    Addr,
    DisconnectReason,
    Encoder,
    LengthDelimited,
    Node,
    NotConnectedError,
    OnDisconnect,
    Peer,
    Settings,
    Writing,
)

HEADER = 4
ROUNDS = 50
MESSAGES = 20


class Saboteur(Encoder[bytes]):
    """Damages the bytes of another codec now and then."""

    def __init__(self, encoder: Encoder[bytes], rng: random.Random) -> None:
        self.encoder = encoder
        self.rng = rng

    def encode(self, messages: Sequence[bytes]) -> list[bytearray]:
        return [self.damage(bytearray().join(self.encoder.encode([message]))) for message in messages]

    def damage(self, frame: bytearray) -> bytearray:
        """Flip a bit of the length, cut off the end, drop it, double it; mostly, leave it as it is."""
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


class Chaos(Node, Writing[bytes]):
    """A client that damages what it sends."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return Saboteur(LengthDelimited(), self.rng)


class Victim(Echo, OnDisconnect):
    """The node under test. Records how its connections end."""

    def __init__(self, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.ended: asyncio.Queue[str] = asyncio.Queue(maxsize=ROUNDS)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.ended.put_nowait(reason.cause.name)


async def pester(chaos: Chaos, addr: Addr) -> None:
    """Connect, send, disconnect."""
    # Being disconnected is what it asks for.
    with suppress(NotConnectedError):
        async with chaos.connect(addr) as peer:
            for _ in range(MESSAGES):
                await chaos.send(peer, chaos.rng.randbytes(chaos.rng.randrange(100)))


async def main(seed: int) -> None:
    """Attack a node, and see whether it still answers."""
    # The node's own records would drown what is printed here.
    logging.getLogger("pea2pea").setLevel(logging.CRITICAL)
    async with (
        Victim(listen="127.0.0.1:0") as victim,
        Client() as honest,
        Chaos(random.Random(seed)) as chaos,
        honest.connect(victim.address) as witness,
    ):
        for _ in range(ROUNDS):
            await pester(chaos, victim.address)
        endings = Counter([await victim.ended.get() for _ in range(ROUNDS)])
        await honest.send(witness, b"still there")
        how = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        print(f"seed {seed}: {ROUNDS} connections ended, {how}")
        print((await honest.receive(witness)).decode())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1 << 32)))
