"""A low-level, customizable TCP peer-to-peer node for asyncio. This module only re-exports.

Everything that a first program needs is here. The other modules have the rest: :mod:`pea2pea.typed` (JSON and
MessagePack), :mod:`pea2pea.network` (the interface of networks), :mod:`pea2pea.noise`, :mod:`pea2pea.tls`,
:mod:`pea2pea.identity`, :mod:`pea2pea.libp2p`.
"""

from .addr import Addr, AddrLike
from .codec import Buffer, Codec, Decoder, Delimited, Encoder, Fixed, Framing, LengthDelimited, Raw, VarintDelimited
from .dialing import Connecting
from .errors import (
    AlreadyConnectedError,
    CodecError,
    ConfigError,
    ConnectError,
    DecodeError,
    DialError,
    EncodeError,
    FrameTooLargeError,
    HandshakeError,
    IdleTimeoutError,
    IncompleteFrameError,
    LimitError,
    ListenError,
    NodeClosedError,
    NotConnectedError,
    NotEnabledError,
    Pea2PeaError,
    PeerTimeoutError,
    QueueFullError,
    RefusedError,
    SelfConnectError,
    SendError,
    UsageError,
    WriteTimeoutError,
)
from .frames import Frames
from .gate import Admission, Attempt, Gate, Slot
from .instruments import Instrument
from .lifecycle import Cause, ConnectionState, DisconnectReason, NodeState, Origin, Party
from .memory import MemoryNetwork
from .network import Network
from .node import Node
from .peer import Peer
from .protocols import Handshake, OnConnect, OnDisconnect, Reading, Receiving, Writing
from .settings import Settings
from .stats import Heuristics, Stats
from .tcp import TcpNetwork
from .topology import Topology, connect_nodes
from .version import __version__

__all__ = [
    "Addr", "AddrLike", "Admission", "AlreadyConnectedError", "Attempt", "Buffer", "Cause", "Codec", "CodecError",
    "ConfigError", "ConnectError", "Connecting", "ConnectionState", "DecodeError", "Decoder", "Delimited",
    "DialError", "DisconnectReason", "EncodeError", "Encoder", "Fixed", "FrameTooLargeError", "Frames", "Framing",
    "Gate", "Handshake", "HandshakeError", "Heuristics", "IdleTimeoutError", "IncompleteFrameError", "Instrument",
    "LengthDelimited", "LimitError", "ListenError", "MemoryNetwork", "Network", "Node", "NodeClosedError",
    "NodeState", "NotConnectedError", "NotEnabledError", "OnConnect", "OnDisconnect", "Origin", "Party",
    "Pea2PeaError", "Peer", "PeerTimeoutError", "QueueFullError", "Raw", "Reading", "Receiving", "RefusedError",
    "SelfConnectError", "SendError", "Settings", "Slot", "Stats", "TcpNetwork", "Topology", "UsageError",
    "VarintDelimited", "WriteTimeoutError", "Writing", "__version__", "connect_nodes",
]
