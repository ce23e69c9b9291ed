"""The errors of Noise, one tree below that of the library. May import ``errors`` of the core.

::

    NoiseError                    (a Pea2PeaError)
    ├── DecryptError              altered, replayed, reordered, or encrypted with another key (a DecodeError)
    ├── MalformedMessageError     too short for a Noise message, or an unusable public key (a DecodeError)
    ├── HandshakeCutError         the connection ended during the handshake (an IncompleteFrameError)
    ├── PeerNotAllowedError       the peer's key is authentic but not expected or not allowed (a PermissionError)
    ├── NonceExhaustedError       all nonces of a direction are used (a CodecError)
    └── KeyFileError              a key file that other users can access, or that holds no key (an OSError)

A wrong setting raises :class:`~pea2pea.errors.ConfigError`, a call out of turn :class:`~pea2pea.errors.UsageError`.
In a handshake, each of these is the cause of the :class:`~pea2pea.errors.HandshakeError` that ``connect`` raises.
No message contains key material.
"""

from __future__ import annotations

from ..errors import CodecError, DecodeError, IncompleteFrameError, Pea2PeaError


class NoiseError(Pea2PeaError):
    """Base of the errors about Noise messages, handshakes and key files."""


class DecryptError(NoiseError, DecodeError):
    """A message is not the next one that the peer sent: altered, replayed, out of order, or with another key."""


class MalformedMessageError(NoiseError, DecodeError):
    """A message that cannot be valid: it is too short, or has an unusable public key."""


class HandshakeCutError(NoiseError, IncompleteFrameError):
    """The connection ended during the handshake. A peer that refuses this side ends it in this way."""


class PeerNotAllowedError(NoiseError, PermissionError):
    """The peer's static key is not the expected one, or not on the allow-list."""


class NonceExhaustedError(NoiseError, CodecError):
    """2**64 - 1 messages were sent in one direction. A new connection is needed."""


class KeyFileError(NoiseError, OSError):
    """A key file that users other than its owner can access, or that does not hold a key."""
