"""The errors of the library, one tree. Imports nothing at run time.

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
    │   ├── RefusedError       the node's own gate refused the connection; names the rule
    │   │   └── LimitError     one of the node's own limits; names it
    │   ├── DialError          the network: refused, unreachable, timed out
    │   └── HandshakeError     the handshake raised, ended early or took too long
    ├── SendError
    │   ├── NotConnectedError  the peer is gone; carries the reason (also a ConnectionError)
    │   └── QueueFullError     its queue is full: wait, or drop the message
    ├── CodecError             (also a ValueError)
    │   ├── DecodeError        the peer sent what cannot be decoded
    │   │   ├── FrameTooLargeError
    │   │   └── IncompleteFrameError   the stream ended inside a frame
    │   └── EncodeError        the message cannot be encoded
    └── PeerTimeoutError       a connection was closed because the peer was too slow (also a TimeoutError)
        ├── IdleTimeoutError   no message arrived within ``idle_timeout``
        └── WriteTimeoutError  a write took longer than ``write_timeout``

The type tells who has to act: settings and usage are the caller's, decoding is the peer's, dialling is the network's.
The exception that led to one of these is its ``__cause__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lifecycle import DisconnectReason


class Pea2PeaError(Exception):
    """Base of all errors raised by this library."""


class ConfigError(Pea2PeaError, ValueError):
    """A setting is wrong. ``field`` is its name."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class UsageError(Pea2PeaError, RuntimeError):
    """The API was used in a way that cannot work; the message says what to do instead."""


class NotEnabledError(UsageError):
    """The call needs a protocol that is not enabled for this peer."""


class NodeClosedError(Pea2PeaError):
    """The node is closed, or is being closed."""


class ListenError(Pea2PeaError, OSError):
    """Listening failed: the system refused the address, or a listener stopped working. The ``OSError`` is the cause."""


class ConnectError(Pea2PeaError, ConnectionError):
    """``connect`` failed, and left nothing behind."""


class AlreadyConnectedError(ConnectError):
    """The address is connected, being connected or being torn down."""


class SelfConnectError(ConnectError):
    """The address is one that this node listens on."""


class RefusedError(ConnectError):
    """The node's own gate refused the connection. ``rule`` names the rule that did."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(problem)
        self.rule = rule


class LimitError(RefusedError):
    """One of the node's own limits is reached. ``limit`` is the name of the setting."""

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(limit, f"{limit} ({value}) is reached")
        self.limit = limit


class DialError(ConnectError):
    """The connection could not be made: refused, unreachable, unknown host or timed out."""


class HandshakeError(ConnectError):
    """The handshake raised, the connection closed during it, or it took longer than ``handshake_timeout``."""


class SendError(Pea2PeaError):
    """The message was not queued."""


class NotConnectedError(SendError, ConnectionError):
    """The peer is gone, or its connection is being closed.

    ``reason`` is why the connection ended, and ``None`` if it never opened.
    """

    def __init__(self, problem: str, reason: DisconnectReason | None = None) -> None:
        super().__init__(problem)
        self.reason = reason

    @classmethod
    def of(cls, reason: DisconnectReason | None) -> NotConnectedError:
        """Return the error for a connection that has ended, or is ending, for ``reason``, which is also its cause."""
        error = cls(f"the peer is gone: {reason}" if reason else "the peer is gone", reason)
        error.__cause__ = reason.exception if reason else None
        return error


class QueueFullError(SendError):
    """``write_queue_depth`` messages are already queued for this peer."""


class CodecError(Pea2PeaError, ValueError):
    """Bytes cannot be decoded, or a message cannot be encoded."""


class DecodeError(CodecError):
    """The bytes sent by a peer cannot be decoded."""


class FrameTooLargeError(DecodeError):
    """A frame is, or claims to be, larger than the codec's limit."""


class IncompleteFrameError(DecodeError):
    """The stream ended inside a frame."""


class EncodeError(CodecError):
    """A message cannot be encoded: it has the wrong type, or is too large."""


class PeerTimeoutError(Pea2PeaError, TimeoutError):
    """A connection was closed because the peer took too long."""


class IdleTimeoutError(PeerTimeoutError):
    """No message arrived within ``idle_timeout``."""


class WriteTimeoutError(PeerTimeoutError):
    """The peer did not accept a batch within ``write_timeout``."""
