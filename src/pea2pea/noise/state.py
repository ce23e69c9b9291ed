"""The state machine of Noise, in the terms of the specification's section 5. Pure: bytes in, bytes out, no asyncio.

May import ``patterns``, ``crypto`` and ``errors``. A :class:`HandshakeState` writes and reads the messages of
a handshake, in turns; when it is finished it gives two :class:`CipherState`, one for each direction.
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

#: No Noise message has more bytes than that.
MAX_MESSAGE: Final = 65535
#: Reserved for rekeying; no message is ever encrypted under it.
LAST_NONCE: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class NoiseProtocol:
    """A protocol by its name, such as ``Noise_XX_25519_ChaChaPoly_SHA256``."""

    name: str
    pattern: Pattern
    curve: str
    cipher: str
    hash: str

    @classmethod
    def of(cls, name: str) -> NoiseProtocol:
        """Return the protocol of that name. Raises :class:`ConfigError` where some of it is unknown."""
        return _protocol(name)


@lru_cache(maxsize=256)
def _protocol(name: str) -> NoiseProtocol:
    parts = name.split("_")
    if len(parts) != 5 or parts[0] != "Noise":
        raise ConfigError("protocol", f"{name!r} is not like Noise_XX_25519_ChaChaPoly_SHA256")
    tables: tuple[Collection[str], ...] = (CURVES, CIPHERS, HASHES)
    for part, known in zip(parts[2:], tables, strict=True):
        if part not in known:
            raise ConfigError("protocol", f"{part!r} in {name!r} is none of {', '.join(known)}")
    return NoiseProtocol(name, pattern(parts[1]), *parts[2:])


class CipherState:
    """A key, and the number of the next message under it. Without a key, what is encrypted stays as it is.

    A message that does not decrypt changes nothing.
    """

    __slots__ = ("_aead", "_cipher", "nonce")

    def __init__(self, cipher: Cipher, key: bytes | None = None) -> None:
        self._cipher = cipher
        self._aead: Aead | None = None if key is None else cipher.new(key)
        #: How many messages there have been.
        self.nonce = 0

    @property
    def has_key(self) -> bool:
        """Whether messages are encrypted yet."""
        return self._aead is not None

    def encrypt(self, associated: bytes, plaintext: Buffer) -> bytes:
        """Return ``plaintext`` encrypted and authenticated, together with ``associated``."""
        if self._aead is None:
            return bytes(plaintext)
        sealed = self._aead.encrypt(self._next(), plaintext, associated)
        self.nonce += 1
        return sealed

    def decrypt(self, associated: bytes, ciphertext: Buffer) -> bytes:
        """Return the plaintext. Raises :class:`DecryptError`, and :class:`MalformedMessageError` for too few bytes."""
        if self._aead is None:
            return bytes(ciphertext)
        if len(ciphertext) < TAG_SIZE:
            raise MalformedMessageError(f"{len(ciphertext)} bytes are no encrypted message")
        try:
            plaintext = self._aead.decrypt(self._next(), ciphertext, associated)
        except NotAuthentic:
            raise not_authentic() from None
        self.nonce += 1
        return plaintext

    def encrypt_into(self, plaintext: Buffer, out: memoryview) -> None:
        """As :meth:`encrypt`, to ``out``, which has room for exactly the plaintext and its tag. There is a key."""
        self._cipher.encrypt_into(self._aead, self._next(), plaintext, out)
        self.nonce += 1

    def decrypt_into(self, ciphertext: memoryview, out: memoryview) -> None:
        """As :meth:`decrypt`, to ``out``, which has room for exactly the plaintext. There is a key."""
        try:
            self._cipher.decrypt_into(self._aead, self._next(), ciphertext, out)
        except NotAuthentic:
            raise not_authentic() from None
        self.nonce += 1

    def rekey(self) -> None:
        """Replace the key by one that follows from it, and from which it does not follow. The nonce goes on."""
        if self._aead is None:
            raise UsageError("there is no key to replace yet")
        nonce = self._cipher.nonce(LAST_NONCE)
        self._aead = self._cipher.new(self._aead.encrypt(nonce, bytes(KEY_SIZE), b"")[:KEY_SIZE])

    def _next(self) -> bytes:
        if self.nonce >= LAST_NONCE:
            raise NonceExhaustedError("no nonce is left: make a new connection")
        return self._cipher.nonce(self.nonce)

    def __repr__(self) -> str:
        return f"<CipherState {self._cipher.name}, {self.nonce} messages>"


class SymmetricState:
    """The chaining key, the hash of all that was said, and the cipher that follows from them."""

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
        """The initiator's way out, and the responder's."""
        first, second = derive(self._digest, self._chaining_key, b"", 2)
        return CipherState(self._cipher, first[:KEY_SIZE]), CipherState(self._cipher, second[:KEY_SIZE])

    def __repr__(self) -> str:
        return f"<SymmetricState {self._digest}, {self._cipher.name}>"


class HandshakeState:
    """One side of a handshake. Write when :attr:`is_my_turn`, read when not, until :attr:`finished`.

    ``static`` is this side's own key, ``remote_static`` the other's where the pattern has it known
    beforehand, ``psks`` one key of 32 bytes for each psk modifier, in their order. ``ephemeral`` is
    for test vectors: anything else leaves it out, or the encryption is worth nothing.

    Raises :class:`ConfigError`, naming the field, for keys that the pattern needs and that are
    missing or wrong. After a message that was refused, the handshake is over.
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
        self.protocol = protocol
        self.initiator = initiator
        #: How many messages were written and read.
        self.messages_done = 0
        #: The other side's static key, as soon as it is known; proven only when the message that brought it,
        #: or completes its proof, was read.
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
        """Whether all messages are done."""
        return self.messages_done == len(self.protocol.pattern.messages)

    @property
    def is_my_turn(self) -> bool:
        """Whether the next message is this side's to write."""
        return not self.finished and (self.messages_done % 2 == 0) is self.initiator

    @property
    def handshake_hash(self) -> bytes:
        """What is equal on both sides, and nowhere else, once the handshake is finished."""
        if not self.finished:
            raise UsageError("the handshake is not finished")
        return self._symmetric.hash

    def write_message(self, payload: bytes = b"") -> bytes:
        """Return the next message, with ``payload`` in it. Raises :class:`EncodeError` where that is too large."""
        if self._failed or not self.is_my_turn:
            raise UsageError("there is nothing to write: it is the other side's turn, or the handshake is over")
        self._failed = True  # unless it comes to its end
        parts = [self._write_token(token) for token in self._tokens()]
        parts.append(self._symmetric.encrypt_and_hash(payload))
        message = b"".join(parts)
        if len(message) > MAX_MESSAGE:
            raise EncodeError(f"a handshake message of {len(message)} bytes, {MAX_MESSAGE} are allowed")
        self._done()
        return message

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the next message.

        Raises :class:`DecryptError` or :class:`MalformedMessageError` for what is not that message.
        """
        if self._failed or self.finished or self.is_my_turn:
            raise UsageError("there is nothing to read: it is this side's turn, or the handshake is over")
        if len(message) > MAX_MESSAGE:
            raise MalformedMessageError(f"a handshake message of {len(message)} bytes, {MAX_MESSAGE} are allowed")
        self._failed = True  # unless it comes to its end
        rest = message
        for token in self._tokens():
            rest = self._read_token(token, rest)
        payload = self._symmetric.decrypt_and_hash(rest)
        self._done()
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """Return the ciphers of the finished handshake: for what is sent, and for what is received."""
        if not self.finished:
            raise UsageError("the handshake is not finished")
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
        """Return what is left of the message behind ``token``."""
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
            raise MalformedMessageError("a handshake message that is too short for its keys")
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
        assert pair is not None and public is not None  # every pattern sends a key before it uses it
        self._symmetric.mix_key(pair.exchange(public))

    @property
    def _own_static(self) -> KeyPair:
        assert self._static is not None  # checked against the pattern when this was made
        return self._static

    @property
    def _their_static(self) -> bytes:
        assert self.remote_static is not None  # as above, or brought by an earlier token
        return self.remote_static

    def _done(self) -> None:
        self._failed = False
        self.messages_done += 1
        if self.finished:
            self._ephemeral = None  # nobody needs it any more, and whoever finds it could decrypt


def _check_keys(
    protocol: NoiseProtocol, initiator: bool, static: KeyPair | None, remote: bytes | None, psks: Sequence[bytes]
) -> None:
    wanted = protocol.pattern
    if wanted.has_static(initiator=initiator) and static is None:
        raise ConfigError("static_key", f"is missing, and {protocol.name} needs it on this side")
    if static is not None and static.curve != protocol.curve:
        raise ConfigError("static_key", f"is on {static.curve}, and {protocol.name} is not")
    if wanted.known[initiator] is not (remote is not None):
        problem = "is missing, and has to be known before" if remote is None else "is not known before the handshake of"
        raise ConfigError("remote_key", f"{problem} {protocol.name}")
    if remote is not None and len(remote) != key_size(protocol.curve):
        raise ConfigError("remote_key", f"{len(remote)} bytes are no public key of {protocol.curve}")
    if len(psks) != wanted.psks or any(len(psk) != KEY_SIZE for psk in psks):
        raise ConfigError("psks", f"{protocol.name} needs {wanted.psks} of {KEY_SIZE} bytes")
