"""Peer ids and the keys behind them: who a peer is, and how it proves it. Pure. May import ``errors``, ``schema``
and ``keyfile``.

A peer id is the multihash of a public key, as the peer-ids specification has it. This side's own keys are
Ed25519; the other kinds are recognised, and their signatures checked.
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
from .errors import IdentityFileError, KeyKindError, MalformedAddressError, MalformedKeyError
from .varint import decode_varint

RSA, ED25519, SECP256K1, ECDSA = range(4)
_KINDS: Final = ("RSA", "Ed25519", "secp256k1", "ECDSA")

_IDENTITY: Final = 0x00
_SHA2_256: Final = 0x12
#: A key up to this size is in the id itself; of a larger one, its hash is.
MAX_INLINE_KEY: Final = 42
#: CIDv1, and the codec "libp2p-key".
_CID_PREFIX: Final = b"\x01\x72"
#: No id has more bytes; longer text is refused before it is decoded, which takes quadratic time.
MAX_TEXT: Final = 128
#: RSA keys outside of these bits are worth nothing, or take too long.
RSA_BITS: Final = range(2048, 8193)
#: More than a private key of any kind needs; a file that is larger holds none, and is not read further.
MAX_FILE: Final = 8192

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, repr=False, order=True)
class PeerId:
    """Who a peer is: the multihash of its public key."""

    multihash: bytes

    def __post_init__(self) -> None:
        if not _is_multihash(self.multihash):
            raise MalformedAddressError(f"{self.multihash!r} is no peer id")

    @classmethod
    def of_key(cls, public_key: bytes) -> PeerId:
        """Return the id of a public key in its protobuf form."""
        if len(public_key) <= MAX_INLINE_KEY:
            return cls(bytes((_IDENTITY, len(public_key))) + public_key)
        return cls(bytes((_SHA2_256, 32)) + hashlib.sha256(public_key).digest())

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Return the id in ``text``: base58 (``12D3...``, ``Qm...``) or a CID in base32 or base58.

        Raises :class:`MalformedAddressError`.
        """
        if len(text) > MAX_TEXT:
            raise MalformedAddressError(f"a peer id of {len(text)} characters")
        if text.startswith(("1", "Qm")):
            return cls(base58_decode(text))
        if text.startswith("b"):
            cid = _base32_decode(text[1:])
        elif text.startswith("z"):
            cid = base58_decode(text[1:])
        else:
            raise MalformedAddressError(f"{text!r} is no peer id")
        if not cid.startswith(_CID_PREFIX):
            raise MalformedAddressError(f"{text!r} is no CID of a peer id")
        return cls(cid.removeprefix(_CID_PREFIX))

    @property
    def cid(self) -> str:
        """The other text form: a CIDv1 in base32."""
        encoded = base64.b32encode(_CID_PREFIX + self.multihash).decode().rstrip("=").lower()
        return f"b{encoded}"

    @property
    def public_key(self) -> PublicKey | None:
        """The key, where it is small enough to be in the id itself."""
        return PublicKey(self.multihash[2:]) if self.multihash[0] == _IDENTITY else None

    def __str__(self) -> str:
        return base58_encode(self.multihash)

    def __repr__(self) -> str:
        return f"<PeerId {self}>"


class PublicKey:
    """A public key of any of the four kinds. Raises :class:`MalformedKeyError` for what is none.

    Equal where the bytes are.
    """

    __slots__ = ("_verify", "encoded", "kind")

    #: The key in its protobuf form.
    encoded: bytes
    #: RSA, ED25519, SECP256K1 or ECDSA.
    kind: int

    def __init__(self, encoded: bytes) -> None:
        try:
            message = schema.decode("PublicKey", encoded)
            if not (message.HasField("type") and message.HasField("data")):
                raise MalformedKeyError("a public key without a type or without data")
            self._verify = _verifier(message.type, message.data)
        except MalformedKeyError:
            raise
        except (ValueError, UnsupportedAlgorithm) as error:  # what cryptography, and schema, raise
            raise MalformedKeyError("bytes that are no public key") from error
        self.encoded = encoded
        self.kind = message.type

    @property
    def peer_id(self) -> PeerId:
        """Who has this key."""
        return PeerId.of_key(self.encoded)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` was made for ``data`` with the private key."""
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
    """This side's Ed25519 key. Its ``repr`` tells the id, and it is not pickled."""

    __slots__ = ("_private", "peer_id", "public_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        data = private.public_key().public_bytes_raw()
        #: What the other side checks signatures with.
        self.public_key = PublicKey(schema.encode("PublicKey", type=ED25519, data=data))
        #: Who this side is.
        self.peer_id = self.public_key.peer_id

    @classmethod
    def generate(cls) -> Identity:
        """Return a new identity."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Identity:
        """Return the identity that :meth:`to_bytes` gave.

        Raises :class:`MalformedKeyError`, of which :class:`KeyKindError` for a key that is not Ed25519.
        """
        data = _ed25519_data(encoded)
        identity = cls(Ed25519PrivateKey.from_private_bytes(data[:32]))
        # Older files repeat the public key at their end.
        if data[32:64] != data[-32:] or not identity.public_key.encoded.endswith(data[32:64]):
            raise MalformedKeyError("a private key with the public key of another")
        return identity

    def to_bytes(self) -> bytes:
        """Return the private key in its protobuf form, for whoever has to keep it."""
        data = self._private.private_bytes_raw() + self._private.public_key().public_bytes_raw()
        return schema.encode("PrivateKey", type=ED25519, data=data)

    @classmethod
    def load(cls, path: File) -> Identity:
        """Return the identity in the file at ``path``.

        Raises :class:`IdentityFileError` where it belongs to or can be used by others, or holds no key, of which
        :class:`KeyKindError` where it holds one that is not Ed25519; ``OSError`` where it cannot be read at all.
        """
        content = read_private(path, MAX_FILE, IdentityFileError)
        try:
            return cls.from_bytes(content)
        except KeyKindError as error:
            raise KeyKindError(f"{os.fspath(path)}: holds {error}") from None
        except MalformedKeyError:  # nothing of the content is to be in a log
            raise IdentityFileError(f"{os.fspath(path)}: holds no private key") from None

    @classmethod
    def load_or_make(cls, path: File) -> Identity:
        """Return the identity at ``path``, or make one there; who else does so at once gets the same. Raises as both.
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
        """Write the private key, in its protobuf form, to ``path``: for its owner alone, whole or not at all.

        Raises ``FileExistsError`` where there is a file already, unless it is to be replaced: with its key a
        host loses its peer id.
        """
        write_private(path, self.to_bytes(), replace=replace)

    def sign(self, data: bytes) -> bytes:
        """Return a signature for ``data``."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        return f"<Identity {self.peer_id}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an identity is not pickled: save it with save()")


# Keys


_Verify = Callable[[bytes, bytes], None]


def _ed25519_data(encoded: bytes) -> bytes:
    """What is in the protobuf form of a private key: that key, and the public one once or twice."""
    try:
        message = schema.decode("PrivateKey", encoded)
    except DecodeError:
        raise MalformedKeyError("bytes that are no private key") from None
    if not (message.HasField("type") and message.HasField("data")):
        raise MalformedKeyError("a private key without a type or without data")
    if message.type != ED25519:
        kind = _KINDS[message.type] if message.type < len(_KINDS) else "unknown"
        raise KeyKindError(f"a private key of the kind {kind}, and Ed25519 is all that is used here")
    if len(message.data) not in (64, 96):
        raise MalformedKeyError("a private key of a wrong size")
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
    raise MalformedKeyError(f"a public key of a kind ({kind}) or size that is not known")


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
    """Return ``data`` in base58 with Bitcoin's alphabet."""
    number = int.from_bytes(data)
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_ALPHABET[digit])
    zeroes = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeroes + "".join(reversed(digits))


def base58_decode(text: str) -> bytes:
    """Return what :func:`base58_encode` encoded. Raises :class:`MalformedAddressError`."""
    number = 0
    for character in text:
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise MalformedAddressError(f"{character!r} is not of base58")
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
        raise MalformedAddressError(f"{text!r} is not the base32 of anything")
    return decoded
