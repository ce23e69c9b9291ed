"""The node: listening, dialling, setting up, tearing down, shutting down. May import asyncio.

Every change of state is made in one step of the loop; whatever awaits comes after. The node owns
the tasks that it starts and the links that are open, and is closed when there are none left.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import warnings
from collections.abc import Coroutine, MutableMapping
from typing import Any, Self, cast

from .addr import Addr, AddrLike
from .admission import Admission
from .config import Config
from .errors import (
    AlreadyConnectedError,
    CodecError,
    ConfigError,
    ConnectError,
    DialError,
    HandshakeError,
    IdleTimeoutError,
    LimitError,
    ListenError,
    NodeClosedError,
    SelfConnectError,
    UsageError,
    WriteTimeoutError,
)
from .inbox import Inbox
from .lifecycle import ConnectionState, DisconnectReason, NodeState, Origin, move
from .link import Link
from .network import Incoming, Listener, Network, Socket, TcpNetwork
from .outbox import Outbox
from .peer import Peer, Registry
from .protocols import PROTOCOLS, Handshake, OnConnect, OnDisconnect, Protocol, Reading, Writing, check_settings
from .stats import Heuristics, Stats

logger = logging.getLogger("pea2pea")

# Seconds that the listener waits when the system has no descriptors or memory for a connection.
ACCEPT_PAUSE = 0.1
# Connections accepted in a row before everything else gets a turn.
ACCEPT_BURST = 64
# Seconds between two log lines about dropped messages.
DROP_LOG_INTERVAL = 1.0

# Seconds that a hook has to end once it was cancelled; after that it is left to itself.
LAST_CHANCE = 1.0

_names = itertools.count()


class Node(Registry):
    """A TCP peer-to-peer node; a subclass adds any of the five protocols, and its state as attributes.

    ``async with`` enables the protocols of the class, listens where ``config.listen`` is set, and
    closes the node at the end. A node lives on one event loop, and in that loop's thread.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name in vars(Node) and name.startswith("_") and not name.endswith("__"):
                raise TypeError(f"{cls.__name__}.{name} would replace a part of Node: choose another name")

    def __init__(self, config: Config | None = None, *, network: Network | None = None) -> None:
        super().__init__()
        check_settings(self)
        self.config = config = config or Config()
        if not isinstance(config, Config):
            raise ConfigError("config", f"{config!r} is no Config")
        self.name = config.name or str(next(_names))
        #: The traffic of all connections, also of those that ended.
        self.stats = Stats()
        #: What went wrong, counted.
        self.heuristics = Heuristics()
        self._log = _Log(logger, {"node": self.name})
        self._network = network or TcpNetwork()
        self._state = NodeState.NEW
        self._loop: asyncio.AbstractEventLoop
        self._enabled: frozenset[Protocol] = frozenset()
        self._room = asyncio.Event()
        self._admission = Admission(config, on_room=self._room.set)
        self._listener: Listener | None = None
        self._binding = False
        self._accepting: asyncio.Task[None] | None = None
        self._next_drop_log = 0.0
        # All that must be gone before the node is closed; _fewer is set whenever some of it is.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._setups: set[_Setup] = set()
        self._seen_off: set[asyncio.Task[Any]] = set()
        self._links: set[Link] = set()
        self._fewer = asyncio.Event()
        # What must still be there when the node runs.
        self._parts = {name: part for name, part in vars(self).items() if name not in ("name", "_enabled")}

    def __repr__(self) -> str:
        where = f", listening on {self.listening_addr}" if self.listening_addr else ""
        count = f"{self.num_connected} connected, {self.num_connecting} connecting"
        return f"<{type(self).__name__} {self.name!r}, {self._state.value}{where}, {count}>"

    # -- life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._run()
        self.enable(*(p for p in PROTOCOLS if isinstance(self, p) and p not in self._enabled))
        try:
            if self.config.listen is not None and self._listener is None:
                await self.start_listening()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def enable(self, *protocols: Protocol) -> None:
        """Turn on protocols of this class, for the connections made from now on.

        Raises :class:`UsageError` for one that the class does not implement or that is on already.
        """
        for protocol in protocols:
            if protocol not in PROTOCOLS or not isinstance(self, protocol):
                raise UsageError(f"{type(self).__name__} does not implement {protocol!r}")
            if protocol in self._enabled or protocols.count(protocol) > 1:
                raise UsageError(f"{protocol.__name__} is enabled already")
        self._enabled = self._enabled.union(protocols)

    async def aclose(self) -> None:
        """Stop listening, disconnect every peer, run the hooks to their end, and leave nothing behind.

        May be called again: after a cancelled call, the next one finishes. Raises
        :class:`UsageError` in a hook of this node, since it would wait for that hook.
        """
        if self._state is NodeState.NEW:
            self._state = move(self._state, NodeState.CLOSED)
        if self._state is NodeState.CLOSED:
            return
        self._check_loop()
        self._check_not_in_hook()
        if self._state is NodeState.RUNNING:
            self._state = move(self._state, NodeState.CLOSING)
        for setup in self._setups:
            setup.abort()
        for peer in self.peers:
            self._leave(peer, DisconnectReason(Origin.SHUTDOWN))
        await self.stop_listening()
        while self._tasks or self._setups or self._links:
            self._fewer.clear()
            await self._fewer.wait()
        if self._state is NodeState.CLOSING:
            self._state = move(self._state, NodeState.CLOSED)

    def __del__(self) -> None:
        if getattr(self, "_state", NodeState.NEW) in (NodeState.RUNNING, NodeState.CLOSING):
            problem = f"{self!r} was never closed: use 'async with' or aclose()"
            warnings.warn(problem, ResourceWarning, stacklevel=2, source=self)

    # -- listening -------------------------------------------------------------------------

    @property
    def listening_addr(self) -> Addr | None:
        """The bound address, with its real port; ``None`` while not listening."""
        return self._listener.addr if self._listener is not None else None

    async def start_listening(self) -> Addr:
        """Listen on ``config.listen``, and return the bound address.

        Raises :class:`ConfigError` without one, :class:`ListenError` where the system refuses,
        and :class:`UsageError` where the node listens already.
        """
        self._run()
        config = self.config
        if config.listen is None:
            raise ConfigError("listen", "is not set, and listening needs it")
        if self._listener is not None or self._binding:
            raise UsageError("the node listens already")
        wanted = Addr.of(config.listen)
        self._binding = True
        try:
            listener = await self._network.listen(wanted, backlog=config.backlog, reuse_port=config.reuse_port)
        except OSError as exc:
            raise ListenError(exc.errno, f"cannot listen on {wanted}: {exc.strerror or exc}") from exc
        finally:
            self._binding = False
        if self._state is not NodeState.RUNNING:
            listener.close()
            raise NodeClosedError("the node was closed meanwhile")
        self._listener = listener
        self._accepting = self._spawn(self._accept_from(listener))
        return listener.addr

    async def stop_listening(self) -> None:
        """Free the port; live connections stay. Does nothing where the node does not listen."""
        if self._listener is None or self._accepting is None:
            return
        self._listener.close()
        self._listener = None
        self._accepting.cancel()
        await asyncio.wait({self._accepting})

    async def _accept_from(self, listener: Listener) -> None:
        try:
            for n in itertools.count(1):
                await self._accept_one(listener)
                if n % ACCEPT_BURST == 0:
                    await asyncio.sleep(0)
        finally:
            if self._listener is listener:  # not stopped, but broken
                self._listener = None
                listener.close()

    async def _accept_one(self, listener: Listener) -> None:
        while not self._admission.has_room:
            self._room.clear()
            await self._room.wait()
        try:
            incoming = listener.accept()
        except OSError as exc:
            self.heuristics.accept_errors += 1
            self._log.warning("cannot accept, waiting %s s: %s", ACCEPT_PAUSE, exc)
            await asyncio.sleep(ACCEPT_PAUSE)
        else:
            if incoming is None:
                await listener.ready()
            else:
                self._welcome(incoming)

    def _welcome(self, incoming: Incoming) -> None:
        """Start to set up an inbound connection, or close it."""
        try:
            peer = self._reserve(incoming.addr, inbound=True)
        except ConnectError as exc:
            self.heuristics.inbound_rejections += 1
            self._log.debug("%s: rejected: %s", incoming.addr, exc)
            incoming.reject()
        else:
            self._spawn(self._let_in(peer, incoming))

    async def _let_in(self, peer: Peer, incoming: Incoming) -> None:
        try:
            async with _Setup(self, peer.addr) as setup:
                await self._set_up(peer, incoming.open(peer._link), setup)
        except (ConnectError, NodeClosedError) as exc:
            self._log.info("%s: not let in: %s", peer.addr, exc)

    # -- connecting ------------------------------------------------------------------------

    async def connect(self, addr: AddrLike, *, sock: Socket | None = None) -> Peer:
        """Connect to ``addr`` and return the peer, registered and usable.

        ``sock`` is a socket to dial from, bound by the caller; the node owns it from here on.
        Cancelled, this leaves nothing behind. Raises :class:`ConnectError` by its cause, which is
        an :class:`AlreadyConnectedError`, :class:`SelfConnectError`, :class:`LimitError`,
        :class:`DialError` or :class:`HandshakeError`; or :class:`NodeClosedError`.
        """
        try:
            self._run()
            wanted = Addr.of(addr)
            async with _Setup(self, wanted) as setup:
                return await self._dial(wanted, sock, setup)
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    async def _dial(self, addr: Addr, sock: Socket | None, setup: _Setup) -> Peer:
        try:
            addr = await self._network.resolve(addr)
        except OSError as exc:
            raise DialError(f"{addr}: {exc.strerror or exc}") from exc
        if self._is_self(addr):
            raise SelfConnectError(f"{addr} is this node's own address")
        try:
            peer = self._reserve(addr, inbound=False)
        except LimitError:
            self.heuristics.limit_rejections += 1
            raise
        await self._set_up(peer, self._network.dial(addr, peer._link, sock=sock), setup)
        return peer

    def _is_self(self, addr: Addr) -> bool:
        own = self.listening_addr
        if own is None or own.port != addr.port:
            return False
        return own.host == addr.host or (addr.is_loopback and (own.is_wildcard or addr.is_wildcard))

    def _reserve(self, addr: Addr, *, inbound: bool) -> Peer:
        """Take a slot and a name for a new connection, or raise and change nothing."""
        if addr in self._peers or addr in self._connecting:
            raise AlreadyConnectedError(f"{addr} is connected or being connected")
        slot = self._admission.reserve(addr.host)
        peer = Peer(addr, inbound=inbound, slot=slot)
        peer._link = Link(self, peer)
        self._connecting[addr] = peer
        return peer

    async def _set_up(self, peer: Peer, attach: Coroutine[Any, Any, None], setup: _Setup) -> None:
        """Attach the peer's link to a transport, shake hands and register it; or leave no trace."""
        link = peer._link
        try:
            try:
                await attach
            except OSError as exc:
                raise DialError(f"{peer.addr}: {exc.strerror or exc}") from exc
            if not link.lost:
                self._links.add(link)
            if Handshake in self._enabled:
                await self._shake_hands(peer, setup)
            if self._state is not NodeState.RUNNING:
                raise NodeClosedError("the node was closed meanwhile")
            if link.is_closing:
                raise DialError(f"{peer.addr}: the peer closed the connection at once")
            self._register(peer)
        except BaseException:
            link.abort()
            peer._move(ConnectionState.CLOSED)
            del self._connecting[peer.addr]
            peer._slot.release()
            raise

    async def _shake_hands(self, peer: Peer, setup: _Setup) -> None:
        node = cast(Handshake, self)
        setup.begin_handshake(peer._link, node.handshake_timeout)
        try:
            peer.session = await peer._link.shake_hands(
                lambda reader, writer: node.handshake(peer, reader, writer),
            )
        except Exception as exc:  # the user's code, and what the peer did to it
            self._hook_failed(peer, "handshake", exc)
            raise HandshakeError(f"{peer.addr}: {type(exc).__name__}: {exc}") from exc
        setup.end_handshake()
        if peer._link.is_closing:
            raise HandshakeError(f"{peer.addr}: the connection ended during the handshake")

    def _register(self, peer: Peer) -> None:
        link, node = peer._link, cast(Any, self)
        try:
            inbox = Inbox(node, peer, link.resume) if Reading in self._enabled else None
            outbox = Outbox(node, peer, link.transport) if Writing in self._enabled else None
        except Exception as exc:  # the user's code
            self._hook_failed(peer, "decoder or encoder", exc)
            raise ConnectError(f"{peer.addr}: no codec: {type(exc).__name__}: {exc}") from exc
        peer._move(ConnectionState.OPEN)
        peer.opened_at = self._loop.time()
        peer._protocols = self._enabled
        del self._connecting[peer.addr]
        self._peers[peer.addr] = peer
        peer._slot.settle()
        link.open(inbox, outbox)
        if OnConnect in self._enabled:
            # One that may be cancelled is seen off with its peer.
            start = self._start if node.on_connect_abortable else self._spawn
            peer._greeting = start(self._greet(peer))

    async def _greet(self, peer: Peer) -> None:
        try:
            await cast(OnConnect, self).on_connect(peer)
        except Exception as exc:  # the user's code: it ends this connection
            self._hook_failed(peer, "on_connect", exc)
            self._leave(peer, DisconnectReason(Origin.ON_CONNECT, exc))

    # -- disconnecting -----------------------------------------------------------------------

    async def disconnect(self, peer: Peer) -> bool:
        """End a connection; return once it is gone and its last hook has run.

        ``False``, at once, for a peer that is unknown or leaving already. Cancelled, the
        connection ends all the same. Messages that wait to be processed are dropped; a hook of
        this peer that calls this is not cancelled, and has ``disconnect_timeout`` to return.
        """
        if self._state is NodeState.NEW:
            return False
        self._check_loop()
        gone = self._leave(peer, DisconnectReason(Origin.USER))
        if gone is not None:
            await gone
        return gone is not None

    def _leave(self, peer: Peer, reason: DisconnectReason) -> asyncio.Future[None] | None:
        """Start to tear a connection down, unless someone did before. Nobody else does.

        Return what is done when it is gone; whoever waits for that may be cancelled.
        """
        if peer._state is not ConnectionState.OPEN or self._peers.get(peer.addr) is not peer:
            return None
        peer._move(ConnectionState.CLOSING)
        peer._link.stop_reading()
        if logger.isEnabledFor(logging.DEBUG):
            self._log.debug("%s: disconnecting: %s", peer.addr, reason)
        peer._gone = self._loop.create_future()
        self._spawn(self._tear_down(peer, reason, asyncio.current_task()))
        return peer._gone

    async def _tear_down(self, peer: Peer, reason: DisconnectReason, caller: asyncio.Task[Any] | None) -> None:
        deadline = self._loop.time() + (self if isinstance(self, OnDisconnect) else OnDisconnect).disconnect_timeout
        try:
            await self._end_hooks(peer, caller, deadline)
            if OnDisconnect in peer._protocols:
                await self._see_off(peer, self._start(self._say_goodbye(peer, reason)), deadline)
            if reason.origin is not Origin.WRITING:
                await peer._link.drain(deadline)
            await peer._link.close(deadline)
        finally:
            peer._move(ConnectionState.CLOSED)
            del self._peers[peer.addr]
            peer._slot.release()
            if not peer._gone.done():
                peer._gone.set_result(None)
            peer._link.abort()

    async def _end_hooks(self, peer: Peer, caller: asyncio.Task[Any] | None, deadline: float) -> None:
        """Cancel what still runs for the peer. The hook that asked for this is let run on, for a while."""
        consumer = peer._link.inbox.task if peer._link.inbox is not None else None
        # What is among the tasks of the node is waited for, however long it takes.
        for task in (hook for hook in (consumer, peer._greeting) if hook and not (hook.done() or hook in self._tasks)):
            if task is caller:
                self._spawn(self._see_off(peer, task, deadline))
            else:
                task.cancel()
                await self._see_off(peer, task, deadline)

    async def _see_off(self, peer: Peer, task: asyncio.Task[Any], deadline: float) -> None:
        """Wait for a hook to end; cancel it at the deadline."""
        self._seen_off.add(task)
        task.add_done_callback(self._seen_off.discard)
        await asyncio.wait({task}, timeout=max(0.0, deadline - self._loop.time()))
        if not task.done():
            self._log.warning("%s: a hook ran out of time and is cancelled: %r", peer.addr, task)
            task.cancel()
            await asyncio.wait({task}, timeout=LAST_CHANCE)
        if not task.done():
            self._log.error("%s: a hook ignores its cancellation and runs on: %r", peer.addr, task)

    async def _say_goodbye(self, peer: Peer, reason: DisconnectReason) -> None:
        try:
            await cast(OnDisconnect, self).on_disconnect(peer, reason)
        except Exception as exc:  # the user's code: the connection ends anyway
            self._hook_failed(peer, "on_disconnect", exc)

    # -- what the rooms below tell -------------------------------------------------------------

    def _link_lost(self, link: Link, exc: BaseException | None) -> None:
        self._links.discard(link)
        self._fewer.set()
        if link.inbox is not None:
            link.inbox.end(exc)
        else:
            self._leave(link.peer, DisconnectReason(Origin.WRITING, exc))

    def _reading_ended(self, peer: Peer, exc: BaseException | None) -> None:
        if isinstance(exc, IdleTimeoutError):
            self.heuristics.idle_timeouts += 1
        self._leave(peer, DisconnectReason(Origin.READING, exc))

    def _writing_failed(self, peer: Peer, exc: Exception) -> None:
        if isinstance(exc, WriteTimeoutError):
            self.heuristics.write_timeouts += 1
        else:
            self._hook_failed(peer, "encoder", exc)
        self._leave(peer, DisconnectReason(Origin.WRITING, exc))

    def _messages_dropped(self, peer: Peer, count: int) -> None:
        self.heuristics.messages_dropped += count
        now = self._loop.time()
        if now >= self._next_drop_log:
            self._next_drop_log = now + DROP_LOG_INTERVAL
            dropped = self.heuristics.messages_dropped
            self._log.warning("%s: inbox full, %d messages dropped (%d in all)", peer.addr, count, dropped)

    def _hook_failed(self, peer: Peer, hook: str, exc: BaseException) -> None:
        # What a peer can bring about at will must not fill the log of errors.
        overrun = asyncio.LimitOverrunError  # which ``StreamReader.readline`` makes a ValueError
        by_peer = isinstance(exc, CodecError | OSError | EOFError | overrun) or isinstance(exc.__context__, overrun)
        self._log.log(logging.INFO if by_peer else logging.ERROR, "%s: %s raised", peer.addr, hook, exc_info=exc)

    # -- keeping house -----------------------------------------------------------------------

    def _run(self) -> None:
        """Bind a new node to the running loop; refuse a closed one."""
        if self._state is NodeState.NEW or not isinstance(self._state, NodeState):
            replaced = {name for name, part in self._parts.items() if vars(self).get(name) is not part}
            for name in replaced | (vars(self).keys() & vars(Node).keys()):
                raise TypeError(f"{type(self).__name__}.{name} has replaced a part of Node: choose another name")
            self._loop = asyncio.get_running_loop()
            self._state = move(self._state, NodeState.RUNNING)
        elif self._state is not NodeState.RUNNING:
            raise NodeClosedError(f"the node is {self._state.value}")
        self._check_loop()

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("a node lives on one event loop, and this is another")

    def _check_not_in_hook(self) -> None:
        task = asyncio.current_task()
        hooks = {setup.task for setup in self._setups} | {peer._greeting for peer in self.peers}
        hooks.update(peer._link.inbox.task for peer in self.peers if peer._link.inbox is not None)
        if task in self._tasks or task in self._seen_off or task in hooks:
            raise UsageError("aclose() in a hook would wait for it: set an event or asyncio.create_task(node.aclose())")

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # Not by the loop's factory: an eager one would run a hook before anybody knows that its task is one.
        return asyncio.Task(work, loop=self._loop)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._start(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._fewer.set()
        if not task.cancelled() and task.exception() is not None:
            self._log.critical("a task of the node broke", exc_info=task.exception())


class _Setup:
    """One connection being set up, within the one deadline that its present stage has."""

    def __init__(self, node: Node, addr: Addr) -> None:
        self._node = node
        self._addr = addr
        self.task = asyncio.current_task()
        self._scope = asyncio.timeout(node.config.connect_timeout)
        # Runs while hands are shaken.
        self._last_chance: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._node._setups.add(self)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._node._setups.discard(self)
        self._node._fewer.set()
        if self._last_chance is not None:
            self._last_chance.cancel()
        try:
            await self._scope.__aexit__(*exc_info)
        except TimeoutError as expired:
            raise self._missed() from expired

    def begin_handshake(self, link: Link, seconds: float) -> None:
        """The connection stands; from here on the handshake's own time counts."""
        if self._node._state is not NodeState.RUNNING:
            raise NodeClosedError("the node was closed meanwhile")
        when = self._node._loop.time() + seconds
        self._scope.reschedule(when)
        # A hook that closes its writer and waits until that is closed waits for a peer that need never read.
        self._last_chance = self._node._loop.call_at(when + LAST_CHANCE, link.abort)

    def end_handshake(self) -> None:
        """Refuse what was returned too late, by a hook that swallowed its cancellation or kept the loop busy."""
        when = self._scope.when()
        if self._scope.expired() or (when is not None and when <= self._node._loop.time()):
            raise self._missed()

    def abort(self) -> None:
        """Give up at once: the node closes."""
        if not self._scope.expired():
            self._scope.reschedule(self._node._loop.time())

    def _missed(self) -> Exception:
        if self._node._state is not NodeState.RUNNING:
            return NodeClosedError("the node was closed meanwhile")
        if self._last_chance is not None:
            self._node.heuristics.handshake_timeouts += 1
            return HandshakeError(f"{self._addr}: no handshake within handshake_timeout")
        return DialError(f"{self._addr}: no connection within connect_timeout")


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Puts the node's name in front of every line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[{self.extra and self.extra['node']}] {msg}", kwargs
