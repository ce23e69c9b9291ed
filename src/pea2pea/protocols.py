"""The protocols: what a node class may add to ``Node``, each an abstract class with its hooks and settings.

A class that lacks a hook of one of its protocols cannot be instantiated. Settings are attributes with a default here,
see :class:`~pea2pea.settings.Settings`. Times are seconds; ``None`` means no limit if the type allows it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .codec import Decoder, Encoder
from .errors import EncodeError, NotConnectedError, NotEnabledError, Pea2PeaError, UsageError
from .inbox import PullInbox
from .lifecycle import DisconnectReason
from .peer import Peer, Session

In = TypeVar("In")
Out = TypeVar("Out")


class Handshake(ABC, Generic[Session]):
    """Talk to a new peer over the raw connection, before anything else."""

    #: Seconds that a handshake may take, on either side.
    handshake_timeout: float = 3.0

    @abstractmethod
    async def handshake(
        self, peer: Peer[Session], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Session:
        """Return what becomes ``peer.session``; raise to refuse the peer.

        Runs on both sides; ``peer.inbound`` tells which. Bytes that arrive after it are not lost: they are the first
        that the decoder gets. :class:`~pea2pea.frames.Frames` reads and writes messages of a codec.

        A :class:`~pea2pea.errors.ConnectError`, ``CodecError``, ``ConnectionError``, ``PermissionError``,
        ``TimeoutError`` or ``EOFError`` counts as the peer's doing and is logged as one line; any other exception as an
        error of this side, with its traceback.
        """


class _Decoding(Generic[In]):
    """What ``Reading`` and ``Receiving`` have in common."""

    #: Messages that may be queued; one receive may exceed it, then reading pauses.
    read_queue_depth: int = 256
    #: Whether a full queue pauses reading, so that TCP slows the sender down. If not, surplus messages are dropped.
    backpressure: bool = True
    #: Seconds without a message after which a peer is disconnected.
    idle_timeout: float | None = None

    if TYPE_CHECKING:
        #: The codec of all peers, or a method that returns the codec of one.
        codec: Decoder[In] | Callable[..., Decoder[In]]

    def decoder(self, peer: Peer[Any]) -> Decoder[In]:
        """Return the decoder for this peer. Called once, after the handshake. By default it is ``codec``."""
        codec = self.codec
        return codec(peer) if callable(codec) else codec


class Reading(_Decoding[In], ABC, Generic[In]):
    """Process messages as they arrive."""

    @abstractmethod
    async def process_message(self, peer: Peer[Any], message: In) -> None:
        """Process one message. The messages of a peer come in order and one at a time.

        It may suspend: other peers go on. It must not wait for a later message of the same peer, which is processed
        only after it returns; asyncio's debug mode warns about that. An exception ends this connection, and is logged
        with its traceback.
        """


class Receiving(_Decoding[In], Generic[In]):
    """Pull messages instead of having them processed, with the same limits and backpressure as ``Reading``."""

    async def receive(self, peer: Peer[Any]) -> In:
        """Return the next message of ``peer``; wait for it if there is none. Safe to cancel.

        One task at a time may receive from a peer. Raises :class:`~pea2pea.errors.NotConnectedError`, with the reason,
        once the connection has ended and everything that arrived before is received.
        """
        inbox = peer.inbox
        if not isinstance(inbox, PullInbox):
            if peer.reason is not None or peer.opened_at is None:
                raise NotConnectedError.of(peer.reason)
            raise NotEnabledError("Receiving is not enabled for this peer")
        message: In = await inbox.get()
        return message

    async def messages(self, peer: Peer[Any]) -> AsyncIterator[In]:
        """Iterate over the messages of ``peer``, until the connection is closed in good order; raise otherwise."""
        while True:
            try:
                message = await self.receive(peer)
            except NotConnectedError as error:
                if error.reason is not None and error.reason.is_orderly:
                    return
                raise
            yield message


class Writing(ABC, Generic[Out]):
    """Send messages."""

    #: Messages that may be queued, per peer.
    write_queue_depth: int = 256
    #: Seconds in which the peer has to accept one batch: about a mebibyte, or one message.
    write_timeout: float | None = 10.0

    if TYPE_CHECKING:

        @property
        def peers(self) -> list[Peer[Any]]:
            """The connected peers."""
            raise NotImplementedError

    def encoder(self, peer: Peer[Any]) -> Encoder[Out]:
        """Return the encoder for this peer. Called once, after the handshake. By default it is ``codec``.

        Encoders that keep state must be one per peer. Equal encoders share the work of a broadcast.
        """
        codec: Any = getattr(self, "codec")  # noqa: B009 - Reading declares its type, and may not be among the bases
        return cast("Encoder[Out]", codec(peer) if callable(codec) else codec)

    def send_nowait(self, peer: Peer[Any], message: Out) -> None:
        """Queue a message for a peer of this node. What is queued in one turn of the loop is written as one batch.

        Raises :class:`~pea2pea.errors.QueueFullError` if ``write_queue_depth`` messages are queued,
        :class:`~pea2pea.errors.NotConnectedError` if the peer is gone or its connection is ending (only its own
        ``on_disconnect`` may still send), and :class:`~pea2pea.errors.NotEnabledError` if it was connected before
        writing was enabled. A message that cannot be encoded is logged as an error and ends the connection; a later
        send raises the cause. A peer of another node is refused with :class:`~pea2pea.errors.UsageError` when a batch
        begins with it, and always in asyncio's debug mode.
        """
        # Outbox.put, inlined: these are the most frequent lines of the library.
        outbox = peer.outbox
        if len(outbox.queue) >= outbox.room:
            outbox.put_late(message)
            return
        if not outbox.scheduled:
            outbox.schedule(self)
        outbox.queue.append(message)

    async def send(self, peer: Peer[Any], message: Out) -> None:
        """Queue a message; wait for room first if there is none. Otherwise as :meth:`send_nowait`.

        Safe to cancel: the message is queued whole or not at all. Waiting senders are served in order.
        """
        outbox = peer.outbox
        if len(outbox.queue) >= outbox.room:
            await outbox.wait_to_put(message, self)
            return
        if not outbox.scheduled:
            outbox.schedule(self)
        outbox.queue.append(message)

    async def flush(self, peer: Peer[Any]) -> None:
        """Return when everything sent to ``peer`` so far is in the operating system's send buffer.

        Raises :class:`~pea2pea.errors.NotConnectedError`, with the cause, if the connection ends first.
        """
        await peer.outbox.flushed()

    def broadcast(self, message: Out, peers: Iterable[Peer[Any]] | None = None) -> dict[Peer[Any], Pea2PeaError]:
        """Queue a message for every peer, or once for each of ``peers``. Return the errors, by the peers that lack it.

        Waits for no peer: one without room is among the errors. Peers with equal encoders share one encoding; if that
        raises, it is the error of each of them and ends no connection.
        """
        errors: dict[Peer[Any], Pea2PeaError] = {}
        groups: defaultdict[Hashable, list[Peer[Any]]] = defaultdict(list)
        for peer in self.peers if peers is None else dict.fromkeys(peers):
            outbox = peer.outbox
            if len(outbox.queue) >= outbox.room:
                errors[peer] = outbox.refusal()
            else:
                groups[_key(outbox.encoder)].append(peer)
        for group in groups.values():
            if len(group) == 1:
                group[0].outbox.put(message, self)
            else:
                errors.update(_put_encoded(self, group, message))
        return errors


class OnConnect(ABC):
    """Do something with every new peer."""

    #: Whether a disconnect cancels ``on_connect``. If not, it always runs to its end.
    on_connect_abortable: bool = True

    @abstractmethod
    async def on_connect(self, peer: Peer[Any]) -> None:
        """Called when ``peer`` is registered and usable; ``connect`` does not wait for it.

        May run beside ``process_message``. An exception ends the connection, and is logged with its traceback.
        """


class OnDisconnect(ABC):
    """Do something about every peer that leaves."""

    #: Seconds for the hooks of a leaving peer, and for its last bytes to be written.
    disconnect_timeout: float = 3.0

    @abstractmethod
    async def on_disconnect(self, peer: Peer[Any], reason: DisconnectReason) -> None:
        """Called exactly once for every peer that was registered, while it still is.

        A last message can be sent, and flushed, unless writing is what failed.
        """


Protocol = (
    type[Handshake[Any]] | type[Reading[Any]] | type[Receiving[Any]] | type[Writing[Any]] | type[OnConnect]
    | type[OnDisconnect]
)

#: All of them, in the order in which a connection meets them.
PROTOCOLS: tuple[Protocol, ...] = (Handshake, Reading, Receiving, Writing, OnConnect, OnDisconnect)


def check_protocols(cls: type) -> None:
    """Raise :class:`~pea2pea.errors.UsageError` if ``cls`` lacks a codec, or both processes and pulls messages."""
    if issubclass(cls, Reading) and issubclass(cls, Receiving):
        raise UsageError(f"{cls.__name__} derives from both Reading and Receiving: choose one")
    if hasattr(cls, "codec"):
        return
    for base, method in ((Reading, "decoder"), (Receiving, "decoder"), (Writing, "encoder")):
        if issubclass(cls, base) and getattr(cls, method) is getattr(base, method):
            raise UsageError(f"{cls.__name__} needs a codec for {base.__name__}, as in codec = LengthDelimited()")


def _key(encoder: Encoder[Any]) -> Hashable:
    """What equal encoders have in common; an encoder that cannot be hashed is on its own."""
    try:
        hash(encoder)  # the type does not tell: a frozen object may hold an unhashable one
    except TypeError:
        return id(encoder)
    return encoder


def _put_encoded(node: object, group: list[Peer[Any]], message: Any) -> dict[Peer[Any], Pea2PeaError]:
    """Encode a message once for peers with equal encoders, and queue it for each; or return the error of all."""
    try:
        buffers = group[0].outbox.encoder.encode([message])
    except Exception as exc:  # the user's encoder, or the message
        error = exc if isinstance(exc, Pea2PeaError) else EncodeError(f"{type(exc).__name__}: {exc}")
        return dict.fromkeys(group, error)
    for peer in group:
        peer.outbox.put_encoded(buffers, node)
    return {}
