"""Messages to send: a queue per peer, encoded and written in batches. May import asyncio.

Messages sent within one turn of the loop are encoded and written as one batch. While the system accepts no more bytes,
messages are queued up to ``write_queue_depth``; then senders wait, and are served in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from .codec import Buffer, Encoder
from .errors import NotConnectedError, NotEnabledError, Pea2PeaError, QueueFullError, UsageError, WriteTimeoutError
from .lifecycle import Cause, DisconnectReason
from .waiting import Deadline

if TYPE_CHECKING:
    from .instruments import Instrument
    from .peer import Peer

# The approximate size of a batch in bytes, unless one message is larger. It is what write_timeout applies to, and what
# may wait encoded.
BATCH_SIZE = 1024 * 1024
# Messages in a batch while their size is unknown.
FIRST_BATCH = 64
# Below this size, one write of joined bytes is cheaper than a write for each part.
JOIN_BELOW = 64 * 1024
# If every buffer takes a write of its own, so does every header of a large message. Joining them is then twice as fast
# for batches of this many messages or more. For larger messages the copy costs more than the calls.
JOIN_FROM = 3

#: The outbox of the peer whose ``on_disconnect`` runs in this context. The hook and its tasks may still send.
MAY_SEND: ContextVar[Outbox | None] = ContextVar("pea2pea_may_send", default=None)


class Encoded:
    """A message that is encoded already, queued among messages that are not."""

    __slots__ = ("buffers",)

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.buffers: Sequence[Buffer] = buffers


class Sender(Protocol):
    """What an outbox needs of its node: the settings of ``Writing``."""

    write_queue_depth: int
    write_timeout: float | None


class Owner(Protocol):
    """What an outbox reports to its connection."""

    def writing_failed(self, cause: Cause, exc: Exception) -> None: ...


class Outbox:
    """The messages for one peer that are not written yet.

    ``gathers`` tells whether the transport writes several buffers with one system call.
    """

    __slots__ = (
        "_deadline", "_finished", "_flushes", "_gathers", "_handed", "_in_flight", "_limit", "_loop", "_mixed", "_node",
        "_owner", "_peer", "_reason", "_resuming", "_take", "_transport", "_unwritten", "_waiters", "blocked", "closed",
        "encoder", "failed", "queue", "room", "scheduled",
    )

    def __init__(
        self,
        node: Sender,
        owner: Owner,
        peer: Peer[Any],
        transport: asyncio.WriteTransport,
        encoder: Encoder[Any],
        *,
        gathers: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._node = node
        self._owner = owner
        self._peer = peer
        self._transport = transport
        self._gathers = gathers
        self.encoder: Encoder[Any] = encoder
        #: Messages that are sent and not encoded yet.
        self.queue: list[Any] = []
        #: How many messages the queue may hold. 0 once the connection ends.
        self.room = self._limit = node.write_queue_depth
        #: Whether a flush is already scheduled.
        self.scheduled = False
        #: Nothing is written any more.
        self.closed = False
        #: The transport closed during a write.
        self.failed = False
        # end_stream() was called.
        self._finished = False
        self._reason: DisconnectReason | None = None
        self._mixed = False
        # How many messages the next batch may have, by the mean size of those in the last one.
        self._take = FIRST_BATCH
        # These are rare; an idle connection holds none of them. Each queue is as long as there are waiting tasks.
        self._deadline: Deadline | None = None
        self._waiters: deque[tuple[asyncio.Future[None], Any]] | None = None
        self._flushes: deque[tuple[asyncio.Future[None], int]] | None = None
        # At most one batch: the next is encoded when this one is written.
        self._unwritten: Sequence[Buffer] = ()
        self._in_flight = self._handed = 0
        # With a limit of 0 the transport pauses this side as soon as any byte waits in it, so "not blocked" means that
        # everything written is with the operating system.
        transport.set_write_buffer_limits(high=0)
        #: Whether the system accepts no more bytes for now.
        self.blocked = self._resuming = False
        if transport.get_write_buffer_size():
            self._in_flight = 1  # bytes left by the handshake are waited for like a batch
            self.block()

    # -- sending ---------------------------------------------------------------------------

    def put(self, message: Any, node: object) -> None:
        """Queue a message, or raise. (``Writing.send_nowait`` is this, inlined.)"""
        if len(self.queue) >= self.room:
            self.put_late(message)
            return
        if not self.scheduled:
            self.schedule(node)
        self.queue.append(message)

    def put_late(self, message: Any) -> None:
        """Queue a message although there is no room, if it comes from ``on_disconnect``. Otherwise raise."""
        if self.room or self.closed or MAY_SEND.get() is not self or len(self.queue) >= self._limit:
            raise self.refusal()
        if not self.scheduled:
            self.schedule(self._node)
        self.queue.append(message)

    def put_encoded(self, buffers: Sequence[Buffer], node: object) -> None:
        """Queue a message that is encoded already, or raise."""
        if len(self.queue) >= self.room:
            raise self.refusal()
        if not self.scheduled:
            self.schedule(node)
        self.queue.append(Encoded(buffers))
        self._mixed = True

    def refusal(self) -> Pea2PeaError:
        """Return the error for a message that cannot be queued now."""
        if self._finished and self._reason is None:
            return UsageError("end_stream() was called: nothing more can be sent to this peer")
        if not self.room and not (MAY_SEND.get() is self and not self.closed):
            return NotConnectedError.of(self._reason)
        return QueueFullError(f"write_queue_depth ({self._limit}) messages are already queued")

    async def wait_to_put(self, message: Any, node: object) -> None:
        """Queue a message when it is its turn. If cancelled, the message is queued whole or not at all."""
        if node is not self._node:
            raise self._foreign(node)
        if len(self.queue) < self._limit:  # the connection is ending
            self.put_late(message)
            return
        if not self.room:
            raise self.refusal()
        self._waiters = self._waiters or deque()
        await self._wait_in(self._waiters, message)

    async def flushed(self) -> None:
        """Return when everything that is queued now is with the operating system."""
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("a node lives on one event loop, and this is another one")
        self.flush()
        if self.closed:
            raise self.refusal()
        target = self._handed + self._in_flight + len(self.queue)
        if target == self._handed:
            return
        self._flushes = self._flushes or deque()
        await self._wait_in(self._flushes, target)

    async def _wait_in(self, line: deque[tuple[asyncio.Future[None], Any]], what: Any) -> None:
        place = (self._loop.create_future(), what)
        line.append(place)
        try:
            await place[0]
        except asyncio.CancelledError:
            if place in line:  # not served yet
                line.remove(place)
            raise

    def schedule(self, node: object) -> None:
        """Flush in the next turn of the loop. Raises :class:`UsageError` if the peer is not one of ``node``."""
        if node is not self._node:
            raise self._foreign(node)
        self._loop.call_soon(self.flush)
        # In debug mode this is called for every message: call_soon then raises in another thread.
        self.scheduled = not self._loop.get_debug()

    def _foreign(self, node: object) -> UsageError:
        return UsageError(f"{self._peer!r} is a peer of {self._node!r}, not of {node!r}")

    # -- writing ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Encode and write the queued messages, unless an earlier batch still waits."""
        self.scheduled = False
        if self.blocked or not self.queue or self._transport.is_closing():
            return
        batch, self.queue = self.queue[: self._take], self.queue[self._take :]
        messages = len(batch)
        try:
            # A list, since the buffers are iterated more than once.
            buffers = list(self._encode_mixed(batch) if self._mixed else self.encoder.encode(batch))
            size = sum(map(len, buffers))
            stats = self._peer.stats
            stats.messages_sent += messages
            stats.bytes_sent += size
            self._in_flight = messages
            self._take = BATCH_SIZE * messages // (size or 1) or 1
            self._write(buffers)
        except Exception as exc:  # the user's encoder, or what it returned: it ends this connection
            self._owner.writing_failed(Cause.ENCODER_FAILED, exc)
        if self._waiters:
            self._admit()
        # In the next turn, so that the senders that were just woken fill the batch first.
        if self.queue and not self.scheduled:
            self.schedule(self._node)

    def block(self) -> None:
        """The system accepts no more bytes for now."""
        self.blocked = True
        if self._deadline is None and self._node.write_timeout is not None:
            self._deadline = Deadline(self._loop, self._node.write_timeout, self._time_out)
        # A batch of several buffers may be blocked at each of them, and has one deadline.
        if self._deadline is not None and not self._deadline.is_set:
            self._deadline.restart()

    def unblock(self) -> None:
        """Everything written is with the operating system. Go on in the next turn of the loop.

        Not at once: asyncio's selector loop calls ``resume_writing`` in the middle of its own write. If a write that is
        made there fails, it reports the lost connection twice, the second time without the error.
        """
        if not self._resuming:
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._resuming = self.blocked = False
        if self.closed or self._transport.is_closing():
            return
        self._write(self._unwritten)
        if self._deadline is not None and not self.blocked:
            self._deadline.clear()
        self.flush()

    def leave(self, reason: DisconnectReason) -> None:
        """The connection is ending: only its ``on_disconnect`` may send from now on."""
        self.room = 0
        self._reason = self._reason or reason
        if self._waiters:
            self._fail_all(self._waiters)

    def finish(self) -> None:
        """This side ended its stream: nothing more can be sent, not even by ``on_disconnect``."""
        self.room = self._limit = 0
        self._finished = True
        if self._waiters:
            self._fail_all(self._waiters)

    def close(self, reason: DisconnectReason | None = None) -> None:
        """Queue and write nothing any more. Everyone who waits gets the reason of the connection's end."""
        if self.closed:
            return
        self._reason = self._reason or reason
        self.closed = True
        self.room = 0
        self.queue = []
        self._unwritten = ()
        if self._deadline is not None:
            self._deadline.close()
        for line in (self._waiters, self._flushes):
            if line:
                self._fail_all(line)

    def _fail_all(self, line: deque[tuple[asyncio.Future[None], Any]]) -> None:
        while line:
            waiter = line.popleft()[0]
            if not waiter.done():
                waiter.set_exception(self.refusal())

    def _encode_mixed(self, batch: list[Any]) -> Sequence[Buffer]:
        self._mixed = bool(self.queue)
        buffers: list[Buffer] = []
        for kind, group in groupby(batch, type):
            if kind is Encoded:
                buffers.extend(buffer for encoded in group for buffer in encoded.buffers)
            else:
                buffers.extend(self.encoder.encode(list(group)))
        return [b"".join(buffers)] if sum(map(len, buffers)) < JOIN_BELOW else buffers

    def _write(self, buffers: Sequence[Buffer]) -> None:
        write: Callable[[Any], None] = self._transport.write
        parts: Sequence[Any] = buffers
        if len(buffers) > 1:
            if self._gathers:
                write, parts = self._transport.writelines, [buffers]
            elif self._take >= JOIN_FROM and min(map(len, buffers)) < JOIN_BELOW:
                parts = [b"".join(buffers)]
        for n, part in enumerate(parts, 1):
            write(part)
            if self.blocked or self._transport.is_closing():
                # The rest is written when there is room. After a failure it is not, and everyone who waits gets the
                # error when the connection is reported lost.
                self._unwritten = parts[n:]
                self.failed = not self.blocked
                return
        self._unwritten = ()
        self._handed += self._in_flight
        self._in_flight = 0
        while self._flushes and self._flushes[0][1] <= self._handed:
            waiter, _ = self._flushes.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _admit(self) -> None:
        while self._waiters and len(self.queue) < self.room:
            waiter, message = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self.queue.append(message)

    def _time_out(self) -> None:
        error = WriteTimeoutError("the peer did not accept a batch within write_timeout")
        self._owner.writing_failed(Cause.TOO_SLOW, error)


class WatchedOutbox(Outbox):
    """Reports to an instrument. A class of its own, so that without instruments there is nothing to check."""

    __slots__ = ("_instrument",)

    def __init__(self, *args: Any, gathers: bool, instrument: Instrument) -> None:
        self._instrument = instrument
        super().__init__(*args, gathers=gathers)

    def flush(self) -> None:
        stats = self._peer.stats
        messages, size = stats.messages_sent, stats.bytes_sent
        super().flush()
        if stats.messages_sent > messages:
            self._instrument.batch_sent(self._peer, stats.messages_sent - messages, stats.bytes_sent - size)

    def block(self) -> None:
        if not self.blocked:
            self._instrument.writing_paused(self._peer)
        super().block()

    def unblock(self) -> None:
        super().unblock()
        self._instrument.writing_resumed(self._peer)


class NoOutbox(Outbox):
    """Stands for the outbox of a connection that has none: it never has room, and nothing to write."""

    __slots__ = ("_error",)

    def __init__(self, error: Callable[[], Pea2PeaError]) -> None:
        self._error = error
        self.queue, self.room, self.scheduled = [], 0, False
        self.blocked = self.closed = True  # for good: nothing is ever flushed
        self.failed = False
        self._deadline = self._waiters = self._flushes = None

    def put_late(self, message: Any) -> None:
        raise self._error()

    def refusal(self) -> Pea2PeaError:
        return self._error()

    async def wait_to_put(self, message: Any, node: object) -> None:
        raise self._error()

    async def flushed(self) -> None:
        raise self._error()

    def block(self) -> None:
        """Nothing waits for the system here."""

    def unblock(self) -> None:
        """As above."""

    def leave(self, reason: DisconnectReason) -> None:
        """As above."""

    def close(self, reason: DisconnectReason | None = None) -> None:
        """As above."""


#: Of a connection that is still being set up.
UNOPENED = NoOutbox(lambda: NotConnectedError("the peer is not connected yet"))
#: Of a connection that was opened without the protocol.
DISABLED = NoOutbox(lambda: NotEnabledError("Writing is not enabled for this peer"))
