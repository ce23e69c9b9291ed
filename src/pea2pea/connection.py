"""A connection: it owns its slot, link, queues, hooks and deadlines, and has one end. May import asyncio.

Every change of state is made in one step of the loop; what awaits comes after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from .addr import Addr
from .context import Context
from .errors import (
    AlreadyConnectedError,
    CodecError,
    ConnectError,
    DialError,
    HandshakeError,
    NodeClosedError,
    NotConnectedError,
)
from .gate import Attempt, Slot
from .inbox import Inbox, PullInbox, WatchedInbox, WatchedPullInbox
from .lifecycle import Cause, ConnectionState, DisconnectReason, NodeState, Origin, Party, move
from .link import Link, memory_of
from .outbox import MAY_SEND, NoOutbox, Outbox, WatchedOutbox
from .peer import Peer
from .protocols import Handshake, OnConnect, OnDisconnect, Reading, Receiving, Writing
from .reporting import logger
from .setup import Setup

# Turns of the loop without a byte after which nothing more has arrived: one in which the loop polls, one in which it
# reads, and one more, since uvloop polls after it runs what is ready.
QUIET_TURNS = 3

# The states from which a connection can end.
_REGISTERED = (ConnectionState.OPEN, ConnectionState.DRAINING)

# What a handshake raises if the peer, or the connection, is the cause.
_BY_PEER = (
    CodecError, ConnectError, ConnectionError, EOFError, PermissionError, TimeoutError, asyncio.LimitOverrunError,
)


class Connection:
    """One connection of a node. It is made when the gate has admitted it, and closed exactly once."""

    __slots__ = ("_attempt", "_context", "_on_connect", "_protocols", "_resumed", "_slot", "link", "peer")

    def __init__(self, context: Context, attempt: Attempt, slot: Slot) -> None:
        self.peer: Peer[Any] = Peer(attempt.addr, inbound=attempt.inbound)
        memory = context.memory if context.shared else memory_of(context.loop, shared=False)
        self.link: Link = Link(self, self.peer.stats, memory)
        self._context = context
        self._attempt = attempt
        self._slot = slot
        # Fixed when the connection opens.
        self._protocols: frozenset[type] = frozenset()
        self._on_connect: asyncio.Task[None] | None = None
        # What drain() waits for while the inbox is full.
        self._resumed: asyncio.Future[None] | None = None
        context.connecting[attempt.addr] = self

    @classmethod
    def admit(cls, context: Context, addr: Addr, *, inbound: bool) -> Connection:
        """Return a new connection that holds a slot and its place in the registry, or raise and change nothing."""
        if addr in context.connected or addr in context.connecting:
            raise AlreadyConnectedError(f"{addr} is connected or being connected")
        attempt = Attempt(addr, inbound, context.local, context.loop.time())
        if context.instrument is not None:
            context.instrument.attempt(attempt)
        try:
            slot = context.gate.admit(attempt)
        except Exception as exc:
            raise context.refusal(attempt, exc) from exc
        return cls(context, attempt, slot)

    # -- setting up ------------------------------------------------------------------------

    async def attach(self, attach: Coroutine[Any, Any, None]) -> None:
        """Await ``attach``, which gives the link its transport. If it fails, leave nothing behind."""
        try:
            await attach
        except OSError as exc:
            error = DialError(f"{self.peer.addr}: {exc.strerror or exc}")
            self.discard(error)
            raise error from exc
        except BaseException as exc:
            self.discard(exc)
            raise
        # Not when the link is made: a loop that is cancelled while it attaches need not report the end to the link.
        if not self.link.lost:
            self._context.supervisor.hold(self.link)

    async def set_up(self, setup: Setup) -> None:
        """Run the handshake and register the peer. If that fails, leave nothing behind."""
        context, link = self._context, self.link
        try:
            if Handshake in context.enabled:
                await self._run_handshake(setup)
            if context.state is not NodeState.RUNNING:
                raise NodeClosedError("the node was closed meanwhile")
            if link.is_closing:
                raise DialError(f"{self.peer.addr}: the peer closed the connection immediately")
            if context.confirms:
                self._confirm()
            self._open()
        except BaseException as exc:
            self.discard(exc)
            raise

    def discard(self, error: BaseException) -> None:
        """The connection was not made."""
        context, peer = self._context, self.peer
        self.link.abort()
        self._move(ConnectionState.CLOSED)
        del context.connecting[peer.addr]
        self._slot.release()
        peer.transport = None
        peer.wake_waiters()
        if context.instrument is not None:
            context.instrument.failed(self._attempt, error)

    async def _run_handshake(self, setup: Setup) -> None:
        peer, instrument, node = self.peer, self._context.instrument, self._context.node
        setup.begin_handshake(self.link.abort, node.handshake_timeout)
        self._move(ConnectionState.HANDSHAKING)
        if instrument is not None:
            instrument.handshake_started(peer)
        error: BaseException | None = None
        try:
            peer.session = await self.link.run_handshake(lambda reader, writer: node.handshake(peer, reader, writer))
        except Exception as exc:  # the user's code, and what the peer did to it
            error = exc
            self._handshake_failed(exc)
            raise HandshakeError(f"{peer.addr}: {type(exc).__name__}: {exc}") from exc
        except BaseException as exc:
            error = exc
            raise
        finally:
            if instrument is not None:
                instrument.handshake_ended(peer, error)
        setup.end_handshake()
        if self.link.is_closing:
            raise HandshakeError(f"{peer.addr}: the connection ended during the handshake")

    def _handshake_failed(self, exc: Exception) -> None:
        # StreamReader.readline turns a LimitOverrunError into a ValueError.
        overrun = isinstance(exc.__context__, asyncio.LimitOverrunError)
        if not (isinstance(exc, _BY_PEER) or overrun or (isinstance(exc, OSError) and self.link.is_closing)):
            self._context.report.about(self.peer, logging.ERROR, "handshake raised", exc_info=exc)

    def _confirm(self) -> None:
        try:
            self._context.gate.confirm(self._attempt, self.peer.session)
        except Exception as exc:
            raise self._context.refusal(self._attempt, exc) from exc

    def _open(self) -> None:
        context, peer, link = self._context, self.peer, self.link
        inbox, outbox, decoder = self._make_queues()
        self._move(ConnectionState.OPEN)
        peer.opened_at = context.loop.time()
        self._protocols = context.enabled
        del context.connecting[peer.addr]
        context.connected[peer.addr] = self
        self._slot.settle()
        link.open(inbox, outbox, decoder)
        peer.inbox, peer.outbox = inbox, link.outbox
        if logger.isEnabledFor(logging.INFO):
            way = "inbound" if peer.inbound else "outbound"
            context.report.stranger(logging.INFO, peer.addr, "connected (%s)", way)
        if context.instrument is not None:
            context.instrument.opened(peer)
        if OnConnect in context.enabled:
            # One that may be cancelled is ended with its peer; the supervisor waits for any other.
            start = context.supervisor.start if context.node.on_connect_abortable else context.supervisor.spawn
            self._on_connect = start(self._run_on_connect(), "on_connect")

    def _make_queues(self) -> tuple[Inbox | None, Outbox | None, Any]:
        context, peer, node = self._context, self.peer, self._context.node
        inbox: Inbox | None = None
        outbox: Outbox | None = None
        decoder = None
        watch = context.instrument
        try:
            if Reading in context.enabled or Receiving in context.enabled:
                decoder = node.decoder(peer)
                pull = Receiving in context.enabled
                if watch is None:
                    inbox = PullInbox(node, self, peer) if pull else Inbox(node, self, peer)
                else:
                    inbox = (WatchedPullInbox if pull else WatchedInbox)(node, self, peer, watch)
            if Writing in context.enabled:
                args = node, self, peer, self.link.transport, node.encoder(peer)
                if watch is None:
                    outbox = Outbox(*args, gathers=context.gathers)
                else:
                    outbox = WatchedOutbox(*args, gathers=context.gathers, instrument=watch)
        except Exception as exc:  # the user's code
            context.report.about(peer, logging.ERROR, "decoder or encoder raised", exc_info=exc)
            raise ConnectError(f"{peer.addr}: no codec: {type(exc).__name__}: {exc}") from exc
        return inbox, outbox, decoder

    async def _run_on_connect(self) -> None:
        try:
            await self._context.node.on_connect(self.peer)
        except Exception as exc:  # the user's code: it ends this connection
            if not self._is_consequence(exc):
                self._context.report.about(self.peer, logging.ERROR, "on_connect raised", exc_info=exc)
            self.end(DisconnectReason(Cause.ON_CONNECT_FAILED, exc))

    # -- ending ----------------------------------------------------------------------------

    def end(self, reason: DisconnectReason) -> bool:
        """Start the teardown. Return whether this call did: the first reason counts, later ones change nothing."""
        peer, context = self.peer, self._context
        if peer.state not in _REGISTERED:
            return False
        self._move(ConnectionState.CLOSING)
        peer.reason = reason
        self.link.stop_reading()
        self.link.outbox.leave(reason)
        if self._resumed is not None:
            self._wake_drain()
        context.heuristics.ended[reason.cause] += 1
        if reason.cause is Cause.REPLACED or reason.cause is Cause.EVICTED:
            self._slot.release()  # there is room for the connection that takes its place at once
        context.supervisor.spawn(self._tear_down(reason, asyncio.current_task()), "teardown")
        return True

    async def drain(self) -> None:
        """Read what has arrived and nothing more, have it processed, and then end the connection as the node closes."""
        if not self.is_open:
            return
        self._move(ConnectionState.DRAINING)
        link, stats, seen = self.link, self.peer.stats, -1
        while self._is_draining and link.inbox is not None and (link.is_paused or stats.bytes_received != seen):
            seen = stats.bytes_received
            if link.is_paused:
                self._resumed = self._context.loop.create_future()
                await self._resumed
                seen = -1
            for _ in range(QUIET_TURNS):
                await asyncio.sleep(0)
        if not self._is_draining:  # it ended meanwhile
            return
        link.pause()
        if link.inbox is None:
            self.end(DisconnectReason(Cause.SHUTDOWN))
        else:
            link.inbox.end(Cause.SHUTDOWN)

    async def end_stream(self) -> None:
        """Write what is queued, then close this side's direction of the connection."""
        self.link.check_half_close()
        if not self.link.outbox.closed:
            await self.link.outbox.flushed()
            self.link.outbox.finish()
        self.link.end_stream()

    @property
    def is_open(self) -> bool:
        """Whether messages are sent and received."""
        return self.peer.state is ConnectionState.OPEN

    @property
    def hooks(self) -> list[asyncio.Task[None]]:
        """The tasks that run the user's hooks for this connection."""
        consumer = self.link.inbox.task if self.link.inbox is not None else None
        return [task for task in (consumer, self._on_connect) if task is not None]

    async def _tear_down(self, reason: DisconnectReason, caller: asyncio.Task[Any] | None) -> None:
        context, link = self._context, self.link
        node = context.node
        deadline = context.loop.time() + getattr(node, "disconnect_timeout", OnDisconnect.disconnect_timeout)
        try:
            if self._on_connect is not None or (link.inbox is not None and link.inbox.task is not None):
                await self._end_hooks(caller, deadline)
            if OnDisconnect in self._protocols:
                hook = context.supervisor.start(self._run_on_disconnect(reason), "on_disconnect")
                await context.supervisor.end(hook, deadline, self.peer.addr)
            if reason.cause.origin is not Origin.WRITING:
                await link.drain(deadline)
            await link.close(deadline)
        finally:
            link.abort()
            self._close(reason)

    async def _end_hooks(self, caller: asyncio.Task[Any] | None, deadline: float) -> None:
        """Cancel the hooks of this connection. The one that asked for this may run on until ``deadline``."""
        supervisor, addr = self._context.supervisor, self.peer.addr
        for task in self.hooks:
            if task.done() or supervisor.runs_to_its_end(task):
                continue
            if task is caller:
                supervisor.spawn(supervisor.end(task, deadline, addr), "wait for the hook that disconnects")
            else:
                task.cancel()
                await supervisor.end(task, deadline, addr)

    async def _run_on_disconnect(self, reason: DisconnectReason) -> None:
        MAY_SEND.set(self.link.outbox)
        try:
            await self._context.node.on_disconnect(self.peer, reason)
        except Exception as exc:  # the user's code: the connection ends anyway
            if not self._is_consequence(exc):
                self._context.report.about(self.peer, logging.ERROR, "on_disconnect raised", exc_info=exc)

    def _close(self, reason: DisconnectReason) -> None:
        context, peer = self._context, self.peer
        self._move(ConnectionState.CLOSED)
        del context.connected[peer.addr]
        context.closed_stats.add(peer.stats)
        self._slot.release()
        peer.outbox = NoOutbox(lambda: NotConnectedError.of(reason))
        if not isinstance(peer.inbox, PullInbox):
            peer.inbox = None
        peer.transport = None
        peer.wake_waiters()
        if logger.isEnabledFor(logging.INFO):
            counts = f"{peer.stats.messages_received} messages received, {peer.stats.messages_sent} sent"
            context.report.stranger(logging.INFO, peer.addr, "disconnected: %s (%s)", reason, counts)
        if context.instrument is not None:
            context.instrument.closed(peer, reason)

    @property
    def _is_draining(self) -> bool:
        return self.peer.state is ConnectionState.DRAINING

    def _move(self, state: ConnectionState) -> None:
        self.peer.state = move(self.peer.state, state)

    # -- reports of the link and the queues ------------------------------------------------

    def link_made(self, transport: asyncio.Transport) -> None:
        """The link has a transport."""
        self.peer.transport = transport

    def link_lost(self, exc: BaseException | None) -> None:
        """The transport is gone."""
        link = self.link
        self._context.supervisor.release(link)
        if self.peer.reason is not None:  # it is ending already
            link.outbox.close(self.peer.reason)
            return
        broken = link.outbox.failed or isinstance(exc, BrokenPipeError) or link.inbox is None
        if broken and (exc is not None or link.inbox is None):
            cause = Cause.WRITE_FAILED
        elif exc is None:
            cause = Cause.PEER_CLOSED
        else:
            cause = Cause.READ_FAILED if isinstance(exc, OSError) else Cause.BAD_DATA
        reason = self._reason(cause, exc)
        link.outbox.close(reason)
        if link.inbox is not None:
            link.inbox.end(cause, exc)
        else:
            self.end(reason)

    def reading_ended(self, cause: Cause, exc: BaseException | None) -> None:
        """Nothing more comes, and everything before is processed."""
        if cause is Cause.PROCESSING_FAILED and isinstance(exc, Exception):
            if isinstance(exc, NotConnectedError) and self._is_consequence(exc) and exc.reason is not None:
                self.end(exc.reason)
                return
            self._context.report.about(self.peer, logging.ERROR, "process_message raised", exc_info=exc)
        self.end(self._reason(cause, exc))

    def writing_failed(self, cause: Cause, exc: Exception) -> None:
        """A message could not be encoded, or a batch not be written."""
        reason, ending = DisconnectReason(cause, exc), self.peer.reason
        self.link.outbox.close(reason)
        # The codec of a channel that the peer has broken cannot encode last words either.
        if cause is Cause.ENCODER_FAILED and (ending is None or ending.party in (Party.LOCAL, Party.CODE)):
            report = self._context.report
            report.about(self.peer, logging.ERROR, "a message cannot be encoded and is lost", exc_info=exc)
        self.end(reason)

    def decoder_failed(self, exc: Exception) -> None:
        """The decoder raised."""
        report, peer = self._context.report, self.peer
        if isinstance(exc, CodecError):
            report.stranger(logging.INFO, peer.addr, "sent bad data: %s: %s", type(exc).__name__, exc)
        else:
            report.about(peer, logging.ERROR, "decoder raised", exc_info=exc)
        if self.link.inbox is not None:
            self.link.inbox.end(Cause.BAD_DATA if isinstance(exc, CodecError) else Cause.DECODER_FAILED, exc)

    def messages_dropped(self, count: int) -> None:
        """The inbox was full, and reading is not paused for that."""
        context = self._context
        context.heuristics.messages_dropped += count
        context.report.stranger(
            logging.WARNING, self.peer.addr, "inbox full, %d messages dropped (%d in all)", count,
            context.heuristics.messages_dropped,
        )
        if context.instrument is not None:
            context.instrument.messages_dropped(self.peer, count)

    def suspicious_wait(self, seconds: float, queued: int) -> None:
        """process_message has been suspended for long, and messages are queued behind it (debug mode)."""
        self._context.report.about(
            self.peer, logging.WARNING,
            "process_message has been waiting for %.1f s with %d messages queued behind it: if it waits for an answer "
            "from this peer, that answer is one of them and will not be processed", seconds, queued,
        )

    def resume_reading(self) -> None:
        """The inbox has drained."""
        if self.peer.state in _REGISTERED:
            self.link.resume()
            self._wake_drain()
            if self._context.instrument is not None:
                self._context.instrument.reading_resumed(self.peer)

    def _wake_drain(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    def _reason(self, cause: Cause, exc: BaseException | None) -> DisconnectReason:
        if cause is Cause.PEER_CLOSED and not (self.peer.inbound or self.peer.stats.bytes_received):
            cause = Cause.PEER_REFUSED
        return DisconnectReason(cause, exc)

    def _is_consequence(self, exc: BaseException) -> bool:
        """Whether the user's code only met the end of its own connection."""
        return isinstance(exc, NotConnectedError) and (self.link.lost or self.peer.reason is not None)
