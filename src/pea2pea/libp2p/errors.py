"""What goes wrong between libp2p peers, one tree below that of the library. May import ``errors`` of the core.

::

    Libp2pError                       (a Pea2PeaError)
    ├── MalformedAddressError         text or bytes that are no multiaddr or peer id (a ConfigError)
    ├── MalformedKeyError             a key that is none, or of a kind that is not known (a DecodeError)
    │   └── KeyKindError              a private key of another kind than Ed25519 (an IdentityFileError, too)
    ├── IdentityFileError             a file that others can use, or that holds no private key (an OSError)
    ├── NegotiationError              multistream-select broken by the peer (a DecodeError)
    ├── UnsupportedProtocolError      the peer speaks none of the protocols that were proposed (a ConnectionError)
    ├── PeerIdentityError             it cannot prove who it is, or is not who was expected (a PermissionError)
    ├── ChannelError                  the secure channel was refused, cut or altered (a DecodeError)
    ├── YamuxError                    the peer broke the multiplexing protocol (a DecodeError)
    │   ├── MalformedFrameError       a wrong version, type, flags or stream number
    │   ├── UnknownStreamError        a frame for a stream that was never opened
    │   ├── WindowExceededError       more data than the window allowed
    │   └── TooManyStreamsError       it went on opening streams that were refused, or took no replies
    ├── StreamError                   this stream cannot go on (also a ConnectionError)
    │   ├── StreamResetError          the other side reset it, or its connection ended
    │   └── StreamClosedError         this side closed or reset it
    ├── StreamLimitError              as many streams are open, or wait to be acknowledged, as may be
    ├── GoneAwayError                 the peer takes no more streams
    └── KeepaliveError                no answer to a ping of the connection (a PeerTimeoutError)
"""

from __future__ import annotations

from ..errors import ConfigError, DecodeError, Pea2PeaError, PeerTimeoutError


class Libp2pError(Pea2PeaError):
    """Everything that is wrong between libp2p peers."""


class MalformedAddressError(Libp2pError, ConfigError):
    """Text or bytes that are no multiaddr, or no peer id."""

    def __init__(self, problem: str) -> None:
        ConfigError.__init__(self, "multiaddr", problem)


class MalformedKeyError(Libp2pError, DecodeError):
    """A key that is none, or a public one of a kind that is not known."""


class IdentityFileError(Libp2pError, OSError):
    """A file that others than its owner can use, or that does not hold a private key."""


class KeyKindError(MalformedKeyError, IdentityFileError):
    """A private key of another kind than Ed25519, whether in a file or not."""


class NegotiationError(Libp2pError, DecodeError):
    """The peer broke the rules of multistream-select."""


class UnsupportedProtocolError(Libp2pError, ConnectionError):
    """The peer speaks none of the protocols that were proposed; ``protocols`` are these."""

    def __init__(self, protocols: tuple[str, ...]) -> None:
        super().__init__(f"the peer speaks none of {', '.join(protocols)}")
        self.protocols = protocols


class PeerIdentityError(Libp2pError, PermissionError):
    """The peer cannot prove who it is, or is not who was expected."""


class ChannelError(Libp2pError, DecodeError):
    """The secure channel was refused by the peer, cut, or altered on the way."""


class YamuxError(Libp2pError, DecodeError):
    """The peer broke the multiplexing protocol; the connection ends."""


class MalformedFrameError(YamuxError):
    """A frame of a wrong version, type, flags or stream number."""


class UnknownStreamError(YamuxError):
    """A frame for a stream that nobody opened."""


class WindowExceededError(YamuxError):
    """The peer sent more than the window of the stream allowed."""


class TooManyStreamsError(YamuxError):
    """The peer went on opening streams that were refused, or wanted replies and took none."""


class StreamError(Libp2pError, ConnectionError):
    """This stream cannot go on; the others can."""


class StreamResetError(StreamError):
    """The other side reset the stream, or its connection ended."""


class StreamClosedError(StreamError):
    """This side closed or reset the stream before."""


class StreamLimitError(Libp2pError):
    """As many streams are open, or wait to be acknowledged, as the limits allow."""


class GoneAwayError(Libp2pError):
    """The peer takes no more streams on this connection."""


class KeepaliveError(Libp2pError, PeerTimeoutError):
    """The peer did not answer a ping of the connection in time."""
