"""The states of a connection and of a node, as a table. Pure: no asyncio, no sockets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar


class ConnectionState(Enum):
    """Where one connection stands. Its slot is held in every state but ``CLOSED``."""

    CONNECTING = "connecting"  # dialled or accepted; the handshake runs; in no registry
    OPEN = "open"  # registered and usable
    CLOSING = "closing"  # registered; the last hook runs, the last bytes leave
    CLOSED = "closed"  # gone from the registry; its slot is free


class NodeState(Enum):
    """Where a node stands."""

    NEW = "new"  # made, bound to no loop yet
    RUNNING = "running"  # may listen and connect
    CLOSING = "closing"  # accepts and dials no more; its peers are leaving
    CLOSED = "closed"  # holds no task, socket or timer


_MOVES = (
    (ConnectionState.CONNECTING, ConnectionState.OPEN),
    (ConnectionState.CONNECTING, ConnectionState.CLOSED),
    (ConnectionState.OPEN, ConnectionState.CLOSING),
    (ConnectionState.CLOSING, ConnectionState.CLOSED),
    (NodeState.NEW, NodeState.RUNNING),
    (NodeState.NEW, NodeState.CLOSED),
    (NodeState.RUNNING, NodeState.CLOSING),
    (NodeState.CLOSING, NodeState.CLOSED),
)

State = TypeVar("State", ConnectionState, NodeState)


def move(old: State, new: State) -> State:
    """Return ``new`` where the table allows that step; an ``AssertionError`` is a bug of this library."""
    if (old, new) not in _MOVES:
        raise AssertionError(f"no way leads from {old} to {new}")
    return new


class Origin(Enum):
    """Who or what ended a connection."""

    USER = "user"  # disconnect() was called
    SHUTDOWN = "shutdown"  # the node closes
    READING = "reading"  # the peer closed, sent garbage or fell silent; or process_message raised
    WRITING = "writing"  # the encoder raised, the peer took nothing or its side broke
    ON_CONNECT = "on_connect"  # on_connect raised


@dataclass(frozen=True, slots=True)
class DisconnectReason:
    """Why a connection ended: its origin, and the exception where there was one.

    ``READING`` without an exception is a peer that closed in good order, between two frames.
    """

    origin: Origin
    exception: BaseException | None = None

    def __str__(self) -> str:
        if self.exception is None:
            return self.origin.value
        return f"{self.origin.value}: {type(self.exception).__name__}: {self.exception}"
