"""What tests of libp2p hosts share: hosts that write down what happens, and ones that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from pea2pea import Config, DisconnectReason, Peer
from pea2pea.libp2p import Connection, Host, Identity, Stream
from pea2pea.libp2p.frames import Frame
from pea2pea.libp2p.noise import NOISE
from pea2pea.libp2p.tls import TLS
from pea2pea.network import Network
from support import Recorder
from support.node import CALLER, OPEN

ECHO = "/pea2pea/echo/1.0.0"
MIB = 1024 * 1024
#: Made once.
ANN, BOB = sorted((Identity.generate() for _ in range(2)), key=lambda identity: identity.peer_id)


class WitnessHost(Host):
    """A host that echoes, and writes down who came and why who left."""

    def __init__(self, config: Config = OPEN, network: Network | None = None, identity: Identity | None = None) -> None:
        super().__init__(config, network=network, identity=identity)
        self.came: Recorder[Peer] = Recorder()
        self.left: Recorder[DisconnectReason] = Recorder()
        self.handle(ECHO, echo)

    async def on_connect(self, peer: Peer) -> None:
        self.came.add(peer)
        await super().on_connect(peer)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        await super().on_disconnect(peer, reason)
        self.left.add(reason)

    def connection(self, peer: Peer) -> Connection:
        return cast(Connection, peer.session)


class NoiseHost(WitnessHost):
    security = (NOISE,)


class TlsHost(WitnessHost):
    security = (TLS,)


KINDS: dict[str, type[WitnessHost]] = {"noise": NoiseHost, "tls": TlsHost}


class Attacker(NoiseHost):
    """Says what it likes, and does nothing about what comes."""

    async def process_message(self, peer: Peer, message: Frame) -> None:
        pass

    async def say(self, peer: Peer, *frames: Frame) -> None:
        for frame in frames:
            await self.send(peer, frame)
        await self.flush(peer)


async def echo(stream: Stream) -> None:
    while part := await stream.read(MIB):
        stream.write(part)
        await stream.drain()


async def echoed(host: Host, peer: Peer, size: int, part: bytes = bytes(range(256)) * 256) -> bool:
    """Send ``size`` bytes and read them back at the same time; whether the digests agree."""
    stream = await host.open_stream(peer, ECHO)
    sent, received, count = hashlib.sha256(), hashlib.sha256(), 0

    async def write() -> None:
        for start in range(0, size, len(part)):
            piece = part[: size - start]
            sent.update(piece)
            stream.write(piece)
            await stream.drain()
        stream.close_write()

    writing = asyncio.create_task(write())
    while piece := await stream.read(MIB):
        received.update(piece)
        count += len(piece)
    await writing
    return count == size and sent.digest() == received.digest()


@asynccontextmanager
async def pair(
    net: Network, kind: type[WitnessHost] = NoiseHost, called: type[WitnessHost] | None = None
) -> AsyncIterator[tuple[WitnessHost, WitnessHost, Peer, Peer]]:
    """A host that dialled, one that was dialled, and each one's peer."""
    async with kind(CALLER, net) as caller, (called or kind)(OPEN, net) as listener:
        there = await caller.dial(listener.multiaddrs[0])
        (here,) = await listener.came.count(1)
        yield caller, listener, there, here


class Bent:
    """A writer that does something to what is written, by the place in all of it."""

    def __init__(self, writer: asyncio.StreamWriter, bend: Callable[[asyncio.StreamWriter, bytes, int], None]) -> None:
        self._writer = writer
        self._bend = bend
        self._position = 0

    def write(self, data: bytes) -> None:
        self._bend(self._writer, data, self._position)
        self._position += len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def cut_at(place: int) -> Callable[[asyncio.StreamWriter, bytes, int], None]:
    """Write up to ``place``, and end the stream there."""

    def bend(writer: asyncio.StreamWriter, data: bytes, position: int) -> None:
        if position <= place:
            writer.write(data[: place - position])
        if position <= place < position + len(data):
            writer.close()

    return bend


def flip_at(place: int) -> Callable[[asyncio.StreamWriter, bytes, int], None]:
    """Write the byte at ``place`` with one bit changed."""

    def bend(writer: asyncio.StreamWriter, data: bytes, position: int) -> None:
        if position <= place < position + len(data):
            changed = bytearray(data)
            changed[place - position] ^= 1
            data = bytes(changed)
        writer.write(data)

    return bend
