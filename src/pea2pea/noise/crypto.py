"""The primitives that Noise names, from ``cryptography`` and the standard library; none is made here.

May import ``errors``. A key pair, a cipher and a hash as the specification's sections 4 and 12 want them.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ..codec import Buffer
from ..errors import ConfigError
from .errors import DecryptError, MalformedMessageError

#: Bytes of a key of a cipher, and of a pre-shared one.
KEY_SIZE: Final = 32
#: Bytes that a cipher adds to what it encrypts.
TAG_SIZE: Final = 16


# Diffie-Hellman


@dataclass(frozen=True, slots=True)
class _Curve:
    size: int
    private: Any
    public: Any


CURVES: Final = {
    "25519": _Curve(32, X25519PrivateKey, X25519PublicKey),
    "448": _Curve(56, X448PrivateKey, X448PublicKey),
}


class KeyPair:
    """A private key and its ``public`` bytes. Neither its ``repr`` nor ``pickle`` gives the private key away."""

    __slots__ = ("_private", "curve", "public")

    #: ``25519`` or ``448``.
    curve: str
    #: The public key: for a static key, what a peer is known by.
    public: bytes

    def __init__(self, private: Any, curve: str) -> None:
        self._private = private
        self.curve = curve
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, curve: str = "25519") -> KeyPair:
        """Return a new key pair."""
        return cls(_curve(curve).private.generate(), curve)

    @classmethod
    def from_private(cls, private: bytes, curve: str = "25519") -> KeyPair:
        """Return the key pair of these private bytes. Raises :class:`ConfigError` where their number is wrong."""
        if len(private) != _curve(curve).size:
            raise ConfigError("private", f"{len(private)} bytes are no private key of {curve}")
        return cls(_curve(curve).private.from_private_bytes(private), curve)

    def private_bytes(self) -> bytes:
        """Return the private key, for whoever has to keep it."""
        return cast(bytes, self._private.private_bytes_raw())

    def exchange(self, public: bytes) -> bytes:
        """Return what both sides alone can compute. Raises :class:`MalformedMessageError` for a useless key."""
        try:
            return cast(bytes, self._private.exchange(CURVES[self.curve].public.from_public_bytes(public)))
        except ValueError as error:
            # Of low order: whatever the private key, all would know the result.
            raise MalformedMessageError("a public key that cannot be used") from error

    def __repr__(self) -> str:
        return f"<KeyPair on {self.curve}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a key pair is not pickled: save it with pea2pea.noise.save_key")


def _curve(name: str) -> _Curve:
    if name not in CURVES:
        raise ConfigError("curve", f"{name!r} is neither '25519' nor '448'")
    return CURVES[name]


def key_size(curve: str) -> int:
    """Bytes of a public, and of a private, key."""
    return _curve(curve).size


def same_key(one: bytes, other: bytes) -> bool:
    """Whether two keys are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)


# Ciphers


class Aead(Protocol):
    """What the two classes of ``cryptography`` have in common."""

    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def decrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...


IntoBuffer = Callable[[Any, bytes, Buffer, memoryview], object]


def _encrypt_into(aead: Any, nonce: bytes, data: Buffer, out: memoryview) -> object:
    return aead.encrypt_into(nonce, data, None, out)


def _decrypt_into(aead: Any, nonce: bytes, data: Buffer, out: memoryview) -> object:
    return aead.decrypt_into(nonce, data, None, out)


def encrypt_copying(aead: Aead, nonce: bytes, data: Buffer, out: memoryview) -> object:
    """What releases of ``cryptography`` without ``encrypt_into`` have to do."""
    out[:] = aead.encrypt(nonce, data, None)
    return None


def decrypt_copying(aead: Aead, nonce: bytes, data: Buffer, out: memoryview) -> object:
    """As above, the other way."""
    out[:] = aead.decrypt(nonce, data, None)
    return None


_CAN_ENCRYPT_INTO: Final = all(hasattr(kind, "encrypt_into") for kind in (AESGCM, ChaCha20Poly1305))
_CAN_DECRYPT_INTO: Final = all(hasattr(kind, "decrypt_into") for kind in (AESGCM, ChaCha20Poly1305))


@dataclass(frozen=True, slots=True)
class Cipher:
    """An AEAD with the nonce format that Noise gives it."""

    name: str
    new: Callable[[bytes], Aead]
    #: The number of a message as a nonce.
    nonce: Callable[[int], bytes]
    encrypt_into: IntoBuffer = _encrypt_into if _CAN_ENCRYPT_INTO else encrypt_copying
    decrypt_into: IntoBuffer = _decrypt_into if _CAN_DECRYPT_INTO else decrypt_copying


CIPHERS: Final = {
    "ChaChaPoly": Cipher("ChaChaPoly", ChaCha20Poly1305, struct.Struct("<4xQ").pack),
    "AESGCM": Cipher("AESGCM", AESGCM, struct.Struct(">4xQ").pack),
}

#: What a cipher raises where a tag does not fit.
NotAuthentic = InvalidTag


def not_authentic() -> DecryptError:
    """The one answer to every message that does not fit: why it does not is not for the peer to know."""
    return DecryptError("a message is not authentic: altered, replayed, out of order, or under other keys")


# Hashes

#: Names of the specification, and what the standard library calls them.
HASHES: Final = {"SHA256": "sha256", "SHA512": "sha512", "BLAKE2s": "blake2s", "BLAKE2b": "blake2b"}


def digest_of(name: str, data: bytes) -> bytes:
    """HASH of the specification; ``name`` is one of the values of ``HASHES``."""
    return hashlib.new(name, data).digest()


def derive(name: str, chaining_key: bytes, material: bytes, count: int) -> list[bytes]:
    """HKDF of the specification (section 4.3): ``count`` outputs, each as long as a hash."""
    secret = hmac.digest(chaining_key, material, name)
    outputs: list[bytes] = []
    last = b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes((number,)), name)
        outputs.append(last)
    return outputs
