"""The TLS channel of libp2p: TLS 1.3 with self-signed certificates. May import asyncio.

It uses pyOpenSSL, since the standard library's ``ssl`` cannot request a self-signed client certificate and leave the
verification to the program. The handshake begins after a negotiation in plaintext, on a connection that asyncio has
read from already, so OpenSSL gets its bytes from memory BIOs and not from a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any, Final, Generic

from cryptography import x509
from OpenSSL import SSL

from ..codec import KIB, Buffer, Decoder, Encoder
from ..errors import Pea2PeaError
from ..undecoded import GATHER_FROM, Undecoded
from .certificates import check_certificate, make_certificate
from .channel import Channel, Message
from .errors import ChannelError, PeerIdentityError
from .peer_id import Identity, PeerId

TLS: Final = "/tls/1.0.0"
ALPN: Final = b"libp2p"

#: Bytes moved into or out of OpenSSL, or read from the connection, at once.
PORTION: Final = 256 * KIB
#: The plaintext of one TLS record: OpenSSL returns no more at once.
MAX_RECORD: Final = 16 * KIB
#: Memory for the plaintext of one receive, behind the remainder of the one before.
PLAINTEXT_SIZE: Final = PORTION + GATHER_FROM
#: Bytes of OpenSSL's own replies that wait for this side's next write. A peer that sends KeyUpdate messages causes
#: them; nothing else does that could reach this bound.
MAX_REPLIES: Final = PORTION
#: Bytes that a peer may send without plaintext in them. A KeyUpdate has 27 bytes and costs 15 microseconds, so without
#: this bound 1 MB/s of them would take most of a processor.
MAX_OVERHEAD: Final = 64 * KIB
#: What a record of plaintext buys back of that bound: so much for each byte, since the peer may send every byte in a
#: record of its own, and so much for each record, since the peer may pad it.
OVERHEAD_PER_BYTE: Final = 32
OVERHEAD_PER_RECORD: Final = 1 * KIB
#: Seconds that a refused peer has to read the alert before the connection is closed.
ALERT_TIMEOUT: Final = 1.0


class TlsChannel(Channel):
    """A TLS connection after its handshake."""

    name = TLS

    def __init__(self, connection: SSL.Connection, remote_id: PeerId) -> None:
        self.remote_id = remote_id
        self._records = _Records(connection)

    def decoder(self, inner: Decoder[Message]) -> Decoder[Message]:
        return TlsDecoder(self._records, inner)

    def encoder(self, inner: Encoder[Message]) -> Encoder[Message]:
        return TlsEncoder(self._records, inner)

    def seal(self, plaintext: bytes) -> bytes:
        return self._records.encrypt(plaintext)

    async def receive(self, reader: asyncio.StreamReader) -> bytes:
        while not (plaintext := self._records.decrypt()):
            self._records.add(await _read(reader))
        return plaintext

    def received(self) -> bytes:
        return b"".join(iter(self._records.decrypt, b""))


class TlsDecoder(Decoder[Message], Generic[Message]):
    """Decrypts records, and decodes the plaintext with ``inner``."""

    __slots__ = ("_failure", "_plaintext", "_records")

    def __init__(self, records: _Records, inner: Decoder[Message]) -> None:
        self._records = records
        self._plaintext = Undecoded(inner, _shared.memory)
        self._failure: Exception | None = None

    def decode(self, buffer: memoryview) -> tuple[Sequence[Message], int]:
        if self._failure is not None:
            raise self._failure
        self._records.add(bytes(buffer))
        messages = self._decode_records()
        if self._failure is None:
            return messages, len(buffer)
        if not messages:
            raise self._failure
        # The messages before the failure count. One byte is left over, so this is called again, and raises then.
        return messages, len(buffer) - 1

    def finish(self, rest: memoryview) -> Sequence[Message]:
        if self._failure is not None:
            raise self._failure
        messages = self._plaintext.finish()
        if self._plaintext.failure is not None:
            raise self._plaintext.failure
        return messages

    def _decode_records(self) -> Sequence[Message]:
        """Return the messages in all records that have arrived; if one cannot be decrypted, set ``_failure``."""
        messages: list[Message] = []
        while self._failure is None and (size := self._decrypt_into(self._plaintext.buffer())):
            messages += self._plaintext.receive(size)
            self._failure = self._failure or self._plaintext.failure
        return messages

    def _decrypt_into(self, memory: memoryview) -> int:
        """Fill ``memory`` as far as the records go; return how many bytes of it are plaintext."""
        filled = 0
        try:
            while filled < len(memory) and (size := self._records.decrypt_into(memory[filled:])):
                filled += size
        except ChannelError as error:
            self._failure = error
        return filled


class TlsEncoder(Encoder[Message], Generic[Message]):
    """Encodes messages with ``inner``, and encrypts the bytes."""

    __slots__ = ("_inner", "_records")

    def __init__(self, records: _Records, inner: Encoder[Message]) -> None:
        self._records = records
        self._inner = inner

    def encode(self, messages: Sequence[Message]) -> Sequence[Buffer]:
        plaintext = b"".join(self._inner.encode(messages))
        parts = (plaintext[start : start + PORTION] for start in range(0, len(plaintext), PORTION))
        return [self._records.encrypt(part) for part in parts]


class _SharedMemory(threading.local):
    """Memory that all decoders of a thread decrypt into. Each is done with it when its ``decode`` returns."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(PLAINTEXT_SIZE))


_shared: Final = _SharedMemory()


class _Records:
    """OpenSSL after the handshake: encrypted bytes in, plaintext out, and the other way round."""

    __slots__ = ("_connection", "_overhead", "_replies")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        # OpenSSL's replies to KeyUpdate messages. RFC 8446, section 4.6.3, lets them wait for the next write.
        self._replies = bytearray()
        self._overhead = 0

    def add(self, data: bytes) -> None:
        """Add encrypted bytes that were received."""
        self._connection.bio_write(data)
        self._overhead += len(data)

    def decrypt_into(self, memory: memoryview) -> int:
        """Write plaintext of one record to ``memory``, and return its size; 0 if more bytes have to arrive first.

        Raises :class:`ChannelError`.
        """
        try:
            size = self._connection.recv_into(memory, MAX_RECORD)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            # ZeroReturnError is close_notify: the peer encrypts nothing more, and the end of the stream follows.
            self._check_bounds()
            return 0
        except SSL.Error as error:
            raise _failure(error) from error
        self._overhead = max(0, self._overhead - OVERHEAD_PER_BYTE * size - OVERHEAD_PER_RECORD)
        return size

    def decrypt(self) -> bytes:
        """Return plaintext of one record, or ``b""`` if more bytes have to arrive first. Raises as above."""
        memory = memoryview(bytearray(MAX_RECORD))
        return bytes(memory[: self.decrypt_into(memory)])

    def encrypt(self, plaintext: bytes) -> bytes:
        """Return the bytes to send. Raises :class:`ChannelError`."""
        try:
            self._connection.sendall(plaintext)
        except SSL.Error as error:  # OpenSSL refuses to encrypt once a record could not be decrypted
            raise _failure(error) from error
        sealed = _output(self._connection)
        if self._replies:
            sealed = bytes(self._replies) + sealed
            self._replies.clear()
        return sealed

    def _check_bounds(self) -> None:
        self._replies += _output(self._connection)
        if len(self._replies) > MAX_REPLIES:
            raise ChannelError("TLS: the peer keeps requesting new keys")
        if self._overhead > MAX_OVERHEAD:
            raise ChannelError("TLS: the peer keeps sending records without data")


class _Verifier:
    """Verifies the peer's certificate when OpenSSL asks, and keeps the result."""

    def __init__(self, expected: PeerId | None) -> None:
        self._expected = expected
        self.remote_id: PeerId | None = None
        self.refusal: Pea2PeaError | None = None

    def __call__(self, connection: SSL.Connection, certificate: Any, problem: int, depth: int, good: int) -> bool:
        # OpenSSL's own result is ignored: it never trusts a self-signed certificate.
        if self.remote_id is not None and not depth:
            return True  # called once for each of OpenSSL's objections to one certificate
        try:
            if depth:
                raise PeerIdentityError("the peer sent more than one certificate")
            self.remote_id = check_certificate(certificate.to_cryptography(), self._expected)
        except Pea2PeaError as error:
            self.refusal = error
            return False
        return True


async def secure_with_tls(
    identity: Identity,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    initiator: bool,
    expected: PeerId | None = None,
) -> TlsChannel:
    """Do the TLS handshake, and return the channel.

    Raises :class:`PeerIdentityError`, :class:`MalformedKeyError` or :class:`ChannelError`. In TLS 1.3 the client is
    done before the server has verified the client's certificate, so a client that is refused gets a channel whose
    first read raises.
    """
    verifier = _Verifier(expected)
    connection = SSL.Connection(make_context(verifier, make_certificate(identity)), None)
    if initiator:
        connection.set_connect_state()
    else:
        connection.set_accept_state()
    try:
        while not _do_handshake(connection, verifier, writer):
            await writer.drain()
            connection.bio_write(await _read(reader))
    except Pea2PeaError:
        await _wait_until_closed(reader, writer)
        raise
    await writer.drain()
    if verifier.remote_id is None or connection.get_alpn_proto_negotiated() != ALPN:
        raise ChannelError("TLS: the peer sent no certificate, or did not negotiate the ALPN protocol libp2p")
    return TlsChannel(connection, verifier.remote_id)


def make_context(verifier: _Verifier, certificate: tuple[x509.Certificate, Any]) -> SSL.Context:
    """Return the settings of one connection."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(certificate[0])
    context.use_privatekey(certificate[1])
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verifier)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(lambda _, offered: ALPN if ALPN in offered else b"")
    return context


def _do_handshake(connection: SSL.Connection, verifier: _Verifier, writer: asyncio.StreamWriter) -> bool:
    """Continue the handshake as far as the received bytes go; return whether it is complete."""
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    except SSL.Error as error:
        raise verifier.refusal or _failure(error) from error
    finally:
        writer.write(_output(connection))  # the alert, if it failed
    return True


async def _wait_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give the peer time to read the alert: closing while its bytes are unread would reset the connection."""
    if not writer.transport.is_closing():
        with contextlib.suppress(OSError, TimeoutError):
            writer.write_eof()
            async with asyncio.timeout(ALERT_TIMEOUT):
                while await reader.read(PORTION):
                    pass


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(PORTION)
    if not data:
        raise ChannelError("the peer closed the connection during the handshake, or refused it")
    return data


def _output(connection: SSL.Connection) -> bytes:
    """Return the encrypted bytes that OpenSSL has to send."""
    parts = []
    try:
        while True:
            parts.append(connection.bio_read(PORTION))
    except SSL.WantReadError:
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _failure(error: SSL.Error) -> ChannelError:
    reasons = [reason for _, _, reason in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ChannelError(f"TLS: {', '.join(reasons) or type(error).__name__}")
