"""A connection's end of its transport: handshake, received bytes, half-close, end. May import asyncio.

All connections of a loop receive into the same memory: the transport fills it and hands it over in one step, so no two
need it at once. What a decoder leaves over is kept by :class:`~pea2pea.undecoded.Undecoded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

from .codec import Decoder
from .errors import NotConnectedError, UsageError
from .inbox import Inbox
from .lifecycle import Cause
from .outbox import DISABLED, UNOPENED, Outbox
from .stats import Stats
from .streams import HandshakeProtocol, HandshakeReader, HandshakeWriter, LentTransport, Wrap
from .undecoded import GATHER_FROM, Undecoded

T = TypeVar("T")

# Bytes received at once. While a receiver lags, the system does the sender's part of TCP whenever it makes room, so few
# and large receives are cheaper: with half of this, decrypting ChaChaPoly takes a third longer. More gains nothing.
RECEIVE_SIZE = 512 * 1024
# The largest frame that the ready codecs allow by default.
KEPT_SIZE = 8 * 1024 * 1024

_receive_memory: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()

class Owner(Protocol):
    """What a link reports to its connection."""

    def link_made(self, transport: asyncio.Transport) -> None: ...

    def link_lost(self, exc: BaseException | None) -> None: ...

    def decoder_failed(self, exc: Exception) -> None: ...


class Link(asyncio.BufferedProtocol):
    """The protocol of one connection. The network attaches it to a transport."""

    __slots__ = (
        "_abandoned", "_attached", "_behind", "_closed", "_early", "_lent", "_memory", "_owner", "_paused",
        "_peer_ended", "_stats", "_streams", "_undecoded", "_write_ended", "inbox", "lost", "outbox", "transport",
    )

    def __init__(self, owner: Owner, stats: Stats, memory: memoryview) -> None:
        self.inbox: Inbox | None = None
        self.outbox: Outbox = UNOPENED
        #: The transport, once the network has attached it.
        self.transport: asyncio.Transport
        #: The transport is closed, or there never was one.
        self.lost = False
        self._owner = owner
        self._stats = stats
        self._memory = memory
        # While the handshake runs, its streams; afterwards what they left, until the connection is open.
        self._streams: asyncio.StreamReaderProtocol | None = None
        # The writer among them: one that is garbage collected closes its transport (Python 3.13).
        self._lent: tuple[HandshakeReader, HandshakeWriter] | None = None
        self._early = b""
        self._undecoded: Undecoded[Any] | None = None
        self._closed: asyncio.Future[None] | None = None
        self._abandoned = self._attached = self._paused = self._peer_ended = self._write_ended = False
        # Bytes that arrived before the connection was open are about to be decoded.
        self._behind = False

    # -- the stages: handshake, open, closed -------------------------------------------------

    async def run_handshake(self, hook: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[T]]) -> T:
        """Lend the connection to ``hook`` as a standard reader and writer, and return what it returns.

        Bytes that arrived and were not read are kept for the decoder.
        """
        reader, writer = self._lend()
        try:
            session = await hook(reader, writer)
            await self._take_back()
        finally:
            self._withdraw("the handshake is over: its reader and writer are no longer usable")
        return session

    async def upgrade(self, wrap: Wrap) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Put a protocol between the transport and this link, in the middle of a handshake (STARTTLS).

        ``wrap(link, transport, received)`` sets its own protocol on ``transport``, treats ``received`` as the first
        bytes that arrived for it, and returns the transport that the link uses from then on, after calling
        ``link.connection_made`` with it. From the call of ``wrap`` until the connection is lost, that protocol is the
        link's only source of bytes and events, ``connection_lost`` included. If it raises, the connection is aborted.

        All bytes that arrived and were not read go to ``wrap``, and none to the new reader: a plaintext command that an
        attacker appended to the last plaintext line cannot be taken for a protected one (CVE-2011-0411).

        Returns a new reader and writer; the old ones are unusable. Raises ``EOFError`` if the peer has closed its side,
        and what ``wrap`` raises.
        """
        if self._lent is None:
            raise UsageError("a connection can be upgraded only inside its handshake")
        # No plaintext may wait in the transport: it would have paused the old protocol, and would resume the new one.
        self.transport.set_write_buffer_limits(high=0)
        await self._lent[1].drain()
        self.transport.set_write_buffer_limits()
        if self._peer_ended:
            raise EOFError("the peer closed its side of the connection before the upgrade")
        await self._take_back()
        received, self._early = self._early, b""
        self._withdraw("the connection was upgraded: use the reader and writer that the upgrade returned")
        try:
            self.transport = await wrap(self, self.transport, received)
            if self.lost:
                raise NotConnectedError("the connection was lost during the upgrade")
        except BaseException:
            self.abort()
            raise
        return self._lend()

    def _lend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Make a reader and a writer of the connection. The reader begins with the bytes that arrived before."""
        loop = asyncio.get_running_loop()
        lent = cast(asyncio.Transport, LentTransport(self.transport, self.upgrade))
        reader = HandshakeReader(loop)
        streams = HandshakeProtocol(reader, loop=loop)
        streams.connection_made(lent)
        writer = HandshakeWriter(lent, streams, reader, loop)
        reader.feed_data(self._early)
        self._early = b""
        if self._peer_ended:
            reader.feed_eof()
        self._streams, self._lent = streams, (reader, writer)
        self.resume()
        return reader, writer

    async def _take_back(self) -> None:
        """Keep what the reader holds for the decoder."""
        if self._lent is None:  # a hook that ignores a failed upgrade must not go on in plaintext
            raise NotConnectedError("the upgrade of the connection failed, or is not finished")
        reader = self._lent[0]
        # With the end of stream fed, this read does not wait: nothing can arrive in between.
        reader.feed_eof()
        left = bytes(reader.left)
        reader.left.clear()  # asyncio's read(-1) calls read(n), which is refused while anything is left
        self._early = left + await reader.read_more(-1)

    def _withdraw(self, why: str) -> None:
        """Make the lent reader and writer unusable; ``why`` is the error of the next use."""
        self._streams = None
        if self._lent is not None:
            cast(LentTransport, self._lent[1].transport).returned = why
            self._lent = None

    def open(self, inbox: Inbox | None, outbox: Outbox | None, decoder: Decoder[Any] | None) -> None:
        """The connection is registered: read if there is an inbox, write if there is an outbox."""
        self.inbox, self.outbox = inbox, outbox or DISABLED
        early, self._early = self._early, b""
        if inbox is None or decoder is None:
            self.pause()
            return
        self._undecoded = Undecoded(decoder, self._memory, land=True)
        inbox.start()
        if early or self._peer_ended:
            self._stats.bytes_received += len(early)
            self._undecoded.restore(early)
            self._behind = True
            # From a callback, like everything that is received: a task's step must not run inside another's.
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
    def is_paused(self) -> bool:
        """Whether nothing is received for now."""
        return self._paused

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended, or is about to."""
        return self.lost or self.transport.is_closing()

    def check_half_close(self) -> None:
        """Raise :class:`UsageError` if the transport cannot close one direction only."""
        if not self.lost and not self.transport.can_write_eof():
            raise UsageError("this transport cannot close one direction of a connection only (TLS cannot)")

    def end_stream(self) -> None:
        """Tell the peer that nothing more comes from this side. What it sends is still received."""
        if not self._write_ended and not self.is_closing:
            self._write_ended = True
            self.transport.write_eof()

    async def drain(self, deadline: float) -> None:
        """Write what is queued, as far as the peer accepts it by ``deadline`` (loop time)."""
        if not self.outbox.closed and (self.outbox.queue or self.outbox.blocked):
            try:
                async with asyncio.timeout_at(deadline):
                    await self.outbox.flushed()
            except (TimeoutError, NotConnectedError):
                self.abort()

    async def close(self, deadline: float) -> None:
        """Close the transport, and return when it is gone, at ``deadline`` (loop time) at the latest.

        Bytes that are with the system are still delivered; the others are lost.
        """
        self.outbox.close()
        if self.lost or not self._attached:
            return
        loop, transport = asyncio.get_running_loop(), self.transport
        self._closed = loop.create_future()
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()
        # A transport may wait for the peer (for its close_notify, with TLS).
        timer = loop.call_at(deadline, transport.abort)
        try:
            await self._closed
        finally:
            timer.cancel()

    def abort(self) -> None:
        """Close the transport at once, and lose what is queued."""
        self.outbox.close()
        self._abandoned = True
        if self._attached and not self.lost:
            self.transport.abort()

    # -- what the transport calls ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._attached = True
        if self._abandoned:  # closed while the network was about to attach it
            self.transport.abort()
        else:
            self._owner.link_made(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        if exc is not None:
            # It becomes part of the peer's reason, and its traceback holds the transport's view of the receive memory.
            exc.__traceback__ = None
        self._catch_up()
        if self._undecoded is not None:
            self._undecoded.clear()
        self._early = b""
        if self._streams is not None:
            self._streams.connection_lost(exc)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        self._owner.link_lost(exc)

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
        return self._memory if self._undecoded is None else self._undecoded.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        inbox, undecoded, outbox = self.inbox, self._undecoded, self.outbox
        if inbox is None or undecoded is None:
            self._receive_early(nbytes)
            return
        self._stats.bytes_received += nbytes
        # Replies sent while these bytes are processed leave together, at the end of this call.
        outbox.scheduled = True
        try:
            messages = undecoded.receive(nbytes)
            if messages and inbox.put(messages):
                self.pause()
            if undecoded.failure is not None:
                self._decoder_failed(undecoded.failure)
        except (KeyboardInterrupt, SystemExit) as exc:
            # uvloop would take an exception raised here for a failure of its transport.
            asyncio.get_running_loop().call_soon(_raise, exc)
        outbox.flush()

    def eof_received(self) -> bool:
        self._peer_ended = True
        if self._streams is not None:
            self._streams.eof_received()
        elif self.inbox is not None and not self._behind:
            self._finish(self.inbox)
        return True  # this side may still send: replies may be due

    # -- received bytes ------------------------------------------------------------------------

    def _receive_early(self, nbytes: int) -> None:
        """Take bytes that arrived before the connection was open: the handshake's, or the first to decode."""
        if self._streams is not None:
            self._streams.data_received(bytes(self._memory[:nbytes]))
        elif self.outbox is UNOPENED:
            self._early += bytes(self._memory[:nbytes])
            self.pause()  # at most one receive waits here

    def _catch_up(self) -> None:
        inbox, undecoded, behind, self._behind = self.inbox, self._undecoded, self._behind, False
        if inbox is None or undecoded is None or inbox.stopped or not behind:
            return
        self.resume()
        undecoded.buffer()
        messages = undecoded.receive(0) if len(undecoded) else ()
        if messages and inbox.put(messages):
            self.pause()
        if undecoded.failure is not None:
            self._decoder_failed(undecoded.failure)
        elif self._peer_ended:
            self._finish(inbox)

    def _finish(self, inbox: Inbox) -> None:
        """The peer ended its stream."""
        undecoded = self._undecoded
        if undecoded is None or undecoded.failure is not None:
            return
        if messages := undecoded.finish():
            inbox.put(messages)
        if undecoded.failure is not None:
            self._decoder_failed(undecoded.failure)
        else:
            inbox.end(Cause.PEER_CLOSED)

    def _decoder_failed(self, exc: Exception) -> None:
        self.pause()
        self._owner.decoder_failed(exc)


def _raise(exc: BaseException) -> None:
    raise exc


def memory_of(loop: asyncio.AbstractEventLoop, *, shared: bool) -> memoryview:
    """Return the memory that connections of ``loop`` receive into.

    ``shared`` tells that their transports fill it and hand it over in one step. If not, each connection has its own.
    """
    if not shared:
        return memoryview(bytearray(GATHER_FROM * 2))
    memory = _receive_memory.get(loop)
    if memory is None:
        # glibc returns freed memory to the system, and then each page of the next batch faults: a message of 64 KiB
        # takes 22 us to copy instead of 1.5. It keeps blocks up to the size of the largest one that was ever mapped and
        # freed (mallopt(3), M_MMAP_THRESHOLD). Other allocators do not mind.
        bytes(KEPT_SIZE)
        memory = _receive_memory[loop] = memoryview(bytearray(RECEIVE_SIZE))
    return memory
