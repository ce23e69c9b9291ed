"""Being a libp2p peer: enough of it to talk to js-libp2p, py-libp2p, go-libp2p and rust-libp2p over TCP.

Needs ``cryptography``, ``pyOpenSSL`` and ``protobuf``; may import the core, ``noise``, ``identity`` and ``keyfile``.
The rooms, from the bottom up: ``errors``, ``varint``, ``schema``, ``peer_id``, ``multiaddr``, ``multistream``,
``frames``, ``yamux`` and ``identify`` are pure; ``channel``, ``noise``, ``tls``, ``stream``, ``connection`` and
``host`` are not.
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
from .multiaddr import Multiaddr
from .peer_id import Identity, PeerId, PublicKey
from .stream import Stream
from .yamux import YamuxLimits

__all__ = [
    "ChannelError", "Connection", "GoneAwayError", "Handler", "Host", "Identified", "Identity", "IdentityFileError",
    "KeepaliveError", "KeyKindError", "Libp2pError", "MalformedAddressError", "MalformedKeyError", "Multiaddr",
    "NegotiationError", "PeerId", "PeerIdentityError", "PublicKey", "Stream", "StreamClosedError", "StreamError",
    "StreamLimitError", "StreamResetError", "UnsupportedProtocolError", "YamuxError", "YamuxLimits",
]
