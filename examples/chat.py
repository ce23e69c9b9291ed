"""A chat without a server: every line that one types is told to all whom one is connected with.

In two terminals::

    python examples/chat.py ann 127.0.0.1:4000
    python examples/chat.py bob 127.0.0.1:4001 127.0.0.1:4000

Shows a handshake that exchanges names, ``broadcast``, the two hooks about connections, and a codec for lines.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

from pea2pea import (
    Config,
    ConnectError,
    Delimited,
    DisconnectReason,
    Handshake,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Writing,
)

MAX_NAME = 32


class Chat(Node, Handshake, Reading[bytes], Writing[bytes], OnConnect, OnDisconnect):
    """Tells its peers each line, and prints theirs. ``peer.session`` is the name of who sits at the other end."""

    def __init__(self, nickname: str, config: Config) -> None:
        super().__init__(config)
        self.nickname = nickname

    def decoder(self, peer: Peer) -> Delimited:
        return Delimited(b"\n")

    def encoder(self, peer: Peer) -> Delimited:
        return Delimited(b"\n")

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Exchange names, of a known size so that nothing more is read than is theirs."""
        writer.write(self.nickname.encode()[:MAX_NAME].ljust(MAX_NAME))
        return (await reader.readexactly(MAX_NAME)).decode(errors="replace").strip()

    async def on_connect(self, peer: Peer) -> None:
        self.show(f"* {peer.session} is here")

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.show(f"* {peer.session} left ({reason})")

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.show(f"<{peer.session}> {message.decode(errors='replace')}")

    def say(self, line: str) -> None:
        """Tell all peers; say who could not be told."""
        for peer, error in self.broadcast(line.encode()).items():
            self.show(f"* {peer.session} missed that: {error}")

    def show(self, line: str) -> None:
        """Print a line. Escapes that would take over the terminal of the reader are made visible."""
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), flush=True)


async def lines_typed() -> AsyncIterator[str]:
    """What is typed, line by line, until the end of the input."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.rstrip("\n")


async def main(nickname: str, listen: str, *others: str) -> None:
    """Listen, greet the others, and pass on what is typed."""
    async with Chat(nickname, Config(listen=listen, max_connections_per_ip=100)) as chat:
        print(f"* {nickname} listens on {chat.listening_addr}", flush=True)
        for other in others:
            try:
                await chat.connect(other)
            except ConnectError as error:
                chat.show(f"* {error}")
        async for line in lines_typed():
            chat.say(line)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
