"""A connection's end of its transport: handshake, bytes in, half-close, end. May import asyncio.

All connections of a loop receive into the same memory: the transport fills it and hands it over
in one step, so no two ever need it at once. What a decoder leaves over is kept here, at most
``GATHER_FROM`` bytes aside, or else in memory of its own that receives the rest in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

from .codec import Landing
from .errors import NotConnectedError, UsageError
from .inbox import Inbox
from .outbox import DISABLED, UNOPENED, Outbox
from .stats import Stats

if TYPE_CHECKING:
    from .peer import Peer

# Bytes received at once. While a receiver lags, the system does the sender's part of TCP whenever it makes room, so few
# and large receives are cheaper: with half of this, decrypting ChaChaPoly takes a third longer. More gains nothing.
RECEIVE_SIZE = 512 * 1024
# A rest of this size gets memory of its own; a smaller one is cheaper to copy back.
GATHER_FROM = 64 * 1024
# Memory set aside for a frame, as a multiple of what arrived of it: a peer that only claims
# a large frame makes the node hold no more than this.
TRUST = 4

# The largest frame that the ready codecs allow unless they are told otherwise.
KEPT_SIZE = 8 * 1024 * 1024

_receive_memory: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


class Owner(Protocol):
    """What a link tells its node."""

    stats: Stats

    def _link_lost(self, link: Link, exc: BaseException | None) -> None: ...


class Link(asyncio.BufferedProtocol):
    """The protocol of one connection; it is attached to a transport by the network."""

    __slots__ = (
        "_abandoned", "_behind", "_closed", "_filled", "_frame", "_memory", "_need", "_owner", "_paused", "_peer_ended",
        "_streams", "_tail", "_transport", "inbox", "lost", "outbox", "peer",
    )

    def __init__(self, owner: Owner, peer: Peer) -> None:
        self.peer = peer
        self.inbox: Inbox | None = None
        self.outbox: Outbox = UNOPENED
        #: The transport is closed, or never was.
        self.lost = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._memory = _memory_of(asyncio.get_running_loop())
        self._streams: asyncio.StreamReaderProtocol | None = None
        self._closed: asyncio.Future[None] | None = None
        self._abandoned = self._paused = self._peer_ended = False
        # What came before the connection was open is about to be decoded.
        self._behind = False
        # Undecoded bytes: _tail, or the first _filled bytes of _frame, of which _need make a whole one (0: unknown).
        # With both, _tail is the header of the message that lands in _frame.
        self._tail: bytes = b""
        self._frame: bytearray | None = None
        self._filled = self._need = 0

    # -- the stages: handshake, open, closed -------------------------------------------------

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; there is one once the network has attached it."""
        assert self._transport is not None
        return self._transport

    async def shake_hands(self, hook: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]) -> Any:
        """Lend the connection to ``hook`` as a standard reader and writer, and return what it returns.

        Bytes that came but were not read are kept for the decoder.
        """
        loop = asyncio.get_running_loop()
        lent = _LentTransport(self.transport)
        reader = asyncio.StreamReader(loop=loop)
        streams = asyncio.StreamReaderProtocol(reader, loop=loop)
        streams.connection_made(cast(asyncio.Transport, lent))
        # Held until the connection is taken back: a writer closes what it writes to when it dies.
        writer = asyncio.StreamWriter(cast(asyncio.Transport, lent), streams, reader, loop)
        reader.feed_data(bytes(self._undecoded()))
        self._tail, self._frame = b"", None
        if self._peer_ended:
            reader.feed_eof()
        self._streams = streams
        self.resume()
        try:
            session = await hook(reader, writer)
            # With the end fed, reading it all takes no wait: nothing can arrive in between.
            reader.feed_eof()
            self._keep(memoryview(await reader.read(-1)))
        finally:
            self._streams = None
            lent.returned = True
        return session

    def open(self, inbox: Inbox | None, outbox: Outbox | None) -> None:
        """The connection is registered: start to read and to write, as far as there is an inbox and an outbox."""
        self.inbox, self.outbox = inbox, outbox or DISABLED
        if inbox is None:
            self._tail, self._frame = b"", None
            self.pause()
            return
        inbox.start()
        if self._tail or self._frame or self._peer_ended:
            self.peer.stats.bytes_received += len(self._undecoded())
            self._owner.stats.bytes_received += len(self._undecoded())
            self._behind = True
            # From a callback, as all bytes come: a task's step must not run inside another's.
            asyncio.get_running_loop().call_soon(self._catch_up)

    def pause(self) -> None:
        """Receive nothing for now."""
        if not self._paused and not self.lost:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Receive again, if paused."""
        if self._paused and not self.lost:
            self._paused = False
            self.transport.resume_reading()

    def stop_reading(self) -> None:
        """Process nothing more of what the peer sends."""
        self.pause()
        if self.inbox is not None:
            self.inbox.stop()

    @property
    def is_closing(self) -> bool:
        """Whether the connection ended, or is about to."""
        return self.lost or self.transport.is_closing()

    async def drain(self, deadline: float) -> None:
        """Write what is queued, as far as the peer takes it by ``deadline`` (loop time)."""
        if self.outbox.room and (self.outbox.queue or self.outbox.blocked):
            try:
                async with asyncio.timeout_at(deadline):
                    await self.outbox.flushed()
            except (TimeoutError, NotConnectedError):
                self.abort()

    async def close(self, deadline: float) -> None:
        """End the connection, and return when the transport is gone: at the ``deadline`` (loop time) at the latest.

        What is with the system is still delivered; what is not, is lost.
        """
        self.outbox.close()
        if self._transport is None or self.lost:
            return
        loop = asyncio.get_running_loop()
        self._closed = loop.create_future()
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
        # A transport may wait for the peer (TLS, for its goodbye).
        timer = loop.call_at(deadline, self._transport.abort)
        try:
            await self._closed
        finally:
            timer.cancel()

    def abort(self) -> None:
        """End the connection at once, and lose what is queued."""
        self.outbox.close()
        self._abandoned = True
        if self._transport is not None and not self.lost:
            self._transport.abort()

    # -- what the transport calls ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._abandoned:  # given up while the network was about to attach it
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._catch_up()
        self._tail, self._frame = b"", None
        self.outbox.close()
        if self._streams is not None:
            self._streams.connection_lost(exc)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._owner._link_lost(self, exc)

    def pause_writing(self) -> None:
        if self._streams is not None:
            self._streams.pause_writing()
        else:
            self.outbox.block()

    def resume_writing(self) -> None:
        if self._streams is not None:
            self._streams.resume_writing()
        else:
            self.outbox.unblock()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._frame is not None:
            return memoryview(self._frame)[self._filled :]
        if not self._tail:
            return self._memory
        kept = len(self._tail)
        self._memory[:kept] = self._tail
        return self._memory[kept:]

    def buffer_updated(self, nbytes: int) -> None:
        inbox, outbox = self.inbox, self.outbox
        if inbox is None:
            self._receive_early(nbytes)
            return
        self.peer.stats.bytes_received += nbytes
        self._owner.stats.bytes_received += nbytes
        if self._frame is None:
            view = self._memory[: len(self._tail) + nbytes]
        else:
            self._filled += nbytes
            if self._filled < self._need and self._filled < len(self._frame):
                return
            view = memoryview(self._frame)[: self._filled]
        # Replies to what is processed now leave together, at the end of this call.
        outbox.scheduled = True
        try:
            self._digest(inbox, view)
        except (KeyboardInterrupt, SystemExit) as exc:
            # uvloop would take what is raised here for a failure of its transport.
            asyncio.get_running_loop().call_soon(_raise, exc)
        outbox.flush()

    def eof_received(self) -> bool:
        self._peer_ended = True
        if self._streams is not None:
            self._streams.eof_received()
        elif self.inbox is not None and not self._behind:
            self.inbox.finish(self._undecoded())
            self.inbox.deliver()
        return True  # the way out stays open: replies may still be due

    # -- undecoded bytes ---------------------------------------------------------------------

    def _receive_early(self, nbytes: int) -> None:
        """Take bytes that came before the connection was open: the handshake's, or the first to decode."""
        if self._streams is not None:
            self._streams.data_received(bytes(self._memory[:nbytes]))
        else:
            self._keep(self._memory[: len(self._tail) + nbytes])
            self.pause()  # one receive at the most waits here

    def _catch_up(self) -> None:
        inbox, behind, self._behind = self.inbox, self._behind, False
        if inbox is None or inbox.stopped or not behind:
            return
        self.resume()
        if not self._need:  # else more came before this, and it is known already how much is missing
            self._digest(inbox, self._undecoded())  # which may pause again
        if self._peer_ended:
            inbox.finish(self._undecoded())
            inbox.deliver()

    def _digest(self, inbox: Inbox, view: memoryview) -> None:
        """Decode ``view``, keep the rest, and let the messages be processed."""
        if not isinstance(self._frame, Landing):
            used = inbox.decode(view) if len(view) >= self._need else 0
        elif self._filled < self._need:
            self._frame = _gather(Landing, view, self._need)
            return
        else:
            inbox.enqueue([self._frame.take()])
            used = len(view)
        if used == len(view):
            self._tail, self._frame, self._need = b"", None, 0
        elif used or self._frame is None or self._filled == len(self._frame):
            self._keep(view[used:])
        if inbox.deliver():
            self.pause()

    def _undecoded(self) -> memoryview:
        if self._frame is None:
            return memoryview(self._tail)
        arrived = memoryview(self._frame)[: self._filled]
        return memoryview(self._tail + arrived) if self._tail else arrived

    def _keep(self, rest: memoryview) -> None:
        if len(rest) < GATHER_FROM:
            self._tail, self._frame, self._need = bytes(rest), None, 0
            return
        whole, header = self.inbox.sizes(rest) if self.inbox is not None else (0, 0)
        if not 0 < header < len(rest) < whole:  # nothing of the message came yet, or all of it
            header = 0
        self._tail, rest, self._need = bytes(rest[:header]), rest[header:], whole - header
        self._frame, self._filled = _gather(Landing if header else bytearray, rest, self._need), len(rest)


def _gather(kind: type[bytearray], arrived: memoryview, size: int) -> bytearray:
    """Memory for ``size`` bytes (0: unknown), or for as many as what ``arrived`` of them is trusted with."""
    room = TRUST * len(arrived)
    if len(arrived) < size < room + GATHER_FROM:  # all of it, where a header is all that is beyond
        room = size
    memory = kind(room)
    memoryview(memory)[: len(arrived)] = arrived
    return memory


class _LentTransport:
    """A transport as a handshake sees it; once taken back it is closed to whoever still holds it.

    Without this, a ``StreamWriter`` that is garbage collected closes the connection under the
    node (Python 3.13), and one that is kept writes into the middle of a frame.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.returned = False

    def is_closing(self) -> bool:
        return self.returned or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        if self.returned and name != "get_extra_info":
            raise UsageError("the handshake is over: its reader and writer are no longer usable")
        return getattr(self._transport, name)


def _raise(exc: BaseException) -> None:
    raise exc


def _memory_of(loop: asyncio.AbstractEventLoop) -> memoryview:
    if hasattr(asyncio, "ProactorEventLoop") and isinstance(loop, asyncio.ProactorEventLoop):
        # It fills the memory while other connections go on.
        return memoryview(bytearray(GATHER_FROM * 2))
    memory = _receive_memory.get(loop)
    if memory is None:
        # glibc gives freed memory back to the system, and each page of the next batch then faults: a
        # message of 64 KiB takes 22 us to copy instead of 1.5. It keeps what is below the largest block
        # that was ever mapped and freed (mallopt(3), M_MMAP_THRESHOLD); other allocators do not mind.
        bytes(KEPT_SIZE)
        memory = _receive_memory[loop] = memoryview(bytearray(RECEIVE_SIZE))
    return memory
