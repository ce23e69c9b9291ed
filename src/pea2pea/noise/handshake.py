"""A Noise handshake over a reader and a writer, and the mixin that lets a node do it. May import asyncio.

Every message goes behind its length in two bytes, big-endian, as libp2p does it too.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, cast

from ..errors import ConfigError
from ..peer import Peer
from ..protocols import Handshake
from .codec import LENGTH, NoiseSession, check_rekey_after
from .crypto import KeyPair, key_size, same_key
from .errors import HandshakeCutError, PeerNotAllowedError
from .state import HandshakeState, NoiseProtocol

#: What goes into the next message of a handshake.
Payload = Callable[[HandshakeState], Awaitable[bytes]]
#: Told of every message that came.
Received = Callable[[HandshakeState, bytes], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """How to shake hands with one peer. Frozen; raises :class:`ConfigError` when made wrong.

    Keys are not part of the ``repr``.
    """

    #: What to speak. Both sides have to name the same.
    protocol: str = "Noise_XX_25519_ChaChaPoly_SHA256"
    #: This side's key, where the pattern has one for it.
    static_key: KeyPair | None = field(default=None, repr=False)
    #: The peer's public key: needed where the pattern has it known beforehand, checked where the peer sends it.
    remote_key: bytes | None = field(default=None, repr=False)
    #: One key of 32 bytes for each psk modifier of the pattern, in their order.
    psks: tuple[bytes, ...] = field(default=(), repr=False)
    #: What both sides have to agree on besides.
    prologue: bytes = b""
    #: The public keys that are let in; ``None``: any. It is looked at anew for every peer.
    allowed: Collection[bytes] | None = field(default=None, repr=False)
    #: Messages after which either direction gets a new key; ``None``: never. Both sides have to name the same.
    rekey_after: int | None = None

    def __post_init__(self) -> None:
        size = key_size(NoiseProtocol.of(self.protocol).curve)
        if isinstance(self.psks, bytes):
            raise ConfigError("psks", "is one key, and has to be a tuple of them")
        if self.remote_key is not None and len(self.remote_key) != size:
            raise ConfigError("remote_key", f"{len(self.remote_key)} bytes are no public key")
        if isinstance(self.allowed, bytes):
            raise ConfigError("allowed", "is one key, and has to be a collection of them")
        check_rekey_after(self.rekey_after)

    def begin(self, *, initiator: bool) -> HandshakeState:
        """Return a new handshake. Raises :class:`ConfigError` where this role cannot do what is asked."""
        protocol = NoiseProtocol.of(self.protocol)
        known = protocol.pattern.known[initiator]
        learned = protocol.pattern.sends_static(initiator=not initiator)
        for setting, value in (("remote_key", self.remote_key), ("allowed", self.allowed)):
            if value is not None and not (known or learned):
                raise ConfigError(setting, f"cannot be checked: {protocol.name} does not tell this side the peer's key")
        return HandshakeState(
            protocol,
            initiator=initiator,
            prologue=self.prologue,
            static=self.static_key,
            remote_static=self.remote_key if known else None,
            psks=self.psks,
        )

    def check_remote(self, key: bytes) -> None:
        """Raise :class:`PeerNotAllowedError` unless a peer of this static key is welcome."""
        if self.remote_key is not None and not same_key(key, self.remote_key):
            raise PeerNotAllowedError("the peer is not who was expected")
        # All are compared, so that the time tells nothing of where it stands.
        if self.allowed is not None and not sum([same_key(key, other) for other in self.allowed]):
            raise PeerNotAllowedError("the peer is not on the allow-list")


async def _no_payload(state: HandshakeState) -> bytes:
    return b""


async def _ignore(state: HandshakeState, payload: bytes) -> None:
    """Nobody wants to know."""


async def shake_hands(
    config: NoiseConfig,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    initiator: bool,
    payload: Payload = _no_payload,
    received: Received = _ignore,
) -> NoiseSession:
    """Run a handshake to its end. Whoever is not welcome is refused as soon as its key is proven.

    ``payload`` is asked for what to put into each message of this side, ``received`` is told what was in
    each of the other's, and may raise to refuse it; both see the state that the handshake is in. No byte
    is read beyond the last message. Raises :class:`NoiseError`, :class:`ConfigError`, or what those two raise.
    """
    state = config.begin(initiator=initiator)
    while not state.finished:
        if state.is_my_turn:
            message = state.write_message(await payload(state))
            writer.write(LENGTH.pack(len(message)) + message)
            await writer.drain()
        else:
            content = state.read_message(await _read(reader))
            if state.remote_static is not None:
                config.check_remote(state.remote_static)
            await received(state, content)
    return NoiseSession(state.protocol, state.remote_static, state.handshake_hash, state.split(), config.rekey_after)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise HandshakeCutError("the stream ended inside the handshake: the other side left, or refused") from error


class NoiseReader:
    """The plaintext of a session, for a handshake that goes on over it: ``with NoiseReader(session, reader) as plain``.

    What came in one message with what was read, and was not read itself, is given back when the ``with`` block ends:
    the session's decoder begins with it, and need not wait for another byte. Raises :class:`UsageError` where there
    is a decoder already.
    """

    def __init__(self, session: NoiseSession, reader: asyncio.StreamReader) -> None:
        session.check_unread()
        self._session = session
        self._reader = reader
        # The last message as it came, and what is not read of it yet.
        self._message = b""
        self._left = b""

    async def readexactly(self, n: int) -> bytes:
        """Return the next ``n`` bytes.

        Raises :class:`HandshakeCutError` where the stream ends before them, and what a decoder raises.
        """
        parts, lacking = [], n
        while lacking > len(self._left):
            parts.append(self._left)
            lacking -= len(self._left)
            self._left = b""
            self._message = await _read(self._reader)
            self._left = self._session.unseal(self._message)
        parts.append(self._left[:lacking])
        self._left = self._left[lacking:]
        return b"".join(parts)

    def __enter__(self) -> NoiseReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        left, self._left = self._left, b""
        if left:
            self._session.give_back(left)
            _put_back(self._reader, LENGTH.pack(len(self._message)) + self._message)


def _put_back(reader: asyncio.StreamReader, data: bytes) -> None:
    """Have ``data`` come first again. What a handshake has not read is what the node gives the decoder."""
    # A reader has no method for it: feeding comes last, and not at all when the end was fed.
    cast(Any, reader)._buffer[:0] = data


class NoiseHandshake(Handshake):
    """Makes ``peer.session`` a :class:`NoiseSession`; the dialler is the initiator.

    The codecs of the node then come from it: ``peer.session.decoder(...)``, ``peer.session.encoder(...)``.
    """

    @abstractmethod
    def noise(self, peer: Peer) -> NoiseConfig:
        """Return how to shake hands with ``peer``, of which the address and the direction are known."""

    async def noise_payload(self, peer: Peer, state: HandshakeState) -> bytes:
        """Return what to put into the next message of the handshake, which is number ``state.messages_done``.

        Who can read it, and who could have changed it, depends on the pattern and on the message.
        """
        return b""

    async def noise_received(self, peer: Peer, state: HandshakeState, payload: bytes) -> None:
        """A message of the handshake came, with ``payload`` in it. Raise to refuse the peer.

        ``state.remote_static`` is the peer's key, if it is known by now; it was checked against the config.
        """

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> NoiseSession:
        return await shake_hands(
            self.noise(peer),
            reader,
            writer,
            initiator=not peer.inbound,
            payload=lambda state: self.noise_payload(peer, state),
            received=lambda state, payload: self.noise_received(peer, state, payload),
        )
