"""The certificates of libp2p's TLS: self-signed, with the host's identity in an extension. Pure.

May import ``errors`` and ``peer_id``.

The key of a certificate is not the host's identity key. The extension holds the public identity key and its signature
over the certificate's key, so whoever completes the handshake with that certificate has the identity as well.
"""

from __future__ import annotations

import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import PeerIdentityError
from .peer_id import Identity, PeerId, PublicKey, check_expected

EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNED_PREFIX: Final = b"libp2p-tls-handshake:"

#: Bytes of an extension, which holds a key and a signature. Those of RSA with 8192 bits take about 2.1 KB.
MAX_EXTENSION: Final = 8192
_LIFETIME: Final = datetime.timedelta(days=3650)
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)
_SEQUENCE, _OCTET_STRING = 0x30, 0x04


def make_certificate(identity: Identity, extension: bytes | None = None) -> tuple[x509.Certificate, Any]:
    """Return a new certificate for ``identity``, and its private key.

    ``extension`` replaces the content of the extension; tests use it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "libp2p")])
    if extension is None:
        extension = make_extension(identity, _public_key_info(key.public_key()))
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
    """Return the content of the extension that binds a certificate's key to ``identity``.

    ``key_info`` is the DER encoding of the key's ``SubjectPublicKeyInfo``.
    """
    signature = identity.sign(SIGNED_PREFIX + key_info)
    return _der(_SEQUENCE, _der(_OCTET_STRING, identity.public_key.encoded) + _der(_OCTET_STRING, signature))


def check_certificate(certificate: x509.Certificate, expected: PeerId | None = None) -> PeerId:
    """Return the peer id that the certificate proves.

    Raises :class:`PeerIdentityError` if it proves none, or another one than ``expected``, and
    :class:`MalformedKeyError` if the identity key cannot be used.
    """
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise PeerIdentityError("the peer's certificate has expired, or is not valid yet")
    try:
        certificate.verify_directly_issued_by(certificate)
        found = certificate.extensions.get_extension_for_oid(EXTENSION).value
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PeerIdentityError("the peer's certificate is not self-signed") from error
    except x509.ExtensionNotFound as error:
        raise PeerIdentityError("the peer's certificate lacks the libp2p public key extension") from error
    if not isinstance(found, x509.UnrecognizedExtension):
        raise PeerIdentityError("the public key extension of the peer's certificate has another type")
    encoded, signature = _read_extension(found.value)
    key = PublicKey(encoded)
    if not key.verify(signature, SIGNED_PREFIX + _public_key_info(certificate.public_key())):
        raise PeerIdentityError("the identity key's signature does not match the certificate's key")
    return check_expected(key.peer_id, expected)


def _public_key_info(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


def _read_extension(data: bytes) -> tuple[bytes, bytes]:
    """Return the public identity key and the signature."""
    if len(data) > MAX_EXTENSION:
        raise PeerIdentityError(f"a public key extension of {len(data)} bytes; at most {MAX_EXTENSION} are allowed")
    content, after = _read_der(_SEQUENCE, data)
    key, rest = _read_der(_OCTET_STRING, content)
    signature, rest = _read_der(_OCTET_STRING, rest)
    if after or rest:
        raise PeerIdentityError("a public key extension with trailing bytes")
    return key, signature


def _der(tag: int, content: bytes) -> bytes:
    """Return ``content`` as one DER element."""
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 128 | len(octets))) + octets + content


def _read_der(tag: int, data: bytes) -> tuple[bytes, bytes]:
    """Return the content of the first DER element in ``data``, and the bytes after it."""
    if len(data) < 2 or data[0] != tag:
        raise PeerIdentityError(f"a public key extension without the expected DER element (tag {tag:#04x})")
    size, start = data[1], 2
    if size > 127:
        start = 2 + (size & 127)
        size = int.from_bytes(data[2:start])
    content, after = data[start : start + size], data[start + size :]
    # Encoding it again also refuses BER: an indefinite length, or one padded with zeroes.
    if len(content) != size or _der(tag, content) != data[: start + size]:
        raise PeerIdentityError("a public key extension that is truncated, or not DER")
    return content, after
