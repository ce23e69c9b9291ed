"""The errors of libp2p hosts, one tree below that of the library. May import ``errors`` of the core.

::

    Libp2pError                       (a Pea2PeaError)
    ├── MalformedAddressError         not a multiaddr, or not a peer id (also a ConfigError)
    ├── MalformedKeyError             not a key, or a key of an unsupported kind (also a DecodeError)
    │   └── KeyKindError              a private key that is not Ed25519 (also an IdentityFileError)
    ├── IdentityFileError             a key file that is not private, or holds no private key (also an OSError)
    ├── NegotiationError              the peer violated multistream-select (also a DecodeError)
    ├── UnsupportedProtocolError      the peer supports none of the proposed protocols (also a ConnectionError)
    ├── PeerIdentityError             the peer cannot prove its identity, or has another one (also a PermissionError)
    ├── ChannelError                  the secure channel was refused, truncated or tampered with (also a DecodeError)
    ├── YamuxError                    the peer violated Yamux (also a DecodeError)
    │   ├── MalformedFrameError       a frame with an invalid version, type, flag or stream number
    │   ├── UnknownStreamError        a frame for a stream that was never opened
    │   ├── WindowExceededError       more data than the receive window allowed
    │   └── TooManyStreamsError       too many refused streams, or unread replies
    ├── StreamError                   the stream cannot be used any more (also a ConnectionError)
    │   ├── StreamResetError          the peer reset it, or its connection ended
    │   └── StreamClosedError         this side closed or reset it
    ├── StreamLimitError              too many streams are open, or not acknowledged yet
    ├── GoneAwayError                 the peer accepts no more streams on this connection
    └── KeepaliveError                the peer did not answer a ping in time (also a PeerTimeoutError)
"""

from __future__ import annotations

from ..errors import ConfigError, DecodeError, Pea2PeaError, PeerTimeoutError


class Libp2pError(Pea2PeaError):
    """Base of all errors of libp2p hosts."""


class MalformedAddressError(Libp2pError, ConfigError):
    """Text or bytes are not a multiaddr, or not a peer id."""

    def __init__(self, problem: str) -> None:
        ConfigError.__init__(self, "multiaddr", problem)


class MalformedKeyError(Libp2pError, DecodeError):
    """Bytes are not a key, or are a public key of an unsupported kind."""


class IdentityFileError(Libp2pError, OSError):
    """A key file can be used by others than its owner, or holds no private key."""


class KeyKindError(MalformedKeyError, IdentityFileError):
    """A private key, in a file or in memory, is not an Ed25519 key."""


class NegotiationError(Libp2pError, DecodeError):
    """The peer violated multistream-select."""


class UnsupportedProtocolError(Libp2pError, ConnectionError):
    """The peer supports none of the proposed protocols, which are in ``protocols``."""

    def __init__(self, protocols: tuple[str, ...]) -> None:
        super().__init__(f"the peer supports none of {', '.join(protocols)}")
        self.protocols = protocols


class PeerIdentityError(Libp2pError, PermissionError):
    """The peer cannot prove its identity, or it is not the expected peer."""


class ChannelError(Libp2pError, DecodeError):
    """The secure channel was refused by the peer, truncated, or tampered with."""


class YamuxError(Libp2pError, DecodeError):
    """The peer violated Yamux; the connection is closed."""


class MalformedFrameError(YamuxError):
    """A frame has an invalid version, type, flag or stream number."""


class UnknownStreamError(YamuxError):
    """A frame belongs to a stream that was never opened."""


class WindowExceededError(YamuxError):
    """The peer sent more data than the receive window allowed."""


class TooManyStreamsError(YamuxError):
    """The peer kept opening streams that were refused, or caused more replies than it reads."""


class StreamError(Libp2pError, ConnectionError):
    """The stream cannot be used any more. The other streams of the connection can."""


class StreamResetError(StreamError):
    """The peer reset the stream, or its connection ended."""


class StreamClosedError(StreamError):
    """This side closed or reset the stream."""


class StreamLimitError(Libp2pError):
    """A limit on streams that are open, or not acknowledged yet, is reached."""


class GoneAwayError(Libp2pError):
    """The peer accepts no more streams on this connection."""


class KeepaliveError(Libp2pError, PeerTimeoutError):
    """The peer did not answer a ping of the connection in time."""
