"""The state machine of Noise, in the terms of the specification's section 5. Pure: bytes in, bytes out, no asyncio.

May import ``patterns``, ``crypto`` and ``errors``. A :class:`HandshakeState` writes and reads the messages of a
handshake in turns. When it is finished, it returns two :class:`CipherState`, one for each direction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ..codec import Buffer
from ..errors import ConfigError, EncodeError, UsageError
from .crypto import (
    CIPHERS,
    CURVES,
    HASHES,
    KEY_SIZE,
    TAG_SIZE,
    Aead,
    Cipher,
    KeyPair,
    NotAuthentic,
    derive,
    digest_of,
    key_size,
    not_authentic,
)
from .errors import MalformedMessageError, NonceExhaustedError
from .patterns import Pattern, pattern

#: The largest Noise message, in bytes.
MAX_MESSAGE: Final = 65535
#: Reserved for rekeying: no message is encrypted with it.
LAST_NONCE: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class NoiseProtocol:
    """A protocol that is known by its name, such as ``Noise_XX_25519_ChaChaPoly_SHA256``."""

    name: str
    pattern: Pattern
    curve: str
    cipher: str
    hash: str

    @classmethod
    def of(cls, name: str) -> NoiseProtocol:
        """Return the protocol of that name. Raises :class:`ConfigError` if any part of the name is unknown."""
        if not isinstance(name, str):
            raise ConfigError("protocol", f"expected a str, got {type(name).__name__}")
        return _protocol(name)


@lru_cache(maxsize=256)
def _protocol(name: str) -> NoiseProtocol:
    parts = name.split("_")
    if len(parts) != 5 or parts[0] != "Noise":
        raise ConfigError("protocol", f"expected a name like Noise_XX_25519_ChaChaPoly_SHA256, got {name!r}")
    tables: tuple[Collection[str], ...] = (CURVES, CIPHERS, HASHES)
    for part, known in zip(parts[2:], tables, strict=True):
        if part not in known:
            raise ConfigError("protocol", f"expected one of {', '.join(known)} in {name!r}, got {part!r}")
    return NoiseProtocol(name, pattern(parts[1]), *parts[2:])


class CipherState:
    """A key and the nonce of the next message. Without a key, plaintext and ciphertext are the same.

    A message that cannot be decrypted changes nothing.
    """

    __slots__ = ("_aead", "_cipher", "nonce", "rekey_after")

    def __init__(self, cipher: Cipher, key: bytes | None = None) -> None:
        self._cipher = cipher
        self._aead: Aead | None = None if key is None else cipher.new(key)
        #: The number of messages so far.
        self.nonce = 0
        #: Messages after which the key is replaced; ``None``: never.
        self.rekey_after: int | None = None

    @property
    def has_key(self) -> bool:
        """Whether there is a key, so that messages are encrypted."""
        return self._aead is not None

    def encrypt(self, associated: bytes, plaintext: Buffer) -> bytes:
        """Return ``plaintext`` encrypted, and authenticated together with ``associated``."""
        if self._aead is None:
            return bytes(plaintext)
        sealed = self._aead.encrypt(self._next(), plaintext, associated)
        self._advance()
        return sealed

    def decrypt(self, associated: bytes, ciphertext: Buffer) -> bytes:
        """Return the plaintext.

        Raises :class:`DecryptError`, or :class:`MalformedMessageError` if ``ciphertext`` is too short.
        """
        if self._aead is None:
            return bytes(ciphertext)
        _check_size(ciphertext)
        try:
            plaintext = self._aead.decrypt(self._next(), ciphertext, associated)
        except NotAuthentic:
            raise not_authentic() from None
        self._advance()
        return plaintext

    def encrypt_into(self, plaintext: Buffer, out: memoryview) -> None:
        """Encrypt to ``out``, which must have the size of the plaintext and its tag. There must be a key."""
        self._cipher.encrypt_into(self._aead, self._next(), plaintext, out)
        self._advance()

    def decrypt_into(self, ciphertext: memoryview, out: memoryview) -> None:
        """Decrypt to ``out``, which must have the size of the plaintext. Raises as :meth:`decrypt`.

        There must be a key.
        """
        _check_size(ciphertext)
        try:
            self._cipher.decrypt_into(self._aead, self._next(), ciphertext, out)
        except NotAuthentic:
            raise not_authentic() from None
        self._advance()

    def rekey(self) -> None:
        """Replace the key by one derived from it, from which it cannot be computed. The nonce continues."""
        if self._aead is None:
            raise UsageError("there is no key to replace yet: rekeying is for a finished handshake")
        nonce = self._cipher.nonce(LAST_NONCE)
        self._aead = self._cipher.new(self._aead.encrypt(nonce, bytes(KEY_SIZE), b"")[:KEY_SIZE])

    def _next(self) -> bytes:
        if self.nonce >= LAST_NONCE:
            raise NonceExhaustedError("all nonces of this key are used: make a new connection")
        return self._cipher.nonce(self.nonce)

    def _advance(self) -> None:
        self.nonce += 1
        if self.rekey_after is not None and self.nonce % self.rekey_after == 0:
            self.rekey()

    def __repr__(self) -> str:
        return f"<CipherState {self._cipher.name}, {self.nonce} messages>"


def _check_size(ciphertext: Buffer) -> None:
    if len(ciphertext) < TAG_SIZE:
        raise MalformedMessageError(f"a Noise message has at least {TAG_SIZE} bytes, got {len(ciphertext)}")


class SymmetricState:
    """The chaining key, the hash of the transcript, and the cipher that is derived from them."""

    __slots__ = ("_chaining_key", "_cipher", "_digest", "cipher_state", "hash")

    def __init__(self, protocol: NoiseProtocol) -> None:
        self._cipher = CIPHERS[protocol.cipher]
        self._digest = HASHES[protocol.hash]
        name = protocol.name.encode()
        size = len(digest_of(self._digest, b""))
        self.hash = name.ljust(size, b"\0") if len(name) <= size else digest_of(self._digest, name)
        self._chaining_key = self.hash
        self.cipher_state = CipherState(self._cipher)

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, key = derive(self._digest, self._chaining_key, material, 2)
        self.cipher_state = CipherState(self._cipher, key[:KEY_SIZE])

    def mix_hash(self, data: bytes) -> None:
        self.hash = digest_of(self._digest, self.hash + data)

    def mix_key_and_hash(self, material: bytes) -> None:
        self._chaining_key, data, key = derive(self._digest, self._chaining_key, material, 3)
        self.mix_hash(data)
        self.cipher_state = CipherState(self._cipher, key[:KEY_SIZE])

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self.cipher_state.encrypt(self.hash, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        plaintext = self.cipher_state.decrypt(self.hash, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the ciphers for what the initiator sends and for what the responder sends."""
        first, second = derive(self._digest, self._chaining_key, b"", 2)
        return CipherState(self._cipher, first[:KEY_SIZE]), CipherState(self._cipher, second[:KEY_SIZE])

    def __repr__(self) -> str:
        return f"<SymmetricState {self._digest}, {self._cipher.name}>"


class HandshakeState:
    """One side of a handshake. Write when :attr:`is_my_turn`, read otherwise, until :attr:`finished`.

    ``static`` is the key of this side. ``remote_static`` is that of the other side, for patterns in which it is known
    in advance. ``psks`` are the pre-shared keys, 32 bytes each, in the order of the pattern's psk modifiers.
    ``ephemeral`` is for test vectors only: a predictable one makes the encryption worthless.

    Raises :class:`ConfigError`, naming the field, if a key that the pattern needs is missing or wrong. After a message
    was refused, the state cannot be used any more.
    """

    __slots__ = (
        "_ephemeral", "_failed", "_psks", "_remote_ephemeral", "_static", "_symmetric",
        "initiator", "messages_done", "protocol", "remote_static",
    )

    def __init__(
        self,
        protocol: NoiseProtocol,
        *,
        initiator: bool,
        prologue: bytes = b"",
        static: KeyPair | None = None,
        remote_static: bytes | None = None,
        psks: Sequence[bytes] = (),
        ephemeral: KeyPair | None = None,
    ) -> None:
        _check_keys(protocol, initiator, static, remote_static, psks)
        self.protocol: NoiseProtocol = protocol
        self.initiator: bool = initiator
        #: The number of messages written and read.
        self.messages_done = 0
        #: The other side's static key, once it is known. It is proven by a later token in some patterns: in all of them
        #: when the first message after the handshake was decrypted.
        self.remote_static = remote_static
        self._static = static
        self._ephemeral = ephemeral
        self._remote_ephemeral: bytes | None = None
        self._psks = list(psks)
        self._failed = False
        self._symmetric = SymmetricState(protocol)
        self._symmetric.mix_hash(prologue)
        for initiators, is_known in zip((True, False), protocol.pattern.known, strict=True):
            if is_known:
                self._symmetric.mix_hash(self._own_static.public if initiators == initiator else self._their_static)

    @property
    def finished(self) -> bool:
        """Whether all messages were written and read."""
        return self.messages_done == len(self.protocol.pattern.messages)

    @property
    def is_my_turn(self) -> bool:
        """Whether this side writes the next message."""
        return not self.finished and (self.messages_done % 2 == 0) is self.initiator

    @property
    def handshake_hash(self) -> bytes:
        """The hash of the transcript: the same on both sides of this connection, different on every other.

        Raises :class:`UsageError` until the handshake is finished.
        """
        self._check_finished()
        return self._symmetric.hash

    def write_message(self, payload: bytes = b"") -> bytes:
        """Return the next message, which carries ``payload``. Raises :class:`EncodeError` if that is too large."""
        if self._failed or not self.is_my_turn:
            raise UsageError("cannot write: it is the other side's turn, or the handshake is finished or has failed")
        self._failed = True  # until this returns
        parts = [self._write_token(token) for token in self._tokens()]
        parts.append(self._symmetric.encrypt_and_hash(payload))
        message = b"".join(parts)
        if len(message) > MAX_MESSAGE:
            raise EncodeError(f"a handshake message has at most {MAX_MESSAGE} bytes, got {len(message)}")
        self._message_done()
        return message

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the next message.

        Raises :class:`DecryptError` or :class:`MalformedMessageError` for anything else.
        """
        if self._failed or self.finished or self.is_my_turn:
            raise UsageError("cannot read: it is this side's turn, or the handshake is finished or has failed")
        if len(message) > MAX_MESSAGE:
            raise MalformedMessageError(f"a handshake message has at most {MAX_MESSAGE} bytes, got {len(message)}")
        self._failed = True  # until this returns
        rest = message
        for token in self._tokens():
            rest = self._read_token(token, rest)
        payload = self._symmetric.decrypt_and_hash(rest)
        self._message_done()
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the ciphers for sending and for receiving. Raises :class:`UsageError` until it is finished."""
        self._check_finished()
        first, second = self._symmetric.split()
        return (first, second) if self.initiator else (second, first)

    def __repr__(self) -> str:
        role = "initiator" if self.initiator else "responder"
        return f"<HandshakeState {self.protocol.name}, {role}, {self.messages_done} messages done>"

    # -- tokens ----------------------------------------------------------------------------

    def _tokens(self) -> tuple[str, ...]:
        return self.protocol.pattern.messages[self.messages_done]

    def _write_token(self, token: str) -> bytes:
        if token == "e":
            self._ephemeral = self._ephemeral or KeyPair.generate(self.protocol.curve)
            self._mix_ephemeral(self._ephemeral.public)
            return self._ephemeral.public
        if token == "s":
            return self._symmetric.encrypt_and_hash(self._own_static.public)
        self._mix_secret(token)
        return b""

    def _read_token(self, token: str, rest: bytes) -> bytes:
        """Return the part of the message that follows ``token``."""
        if token == "e":
            self._remote_ephemeral, rest = self._cut(rest, key_size(self.protocol.curve))
            self._mix_ephemeral(self._remote_ephemeral)
        elif token == "s":
            tag = TAG_SIZE if self._symmetric.cipher_state.has_key else 0
            sealed, rest = self._cut(rest, key_size(self.protocol.curve) + tag)
            self.remote_static = self._symmetric.decrypt_and_hash(sealed)
        else:
            self._mix_secret(token)
        return rest

    def _cut(self, rest: bytes, size: int) -> tuple[bytes, bytes]:
        if len(rest) < size:
            raise MalformedMessageError(f"a handshake message ends in a key: expected {size} bytes, got {len(rest)}")
        return rest[:size], rest[size:]

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self.protocol.pattern.psks:
            self._symmetric.mix_key(public)

    def _mix_secret(self, token: str) -> None:
        if token == "psk":
            self._symmetric.mix_key_and_hash(self._psks.pop(0))
            return
        # The first letter is the initiator's key, the second the responder's.
        ours, theirs = (token[0], token[1]) if self.initiator else (token[1], token[0])
        pair = self._own_static if ours == "s" else self._ephemeral
        public = self._their_static if theirs == "s" else self._remote_ephemeral
        assert pair is not None and public is not None  # a pattern sends each key before it uses it
        self._symmetric.mix_key(pair.exchange(public))

    @property
    def _own_static(self) -> KeyPair:
        assert self._static is not None  # checked against the pattern in __init__
        return self._static

    @property
    def _their_static(self) -> bytes:
        assert self.remote_static is not None  # as above, or received by an earlier token
        return self.remote_static

    def _message_done(self) -> None:
        self._failed = False
        self.messages_done += 1
        if self.finished:
            self._ephemeral = None  # forward secrecy: with this key the session could be decrypted

    def _check_finished(self) -> None:
        if not self.finished:
            raise UsageError("the handshake is not finished")


def _check_keys(
    protocol: NoiseProtocol, initiator: bool, static: KeyPair | None, remote: bytes | None, psks: Sequence[bytes]
) -> None:
    pattern, role = protocol.pattern, "initiator" if initiator else "responder"
    if static is not None:
        check_static_key(protocol, static)
    elif pattern.has_static(initiator=initiator):
        raise ConfigError("static_key", f"the {role} of {protocol.name} needs a key pair, got None")
    if remote is not None:
        check_public_key("remote_key", protocol, remote)
    if pattern.known[initiator] and remote is None:
        raise ConfigError("remote_key", f"the {role} of {protocol.name} needs the peer's public key, got None")
    if remote is not None and not pattern.known[initiator]:
        raise ConfigError("remote_key", f"the {role} of {protocol.name} does not know the peer's key in advance")
    check_psks(protocol, psks)


def check_static_key(protocol: NoiseProtocol, key: KeyPair) -> None:
    """Raise :class:`ConfigError` unless ``key`` is a key pair on the curve of ``protocol``."""
    if not isinstance(key, KeyPair):
        raise ConfigError("static_key", f"expected a KeyPair, got {type(key).__name__}")
    if key.curve != protocol.curve:
        raise ConfigError("static_key", f"{protocol.name} needs a key on curve {protocol.curve}, got {key.curve}")


def check_public_key(field: str, protocol: NoiseProtocol, key: bytes) -> None:
    """Raise :class:`ConfigError` unless ``key`` has the type and the size of a public key of ``protocol``."""
    size = key_size(protocol.curve)
    if not isinstance(key, bytes):
        raise ConfigError(field, f"a public key must be bytes, got {type(key).__name__}")
    if len(key) != size:
        raise ConfigError(field, f"a public key of curve {protocol.curve} has {size} bytes, got {len(key)}")


def check_psks(protocol: NoiseProtocol, psks: Sequence[bytes]) -> None:
    """Raise :class:`ConfigError` unless there is one pre-shared key of 32 bytes for each psk modifier."""
    if not isinstance(psks, tuple | list) or not all(isinstance(psk, bytes) for psk in psks):
        raise ConfigError("psks", "expected a tuple of bytes, one pre-shared key each")
    if len(psks) != protocol.pattern.psks:
        raise ConfigError("psks", f"{protocol.name} needs {protocol.pattern.psks} pre-shared keys, got {len(psks)}")
    for psk in psks:
        if len(psk) != KEY_SIZE:
            raise ConfigError("psks", f"a pre-shared key has {KEY_SIZE} bytes, got {len(psk)}")
