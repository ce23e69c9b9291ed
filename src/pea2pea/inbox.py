"""Received messages: queued in order, then processed by one task or pulled by a receiver. May import asyncio.

An inbox is given decoded messages by its :class:`~pea2pea.link.Link`, and never touches the transport.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .errors import IdleTimeoutError, NotConnectedError, UsageError
from .lifecycle import Cause
from .waiting import Deadline, Doorbell

if TYPE_CHECKING:
    from .instruments import Instrument
    from .peer import Peer

# In asyncio's debug mode: seconds that process_message may be suspended while more messages of its peer are queued,
# before a warning says that it may be waiting for one of them.
SUSPICIOUS_WAIT = 1.0


class Reader(Protocol):
    """What an inbox needs of its node: the settings of ``Reading``, and its hook."""

    read_queue_depth: int
    backpressure: bool
    idle_timeout: float | None

    async def process_message(self, peer: Peer[Any], message: Any) -> None: ...


class Owner(Protocol):
    """What an inbox reports to its connection."""

    def reading_ended(self, cause: Cause, exc: BaseException | None) -> None: ...

    def messages_dropped(self, count: int) -> None: ...

    def suspicious_wait(self, seconds: float, queued: int) -> None: ...

    def resume_reading(self) -> None: ...


class Inbox:
    """The messages of one peer that are received and not processed yet, and the task that processes them."""

    __slots__ = ("_bell", "_ended", "_full", "_idle", "_loop", "_node", "_owner", "_peer", "queue", "stopped", "task")

    def __init__(self, node: Reader, owner: Owner, peer: Peer[Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._node = node
        self._owner = owner
        self._peer = peer
        # The queue, the bell and the task come with the first message: of many connections most are silent.
        #: Messages that are received and not processed yet.
        self.queue: deque[Any] = _NOTHING
        self._bell: Doorbell | None = None
        self.task: asyncio.Task[None] | None = None
        self._full = False
        # Why nothing more will come.
        self._ended: tuple[Cause, BaseException | None] | None = None
        #: No message is taken or processed any more.
        self.stopped = False
        self._idle: Deadline | None = None

    def start(self) -> None:
        """The connection is open: from now on the peer may be idle."""
        if self._node.idle_timeout is not None:
            self._idle = Deadline(self._loop, self._node.idle_timeout, self._idle_expired)
            self._idle.restart()

    def put(self, messages: Sequence[Any]) -> bool:
        """Queue ``messages`` and have them processed, now if the task is idle. Return whether to pause reading."""
        if self.stopped or self._ended is not None:
            return True
        bell = self._bell or self._begin()
        queue = self.queue
        queue.extend(messages)
        self._peer.stats.messages_received += len(messages)
        if self._idle is not None:
            self._idle.restart()
        bell.ring()
        surplus = len(queue) - self._node.read_queue_depth
        return surplus >= 0 and self._overflow(surplus)

    def end(self, cause: Cause, exc: BaseException | None = None) -> None:
        """Nothing more will come. Reported once everything before it is processed."""
        if self._ended is not None or self.stopped:
            return
        self._ended = cause, exc
        if self.is_quiet:
            self._report()

    def stop(self) -> None:
        """Process nothing more, and drop what is queued."""
        self.stopped = True
        if self.queue:
            self.queue.clear()
        if self._idle is not None:
            self._idle.close()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is queued or being processed."""
        return not self.queue and (self._bell is None or self._bell.is_awaited)

    def _begin(self) -> Doorbell:
        self.queue = deque()
        self._bell = bell = Doorbell(self._loop)
        self.task = self._loop.create_task(self._consume(bell), name=f"process messages of {self._peer.addr}")
        return bell

    def _overflow(self, surplus: int) -> bool:
        if not self._node.backpressure:
            for _ in range(surplus):
                self.queue.pop()
            if surplus:
                self._owner.messages_dropped(surplus)
            return False
        self._full = True
        return True

    async def _consume(self, bell: Doorbell) -> None:
        queue, peer, process = self.queue, self._peer, self._node.process_message
        if self._loop.get_debug():
            process = self._process_watched
        try:
            while True:
                while queue:
                    await process(peer, queue.popleft())
                if self._ended is not None or self.stopped:
                    self._report()
                    return
                if self._full:
                    self._full = False
                    self._owner.resume_reading()
                await bell
        except Exception as exc:  # the user's code: it ends this connection
            self._give_up(Cause.PROCESSING_FAILED, exc)
        except GeneratorExit:  # the loop is gone, and the connection with it
            raise
        except BaseException as exc:  # otherwise nothing would be processed any more, and the end not be noticed
            self._give_up(Cause.PROCESSING_FAILED, exc)
            raise

    async def _process_watched(self, peer: Peer[Any], message: Any) -> None:
        """Process a message, and warn if it seems to wait for one behind it."""
        watch = self._loop.create_task(self._watch())
        try:
            await self._node.process_message(peer, message)
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        seconds = 0.0
        while not self.queue or not seconds:
            await asyncio.sleep(SUSPICIOUS_WAIT)
            seconds += SUSPICIOUS_WAIT
        self._owner.suspicious_wait(seconds, len(self.queue))

    def _report(self) -> None:
        # A node that stopped this inbox itself needs no report.
        if not self.stopped and self._ended is not None:
            self._owner.reading_ended(*self._ended)

    def _give_up(self, cause: Cause, exc: BaseException | None) -> None:
        self._ended = cause, exc
        self._report()

    def _idle_expired(self) -> None:
        if self._idle is not None and not self.is_quiet:
            self._idle.restart()  # this side is the slow one
        else:
            self._give_up(Cause.IDLE, IdleTimeoutError("no message arrived within idle_timeout"))


class PullInbox(Inbox):
    """An inbox without a task: a receiver pulls the messages from it.

    What was received before the connection ended can still be pulled after it.
    """

    __slots__ = ()

    def end(self, cause: Cause, exc: BaseException | None = None) -> None:
        """Nothing more will come. Reported when the queue is empty, or at once if the connection is lost.

        A peer that only ended its stream can still be sent replies to what is queued.
        """
        if self._ended is not None or self.stopped:
            return
        self._ended = cause, exc
        if not self.queue or cause not in (Cause.PEER_CLOSED, Cause.SHUTDOWN):
            self._report()

    def stop(self) -> None:
        """Take nothing more from the network. What is queued can still be pulled, unless this side ended it."""
        self.stopped = True
        if self._ended is None:
            self.queue = _NOTHING
        if self._idle is not None:
            self._idle.close()
        if self._bell is not None:
            self._loop.call_soon(self._bell.ring)

    @property
    def is_quiet(self) -> bool:
        return not self.queue

    async def get(self) -> Any:
        """Return the next message; wait for it if there is none.

        Raises :class:`NotConnectedError` once the connection has ended and everything is pulled.
        """
        while not self.queue:
            if self.stopped or self._peer.reason is not None:
                raise NotConnectedError.of(self._peer.reason)
            if self._full:
                self._full = False
                self._owner.resume_reading()
                continue
            if self._bell is None:
                self._begin()
                continue
            if self._bell.is_awaited:
                raise UsageError("another task is already receiving from this peer")
            await self._bell
        message = self.queue.popleft()
        if not self.queue and self._ended is not None:
            self._report()
        return message

    def _begin(self) -> Doorbell:
        self.queue = deque()
        self._bell = Doorbell(self._loop)
        return self._bell


class WatchedInbox(Inbox):
    """Reports to an instrument. A class of its own, so that without instruments there is nothing to check."""

    __slots__ = ("_instrument",)

    def __init__(self, node: Reader, owner: Owner, peer: Peer[Any], instrument: Instrument) -> None:
        super().__init__(node, owner, peer)
        self._instrument = instrument

    def put(self, messages: Sequence[Any]) -> bool:
        self._instrument.batch_received(self._peer, len(messages))
        pause = super().put(messages)
        if pause and not self.stopped:
            self._instrument.reading_paused(self._peer)
        return pause


class WatchedPullInbox(WatchedInbox, PullInbox):
    """As above, for a receiver that pulls."""

    __slots__ = ()


#: Stands for the queue of an inbox that never had a message. Nothing is ever put into it.
_NOTHING: deque[Any] = deque(maxlen=0)
