"""The errors of the library, one tree. Imports nothing.

::

    Pea2PeaError
    ├── ConfigError            a setting is wrong; names the field (also a ValueError)
    ├── UsageError             the API was called in a way that cannot work (also a RuntimeError)
    │   └── NotEnabledError    the protocol that the call needs is not enabled
    ├── NodeClosedError        the node is closed, or is being closed
    ├── ListenError            the system refused the listening address (also an OSError)
    ├── ConnectError           ``connect`` made no connection (also a ConnectionError)
    │   ├── AlreadyConnectedError
    │   ├── SelfConnectError   the address is the node's own
    │   ├── LimitError         one of the node's own limits; names it
    │   ├── DialError          the network: refused, unreachable, timed out
    │   └── HandshakeError     the handshake raised, ended early or took too long
    ├── SendError
    │   ├── NotConnectedError  the peer is gone (also a ConnectionError)
    │   └── QueueFullError     its queue is full: slow down, or drop
    ├── CodecError             (also a ValueError)
    │   ├── DecodeError        the peer sent what cannot be decoded
    │   │   ├── FrameTooLargeError
    │   │   └── IncompleteFrameError   the stream ended inside a frame
    │   └── EncodeError        the message cannot be encoded
    └── PeerTimeoutError       a connection was given up (also a TimeoutError)
        ├── IdleTimeoutError   no message within ``idle_timeout``
        └── WriteTimeoutError  a write took longer than ``write_timeout``

Whose fault it was decides the type: settings and usage are the caller's, decoding is the
peer's, dialling is the network's. The exception that led to one of these is its ``__cause__``.
"""

from __future__ import annotations


class Pea2PeaError(Exception):
    """Every error that this library raises of its own."""


class ConfigError(Pea2PeaError, ValueError):
    """A setting is wrong. ``field`` is its name."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class UsageError(Pea2PeaError, RuntimeError):
    """The API was called in a way that cannot work; the message says what to do instead."""


class NotEnabledError(UsageError):
    """The call needs a protocol that is not enabled for this peer."""


class NodeClosedError(Pea2PeaError):
    """The node is closed, or is being closed."""


class ListenError(Pea2PeaError, OSError):
    """The system refused to listen on the address; the ``OSError`` is the cause."""


class ConnectError(Pea2PeaError, ConnectionError):
    """``connect`` made no connection, and left nothing behind."""


class AlreadyConnectedError(ConnectError):
    """The address is connected, being connected or being torn down."""


class SelfConnectError(ConnectError):
    """The address is one that this node listens on."""


class LimitError(ConnectError):
    """One of the node's own limits is reached. ``limit`` is its name in ``Config``."""

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(f"{limit} ({value}) is reached")
        self.limit = limit


class DialError(ConnectError):
    """The network made no connection: refused, unreachable, unknown host or timed out."""


class HandshakeError(ConnectError):
    """The handshake raised, ended early or took longer than ``handshake_timeout``."""


class SendError(Pea2PeaError):
    """The message was not queued."""


class NotConnectedError(SendError, ConnectionError):
    """The peer is gone, or left before the wait was over."""


class QueueFullError(SendError):
    """``write_queue_depth`` messages already wait for this peer."""


class CodecError(Pea2PeaError, ValueError):
    """Bytes that are no message, or a message that has no bytes."""


class DecodeError(CodecError):
    """The bytes that a peer sent cannot be decoded."""


class FrameTooLargeError(DecodeError):
    """A frame is, or claims to be, larger than the codec's limit."""


class IncompleteFrameError(DecodeError):
    """The stream ended inside a frame."""


class EncodeError(CodecError):
    """A message cannot be encoded, its size included."""


class PeerTimeoutError(Pea2PeaError, TimeoutError):
    """A connection was given up because the peer took too long."""


class IdleTimeoutError(PeerTimeoutError):
    """No message came within ``idle_timeout``."""


class WriteTimeoutError(PeerTimeoutError):
    """A batch was not taken by the peer within ``write_timeout``."""
