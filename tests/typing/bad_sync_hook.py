"""Hooks that are not ``async``."""

import asyncio

from pea2pea import DisconnectReason, Handshake, LengthDelimited, Node, OnConnect, OnDisconnect, Peer, Reading


class Wrong(Node, Handshake, Reading[bytes], OnConnect, OnDisconnect):
    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    def process_message(self, peer: Peer, message: bytes) -> None:  # refused: override
        print(message)

    def handshake(self, peer: Peer, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:  # refused: override
        w.write(b"hello")

    def on_connect(self, peer: Peer) -> None:  # refused: override
        print(peer)

    def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:  # refused: override
        print(reason)
