"""The primitives of Noise, from ``cryptography`` and the standard library. None is implemented here.

May import ``errors``. Key pairs, ciphers and hashes with the interface of the specification's sections 4 and 12.
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

#: The size of a cipher's key, and of a pre-shared key, in bytes.
KEY_SIZE: Final = 32
#: The size of the authentication tag that a cipher appends, in bytes.
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
    """A private key and its ``public`` bytes. Its ``repr`` does not show the private key, and it cannot be pickled."""

    __slots__ = ("_private", "curve", "public")

    #: ``25519`` or ``448``.
    curve: str
    #: The public key. That of a static key pair is the identity of its owner.
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
        """Return the key pair of a raw private key. Raises :class:`ConfigError` if its size is wrong."""
        if len(private) != _curve(curve).size:
            size = _curve(curve).size
            raise ConfigError("private", f"a private key of curve {curve} has {size} bytes, got {len(private)}")
        return cls(_curve(curve).private.from_private_bytes(private), curve)

    def private_bytes(self) -> bytes:
        """Return the raw private key, to store it."""
        return cast(bytes, self._private.private_bytes_raw())

    def exchange(self, public: bytes) -> bytes:
        """Return the shared secret with ``public``. Raises :class:`MalformedMessageError` for an unusable key."""
        try:
            return cast(bytes, self._private.exchange(CURVES[self.curve].public.from_public_bytes(public)))
        except ValueError as error:
            # A point of low order: the result is the same for every private key, so it would not be secret.
            raise MalformedMessageError("the peer's public key is unusable: it is a point of low order") from error

    def __repr__(self) -> str:
        return f"<KeyPair on {self.curve}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a KeyPair cannot be pickled: store it with pea2pea.noise.save_key")


def _curve(name: str) -> _Curve:
    if name not in CURVES:
        raise ConfigError("curve", f"expected '25519' or '448', got {name!r}")
    return CURVES[name]


def key_size(curve: str) -> int:
    """Return the size of a public key, and of a private one, in bytes."""
    return _curve(curve).size


def same_key(one: bytes, other: bytes) -> bool:
    """Whether two keys are equal. Takes the same time wherever they differ."""
    return hmac.compare_digest(one, other)


# Ciphers


class Aead(Protocol):
    """The interface that the AEAD classes of ``cryptography`` share."""

    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def decrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...


IntoBuffer = Callable[[Any, bytes, Buffer, memoryview], object]


def _encrypt_into(aead: Any, nonce: bytes, data: Buffer, out: memoryview) -> object:
    return aead.encrypt_into(nonce, data, None, out)


def _decrypt_into(aead: Any, nonce: bytes, data: Buffer, out: memoryview) -> object:
    return aead.decrypt_into(nonce, data, None, out)


def encrypt_copying(aead: Aead, nonce: bytes, data: Buffer, out: memoryview) -> object:
    """Encrypt with releases of ``cryptography`` that have no ``encrypt_into``."""
    out[:] = aead.encrypt(nonce, data, None)
    return None


def decrypt_copying(aead: Aead, nonce: bytes, data: Buffer, out: memoryview) -> object:
    """Decrypt with releases of ``cryptography`` that have no ``decrypt_into``."""
    out[:] = aead.decrypt(nonce, data, None)
    return None


_CAN_ENCRYPT_INTO: Final = all(hasattr(kind, "encrypt_into") for kind in (AESGCM, ChaCha20Poly1305))
_CAN_DECRYPT_INTO: Final = all(hasattr(kind, "decrypt_into") for kind in (AESGCM, ChaCha20Poly1305))


@dataclass(frozen=True, slots=True)
class Cipher:
    """An AEAD with the nonce format of Noise."""

    name: str
    new: Callable[[bytes], Aead]
    #: Encodes the number of a message as a nonce.
    nonce: Callable[[int], bytes]
    encrypt_into: IntoBuffer = _encrypt_into if _CAN_ENCRYPT_INTO else encrypt_copying
    decrypt_into: IntoBuffer = _decrypt_into if _CAN_DECRYPT_INTO else decrypt_copying


CIPHERS: Final = {
    "ChaChaPoly": Cipher("ChaChaPoly", ChaCha20Poly1305, struct.Struct("<4xQ").pack),
    "AESGCM": Cipher("AESGCM", AESGCM, struct.Struct(">4xQ").pack),
}

#: Raised by a cipher when the authentication tag does not match.
NotAuthentic = InvalidTag


def not_authentic() -> DecryptError:
    """Return the error for every message that fails authentication. It does not tell the cases apart."""
    return DecryptError("a message is not authentic: altered, replayed, out of order, or encrypted with another key")


# Hashes

#: The names of the specification, and those of the standard library.
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
