"""Helpers for tests of Noise: both sides of a handshake without a network, and nodes that encrypt."""

from __future__ import annotations

import asyncio

from pea2pea import (
    Decoder,
    DisconnectReason,
    Encoder,
    LengthDelimited,
    Node,
    OnDisconnect,
    Peer,
    Reading,
    Writing,
)
from pea2pea.network import Network
from pea2pea.noise import HandshakeState, KeyPair, NoiseConfig, NoiseHandshake, NoiseProtocol, NoiseSession
from support import Recorder

PSKS = tuple(bytes((number,)) * 32 for number in range(1, 5))
#: Generated once: key generation takes most of the time of a handshake.
ANN, BOB, EVE = (KeyPair.generate() for _ in range(3))
FAST = "25519_ChaChaPoly_BLAKE2s"


def config_for(pattern: str, *, initiator: bool, suite: str = FAST, psks: int | None = None) -> NoiseConfig:
    """The settings of one side of a handshake. Ann is the initiator, Bob the responder."""
    protocol = NoiseProtocol.of(f"Noise_{pattern}_{suite}")
    own, other = (ANN, BOB) if initiator else (BOB, ANN)
    wanted = protocol.pattern
    return NoiseConfig(
        protocol=protocol.name,
        static_key=own if wanted.has_static(initiator=initiator) else None,
        remote_key=other.public if wanted.known[initiator] else None,
        psks=PSKS[: wanted.psks if psks is None else psks],
    )


def states(pattern: str, suite: str = FAST) -> tuple[HandshakeState, HandshakeState]:
    """Both sides of a handshake that has not begun."""
    begun = [config_for(pattern, initiator=side, suite=suite).begin(initiator=side) for side in (True, False)]
    return begun[0], begun[1]


def sessions(suite: str = FAST, rekey_after: int | None = None) -> tuple[NoiseSession, NoiseSession]:
    """Both sides of a handshake that is finished."""
    ann, bob = states("NN", suite)
    bob.read_message(ann.write_message())
    ann.read_message(bob.write_message())
    return session_of(ann, rekey_after), session_of(bob, rekey_after)


def session_of(state: HandshakeState, rekey_after: int | None = None) -> NoiseSession:
    """The session of a finished handshake."""
    ciphers = state.split()
    for cipher in ciphers:
        cipher.rekey_after = rekey_after
    return NoiseSession(state.protocol, state.remote_static, state.handshake_hash, ciphers)


class Secret(Node, NoiseHandshake, Reading[bytes], Writing[bytes], OnDisconnect):
    """Records its messages, handshakes and disconnects."""

    def __init__(self, noise: NoiseConfig, network: Network, *, listen: bool = False) -> None:
        where = "127.0.0.1:0" if listen else None
        super().__init__(listen=where, max_connections_per_ip=100, network=network)
        self.noise_config = noise
        self.messages: Recorder[bytes] = Recorder()
        self.ended: Recorder[DisconnectReason] = Recorder()
        #: The session of each handshake, or the exception it raised.
        self.handshakes: Recorder[NoiseSession | BaseException] = Recorder()

    def noise(self, peer: Peer) -> NoiseConfig:
        return self.noise_config

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> NoiseSession:
        try:
            session = await super().handshake(peer, reader, writer)
        except BaseException as error:
            self.handshakes.add(error)
            raise
        self.handshakes.add(session)
        return session

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return peer.session.decoder(LengthDelimited())  # type: ignore[no-any-return]

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return peer.session.encoder(LengthDelimited())  # type: ignore[no-any-return]

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.messages.add(message)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.ended.add(reason)
