"""The way in of a message: decoded in batches, queued, processed in order by one task. May import asyncio.

An inbox is handed bytes by its :class:`~pea2pea.link.Link` and never touches the transport.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .codec import Decoder
from .errors import IdleTimeoutError, UsageError
from .stats import Stats
from .waiting import Deadline, Doorbell

if TYPE_CHECKING:
    from .peer import Peer


class Receiver(Protocol):
    """What an inbox needs of its node: the ``Reading`` protocol, and someone to tell."""

    stats: Stats
    read_queue_depth: int
    backpressure: bool
    idle_timeout: float | None

    def decoder(self, peer: Peer) -> Decoder[Any]: ...

    async def process_message(self, peer: Peer, message: Any) -> None: ...

    def _reading_ended(self, peer: Peer, exc: BaseException | None) -> None: ...

    def _hook_failed(self, peer: Peer, hook: str, exc: BaseException) -> None: ...

    def _messages_dropped(self, peer: Peer, count: int) -> None: ...


class Inbox:
    """One peer's messages on their way in.

    ``resume`` is called, from the task that processes, when the queue has run empty after it was full.
    """

    __slots__ = (
        "_bell", "_decoder", "_end", "_ending", "_full", "_idle", "_loop", "_node", "_peer",
        "_queue", "_resume", "stopped", "task",
    )

    def __init__(self, node: Receiver, peer: Peer, resume: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._node = node
        self._peer = peer
        self._decoder = node.decoder(peer)
        self._resume = resume
        # These come with the first message: most of many connections are silent.
        self._queue: deque[Any] = _NOTHING
        self._bell: Doorbell | None = None
        self.task: asyncio.Task[None] | None = None
        self._ending = self._full = False
        self._end: BaseException | None = None
        #: No message is taken or processed any more.
        self.stopped = False
        self._idle: Deadline | None = None

    def start(self) -> None:
        """The connection is open: from here on the peer may fall idle."""
        if self._node.idle_timeout is not None:
            self._idle = Deadline(self._loop, self._node.idle_timeout, self._fell_idle)
            self._idle.restart()

    def decode(self, view: memoryview) -> int:
        """Queue the messages in ``view`` and return how many bytes of it are done with.

        A decoder may stop before bytes that it will refuse, so that the messages before them count.
        """
        start, end = 0, len(view)
        try:
            while start < end:
                messages, used = self._decoder.decode(view[start:] if start else view)
                if not used and not messages:
                    break
                if not 0 < used <= end - start:
                    raise UsageError(f"the decoder says that its messages took {used} of {end - start} bytes")
                start += used
                if messages:
                    self.enqueue(messages)
        except Exception as exc:  # the user's code, or the peer's bytes: it ends this connection
            self._decoder_failed(exc)
            return end
        return start

    def sizes(self, head: memoryview) -> tuple[int, int]:
        """The sizes of the frame that begins with ``head`` and of its header, as a decoder tells them."""
        try:
            size = int(self._decoder.frame_size(head))
            return size, int(self._decoder.header_size(head)) if size else 0
        except Exception as exc:  # as above
            self._decoder_failed(exc)
            return 0, 0

    def finish(self, rest: memoryview) -> None:
        """The peer ended its stream, with ``rest`` undecoded."""
        try:
            if messages := self._decoder.finish(rest):
                self.enqueue(messages)
        except Exception as exc:  # as above
            self._decoder_failed(exc)
        self.end(None)

    def end(self, exc: BaseException | None) -> None:
        """Nothing more will come; reported once all that came before is processed."""
        if self._ending or self.stopped:
            return
        self._ending, self._end = True, exc
        if self.task is None or (not self._queue and self._bell is not None and self._bell.is_awaited):
            self._report()

    def stop(self) -> None:
        """Process nothing more, not even what is queued."""
        self.stopped, self._end = True, None
        if self._queue:
            self._queue.clear()
        if self._idle is not None:
            self._idle.close()

    def deliver(self) -> bool:
        """Let the task work on what was queued, now if it is idle; return whether reading should pause."""
        if self._bell is not None and self._queue:
            self._bell.ring()
        surplus = len(self._queue) - self._node.read_queue_depth
        if surplus < 0 or self._ending:
            return self._ending
        self._full = self._node.backpressure
        if surplus and not self._full:
            for _ in range(surplus):
                self._queue.pop()
            self._node._messages_dropped(self._peer, surplus)
        return self._full

    def enqueue(self, messages: Sequence[Any]) -> None:
        """Queue what was decoded."""
        if self.stopped:
            return
        if self.task is None:
            self._queue = deque()
            self._bell = Doorbell(self._loop)
            self.task = self._loop.create_task(self._consume(self._bell))
        self._queue.extend(messages)
        self._peer.stats.messages_received += len(messages)
        self._node.stats.messages_received += len(messages)
        if self._idle is not None:
            self._idle.restart()

    async def _consume(self, bell: Doorbell) -> None:
        queue, peer, process = self._queue, self._peer, self._node.process_message
        try:
            while True:
                while queue:
                    await process(peer, queue.popleft())
                if self._ending or self.stopped:
                    self._report()
                    return
                if self._full:
                    self._full = False
                    self._resume()
                await bell
        except Exception as exc:  # the user's code: it ends this connection
            self._node._hook_failed(peer, "process_message", exc)
            self._give_up(exc)
        except GeneratorExit:  # the loop is gone, and the connection with it
            raise
        except BaseException as exc:  # nothing would be processed any more, and the end not noticed
            self._give_up(exc)
            raise

    def _decoder_failed(self, exc: Exception) -> None:
        self._node._hook_failed(self._peer, "decoder", exc)
        self.end(exc)

    def _report(self) -> None:
        # Where the node itself stopped this, it needs no telling.
        if not self.stopped:
            self._node._reading_ended(self._peer, self._end)

    def _give_up(self, exc: BaseException) -> None:
        self._ending, self._end = True, exc
        self._report()

    def _fell_idle(self) -> None:
        if self._idle is not None and (self._queue or (self._bell is not None and not self._bell.is_awaited)):
            self._idle.restart()  # it is this side that is slow
        else:
            self._give_up(IdleTimeoutError("no message came within idle_timeout"))


#: Stands for the queue of an inbox that never had a message. Nothing is ever put into it.
_NOTHING: deque[Any] = deque(maxlen=0)
