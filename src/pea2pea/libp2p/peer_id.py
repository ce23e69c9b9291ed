"""Peer ids, and the keys they are made from. Pure. May import ``errors``, ``schema`` and ``keyfile``.

A peer id is the multihash of a public key, as the peer-ids specification defines it. This side's own keys are Ed25519.
Signatures of peers are verified for all four kinds of the specification.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ..errors import DecodeError
from ..keyfile import File, read_private, write_private
from . import schema
from .errors import IdentityFileError, KeyKindError, MalformedAddressError, MalformedKeyError, PeerIdentityError
from .varint import decode_varint

RSA, ED25519, SECP256K1, ECDSA = range(4)
_KINDS: Final = ("RSA", "Ed25519", "secp256k1", "ECDSA")

_IDENTITY: Final = 0x00
_SHA2_256: Final = 0x12
#: A public key of at most so many bytes is part of the id (as an identity multihash). A larger one is hashed.
MAX_INLINE_KEY: Final = 42
#: CIDv1 with the codec "libp2p-key".
_CID_PREFIX: Final = b"\x01\x72"
#: Characters of a peer id. Longer text is refused before it is decoded, since decoding base58 takes quadratic time.
MAX_TEXT: Final = 128
#: Sizes of RSA keys that are accepted: smaller ones are insecure, and larger ones slow to verify.
RSA_BITS: Final = range(2048, 8193)
#: Bytes of a key file: more than a private key of any kind needs. A larger file is refused, and not read to its end.
MAX_FILE: Final = 8192

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, repr=False, order=True)
class PeerId:
    """The identity of a peer: the multihash of its public key."""

    multihash: bytes

    def __post_init__(self) -> None:
        if not _is_multihash(self.multihash):
            raise MalformedAddressError(f"expected the multihash of a public key, got {self.multihash!r}")

    @classmethod
    def of_key(cls, public_key: bytes) -> PeerId:
        """Return the id of a public key, which is given in its protobuf form."""
        if len(public_key) <= MAX_INLINE_KEY:
            return cls(bytes((_IDENTITY, len(public_key))) + public_key)
        return cls(bytes((_SHA2_256, 32)) + hashlib.sha256(public_key).digest())

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Parse ``text``: base58 (``12D3...``, ``Qm...``), or a CID in base32 or base58.

        Raises :class:`MalformedAddressError`.
        """
        if len(text) > MAX_TEXT:
            raise MalformedAddressError(f"a peer id of {len(text)} characters; at most {MAX_TEXT} are allowed")
        if text.startswith(("1", "Qm")):
            return cls(base58_decode(text))
        if text.startswith("b"):
            cid = _base32_decode(text[1:])
        elif text.startswith("z"):
            cid = base58_decode(text[1:])
        else:
            raise MalformedAddressError(f"expected a peer id, such as '12D3KooW...' or 'Qm...', got {text!r}")
        if not cid.startswith(_CID_PREFIX):
            raise MalformedAddressError(f"{text!r} is a CID, but not that of a libp2p key")
        return cls(cid.removeprefix(_CID_PREFIX))

    @property
    def cid(self) -> str:
        """The id as a CIDv1 in base32, its other text form."""
        encoded = base64.b32encode(_CID_PREFIX + self.multihash).decode().rstrip("=").lower()
        return f"b{encoded}"

    @property
    def public_key(self) -> PublicKey | None:
        """The public key, or ``None`` if the id holds only its hash."""
        return PublicKey(self.multihash[2:]) if self.multihash[0] == _IDENTITY else None

    def __str__(self) -> str:
        return base58_encode(self.multihash)

    def __repr__(self) -> str:
        return f"<PeerId {self}>"


def check_expected(found: PeerId, expected: PeerId | None) -> PeerId:
    """Return ``found``. Raises :class:`PeerIdentityError` if another peer was expected."""
    if expected is not None and found != expected:
        raise PeerIdentityError(f"expected the peer {expected}, got {found}")
    return found


class PublicKey:
    """A public key of one of the four kinds, made from its protobuf form. Raises :class:`MalformedKeyError`.

    Keys are equal if their protobuf forms are.
    """

    __slots__ = ("_verify", "encoded", "kind")

    #: The key in its protobuf form.
    encoded: bytes
    #: ``RSA``, ``ED25519``, ``SECP256K1`` or ``ECDSA``.
    kind: int

    def __init__(self, encoded: bytes) -> None:
        try:
            message = schema.decode("PublicKey", encoded)
            if not (message.HasField("type") and message.HasField("data")):
                raise MalformedKeyError("a public key without type or data")
            self._verify = _verifier(message.type, message.data)
        except MalformedKeyError:
            raise
        except (ValueError, UnsupportedAlgorithm) as error:  # from cryptography, and from schema
            raise MalformedKeyError("expected a public key in its protobuf form, got other bytes") from error
        self.encoded = encoded
        self.kind = message.type

    @property
    def peer_id(self) -> PeerId:
        """The id of the peer that has this key."""
        return PeerId.of_key(self.encoded)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Return whether ``signature`` was made for ``data`` with the private key."""
        try:
            self._verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"<PublicKey of {self.peer_id}>"


class Identity:
    """An Ed25519 private key, and the peer id that it proves. Its ``repr`` shows the id only; it cannot be pickled."""

    __slots__ = ("_private", "peer_id", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        data = private.public_key().public_bytes_raw()
        #: The key that verifies this identity's signatures.
        self.public_key: PublicKey = PublicKey(schema.encode("PublicKey", type=ED25519, data=data))
        #: The peer id.
        self.peer_id: PeerId = self.public_key.peer_id

    @classmethod
    def generate(cls) -> Identity:
        """Return an identity with a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Identity:
        """Return the identity that :meth:`to_bytes` encoded.

        Raises :class:`MalformedKeyError`, or its subclass :class:`KeyKindError` for a key that is not Ed25519.
        """
        data = _ed25519_data(encoded)
        identity = cls(Ed25519PrivateKey.from_private_bytes(data[:32]))
        # Old implementations wrote the public key twice.
        if data[32:64] != data[-32:] or not identity.public_key.encoded.endswith(data[32:64]):
            raise MalformedKeyError("a private key with the public key of another one")
        return identity

    def to_bytes(self) -> bytes:
        """Return the private key in its protobuf form, unencrypted."""
        data = self._private.private_bytes_raw() + self._private.public_key().public_bytes_raw()
        return schema.encode("PrivateKey", type=ED25519, data=data)

    @classmethod
    def load(cls, path: File) -> Identity:
        """Load the identity from the file at ``path``.

        Raises :class:`IdentityFileError` if the file belongs to another user, can be used by others or holds no
        private key, its subclass :class:`KeyKindError` if the key is not Ed25519, and ``OSError`` if the file cannot be
        read.
        """
        content = read_private(path, MAX_FILE, IdentityFileError)
        try:
            return cls.from_bytes(content)
        except KeyKindError as error:
            raise KeyKindError(f"{os.fspath(path)}: {error}") from None
        except MalformedKeyError:  # without a cause, so that a logged traceback shows nothing of the content
            raise IdentityFileError(f"{os.fspath(path)}: the file holds no private key") from None

    @classmethod
    def load_or_make(cls, path: File) -> Identity:
        """Load the identity from ``path``; if there is no file, save a new identity there.

        Programs that call this at the same time get the same identity. Raises as :meth:`load` and :meth:`save`.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            made = cls.generate()
        try:
            made.save(path)
        except FileExistsError:
            return cls.load(path)
        return made

    def save(self, path: File, *, replace: bool = False) -> None:
        """Save the private key to ``path``, in its protobuf form, unencrypted, readable by its owner only.

        The file is written whole or not at all. Raises ``FileExistsError`` if there is a file and ``replace`` is false,
        since the host whose key is overwritten loses its peer id.
        """
        write_private(path, self.to_bytes(), replace=replace)

    def sign(self, data: bytes) -> bytes:
        """Return a signature for ``data``."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"<Identity {self.peer_id}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an identity cannot be pickled, since it holds a private key: use save() or to_bytes()")


# Keys


_Verify = Callable[[bytes, bytes], None]


def _ed25519_data(encoded: bytes) -> bytes:
    """Return the data of a private key in protobuf form: the private key, and the public key once or twice."""
    try:
        message = schema.decode("PrivateKey", encoded)
    except DecodeError:
        raise MalformedKeyError("expected a private key in its protobuf form, got other bytes") from None
    if not (message.HasField("type") and message.HasField("data")):
        raise MalformedKeyError("a private key without type or data")
    if message.type != ED25519:
        kind = _KINDS[message.type] if message.type < len(_KINDS) else "unknown"
        raise KeyKindError(f"expected an Ed25519 private key, got one of the kind {kind}")
    if len(message.data) not in (64, 96):
        raise MalformedKeyError(f"an Ed25519 private key needs 64 or 96 bytes of data, got {len(message.data)}")
    return bytes(message.data)


def _verifier(kind: int, data: bytes) -> _Verify:
    if kind == ED25519:
        return Ed25519PublicKey.from_public_bytes(data).verify
    if kind == SECP256K1:
        return _of_curve(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data))
    if kind == ECDSA:
        key = load_der_public_key(data)
        if isinstance(key, ec.EllipticCurvePublicKey):
            return _of_curve(key)
    if kind == RSA:
        key = load_der_public_key(data)
        if isinstance(key, rsa.RSAPublicKey) and key.key_size in RSA_BITS:
            return _of_rsa(key)
    raise MalformedKeyError(f"a public key of an unsupported kind ({kind}) or size")


def _of_curve(key: ec.EllipticCurvePublicKey) -> _Verify:
    return lambda signature, data: key.verify(signature, data, ec.ECDSA(hashes.SHA256()))


def _of_rsa(key: rsa.RSAPublicKey) -> _Verify:
    return lambda signature, data: key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())


# Text


def _is_multihash(data: bytes) -> bool:
    try:
        kind, position = decode_varint(data)
        size, position = decode_varint(data, position)
    except DecodeError:
        return False
    if len(data) - position != size:
        return False
    return (kind == _IDENTITY and 0 < size <= MAX_INLINE_KEY) or (kind == _SHA2_256 and size == 32)


def base58_encode(data: bytes) -> str:
    """Return ``data`` in base58 (Bitcoin's alphabet)."""
    number = int.from_bytes(data)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeroes = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeroes + "".join(reversed(digits))


def base58_decode(text: str) -> bytes:
    """Return the bytes that ``text`` encodes in base58. Raises :class:`MalformedAddressError`."""
    number = 0
    for character in text:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise MalformedAddressError(f"{character!r} is not a base58 character")
        number = number * 58 + digit
    zeroes = len(text) - len(text.lstrip("1"))
    return bytes(zeroes) + number.to_bytes((number.bit_length() + 7) // 8)


def _base32_decode(text: str) -> bytes:
    padded = text.upper() + "=" * (-len(text) % 8)
    try:
        decoded = base64.b32decode(padded)
    except binascii.Error:
        raise MalformedAddressError(f"{text!r} is not base32") from None
    if text != text.lower() or base64.b32encode(decoded).decode() != padded:
        raise MalformedAddressError(f"{text!r} is not base32 in lower case, without unused bits")
    return decoded
