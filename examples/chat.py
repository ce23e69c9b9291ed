"""A chat without a server: every line that is typed goes to all connected peers.

In two terminals::

    python examples/chat.py ann 127.0.0.1:4000
    python examples/chat.py bob 127.0.0.1:4001 127.0.0.1:4000

Shows a handshake that exchanges names, ``broadcast``, the two hooks about connections, and a codec for lines of text.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Unpack

from pea2pea import (
    Codec,
    ConnectError,
    Delimited,
    DisconnectReason,
    Handshake,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Settings,
    Writing,
)

MAX_NAME = 32


def text(line: bytes) -> str:
    """Decode a line; what is not UTF-8 is shown as such."""
    return line.decode(errors="replace")


class Chat(Node, Handshake[str], Reading[str], Writing[str], OnConnect, OnDisconnect):
    """Sends each line to its peers, and prints theirs. ``peer.session`` is the name of the person at the other end."""

    codec = Codec(Delimited(b"\n"), parse=text, build=str.encode)

    def __init__(self, nickname: str, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.nickname = nickname

    async def handshake(self, peer: Peer[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Exchange names, padded to a known size so that nothing beyond them is read."""
        writer.write(self.nickname.encode()[:MAX_NAME].ljust(MAX_NAME))
        return text(await reader.readexactly(MAX_NAME)).strip()

    async def on_connect(self, peer: Peer[str]) -> None:
        self.show(f"* {peer.session} is here")

    async def on_disconnect(self, peer: Peer[str], reason: DisconnectReason) -> None:
        self.show(f"* {peer.session} left ({reason})")

    async def process_message(self, peer: Peer[str], message: str) -> None:
        self.show(f"<{peer.session}> {message}")

    def say(self, line: str) -> None:
        """Send a line to all peers, and print which of them missed it."""
        for peer, error in self.broadcast(line).items():
            self.show(f"* {peer.session} missed that: {error}")

    def show(self, line: str) -> None:
        """Print a line. Control characters, which could take over the terminal, are made visible."""
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), flush=True)


async def lines_typed() -> AsyncIterator[str]:
    """Yield what is typed, line by line, until the end of the input."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.rstrip("\n")


async def main(nickname: str, listen: str, *others: str) -> None:
    """Listen, connect to the others, and send what is typed."""
    async with Chat(nickname, listen=listen) as chat:
        print(f"* {nickname} listens on {chat.listening_addr}", flush=True)
        for other in others:
            try:
                await chat.connect(other)
            except ConnectError as error:
                chat.show(f"* {error}")
        async for line in lines_typed():
            chat.say(line)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: chat.py NAME HOST:PORT [HOST:PORT ...]")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
