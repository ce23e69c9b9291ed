"""The Noise Protocol Framework, revision 34: encrypted connections to peers that are known by their keys.

Needs ``cryptography``; may import ``codec``, ``config``, ``errors``, ``keyfile``, ``peer`` and ``protocols``. Mix
:class:`NoiseHandshake` into a node, and wrap its codecs with those of ``peer.session``, which is a
:class:`NoiseSession`. The rooms, from the bottom up: ``errors``, ``patterns`` (a table), ``crypto`` (the
primitives of others), ``state`` (the state machine of the specification), ``codec``, ``keys``, ``handshake``.
"""

from __future__ import annotations

try:
    import cryptography  # noqa: F401
except ImportError as error:
    raise ImportError("pea2pea.noise needs cryptography: pip install 'pea2pea[noise]'", name="cryptography") from error

from .codec import NoiseDecoder, NoiseEncoder, NoiseSession
from .crypto import KeyPair
from .errors import (
    DecryptError,
    HandshakeCutError,
    KeyFileError,
    MalformedMessageError,
    NoiseError,
    NonceExhaustedError,
    PeerNotAllowedError,
)
from .handshake import NoiseConfig, NoiseHandshake, NoiseReader, shake_hands
from .keys import load_key, load_or_make_key, save_key
from .state import HandshakeState, NoiseProtocol

__all__ = [
    "DecryptError", "HandshakeCutError", "HandshakeState", "KeyFileError", "KeyPair", "MalformedMessageError",
    "NoiseConfig", "NoiseDecoder", "NoiseEncoder", "NoiseError", "NoiseHandshake", "NoiseProtocol", "NoiseReader",
    "NoiseSession", "NonceExhaustedError", "PeerNotAllowedError", "load_key", "load_or_make_key", "save_key",
    "shake_hands",
]
