"""What goes wrong in Noise, one tree below that of the library. May import ``errors`` of the core.

::

    NoiseError                    (a Pea2PeaError)
    ├── DecryptError              altered, replayed, reordered, or meant for other keys (a DecodeError)
    ├── MalformedMessageError     too short to be a Noise message, or a key that is none (a DecodeError)
    ├── HandshakeCutError         the stream ended inside the handshake (an IncompleteFrameError)
    ├── PeerNotAllowedError       authentic, and not who is let in (a PermissionError)
    ├── NonceExhaustedError       no nonce is left for another message (a CodecError)
    └── KeyFileError              a key file that others can read, or that holds no key (an OSError)

Settings that are wrong raise :class:`~pea2pea.errors.ConfigError`, calls out of turn
:class:`~pea2pea.errors.UsageError`. In a handshake, each of these is the cause of the dialler's
:class:`~pea2pea.errors.HandshakeError`. None has key material in its text.
"""

from __future__ import annotations

from ..errors import CodecError, DecodeError, IncompleteFrameError, Pea2PeaError


class NoiseError(Pea2PeaError):
    """Everything that is wrong with a Noise message, handshake or key file."""


class DecryptError(NoiseError, DecodeError):
    """A message is not what the peer sent next: altered, replayed, out of order, or under other keys."""


class MalformedMessageError(NoiseError, DecodeError):
    """A message that can never be one: too short, or with a public key that is none."""


class HandshakeCutError(NoiseError, IncompleteFrameError):
    """The stream ended inside the handshake. A peer that refuses us leaves in this way."""


class PeerNotAllowedError(NoiseError, PermissionError):
    """The peer proved a static key that is not the expected one, or not on the allow-list."""


class NonceExhaustedError(NoiseError, CodecError):
    """2**64 - 1 messages went one way; the connection has to be made anew."""


class KeyFileError(NoiseError, OSError):
    """A key file that others than its owner can use, or that does not hold a key."""
