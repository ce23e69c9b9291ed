"""The five protocols: what a node class may add to ``Node``, each an ABC with one or two hooks.

A class that lacks a hook of a protocol it names cannot be instantiated. Settings are class
attributes. Times are seconds; ``None`` means no limit where the type allows it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from .codec import Decoder, Encoder
from .config import check_count, check_seconds
from .errors import EncodeError, Pea2PeaError
from .lifecycle import DisconnectReason
from .peer import Peer, Registry

In = TypeVar("In")
Out = TypeVar("Out")


class Handshake(ABC):
    """Talk to a new peer over the raw connection, before anything else."""

    #: Seconds that a handshake may take, on either side.
    handshake_timeout: ClassVar[float] = 3.0

    @abstractmethod
    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        """Return what becomes ``peer.session``; raise to refuse the peer.

        A :class:`~pea2pea.errors.HandshakeError`, a ``CodecError``, an ``OSError`` or an ``EOFError`` is taken
        for the peer's doing and logged as information; any other exception as an error of this side.
        Runs on both sides (``peer.inbound`` tells which). Bytes that arrive beyond it are not
        lost: they are the first that the decoder sees.
        """


class Reading(ABC, Generic[In]):
    """Receive messages."""

    #: Messages that may wait to be processed; one receive may go beyond it, then reading pauses.
    read_queue_depth: ClassVar[int] = 256
    #: Whether a full queue pauses reading. If not, what is beyond it is dropped and counted.
    backpressure: ClassVar[bool] = True
    #: Seconds without a message after which a peer is disconnected.
    idle_timeout: ClassVar[float | None] = None

    @abstractmethod
    def decoder(self, peer: Peer) -> Decoder[In]:
        """Return what takes this peer's bytes apart; asked for once, after the handshake."""

    @abstractmethod
    async def process_message(self, peer: Peer, message: In) -> None:
        """Process one message. A peer's messages come in order and one at a time.

        May suspend: the other peers go on. An exception ends this connection.
        """


class Writing(Registry, ABC, Generic[Out]):
    """Send messages."""

    #: Messages that may wait for the next batch, per peer.
    write_queue_depth: ClassVar[int] = 256
    #: Seconds that the peer may take to accept one batch: about a mebibyte, or one message.
    write_timeout: ClassVar[float | None] = 10.0

    @abstractmethod
    def encoder(self, peer: Peer) -> Encoder[Out]:
        """Return what turns messages for this peer into bytes; asked for once, after the handshake.

        Encoders that keep a state must be one per peer. Equal ones share the work of a broadcast.
        """

    def send_nowait(self, peer: Peer, message: Out) -> None:
        """Queue a message for a peer of this node; what is queued in one turn of the loop leaves as one batch.

        Raises :class:`~pea2pea.errors.QueueFullError` with ``write_queue_depth`` waiting,
        :class:`~pea2pea.errors.NotConnectedError` for a peer that is gone, and
        :class:`~pea2pea.errors.NotEnabledError` for one connected before writing was enabled.
        A message that cannot be encoded ends the connection when its turn comes.
        """
        # Outbox.put, inlined: this is the hottest line of the library.
        outbox = peer._link.outbox
        if len(outbox.queue) >= outbox.room:
            raise outbox.refusal()
        if not outbox.scheduled:
            outbox.schedule()
        outbox.queue.append(message)

    async def send(self, peer: Peer, message: Out) -> None:
        """Queue a message, and wait for room first where there is none. Raises as :meth:`send_nowait` but for that.

        Safe to cancel: the message is then queued whole or not at all. Waiting senders are served
        in their order.
        """
        outbox = peer._link.outbox
        if len(outbox.queue) >= outbox.room:
            await outbox.wait_to_put(message)
            return
        if not outbox.scheduled:
            outbox.schedule()
        outbox.queue.append(message)

    async def flush(self, peer: Peer) -> None:
        """Return when all that was sent to ``peer`` so far is in the operating system's send buffer.

        Raises :class:`~pea2pea.errors.NotConnectedError` where the connection ended first.
        """
        outbox = peer._link.outbox
        if not outbox.room:
            raise outbox.refusal()
        await outbox.flushed()

    def broadcast(self, message: Out, peers: Iterable[Peer] | None = None) -> dict[Peer, Pea2PeaError]:
        """Queue a message for every peer, or once for each of ``peers``, and return the error of each that lacks it.

        Waits for nobody: a peer without room is among the errors. Encodes once for all peers whose
        encoders are equal; where that raises, it is their error, and ends no connection.
        """
        errors: dict[Peer, Pea2PeaError] = {}
        groups: defaultdict[Hashable, list[Peer]] = defaultdict(list)
        for peer in self.peers if peers is None else dict.fromkeys(peers):
            outbox = peer._link.outbox
            if len(outbox.queue) >= outbox.room:
                errors[peer] = outbox.refusal()
            else:
                groups[_key(outbox.encoder)].append(peer)
        for group in groups.values():
            if len(group) == 1:
                group[0]._link.outbox.put(message)
            else:
                errors.update(_put_encoded(group, message))
        return errors


class OnConnect(ABC):
    """Do something with every new peer."""

    #: Whether a disconnect cancels ``on_connect``. If not, it always runs to its end.
    on_connect_abortable: ClassVar[bool] = True

    @abstractmethod
    async def on_connect(self, peer: Peer) -> None:
        """Called when ``peer`` is registered and usable; ``connect`` does not wait for it.

        May run beside ``process_message``. An exception ends the connection.
        """


class OnDisconnect(ABC):
    """Do something about every peer that leaves."""

    #: Seconds for what a leaving peer still runs and for its last bytes to leave.
    disconnect_timeout: ClassVar[float] = 3.0

    @abstractmethod
    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Called exactly once for every peer that was registered, while it still is.

        A last message can be sent, and flushed, unless writing is what failed.
        """


Protocol = type[Handshake] | type[Reading[Any]] | type[Writing[Any]] | type[OnConnect] | type[OnDisconnect]

#: All of them, in the order in which a connection meets them.
PROTOCOLS: tuple[Protocol, ...] = (Handshake, Reading, Writing, OnConnect, OnDisconnect)


def check_settings(node: object) -> None:
    """Raise :class:`~pea2pea.errors.ConfigError` naming the first setting of ``node`` that is wrong."""
    if isinstance(node, Handshake):
        check_seconds("handshake_timeout", node.handshake_timeout)
    if isinstance(node, Reading):
        check_count("read_queue_depth", node.read_queue_depth)
        if node.idle_timeout is not None:
            check_seconds("idle_timeout", node.idle_timeout)
    if isinstance(node, Writing):
        check_count("write_queue_depth", node.write_queue_depth)
        if node.write_timeout is not None:
            check_seconds("write_timeout", node.write_timeout)
    if isinstance(node, OnDisconnect):
        check_seconds("disconnect_timeout", node.disconnect_timeout)


def _key(encoder: Encoder[Any]) -> Hashable:
    """What equal encoders share; one that cannot be hashed shares with none."""
    try:
        hash(encoder)  # the type does not tell: what is frozen may hold what is not
    except TypeError:
        return id(encoder)
    return encoder


def _put_encoded(group: list[Peer], message: Any) -> dict[Peer, Pea2PeaError]:
    """Encode a message once for peers of equal encoders, and queue it for each; or return the error of all."""
    try:
        buffers = group[0]._link.outbox.encoder.encode([message])
    except Exception as exc:  # the user's code, or what it was given
        error = exc if isinstance(exc, Pea2PeaError) else EncodeError(f"{type(exc).__name__}: {exc}")
        return dict.fromkeys(group, error)
    for peer in group:
        peer._link.outbox.put_encoded(buffers)
    return {}
