"""The way out of a message: a peer's queue, its encoder, and the batches that leave. May import asyncio.

What is sent within one turn of the loop is encoded and written as one batch. While the system
takes no more, messages queue up to ``write_queue_depth``; senders then wait, in order.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from .codec import Buffer, Encoder
from .errors import NotConnectedError, NotEnabledError, Pea2PeaError, QueueFullError, UsageError, WriteTimeoutError
from .stats import Stats
from .waiting import Deadline

if TYPE_CHECKING:
    from .peer import Peer

# Whether asyncio writes several buffers with one system call, and pauses its protocol where not all of them left.
# Until 3.11 it copied them into one; before 3.12.9 and 3.13.2 it did not pause (CVE-2024-12254), so that a slow
# peer would take all memory. uvloop, whose transports are no asyncio.Transport, always did both.
GATHERING = (3, 12, 9) <= sys.version_info < (3, 13) or sys.version_info >= (3, 13, 2)
# A batch has about so many bytes, or one message: what write_timeout is given for, and what may wait encoded.
BATCH_SIZE = 1024 * 1024
# Messages in a batch while their size is unknown.
FIRST_BATCH = 64
# Below this, one write of joined bytes is cheaper than one write each.
JOIN_BELOW = 64 * 1024
# Where each buffer takes a write of its own, and so each header of a large message, joining them is twice as fast for
# batches of so many messages or more. Of larger ones the copy costs more than the calls.
JOIN_FROM = 3


class Encoded:
    """A message that is encoded already; it takes its place among those that are not."""

    __slots__ = ("buffers",)

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self.buffers = buffers


class Sender(Protocol):
    """What an outbox needs of its node: the ``Writing`` protocol, and someone to tell."""

    stats: Stats
    write_queue_depth: int
    write_timeout: float | None

    def encoder(self, peer: Peer) -> Encoder[Any]: ...

    def _writing_failed(self, peer: Peer, exc: Exception) -> None: ...


class Outbox:
    """One peer's messages on their way out."""

    __slots__ = (
        "_deadline", "_flushes", "_handed", "_in_flight", "_loop", "_mixed", "_node", "_peer", "_take",
        "_transport", "_unwritten", "_waiters", "blocked", "encoder", "queue", "room", "scheduled",
    )

    def __init__(self, node: Sender, peer: Peer, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._node = node
        self._peer = peer
        self._transport = transport
        self.encoder = node.encoder(peer)
        #: What was sent and is not encoded yet: at most ``room`` messages. Zero room: closed.
        self.queue: list[Any] = []
        self.room = node.write_queue_depth
        #: Whether a flush will come by itself.
        self.scheduled = False
        self._mixed = False
        # How many messages the next batch may have, by the mean size of those in the last.
        self._take = FIRST_BATCH
        # These are rare; an idle connection holds none of them. The two lines are as long as tasks wait.
        self._deadline: Deadline | None = None
        self._waiters: deque[tuple[asyncio.Future[None], Any]] | None = None
        self._flushes: deque[tuple[asyncio.Future[None], int]] | None = None
        # One batch at the most: the next is encoded when it is gone.
        self._unwritten: Sequence[Buffer] = ()
        self._in_flight = 0
        self._handed = 0
        # Any byte that waits in the transport pauses this side, so that "not blocked" means
        # "all of it is with the operating system".
        transport.set_write_buffer_limits(high=0)
        #: Whether the system takes no more for now.
        self.blocked = False
        if transport.get_write_buffer_size():
            self._in_flight = 1  # what the handshake left is waited for as a batch is
            self.block()

    # -- sending ---------------------------------------------------------------------------

    def refusal(self) -> Pea2PeaError:
        """Why there is no room."""
        if self.room:
            return QueueFullError(f"write_queue_depth ({self.room}) messages wait already")
        return NotConnectedError("the peer is gone")

    def put(self, message: Any) -> None:
        """Queue a message, or raise. (``Writing.send_nowait`` is this, inlined.)"""
        if len(self.queue) >= self.room:
            raise self.refusal()
        if not self.scheduled:
            self.schedule()
        self.queue.append(message)

    def put_encoded(self, buffers: Sequence[Buffer]) -> None:
        """Queue a message that is encoded already, or raise."""
        self.put(Encoded(buffers))
        self._mixed = True

    async def wait_to_put(self, message: Any) -> None:
        """Queue a message when its turn comes. Cancelled: it is queued whole or not at all."""
        if not self.room:
            raise self.refusal()
        self._waiters = self._waiters or deque()
        await self._wait_in(self._waiters, message)

    async def flushed(self) -> None:
        """Return when all that is queued now is with the operating system."""
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("a node lives on one event loop, and this is another")
        self.flush()
        if not self.room:
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
            # Whoever is served has left the line already.
            if place in line:
                line.remove(place)
            raise

    def schedule(self) -> None:
        """Flush in the next turn of the loop."""
        self._loop.call_soon(self.flush)
        # In debug mode every message goes this way: call_soon refuses other threads then.
        self.scheduled = not self._loop.get_debug()

    # -- leaving ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Encode and write what is queued, unless an earlier batch still waits."""
        self.scheduled = False
        if self.blocked or not self.queue or self._transport.is_closing():
            return
        batch, self.queue = self.queue[: self._take], self.queue[self._take :]
        try:
            # They are gone through more than once.
            buffers = list(self._encode_mixed(batch) if self._mixed else self.encoder.encode(batch))
            messages, size = len(batch), sum(map(len, buffers))
            mine, all_of_them = self._peer.stats, self._node.stats
            mine.messages_sent += messages
            mine.bytes_sent += size
            all_of_them.messages_sent += messages
            all_of_them.bytes_sent += size
            self._in_flight = messages
            self._take = BATCH_SIZE * messages // (size or 1) or 1
            self._write(buffers)
        except Exception as exc:  # the user's code, or what it gave: it ends this connection, with this reason
            self._fail(exc)
        if self._waiters:
            self._admit()
        # In the next turn, so that the senders just woken fill the batch first.
        if self.queue and not self.scheduled:
            self.schedule()

    def block(self) -> None:
        """The system takes no more for now."""
        self.blocked = True
        if self._deadline is None and self._node.write_timeout is not None:
            self._deadline = Deadline(self._loop, self._node.write_timeout, self._time_out)
        # A batch of several buffers may be blocked at each of them, and has one deadline.
        if self._deadline is not None and not self._deadline.is_set:
            self._deadline.restart()

    def unblock(self) -> None:
        """All that was written is with the operating system."""
        self.blocked = False
        self._write(self._unwritten)
        if self._deadline is not None and not self.blocked:
            self._deadline.clear()
        self.flush()

    def close(self) -> None:
        """Take and write no more. Whoever waits learns it."""
        self.room = 0
        self.queue = []
        self._unwritten = ()
        if self._deadline is not None:
            self._deadline.close()
        for waiting in (self._waiters, self._flushes):
            while waiting:
                waiter = waiting.popleft()[0]
                if not waiter.done():
                    waiter.set_exception(NotConnectedError("the peer left before it was sent"))

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
        if len(buffers) > 1 and (GATHERING or not isinstance(self._transport, asyncio.Transport)):
            write, parts = self._transport.writelines, [buffers]
        elif len(buffers) > 1 and self._take >= JOIN_FROM and min(map(len, buffers)) < JOIN_BELOW:
            parts = [b"".join(buffers)]
        for n, part in enumerate(parts, 1):
            write(part)
            if self.blocked or self._transport.is_closing():
                # What is left goes on when there is room; after a failure nothing does, and whoever waits is
                # told when the connection is lost.
                self._unwritten = parts[n:]
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
        self._fail(WriteTimeoutError("the peer did not take a batch within write_timeout"))

    def _fail(self, exc: Exception) -> None:
        self.close()
        self._node._writing_failed(self._peer, exc)


class NoOutbox(Outbox):
    """Stands where a connection has none: there is never room in it, nor anything to write."""

    __slots__ = ("_error",)

    def __init__(self, error: Callable[[], Pea2PeaError]) -> None:
        self._error = error
        self.queue, self.room, self.scheduled = [], 0, False
        self.blocked = True  # for good: nothing is ever flushed
        self._deadline = self._waiters = self._flushes = None

    def refusal(self) -> Pea2PeaError:
        return self._error()

    def block(self) -> None:
        """Nothing waits for the system here."""

    def unblock(self) -> None:
        """As above."""


#: Of a connection that is still being set up.
UNOPENED = NoOutbox(lambda: NotConnectedError("the peer is not connected yet"))
#: Of a connection that was opened without the protocol.
DISABLED = NoOutbox(lambda: NotEnabledError("Writing is not enabled for this peer"))
