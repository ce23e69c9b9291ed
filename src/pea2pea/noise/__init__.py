"""Encrypted, mutually authenticated connections: the Noise Protocol Framework, revision 34.

Needs ``cryptography``. May import ``codec``, ``errors``, ``keyfile``, ``peer``, ``protocols`` and ``undecoded``. Add
:class:`NoiseHandshake` to the bases of a node, and take its codecs from ``peer.session``, a :class:`NoiseSession`.

The modules, each of which imports those before it only: ``errors``, ``patterns`` (a table), ``crypto`` (primitives of
other libraries), ``state`` (the state machine of the specification), ``wire`` (messages and their lengths), ``codec``,
``session``, ``keys`` (files), ``config``, ``handshake``.
"""

from __future__ import annotations

try:
    import cryptography  # noqa: F401
except ImportError as error:
    raise ImportError("pea2pea.noise needs cryptography: pip install 'pea2pea[noise]'", name="cryptography") from error

from .codec import NoiseCodec, NoiseDecoder, NoiseEncoder, NoiseMessages
from .config import NoiseConfig
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
from .handshake import NoiseHandshake, NoiseReader, perform_handshake
from .keys import load_key, load_or_make_key, save_key
from .session import NoiseSession
from .state import HandshakeState, NoiseProtocol

__all__ = [
    "DecryptError", "HandshakeCutError", "HandshakeState", "KeyFileError", "KeyPair", "MalformedMessageError",
    "NoiseCodec", "NoiseConfig", "NoiseDecoder", "NoiseEncoder", "NoiseError", "NoiseHandshake", "NoiseMessages",
    "NoiseProtocol", "NoiseReader", "NoiseSession", "NonceExhaustedError", "PeerNotAllowedError", "load_key",
    "load_or_make_key", "perform_handshake", "save_key",
]
