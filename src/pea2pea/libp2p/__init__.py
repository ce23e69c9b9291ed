"""A libp2p host over TCP, which talks to js-libp2p, py-libp2p, go-libp2p and rust-libp2p.

Needs ``cryptography``, ``pyOpenSSL`` and ``protobuf``. May import the core, ``noise``, ``identity`` and ``keyfile``.
The modules, from the bottom up: ``errors``, ``varint``, ``schema``, ``peer_id``, ``certificates``, ``multiaddr``,
``multistream``, ``frames``, ``limits``, ``yamux_stream``, ``yamux`` and ``identify`` are pure; ``channel``, ``noise``,
``tls``, ``stream``, ``connection`` and ``host`` use asyncio.
"""

from __future__ import annotations

try:
    import cryptography  # noqa: F401
    import google.protobuf  # noqa: F401
    import OpenSSL  # noqa: F401
except ImportError as error:
    raise ImportError(f"pea2pea.libp2p needs {error.name}: pip install 'pea2pea[libp2p]'", name=error.name) from error

from .connection import Connection
from .errors import (
    ChannelError,
    GoneAwayError,
    IdentityFileError,
    KeepaliveError,
    KeyKindError,
    Libp2pError,
    MalformedAddressError,
    MalformedKeyError,
    NegotiationError,
    PeerIdentityError,
    StreamClosedError,
    StreamError,
    StreamLimitError,
    StreamResetError,
    UnsupportedProtocolError,
    YamuxError,
)
from .host import Handler, Host
from .identify import Identified
from .limits import YamuxLimits
from .multiaddr import Multiaddr
from .peer_id import Identity, PeerId, PublicKey
from .stream import Stream

__all__ = [
    "ChannelError", "Connection", "GoneAwayError", "Handler", "Host", "Identified", "Identity", "IdentityFileError",
    "KeepaliveError", "KeyKindError", "Libp2pError", "MalformedAddressError", "MalformedKeyError", "Multiaddr",
    "NegotiationError", "PeerId", "PeerIdentityError", "PublicKey", "Stream", "StreamClosedError", "StreamError",
    "StreamLimitError", "StreamResetError", "UnsupportedProtocolError", "YamuxError", "YamuxLimits",
]
