"""The chat, encrypted, for a circle of people who know each other by their keys.

In two terminals::

    python examples/encrypted_chat.py ann.key 127.0.0.1:4000 --allow BOBS_KEY
    python examples/encrypted_chat.py bob.key 127.0.0.1:4001 --allow ANNS_KEY --dial 127.0.0.1:4000

Each makes its key file when it is first run, and prints the public key that the others are to allow. Whoever is not
allowed is turned away before a word is said, and whoever listens in learns no more than when and how much is said.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress

from pea2pea import (
    Config,
    ConnectError,
    Decoder,
    Delimited,
    Encoder,
    HandshakeError,
    Node,
    OnConnect,
    Peer,
    Reading,
    Writing,
)
from pea2pea.noise import KeyPair, NoiseConfig, NoiseHandshake, load_or_make_key


class Chat(Node, NoiseHandshake, Reading[bytes], Writing[bytes], OnConnect):
    """Tells its peers each line, and prints theirs behind the beginning of their key."""

    def __init__(self, key: KeyPair, allowed: set[bytes], config: Config) -> None:
        super().__init__(config)
        self.settings = NoiseConfig(protocol="Noise_XX_25519_ChaChaPoly_SHA256", static_key=key, allowed=allowed)

    def noise(self, peer: Peer) -> NoiseConfig:
        return self.settings

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return peer.session.decoder(Delimited(b"\n"))  # type: ignore[no-any-return]

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return peer.session.encoder(Delimited(b"\n"))  # type: ignore[no-any-return]

    async def on_connect(self, peer: Peer) -> None:
        show(f"* {name_of(peer)} is here")

    async def process_message(self, peer: Peer, message: bytes) -> None:
        show(f"<{name_of(peer)}> {message.decode(errors='replace')}")


def name_of(peer: Peer) -> str:
    """The key is who it is; a name would be a claim."""
    key: bytes = peer.session.remote_static
    return key.hex()[:8]


def show(line: str) -> None:
    """Print a line. Escapes that would take over the terminal of the reader are made visible."""
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), flush=True)


async def main() -> None:
    """Listen, dial the others, and pass on what is typed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("key", help="the file of one's own key; made if there is none")
    parser.add_argument("listen", help="HOST:PORT")
    parser.add_argument("--allow", action="append", type=bytes.fromhex, default=[], metavar="KEY", help="of a friend")
    parser.add_argument("--dial", action="append", default=[], metavar="HOST:PORT")
    options = parser.parse_args()
    key = load_or_make_key(options.key)
    config = Config(listen=options.listen, max_connections_per_ip=100)
    async with Chat(key, set(options.allow), config) as chat:
        print(f"* key {key.public.hex()} listens on {chat.listening_addr}", flush=True)
        for addr in options.dial:
            try:
                await chat.connect(addr)
            except HandshakeError as error:
                show(f"* {addr}: {type(error.__cause__).__name__}")
            except ConnectError as error:
                show(f"* {error}")
        while line := await asyncio.to_thread(sys.stdin.readline):
            chat.broadcast(line.rstrip("\n").encode())


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
