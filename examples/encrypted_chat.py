"""The chat, encrypted, between people who know each other's public keys.

In two terminals::

    python examples/encrypted_chat.py ann.key 127.0.0.1:4000 --allow BOBS_KEY
    python examples/encrypted_chat.py bob.key 127.0.0.1:4001 --allow ANNS_KEY --dial 127.0.0.1:4000

Each creates its key file at the first run, and prints the public key that the others must allow. A peer that is not
allowed is refused in the handshake, and knows that it was, since both sides ask for a confirmation. An observer learns
the sizes and times of messages only.
"""

import argparse
import asyncio
import sys
from contextlib import suppress
from typing import Unpack

from pea2pea import (
    Codec,
    ConnectError,
    Delimited,
    HandshakeError,
    Node,
    OnConnect,
    Peer,
    Reading,
    Settings,
    Writing,
)
from pea2pea.noise import KeyPair, NoiseCodec, NoiseConfig, NoiseHandshake, NoiseSession, load_or_make_key


class Chat(Node, NoiseHandshake, Reading[str], Writing[str], OnConnect):
    """Sends each line to all peers, and prints theirs after the beginning of their key."""

    def __init__(self, key: KeyPair, allowed: set[bytes], **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.config = NoiseConfig(static_key=key, allowed=allowed, confirm=True)

    def noise(self, peer: Peer) -> NoiseConfig:
        return self.config

    def codec(self, peer: Peer[NoiseSession]) -> NoiseCodec[str, str]:
        return peer.session.codec(Codec(Delimited(b"\n"), parse=text, build=str.encode))

    async def on_connect(self, peer: Peer[NoiseSession]) -> None:
        show(f"* {name_of(peer)} is here")

    async def process_message(self, peer: Peer[NoiseSession], message: str) -> None:
        show(f"<{name_of(peer)}> {message}")


def text(line: bytes) -> str:
    """Decode a line; what is not UTF-8 is shown as such."""
    return line.decode(errors="replace")


def name_of(peer: Peer[NoiseSession]) -> str:
    """Return the beginning of the peer's key, which it has proven. A name would be a mere claim."""
    return (peer.session.remote_static or b"").hex()[:8]


def show(line: str) -> None:
    """Print a line. Control characters, which could manipulate the terminal, are shown as escapes."""
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), flush=True)


async def main() -> None:
    """Listen, connect to the others, and send the lines that are typed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("key", help="the file with this side's key; created if it does not exist")
    parser.add_argument("listen", help="HOST:PORT")
    parser.add_argument(
        "--allow", action="append", type=bytes.fromhex, default=[], metavar="KEY", help="the public key of a peer"
    )
    parser.add_argument("--dial", action="append", default=[], metavar="HOST:PORT", help="a peer to connect to")
    options = parser.parse_args()
    key = load_or_make_key(options.key)
    async with Chat(key, set(options.allow), listen=options.listen) as chat:
        print(f"* key {key.public.hex()} listens on {chat.address}", flush=True)
        for addr in options.dial:
            try:
                await chat.connect(addr)
            except HandshakeError as error:
                show(f"* {addr}: {type(error.__cause__).__name__}")
            except ConnectError as error:
                show(f"* {error}")
        while line := await asyncio.to_thread(sys.stdin.readline):
            chat.broadcast(line.rstrip("\n"))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
