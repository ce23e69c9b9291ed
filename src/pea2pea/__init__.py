"""A low-level, customizable TCP peer-to-peer node for asyncio. This module only hands names on.

Errors that are not here are in :mod:`pea2pea.errors`, codecs for JSON and MessagePack in
:mod:`pea2pea.typed`, and the interface that other networks implement in :mod:`pea2pea.network`.
"""

from .addr import Addr
from .codec import Decoder, Delimited, Encoder, Fixed, LengthDelimited, Raw, VarintDelimited
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
from .memory import MemoryNetwork
from .node import Node
from .peer import Peer
from .protocols import Handshake, OnConnect, OnDisconnect, Reading, Writing
from .stats import Heuristics, Stats
from .topology import Topology, connect_nodes

__all__ = [
    "Addr", "CodecError", "Config", "ConfigError", "ConnectError", "Decoder", "Delimited", "DisconnectReason",
    "Encoder", "Fixed", "Handshake", "HandshakeError", "Heuristics", "LengthDelimited", "MemoryNetwork", "Node",
    "NotConnectedError", "OnConnect", "OnDisconnect", "Origin", "Pea2PeaError", "Peer", "QueueFullError", "Raw",
    "Reading", "Stats", "Topology", "VarintDelimited", "Writing", "connect_nodes",
]
