"""The Noise channel of libp2p: Noise XX, with the identity key in its payload. May import asyncio and ``noise``.

The key that Noise proves is not the peer's identity: the payload holds the identity's key, and its signature
for the other. Extensions in the payload are ignored, as the specification allows.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..codec import Decoder, Encoder
from ..noise import HandshakeState, KeyPair, NoiseConfig, NoiseSession, shake_hands
from ..noise.codec import LENGTH
from . import schema
from .channel import Channel, Message
from .errors import PeerIdentityError
from .peer_id import Identity, PeerId, PublicKey

NOISE: Final = "/noise"
SIGNED_PREFIX: Final = b"noise-libp2p-static-key:"


class NoiseChannel(Channel):
    """A finished Noise handshake."""

    name = NOISE

    def __init__(self, session: NoiseSession, remote_id: PeerId) -> None:
        self.remote_id = remote_id
        self._session = session

    def decoder(self, inner: Decoder[Message]) -> Decoder[Message]:
        return self._session.decoder(inner)

    def encoder(self, inner: Encoder[Message]) -> Encoder[Message]:
        return self._session.encoder(inner)

    def seal(self, plaintext: bytes) -> bytes:
        return self._session.seal(plaintext)

    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return self._session.unseal(await reader.readexactly(size))


async def secure_with_noise(
    identity: Identity,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    initiator: bool,
    expected: PeerId | None = None,
) -> NoiseChannel:
    """Run the handshake. Raises :class:`NoiseError`, :class:`PeerIdentityError` or :class:`MalformedKeyError`."""
    static = KeyPair.generate()
    remote: list[PeerId] = []

    async def payload(state: HandshakeState) -> bytes:
        # The first message can be read by anybody, and has none.
        return make_payload(identity, static.public) if state.messages_done else b""

    async def received(state: HandshakeState, content: bytes) -> None:
        if state.remote_static is not None:
            remote.append(check_payload(content, state.remote_static, expected))

    session = await shake_hands(
        NoiseConfig(static_key=static), reader, writer, initiator=initiator, payload=payload, received=received
    )
    return NoiseChannel(session, remote[-1])


def make_payload(identity: Identity, static_key: bytes) -> bytes:
    """Return the proof that ``static_key`` is this identity's."""
    signature = identity.sign(SIGNED_PREFIX + static_key)
    return schema.encode("NoisePayload", identity_key=identity.public_key.encoded, identity_sig=signature)


def check_payload(content: bytes, static_key: bytes, expected: PeerId | None) -> PeerId:
    """Return whose key ``static_key`` is. Raises :class:`PeerIdentityError`, :class:`DecodeError`."""
    message = schema.decode("NoisePayload", content)
    key = PublicKey(message.identity_key)
    if not key.verify(message.identity_sig, SIGNED_PREFIX + static_key):
        raise PeerIdentityError("the identity's signature does not fit the Noise key")
    return check_expected(key.peer_id, expected)


def check_expected(found: PeerId, expected: PeerId | None) -> PeerId:
    """Return ``found``. Raises :class:`PeerIdentityError` where another peer was expected."""
    if expected is not None and found != expected:
        raise PeerIdentityError(f"{found} answered where {expected} was expected")
    return found
