"""A low-level, customizable TCP peer-to-peer node for asyncio. This module only hands names on.

Errors that are not here are in :mod:`pea2pea.errors`, codecs for JSON and MessagePack in
:mod:`pea2pea.typed`, and the interface that other networks implement in :mod:`pea2pea.network`.
"""

from .addr import Addr
from .codec import Decoder, Encoder
from .config import Config
from .errors import (
    CodecError,
    ConfigError,
    ConnectError,
    HandshakeError,
    NotConnectedError,
    Pea2PeaError,
    QueueFullError,
)
from .lifecycle import DisconnectReason, Origin
from .node import Node
from .peer import Peer
from .protocols import Handshake, OnConnect, OnDisconnect, Reading, Writing
from .stats import Heuristics, Stats

__all__ = [
    "Addr",
    "CodecError",
    "Config",
    "ConfigError",
    "ConnectError",
    "Decoder",
    "DisconnectReason",
    "Encoder",
    "Handshake",
    "HandshakeError",
    "Heuristics",
    "Node",
    "NotConnectedError",
    "OnConnect",
    "OnDisconnect",
    "Origin",
    "Pea2PeaError",
    "Peer",
    "QueueFullError",
    "Reading",
    "Stats",
    "Writing",
]
