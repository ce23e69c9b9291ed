"""The TLS channel of libp2p: TLS 1.3, and a certificate that the identity key vouches for. May import asyncio.

On pyOpenSSL: the ``ssl`` of the standard library cannot ask a client for a certificate that no authority
signed and leave the judgement to the program, which is what this protocol is. Where the ``ssl`` module has a
socket, here are two queues of bytes: TLS begins after a negotiation in the clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Sequence
from typing import Any, Final, Generic

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from ..codec import Buffer, Decoder, Encoder
from ..errors import Pea2PeaError
from .channel import Channel, Message
from .errors import ChannelError, PeerIdentityError
from .noise import check_expected
from .peer_id import Identity, PeerId, PublicKey

TLS: Final = "/tls/1.0.0"
ALPN: Final = b"libp2p"
EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNED_PREFIX: Final = b"libp2p-tls-handshake:"

#: A key and a signature; RSA's with 8192 bits have about 2.1 KB.
MAX_EXTENSION: Final = 8192
#: Bytes taken from, or given to, OpenSSL at once.
PORTION: Final = 256 * 1024
#: Bytes that OpenSSL answers by itself, to a peer that asks for new keys, before this side sends anything. A receive
#: asks for that much at the most, and nobody has a reason to ask for more.
MOST_ANSWERS: Final = PORTION
#: Bytes that came and held no plaintext, in how many of them a byte of it may come, and a record besides, which the
#: peer may pad. A new key costs 15 us; who sends nothing else would take most of a processor for 1 MB/s.
MOST_USELESS: Final = 64 * 1024
WORTH: Final = 32
PADDING: Final = 1024
#: Seconds for whoever is refused to read it.
LAST_WORDS: Final = 1.0
_LIFETIME: Final = datetime.timedelta(days=3650)
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)
_SEQUENCE, _OCTETS = 0x30, 0x04


# Certificates


def make_certificate(identity: Identity, extension: bytes | None = None) -> tuple[x509.Certificate, Any]:
    """Return a new certificate of ``identity``, and its private key. ``extension`` is for tests."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "libp2p")])
    if extension is None:
        extension = make_extension(identity, _key_info(key.public_key()))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, extension), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def make_extension(identity: Identity, key_info: bytes) -> bytes:
    """Return the extension by which ``identity`` vouches for a certificate's key."""
    signature = identity.sign(SIGNED_PREFIX + key_info)
    return _der(_SEQUENCE, _der(_OCTETS, identity.public_key.encoded) + _der(_OCTETS, signature))


def check_certificate(certificate: x509.Certificate, expected: PeerId | None = None) -> PeerId:
    """Return whose certificate it is. Raises :class:`PeerIdentityError`, :class:`MalformedKeyError`."""
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise PeerIdentityError("a certificate that has expired, or is not valid yet")
    try:
        certificate.verify_directly_issued_by(certificate)
        found = certificate.extensions.get_extension_for_oid(EXTENSION).value
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PeerIdentityError("a certificate that did not sign itself") from error
    except x509.ExtensionNotFound as error:
        raise PeerIdentityError("a certificate without libp2p's public key extension") from error
    if not isinstance(found, x509.UnrecognizedExtension):
        raise PeerIdentityError("a certificate whose public key extension is another")
    encoded, signature = _read_extension(found.value)
    key = PublicKey(encoded)
    if not key.verify(signature, SIGNED_PREFIX + _key_info(certificate.public_key())):
        raise PeerIdentityError("the identity's signature does not fit the certificate's key")
    return check_expected(key.peer_id, expected)


def _key_info(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 128 | len(octets))) + octets + content


def _undo_der(tag: int, data: bytes) -> tuple[bytes, bytes]:
    """The content of the first item, and what is behind it."""
    if len(data) < 2 or data[0] != tag:
        raise PeerIdentityError("a public key extension that is not what it should be")
    size, start = data[1], 2
    if size > 127:
        start = 2 + (size & 127)
        size = int.from_bytes(data[2:start])
    content, rest = data[start : start + size], data[start + size :]
    if len(content) != size or _der(tag, content) != data[: start + size]:
        raise PeerIdentityError("a public key extension that is cut, or not in DER")
    return content, rest


def _read_extension(data: bytes) -> tuple[bytes, bytes]:
    if len(data) > MAX_EXTENSION:
        raise PeerIdentityError(f"a public key extension of {len(data)} bytes")
    content, rest = _undo_der(_SEQUENCE, data)
    key, behind = _undo_der(_OCTETS, content)
    signature, behind = _undo_der(_OCTETS, behind)
    if rest or behind:
        raise PeerIdentityError("a public key extension with more in it")
    return key, signature


# The channel


class _Judge:
    """Says whether the peer's certificate will do, and remembers what it found."""

    def __init__(self, expected: PeerId | None) -> None:
        self._expected = expected
        self.remote_id: PeerId | None = None
        self.refusal: Pea2PeaError | None = None

    def __call__(self, connection: SSL.Connection, certificate: Any, problem: int, depth: int, good: int) -> bool:
        # OpenSSL's own opinion, that nobody known signed it, is not asked for.
        if self.remote_id is not None and not depth:
            return True  # asked again, for the next of its own objections
        try:
            if depth:
                raise PeerIdentityError("more than one certificate")
            self.remote_id = check_certificate(certificate.to_cryptography(), self._expected)
        except Pea2PeaError as error:
            self.refusal = error
            return False
        return True


class _Records:
    """What OpenSSL is given and what it gives, when the handshake is over."""

    __slots__ = ("_answers", "_connection", "_useless")

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection
        # What it says by itself to what came. It goes with what is sent next, as RFC 8446, section 4.6.3, has it.
        self._answers = bytearray()
        self._useless = 0

    def add(self, data: bytes) -> None:
        """Take what came."""
        self._connection.bio_write(data)
        self._useless += len(data)

    def decrypt(self) -> bytes:
        """Return some plaintext, or none where more has to come first. Raises :class:`ChannelError`."""
        if plaintext := _decrypt(self._connection):
            self._useless = max(0, self._useless - WORTH * len(plaintext) - PADDING)
            return plaintext
        self._answers += _output(self._connection)
        if len(self._answers) > MOST_ANSWERS:
            raise ChannelError("TLS: the peer goes on asking for new keys")
        if self._useless > MOST_USELESS:
            raise ChannelError("TLS: the peer sends what is for nobody, without end")
        return b""

    def encrypt(self, plaintext: bytes) -> bytes:
        """Return what to send. Raises :class:`ChannelError`."""
        try:
            self._connection.sendall(plaintext)
        except SSL.Error as error:  # it is over since something came that does not decrypt
            raise _failure(error) from error
        sealed = _output(self._connection)
        if self._answers:
            sealed = bytes(self._answers) + sealed
            self._answers.clear()
        return sealed


class TlsChannel(Channel):
    """A finished TLS handshake."""

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
            self._records.add(await _some(reader))
        return plaintext

    def received(self) -> bytes:
        return b"".join(iter(self._records.decrypt, b""))


class TlsDecoder(Decoder[Message], Generic[Message]):
    """Decrypts, and has ``inner`` decode the plaintext, of which it keeps what is not a whole frame yet."""

    __slots__ = ("_failure", "_inner", "_kept", "_need", "_records")

    def __init__(self, records: _Records, inner: Decoder[Message]) -> None:
        self._records = records
        self._inner = inner
        self._kept = bytearray()
        self._need = 0
        self._failure: Exception | None = None

    def decode(self, buffer: memoryview) -> tuple[Sequence[Message], int]:
        if self._failure is not None:
            raise self._failure
        self._records.add(bytes(buffer))
        try:
            while plaintext := self._records.decrypt():
                self._kept += plaintext
        except ChannelError as error:
            self._failure = error
        messages = self._decode()
        if self._failure is not None:
            if not messages:
                raise self._failure
            return messages, len(buffer) - 1  # so that this is called again, and raises then
        return messages, len(buffer)

    def finish(self, rest: memoryview) -> Sequence[Message]:
        if self._failure is not None:
            raise self._failure
        return self._inner.finish(memoryview(bytes(self._kept)))

    def _decode(self) -> Sequence[Message]:
        messages: list[Message] = []
        start = 0
        with memoryview(self._kept) as view:
            try:
                while len(view) - start >= max(1, self._need):
                    with view[start:] as rest:
                        found, used = self._inner.decode(rest)
                    start, self._need = start + used, 0
                    messages += found
                    if not found and not used:
                        with view[start:] as rest:
                            self._need = self._inner.frame_size(rest)
                        break
            except Exception as error:  # the inner codec's; raised when this is called again
                self._failure = self._failure or error
        del self._kept[:start]
        return messages


class TlsEncoder(Encoder[Message], Generic[Message]):
    """Has ``inner`` encode messages, and encrypts the bytes."""

    __slots__ = ("_inner", "_records")

    def __init__(self, records: _Records, inner: Encoder[Message]) -> None:
        self._records = records
        self._inner = inner

    def encode(self, messages: Sequence[Message]) -> Sequence[Buffer]:
        plaintext = b"".join(self._inner.encode(messages))
        parts = (plaintext[start : start + PORTION] for start in range(0, len(plaintext), PORTION))
        return [self._records.encrypt(part) for part in parts]


async def secure_with_tls(
    identity: Identity,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    initiator: bool,
    expected: PeerId | None = None,
    certificate: tuple[x509.Certificate, Any] | None = None,
) -> TlsChannel:
    """Run the handshake. Raises :class:`PeerIdentityError`, :class:`MalformedKeyError` or :class:`ChannelError`.

    In TLS 1.3 a client is done before the server has judged its certificate: that it was refused, it
    learns from the first bytes that it reads. ``certificate`` is for tests.
    """
    judge = _Judge(expected)
    connection = SSL.Connection(_context(judge, certificate or make_certificate(identity)), None)
    if initiator:
        connection.set_connect_state()
    else:
        connection.set_accept_state()
    try:
        while not _step(connection, judge, writer):
            await writer.drain()
            connection.bio_write(await _some(reader))
    except Pea2PeaError:
        await _be_heard(reader, writer)
        raise
    await writer.drain()
    if judge.remote_id is None or connection.get_alpn_proto_negotiated() != ALPN:
        raise ChannelError("a handshake without a certificate, or not for libp2p")
    return TlsChannel(connection, judge.remote_id)


def _context(judge: _Judge, certificate: tuple[x509.Certificate, Any]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(certificate[0])
    context.use_privatekey(certificate[1])
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, judge)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(lambda _, offered: ALPN if ALPN in offered else b"")
    return context


def _step(connection: SSL.Connection, judge: _Judge, writer: asyncio.StreamWriter) -> bool:
    """Take the handshake one step on; return whether that was the last."""
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        return False
    except SSL.Error as error:
        raise judge.refusal or _failure(error) from error
    finally:
        writer.write(_output(connection))
    return True


def _decrypt(connection: SSL.Connection) -> bytes:
    """Some plaintext, or none where more has to come first."""
    try:
        return connection.recv(PORTION)
    except (SSL.WantReadError, SSL.ZeroReturnError):
        # After the peer's farewell nothing decrypts; the end of the connection follows.
        return b""
    except SSL.Error as error:
        raise _failure(error) from error


def _output(connection: SSL.Connection) -> bytes:
    parts = []
    try:
        while True:
            parts.append(connection.bio_read(PORTION))
    except SSL.WantReadError:
        return parts[0] if len(parts) == 1 else b"".join(parts)


async def _be_heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the other side has read why it is refused, for a while: what ends the connection now drops that."""
    if not writer.transport.is_closing():
        with contextlib.suppress(OSError, TimeoutError):
            writer.write_eof()
            async with asyncio.timeout(LAST_WORDS):
                while await reader.read(PORTION):
                    pass


async def _some(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(PORTION)
    if not data:
        raise ChannelError("the stream ended inside the handshake: the other side left, or refused")
    return data


def _failure(error: SSL.Error) -> ChannelError:
    reasons = [reason for _, _, reason in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ChannelError(f"TLS: {', '.join(reasons) or type(error).__name__}")
