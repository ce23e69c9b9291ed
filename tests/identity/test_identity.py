"""One connection per peer: simultaneous dials, in any order of events, leave one connection and never none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pea2pea import (
    ConnectError,
    Decoder,
    DisconnectReason,
    Encoder,
    Handshake,
    LengthDelimited,
    MemoryNetwork,
    Origin,
    Peer,
    Reading,
    Settings,
    Writing,
)
from pea2pea.errors import SelfConnectError
from pea2pea.identity import DuplicateError, OnePerPeer
from pea2pea.network import Network
from pea2pea.noise import KeyPair, NoiseConfig, NoiseHandshake, NoiseSession
from pea2pea.tls import TlsIdentity, TlsSession
from pea2pea.tls.certificates import Identity
from support import Recorder, turns
from support.node import CALLER, OPEN, address
from support.tls import Networks, issued

DELAYS = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=4, max_size=4)


class Named(OnePerPeer, Handshake, Reading[bytes], Writing[bytes]):
    """A node whose identity is a letter, which it sends in the handshake. Each step of that may be delayed."""

    def __init__(self, name: bytes, network: Network | None = None, config: Settings = OPEN) -> None:
        super().__init__(**config, network=network)
        self.letter = name
        self.delays: list[float] = []
        self.left: Recorder[DisconnectReason] = Recorder()
        self.came: Recorder[Peer] = Recorder()

    @property
    def own_identity(self) -> bytes:
        return self.letter

    def identity_of(self, peer: Peer) -> bytes:
        return bytes(peer.session)

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await self._delay()
        writer.write(self.letter)
        other = await reader.readexactly(1)
        await self._delay()
        return other

    async def _delay(self) -> None:
        if self.delays:
            await asyncio.sleep(self.delays.pop())

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, message)

    async def on_connect(self, peer: Peer) -> None:
        self.came.add(peer)
        await super().on_connect(peer)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        await super().on_disconnect(peer, reason)
        if isinstance(reason.exception, DuplicateError):
            assert self.peer_of(self.identity_of(peer)) not in (None, peer), "the last connection was ended"
        self.left.add(reason)


class Many(Named):
    """A node that does not follow the rule."""

    one_per_peer = False


@asynccontextmanager
async def nodes(*made: Named) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for node in made:
            await stack.enter_async_context(node)
        yield


@settings(max_examples=300)
@given(DELAYS, DELAYS, st.sampled_from([0.0, 0.05, 0.2, 0.5]), st.booleans())
async def test_simultaneous_dials_leave_one_connection(
    ours: list[float], theirs: list[float], later: float, swapped: bool
) -> None:
    net = MemoryNetwork()
    ann, bob = Named(b"a", net), Named(b"b", net)
    first, second = (bob, ann) if swapped else (ann, bob)
    async with nodes(ann, bob):
        ann.delays, bob.delays = ours, theirs

        async def dial_later() -> None:
            await asyncio.sleep(later)
            await second.connect_to(first.letter, address(first))

        await asyncio.gather(first.connect_to(second.letter, address(second)), dial_later())
        await asyncio.sleep(1)
        for node, other in ((ann, bob), (bob, ann)):
            assert len(node.peers) == 1 and node.connections_of(other.letter) == node.peers
            assert node.peer_of(other.letter) is node.peers[0]
            # Never none: each connection that ended did so while there was another.
            assert len(node.came.items) - len(node.left.items) == 1
        there, here = ann.peers[0], bob.peers[0]
        assert there.inbound is not here.inbound


async def test_both_networks_agree(net: Network) -> None:
    ann, bob = Named(b"a", net), Named(b"b", net)
    async with nodes(ann, bob):
        await asyncio.gather(ann.connect(address(bob)), bob.connect(address(ann)))
        await asyncio.gather(ann.came.count(2), bob.came.count(2))
        (mine,), (theirs,) = await ann.left.count(1), await bob.left.count(1)
        assert mine.origin is Origin.USER and isinstance(mine.exception, DuplicateError)
        assert theirs.origin is Origin.READING
        await turns()
        kept = ann.peer_of(b"b")
        assert kept is not None
        await ann.send(kept, b"still there")
        await ann.flush(kept)


async def test_an_identity_that_is_connected_is_not_dialled_again(memory: MemoryNetwork) -> None:
    ann, bob = Named(b"a", memory), Named(b"b", memory)
    async with nodes(ann, bob):
        peer = await ann.connect_to(b"b", address(bob))
        with socket.socket() as unused:
            assert await ann.connect_to(b"b", "127.0.0.1:1", sock=unused) is peer
            assert unused.fileno() == -1
        assert ann.peer_of(b"x") is None and ann.connections_of(b"x") == []


async def test_another_identity_at_that_address_is_disconnected(memory: MemoryNetwork) -> None:
    ann, bob = Named(b"a", memory), Named(b"b", memory)
    async with nodes(ann, bob):
        with pytest.raises(ConnectError, match="another identity"):
            await ann.connect_to(b"c", address(bob))
        assert not ann.peers


async def test_a_connection_of_a_node_to_itself_is_ended(memory: MemoryNetwork) -> None:
    ann, twin = Named(b"a", memory), Named(b"a", memory)
    async with nodes(ann, twin):
        await ann.connect(address(twin))
        reasons = [*await ann.left.count(1), *await twin.left.count(1)]
        assert any(isinstance(reason.exception, SelfConnectError) for reason in reasons)


@pytest.mark.parametrize("decides", [True, False])
async def test_a_peer_that_lost_its_connection_gets_a_new_one(memory: MemoryNetwork, decides: bool) -> None:
    """It restarted, and this side has not detected yet that the earlier connection is dead. The last one is kept."""
    node = Named(b"a" if decides else b"c", memory)
    before, after = Many(b"b", memory, CALLER), Many(b"b", memory, CALLER)
    async with nodes(node, before, after):
        await before.connect(address(node))
        await after.connect(address(node))
        begin = asyncio.get_running_loop().time()
        await node.left.count(1)
        assert asyncio.get_running_loop().time() - begin == pytest.approx(0 if decides else node.settle_seconds)
        await before.left.count(1)
        assert len(node.connections_of(b"b")) == 1 and after.peers


async def test_the_other_side_ends_nothing_if_the_first_does(memory: MemoryNetwork) -> None:
    ann, bob = Named(b"a", memory), Named(b"b", memory)
    async with nodes(ann, bob):
        for _ in range(2):
            await bob.connect_to(b"a", address(ann))
            await asyncio.gather(ann.connect(address(bob)), turns())
            await ann.left.count(1)
            await asyncio.sleep(2 * bob.settle_seconds)
            assert len(bob.peers) == 1 == len(ann.peers)
            await bob.disconnect(bob.peers[0])
            await turns()


async def test_it_can_be_switched_off(memory: MemoryNetwork) -> None:
    ann, bob = Many(b"a", memory), Many(b"b", memory)
    async with nodes(ann, bob):
        await ann.connect(address(bob))
        await bob.connect(address(ann))
        await asyncio.sleep(60)
        assert len(ann.connections_of(b"b")) == 2 and ann.peer_of(b"b") is ann.peers[-1]


async def test_closing_leaves_no_timer(memory: MemoryNetwork) -> None:
    node = Named(b"c", memory)
    before, after = Many(b"b", memory, CALLER), Many(b"b", memory, CALLER)
    async with nodes(before, after):
        async with node:
            await before.connect(address(node))
            await after.connect(address(node))
            await node.came.count(2)
            await turns()
            assert node._settling
        assert not node._settling and not node._known


class Known(OnePerPeer, Reading[bytes], Writing[bytes]):
    """The common part of the two nodes below."""

    def __init__(self, network: Network) -> None:
        super().__init__(**OPEN, network=network)
        self.left: Recorder[DisconnectReason] = Recorder()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        await self.send(peer, message)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        await super().on_disconnect(peer, reason)
        self.left.add(reason)


class Keyed(NoiseHandshake, Known):
    """Its identity is its Noise key."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.key = KeyPair.generate()

    def noise(self, peer: Peer) -> NoiseConfig:
        return NoiseConfig(static_key=self.key)

    @property
    def own_identity(self) -> bytes:
        return self.key.public

    def identity_of(self, peer: Peer) -> bytes:
        return bytes(peer.session.remote_static)

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        session: NoiseSession = peer.session
        return session.decoder(LengthDelimited())

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        session: NoiseSession = peer.session
        return session.encoder(LengthDelimited())


class Certified(TlsIdentity, Known):
    """Its identity is the key in its certificate."""

    def __init__(self, identity: Identity, network: Network) -> None:
        super().__init__(network)
        self.identity = identity

    @property
    def own_identity(self) -> bytes:
        return self.identity.node_id.encode()

    def identity_of(self, peer: Peer) -> bytes:
        session: TlsSession = peer.session
        return str(session.node_id).encode()

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LengthDelimited()


async def dial_each_other(one: Known, other: Known) -> None:
    async with one, other:
        await asyncio.gather(one.connect(address(other)), other.connect(address(one)))
        await asyncio.gather(one.left.count(1), other.left.count(1))
        for node, them in ((one, other), (other, one)):
            assert len(node.connections_of(them.own_identity)) == 1


async def test_with_the_keys_of_noise(net: Network) -> None:
    await dial_each_other(Keyed(net), Keyed(net))


async def test_with_the_certificates_of_tls(net: Network, tmp_path: Path) -> None:
    networks = Networks(tmp_path, net)
    ann, bob = issued(name="ann"), issued(name="bob")
    await dial_each_other(Certified(ann, networks(ann)), Certified(bob, networks(bob)))
