"""The Noise channel of libp2p: Noise XX with the identity key in the payload. May import asyncio and ``noise``.

The static key of Noise is not the peer's identity. The payload of the handshake holds the public identity key, and its
signature over the static key. Extensions in the payload are ignored, as the specification allows.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..codec import Decoder, Encoder
from ..noise import HandshakeState, KeyPair, NoiseConfig, NoiseSession, perform_handshake
from ..noise.codec import LENGTH
from . import schema
from .channel import Channel, Message
from .errors import PeerIdentityError
from .peer_id import Identity, PeerId, PublicKey, check_expected

NOISE: Final = "/noise"
SIGNED_PREFIX: Final = b"noise-libp2p-static-key:"


class NoiseChannel(Channel):
    """A Noise connection after its handshake."""

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
    """Do the Noise handshake, and return the channel.

    Raises :class:`NoiseError`, :class:`PeerIdentityError` or :class:`MalformedKeyError`.
    """
    static = KeyPair.generate()
    remote: list[PeerId] = []

    async def payload(state: HandshakeState) -> bytes:
        # The first message is not encrypted, so it carries no identity.
        return make_payload(identity, static.public) if state.messages_done else b""

    async def received(state: HandshakeState, content: bytes) -> None:
        if state.remote_static is not None:
            remote.append(check_payload(content, state.remote_static, expected))

    session = await perform_handshake(
        NoiseConfig(static_key=static), reader, writer, initiator=initiator, payload=payload, received=received
    )
    return NoiseChannel(session, remote[-1])


def make_payload(identity: Identity, static_key: bytes) -> bytes:
    """Return the payload that binds ``static_key`` to ``identity``."""
    signature = identity.sign(SIGNED_PREFIX + static_key)
    return schema.encode("NoisePayload", identity_key=identity.public_key.encoded, identity_sig=signature)


def check_payload(content: bytes, static_key: bytes, expected: PeerId | None) -> PeerId:
    """Return the peer id to which ``content`` binds ``static_key``.

    Raises :class:`PeerIdentityError` if it binds it to none, or to another one than ``expected``, and
    :class:`DecodeError`.
    """
    message = schema.decode("NoisePayload", content)
    key = PublicKey(message.identity_key)
    if not key.verify(message.identity_sig, SIGNED_PREFIX + static_key):
        raise PeerIdentityError("the identity key's signature does not match the Noise key")
    return check_expected(key.peer_id, expected)
