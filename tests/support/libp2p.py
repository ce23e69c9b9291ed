"""Hosts for tests: hosts that record events, and hosts that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from pea2pea import DisconnectReason, Peer, Settings
from pea2pea.libp2p import Connection, Host, Identity, Stream
from pea2pea.libp2p.frames import Frame
from pea2pea.libp2p.noise import NOISE
from pea2pea.libp2p.tls import TLS
from pea2pea.network import Network
from support import Recorder
from support.node import CALLER, OPEN

#: Writes data to the writer; the last argument is its position in the stream.
Alter = Callable[[asyncio.StreamWriter, bytes, int], None]

ECHO = "/pea2pea/echo/1.0.0"
MIB = 1024 * 1024
#: Two identities, sorted by peer id.
ANN, BOB = sorted((Identity.generate() for _ in range(2)), key=lambda identity: identity.peer_id)


class WitnessHost(Host):
    """A host that echoes, and records connected peers and the reasons for which they left."""

    def __init__(
        self, config: Settings = OPEN, network: Network | None = None, identity: Identity | None = None
    ) -> None:
        super().__init__(**config, network=network, identity=identity)
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
    """Sends any frames, and ignores received ones."""

    async def process_message(self, peer: Peer, message: Frame) -> None:
        pass

    async def send_frames(self, peer: Peer, *frames: Frame) -> None:
        for frame in frames:
            await self.send(peer, frame)
        await self.flush(peer)


async def echo(stream: Stream) -> None:
    while part := await stream.read(MIB):
        stream.write(part)
        await stream.drain()


async def echoed(host: Host, peer: Peer, size: int, part: bytes = bytes(range(256)) * 256) -> bool:
    """Send ``size`` bytes to an echo and read them back at the same time; return whether the digests are equal."""
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
    """Yield a dialling host, a listening host, and the peer that each has for the other."""
    async with kind(CALLER, net) as caller, (called or kind)(OPEN, net) as listener:
        there = await caller.dial(listener.multiaddrs[0])
        (here,) = await listener.came.count(1)
        yield caller, listener, there, here


class AlteringWriter:
    """A writer that passes written data to ``alter``, with its position in all data written so far."""

    def __init__(self, writer: asyncio.StreamWriter, alter: Alter) -> None:
        self.position = 0
        self._writer = writer
        self._alter = alter

    def write(self, data: bytes) -> None:
        self._alter(self._writer, data, self.position)
        self.position += len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def truncate_at(place: int) -> Alter:
    """Close the stream after ``place`` bytes."""

    def alter(writer: asyncio.StreamWriter, data: bytes, position: int) -> None:
        if position <= place:
            writer.write(data[: place - position])
        if position <= place < position + len(data):
            writer.close()

    return alter


def flip_at(place: int) -> Alter:
    """Change one bit of the byte at ``place``."""

    def alter(writer: asyncio.StreamWriter, data: bytes, position: int) -> None:
        if position <= place < position + len(data):
            changed = bytearray(data)
            changed[place - position] ^= 1
            data = bytes(changed)
        writer.write(data)

    return alter
