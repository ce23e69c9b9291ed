"""The states of a connection and of a node, and the reasons for which a connection ends. Pure: no asyncio, no sockets.

The vocabulary of the library: a connection is *dialled* or *accepted*, does its *handshake*, is *open*, and *ends* for
one reason. Ending it starts the *teardown*: its tasks are cancelled, ``on_disconnect`` runs, queued bytes are written,
and the transport is *closed*. To *drain* is to stop reading, process what has arrived, and then end. To *abort* is to
close the transport at once and lose what is queued. The peer *closes* when it ends its stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar


class ConnectionState(Enum):
    """The state of a connection. It holds a slot of the gate in every state but ``CLOSED``."""

    CONNECTING = "connecting"  # dialled or accepted; the transport is being made
    HANDSHAKING = "handshaking"  # the handshake hook runs
    OPEN = "open"  # registered; messages are sent and received
    DRAINING = "draining"  # registered; nothing more is read, what has arrived is processed
    CLOSING = "closing"  # registered; on_disconnect runs, and queued bytes are written
    CLOSED = "closed"  # removed from the registry; the slot is free


class NodeState(Enum):
    """The state of a node."""

    NEW = "new"  # constructed, and bound to no event loop yet
    RUNNING = "running"  # may listen and connect
    DRAINING = "draining"  # accepts and dials no more; its peers are drained
    CLOSING = "closing"  # its peers are disconnected
    CLOSED = "closed"  # owns no task, socket or timer


# A tuple: it is searched by identity, where a set would hash its members in Python.
_TRANSITIONS = (
    (ConnectionState.CONNECTING, ConnectionState.HANDSHAKING),
    (ConnectionState.CONNECTING, ConnectionState.OPEN),
    (ConnectionState.CONNECTING, ConnectionState.CLOSED),
    (ConnectionState.HANDSHAKING, ConnectionState.OPEN),
    (ConnectionState.HANDSHAKING, ConnectionState.CLOSED),
    (ConnectionState.OPEN, ConnectionState.DRAINING),
    (ConnectionState.OPEN, ConnectionState.CLOSING),
    (ConnectionState.DRAINING, ConnectionState.CLOSING),
    (ConnectionState.CLOSING, ConnectionState.CLOSED),
    (NodeState.NEW, NodeState.RUNNING),
    (NodeState.NEW, NodeState.CLOSED),
    (NodeState.RUNNING, NodeState.DRAINING),
    (NodeState.RUNNING, NodeState.CLOSING),
    (NodeState.DRAINING, NodeState.CLOSING),
    (NodeState.CLOSING, NodeState.CLOSED),
)

State = TypeVar("State", ConnectionState, NodeState)


def move(old: State, new: State) -> State:
    """Return ``new`` if the table has a transition to it; an ``AssertionError`` is a bug of this library."""
    if (old, new) not in _TRANSITIONS:
        raise AssertionError(f"there is no transition from {old} to {new}")
    return new


class Origin(Enum):
    """Where the end of a connection was noticed or decided."""

    USER = "user"  # disconnect() was called, or the connection was replaced or evicted
    SHUTDOWN = "shutdown"  # the node is closing
    READING = "reading"  # the peer closed, sent bad data or nothing; or process_message raised
    WRITING = "writing"  # the encoder raised, the peer read nothing, or a write failed
    ON_CONNECT = "on_connect"  # on_connect raised


class Party(Enum):
    """Whose doing the end of a connection is."""

    LOCAL = "local"  # this node ended it on purpose
    CODE = "code"  # the user's code raised
    PEER = "peer"  # the peer closed it or broke a rule
    NETWORK = "network"  # the connection broke


class Cause(Enum):
    """Why a connection ended: a sentence, whose doing it is, and where it was noticed."""

    DISCONNECTED = ("disconnect() was called", Party.LOCAL, Origin.USER)
    REPLACED = ("another connection to the same peer replaced it", Party.LOCAL, Origin.USER)
    EVICTED = ("it was evicted to make room for another connection", Party.LOCAL, Origin.USER)
    SHUTDOWN = ("the node was closed", Party.LOCAL, Origin.SHUTDOWN)
    PROCESSING_FAILED = ("process_message raised", Party.CODE, Origin.READING)
    DECODER_FAILED = ("the decoder raised", Party.CODE, Origin.READING)
    ENCODER_FAILED = ("a message could not be encoded", Party.CODE, Origin.WRITING)
    ON_CONNECT_FAILED = ("on_connect raised", Party.CODE, Origin.ON_CONNECT)
    PEER_CLOSED = ("the peer closed the connection", Party.PEER, Origin.READING)
    PEER_REFUSED = ("the peer closed the connection before it sent anything", Party.PEER, Origin.READING)
    BAD_DATA = ("the peer sent data that cannot be decoded", Party.PEER, Origin.READING)
    IDLE = ("no message arrived within idle_timeout", Party.PEER, Origin.READING)
    TOO_SLOW = ("the peer did not accept a batch within write_timeout", Party.PEER, Origin.WRITING)
    READ_FAILED = ("the connection was lost", Party.NETWORK, Origin.READING)
    WRITE_FAILED = ("the connection was lost while writing", Party.NETWORK, Origin.WRITING)

    __hash__ = object.__hash__  # by identity; that of Enum is written in Python

    def __init__(self, sentence: str, party: Party, origin: Origin) -> None:
        self.sentence = sentence
        self.party = party
        self.origin = origin


@dataclass(frozen=True, slots=True)
class DisconnectReason:
    """Why a connection ended, and the exception if there was one. ``str(reason)`` is a sentence."""

    cause: Cause
    exception: BaseException | None = None

    @property
    def origin(self) -> Origin:
        """Where the end was noticed or decided."""
        return self.cause.origin

    @property
    def party(self) -> Party:
        """Whose doing it is."""
        return self.cause.party

    @property
    def is_orderly(self) -> bool:
        """Whether both sides had finished: nothing broke, and nobody broke a rule."""
        return self.exception is None and self.cause in _ORDERLY

    def __str__(self) -> str:
        if self.exception is None:
            return self.cause.sentence
        detail = str(self.exception)
        kind = type(self.exception).__name__
        return f"{self.cause.sentence}: {kind}: {detail}" if detail else f"{self.cause.sentence}: {kind}"


_ORDERLY = frozenset((Cause.DISCONNECTED, Cause.SHUTDOWN, Cause.PEER_CLOSED, Cause.REPLACED))
