"""A node with all five protocols, and every verb: all of it passes ``mypy --strict``."""

from __future__ import annotations

import asyncio

from pea2pea import (
    DisconnectReason,
    Handshake,
    LengthDelimited,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Writing,
)


class Echo(Node, Reading[bytes], Writing[bytes]):
    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, message)


class Full(Handshake[str], OnConnect, OnDisconnect, Echo):
    handshake_timeout = 1.0
    idle_timeout = 5.0
    write_queue_depth = 8

    async def handshake(self, peer: Peer[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(b"hello")
        return (await reader.readexactly(5)).decode()

    async def on_connect(self, peer: Peer) -> None:
        self.send_nowait(peer, b"welcome")

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        print(peer, reason.origin, reason.exception)


async def main() -> None:
    async with Full(listen="127.0.0.1:0", idle_timeout=1) as one, Full() as other:
        assert one.listening_addr is not None
        peer = await other.connect(one.listening_addr)
        await other.send(peer, b"hello")
        await other.flush(peer)
        failed = other.broadcast(b"to all")
        assert not failed and other.peer(peer.addr) is peer and other.peers == [peer]
        ended: bool = await other.disconnect(peer)
        assert ended and other.num_connected == other.num_connecting == 0
