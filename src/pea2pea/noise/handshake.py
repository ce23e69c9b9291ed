"""Noise handshakes over a stream, and the mixin that makes a node perform them. May import asyncio.

Each handshake message is preceded by its length in two bytes, big-endian, as in libp2p.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from ..errors import UsageError
from ..peer import Peer
from ..protocols import Handshake
from .config import NoiseConfig
from .errors import HandshakeCutError, MalformedMessageError
from .session import NoiseSession
from .state import HandshakeState
from .wire import LENGTH, framed

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Returns the payload of the next handshake message.
Payload = Callable[[HandshakeState], Awaitable[bytes]]
#: Called with the payload of each handshake message received.
Received = Callable[[HandshakeState, bytes], Awaitable[None]]


async def _no_payload(state: HandshakeState) -> bytes:
    return b""


async def _accept(state: HandshakeState, payload: bytes) -> None:
    pass


async def perform_handshake(
    config: NoiseConfig,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    initiator: bool,
    payload: Payload = _no_payload,
    received: Received = _accept,
) -> NoiseSession:
    """Perform a handshake, and return its session. A peer that is not accepted is refused once its key is received.

    ``payload`` returns the payload for each message that this side sends. ``received`` is called with the payload of
    each message of the peer, and may raise to refuse it. Both are given the state of the handshake.

    Nothing is read beyond the last message, or the confirmation. Raises :class:`NoiseError`, :class:`ConfigError`, or
    what ``payload`` and ``received`` raise.
    """
    if not isinstance(config, NoiseConfig):
        raise UsageError(f"expected a NoiseConfig, got {type(config).__name__}")
    state = config.begin(initiator=initiator)
    while not state.finished:
        if state.is_my_turn:
            await _write(writer, framed(state.write_message(await payload(state))))
        else:
            content = state.read_message(await _read(reader))
            if state.remote_static is not None:
                config.check_remote(state.remote_static)
            await received(state, content)
    ciphers = state.split()
    for cipher in ciphers:
        cipher.rekey_after = config.rekey_after
    session = NoiseSession(state.protocol, state.remote_static, state.handshake_hash, ciphers)
    if config.confirm:
        await _confirm(session, reader, writer, initiator=initiator)
    return session


async def _confirm(
    session: NoiseSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, initiator: bool
) -> None:
    """Confirm to the sender of the last handshake message that its peer accepted it.

    The other direction needs no confirmation: the sender of the last message had accepted its peer before it sent it.
    """
    if not session.protocol.pattern.sends_last(initiator=initiator):
        await _write(writer, session.seal(b""))
        return
    plaintext = session.unseal(await _read(reader, "while waiting for the confirmation"))
    if plaintext:
        raise MalformedMessageError(
            f"expected the empty message that confirms the handshake, got {len(plaintext)} bytes: "
            f"confirm must be the same on both sides"
        )


async def _read(reader: asyncio.StreamReader, when: str = "during the handshake") -> bytes:
    with _cut(when):
        (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return await reader.readexactly(size)


async def _write(writer: asyncio.StreamWriter, message: bytes) -> None:
    with _cut("during the handshake"):
        writer.write(message)
        await writer.drain()


@contextmanager
def _cut(when: str) -> Iterator[None]:
    """Convert the errors of a connection that ends."""
    try:
        yield
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise HandshakeCutError(
            f"the connection ended {when}: the peer refused this side, or the connection was lost"
        ) from error


class NoiseReader:
    """Reads the plaintext of a session, for a handshake that goes on over it: ``with NoiseReader(session, reader)``.

    Decrypted bytes that were not read are given back at the end of the ``with`` block: the session's decoder begins
    with them, and does not wait for more data first. Raises :class:`UsageError` if the session has a decoder already.
    """

    def __init__(self, session: NoiseSession, reader: asyncio.StreamReader) -> None:
        session.check_unread()
        self._session = session
        self._reader = reader
        # The last message as received, and what has not been read of its plaintext.
        self._message = b""
        self._unread = b""

    async def readexactly(self, n: int) -> bytes:
        """Return the next ``n`` bytes.

        Raises :class:`HandshakeCutError` if the stream ends before them, and what a decoder raises.
        """
        parts, missing = [], n
        while missing > len(self._unread):
            parts.append(self._unread)
            missing -= len(self._unread)
            self._unread = b""
            self._message = await _read(self._reader)
            self._unread = self._session.unseal(self._message)
        parts.append(self._unread[:missing])
        self._unread = self._unread[missing:]
        return b"".join(parts)

    def __enter__(self) -> NoiseReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        unread, self._unread = self._unread, b""
        if unread:
            self._session.give_back(unread)
            _put_back(self._reader, framed(self._message))


def _put_back(reader: asyncio.StreamReader, data: bytes) -> None:
    """Make ``data`` the next bytes of ``reader``. What it holds when the handshake returns is passed to the decoder."""
    # StreamReader has no method for this: feed_data appends, and fails after the end of the stream.
    cast(Any, reader)._buffer[:0] = data


class NoiseHandshake(Handshake[NoiseSession]):
    """Performs a Noise handshake with every peer; ``peer.session`` is then a :class:`NoiseSession`.

    The side that dials is the initiator. The codecs of the node must come from the session:
    ``peer.session.codec(...)``, ``peer.session.message_codec()``, or ``decoder`` and ``encoder``.
    """

    @abstractmethod
    def noise(self, peer: Peer) -> NoiseConfig:
        """Return the settings of the handshake with ``peer``, of which ``addr`` and ``inbound`` are known."""

    async def noise_payload(self, peer: Peer, state: HandshakeState) -> bytes:
        """Return the payload of the next message that this side sends; it has the number ``state.messages_done``.

        The pattern determines, message by message, who can read it and whether it is authenticated.
        """
        return b""

    async def noise_received(self, peer: Peer, state: HandshakeState, payload: bytes) -> None:
        """Called with the payload of each message of the peer. Raise to refuse the peer.

        ``state.remote_static`` is the peer's key, if it is known yet. It was checked against the settings.
        """

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> NoiseSession:
        return await perform_handshake(
            self.noise(peer),
            reader,
            writer,
            initiator=not peer.inbound,
            payload=lambda state: self.noise_payload(peer, state),
            received=lambda state, payload: self.noise_received(peer, state, payload),
        )
