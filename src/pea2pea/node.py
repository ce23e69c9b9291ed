"""The node: what a user calls. May import asyncio."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import Iterable
from typing import Any, Self, Unpack

from .addr import Addr, AddrLike
from .connection import Connection
from .context import Context
from .dialing import Connecting, SharedDials, dial
from .errors import ConfigError, ListenError, NodeClosedError, UsageError
from .gate import Admission, Gate
from .instruments import Instrument, Instruments
from .lifecycle import Cause, DisconnectReason, NodeState, move
from .link import memory_of
from .listening import Listening
from .network import Network, Socket
from .peer import Peer
from .protocols import PROTOCOLS, Protocol, check_protocols
from .reporting import Report
from .settings import SETTINGS, Settings, check_class, configure
from .setup import Setup
from .stats import Heuristics, Stats
from .supervisor import Supervisor
from .tcp import TcpNetwork

_numbers = itertools.count()

#: The settings of Admission; a gate of the user's own has none of them.
_LIMITS = ("max_connections", "max_connecting", "max_connections_per_ip", "exempt_loopback")


class Node:
    """A TCP peer-to-peer node. A subclass adds protocols, and keeps its own state as attributes.

    ``async with`` enables the protocols of the class, listens if ``listen`` is set, and closes the node at the end. A
    node lives on one event loop, and is not thread-safe.

    The keywords are the settings of the node and of its protocols, see :class:`~pea2pea.settings.Settings`. ``network``
    is where connections come from (TCP by default), ``gate`` decides which may exist (:class:`~pea2pea.gate.Admission`
    with the limits of the settings by default), and ``instruments`` observe the node. Raises
    :class:`~pea2pea.errors.ConfigError` naming a setting that is unknown, misplaced or wrong.
    """

    #: The name in logs; empty for a sequential number.
    name: str = ""
    #: Where to listen, as ``"host:port"`` or a pair; port 0 lets the system pick. ``None``: a node that only dials.
    listen: AddrLike | None = None
    #: How many connections the kernel queues before they are accepted.
    backlog: int = 128
    #: Share the port with other sockets that ask for the same (``SO_REUSEPORT``).
    reuse_port: bool = False
    #: All connections, those being set up included.
    max_connections: int = 100
    #: Connections being set up, both ways together; lowered to ``max_connections`` if larger.
    max_connecting: int = 100
    #: Connections with one IPv4 address or one IPv6 /64.
    max_connections_per_ip: int = 1
    #: Whether addresses of the machine itself are exempt from ``max_connections_per_ip``.
    exempt_loopback: bool = True
    #: Seconds that dialling may take, name resolution included.
    connect_timeout: float = 5.0

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls).keys() & vars(Node).keys():
            if name.startswith("_Node__"):  # a subclass that is called Node too has the same private names
                raise TypeError(f"Node.{name[5:]} would replace a part of Node: choose another name")
        check_class(cls, frozenset(protocol.__name__ for protocol in PROTOCOLS if issubclass(cls, protocol)))

    def __init__(
        self,
        *,
        network: Network | None = None,
        gate: Gate | None = None,
        instruments: Iterable[Instrument] = (),
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__()
        configure(self, settings)
        check_protocols(type(self))
        useless = [name for name in _LIMITS if name in settings]
        if gate is not None and useless:
            raise ConfigError(useless[0], "means nothing with a gate: tell the gate instead")
        self.name = self.name or str(next(_numbers))
        limits = self.max_connections, self.max_connecting, self.max_connections_per_ip
        #: Decides which connections may exist.
        self.gate: Gate = gate or Admission(*limits, exempt_loopback=self.exempt_loopback)
        #: Where connections come from.
        self.network: Network = network or TcpNetwork()
        watch = tuple(instruments)
        report = Report(self.name, lambda: self.__context.loop.time())
        instrument = Instruments(watch) if watch else None
        self.__context = Context(self, self.gate, report, Supervisor(report), instrument)
        self.__context.confirms = type(self.gate).confirm is not Gate.confirm
        self.__listening = Listening(self.__context, self.network)
        self.__shared = SharedDials()

    def __repr__(self) -> str:
        where = f", listening on {self.listening_addr}" if self.listening_addr else ""
        count = f"{self.num_connected} connected, {self.num_connecting} connecting"
        return f"<{type(self).__name__} {self.name!r}, {self.state.value}{where}, {count}>"

    # -- life ------------------------------------------------------------------------------

    @property
    def state(self) -> NodeState:
        """Where its life stands."""
        return self.__context.state

    async def __aenter__(self) -> Self:
        self.__run()
        self.enable(*(p for p in PROTOCOLS if isinstance(self, p) and p not in self.__context.enabled))
        try:
            if self.listen is not None and not self.__listening.is_active:
                await self.start_listening()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def enable(self, *protocols: Protocol) -> None:
        """Turn on protocols of this class, for the connections made from now on. Entering the node turns on all.

        Raises :class:`UsageError` for one that the class does not implement, or that is on already.
        """
        for protocol in protocols:
            if protocol not in PROTOCOLS or not isinstance(self, protocol):
                raise UsageError(f"{type(self).__name__} does not implement {protocol!r}")
            if protocol in self.__context.enabled or protocols.count(protocol) > 1:
                raise UsageError(f"{protocol.__name__} is enabled already")
        self.__context.enabled = self.__context.enabled.union(protocols)

    async def serve_forever(self) -> None:
        """Run until cancelled, or until the node is closed; then close it.

        Starts listening if ``listen`` is set. For use as ``asyncio.run(node.serve_forever())``.
        """
        async with self:
            context = self.__context
            while context.state in (NodeState.RUNNING, NodeState.DRAINING):
                context.changed = context.loop.create_future()
                await context.changed

    async def drain(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - it ends in closing, not in an error
        """Shut down gracefully, then close the node.

        Stops accepting and reading, lets messages that have arrived be processed and messages that were sent be
        written, and disconnects each peer when that is done. After ``timeout`` seconds, :meth:`aclose` ends the rest.
        """
        context = self.__context
        if context.state is NodeState.RUNNING:
            self.__check_not_in_hook()
            self.__move(NodeState.DRAINING)
            self.__abort_setups()
            await self.__listening.stop()
            peers = self.peers
            for connection in list(context.connected.values()):
                context.supervisor.spawn(connection.drain(), "drain")
            if peers:
                ends = [peer.until_closed() for peer in peers]
                await asyncio.wait(ends, timeout=timeout)
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening, disconnect every peer, run the hooks to their end, and leave nothing behind.

        May be called again: after a cancelled call, the next one finishes. Raises :class:`UsageError` in a hook of this
        node, since it would wait for that hook.
        """
        context = self.__context
        if context.state is NodeState.NEW:
            self.__move(NodeState.CLOSED)
        if context.state is NodeState.CLOSED:
            return
        self.__check_loop()
        self.__check_not_in_hook()
        if context.state is not NodeState.CLOSING:
            self.__move(NodeState.CLOSING)
        self.__abort_setups()
        for connection in list(context.connected.values()):
            connection.end(DisconnectReason(Cause.SHUTDOWN))
        await self.__listening.stop()
        await context.supervisor.idle()
        if context.state is NodeState.CLOSING:
            self.__move(NodeState.CLOSED)

    def __del__(self) -> None:
        context = vars(self).get("_Node__context")
        if context is not None and context.state not in (NodeState.NEW, NodeState.CLOSED):
            problem = f"{self!r} was never closed: use 'async with' or aclose()"
            warnings.warn(problem, ResourceWarning, stacklevel=2, source=self)

    # -- listening -------------------------------------------------------------------------

    @property
    def listening_addr(self) -> Addr | None:
        """The bound address, with its real port; ``None`` while not listening."""
        return self.__listening.addr

    @property
    def address(self) -> Addr:
        """The bound address, with its real port. Raises :class:`UsageError` while not listening."""
        addr = self.__listening.addr
        if addr is not None:
            return addr
        failure = self.__listening.failure
        if failure is not None:
            raise ListenError(getattr(failure, "errno", None), f"the listener failed and is being resumed: {failure}")
        raise UsageError("the node is not listening: set listen=..., and enter the node or call start_listening()")

    async def start_listening(self) -> Addr:
        """Listen on ``listen``, and return the bound address.

        Raises :class:`ConfigError` without one, :class:`ListenError` if the system refuses, and :class:`UsageError` if
        the node is listening already.
        """
        self.__run()
        if self.listen is None:
            raise ConfigError("listen", "is not set, and start_listening() needs it")
        return await self.__listening.start(Addr.of(self.listen, field="listen"))

    async def stop_listening(self) -> None:
        """Free the port; live connections stay. Does nothing if the node is not listening."""
        await self.__listening.stop()

    # -- connecting ------------------------------------------------------------------------

    def connect(self, addr: AddrLike, *, sock: Socket | None = None, reuse: bool = False) -> Connecting:
        """Connect to ``addr``: await this for the peer, registered and usable, or enter it to disconnect at the end.

        A name is tried at all its addresses (happy eyeballs, RFC 8305). ``sock`` is a socket to dial from, bound by the
        caller; the node owns it from now on. With ``reuse`` a peer that is connected at ``addr`` is returned, and
        concurrent calls for one address share one attempt; entering such a call disconnects the shared connection.

        If cancelled, this leaves nothing behind. Raises :class:`ConnectError` by its cause: an
        :class:`AlreadyConnectedError`, :class:`SelfConnectError`, :class:`RefusedError` (:class:`LimitError`),
        :class:`DialError` or :class:`HandshakeError`; or :class:`NodeClosedError`.
        """
        return Connecting(self, self.__connect_or_join(addr) if reuse else self.__connect(addr, sock))

    async def __connect(self, addr: AddrLike, sock: Socket | None) -> Peer[Any]:
        try:
            self.__run()
            return await dial(self.__context, self.network, Addr.of(addr), sock)
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    async def __connect_or_join(self, addr: AddrLike) -> Peer[Any]:
        self.__run()
        wanted = Addr.of(addr)
        connection = self.__context.connected.get(wanted)
        if connection is not None and connection.is_open:
            return connection.peer
        return await self.__shared.join(wanted, lambda: self.__connect(wanted, None))

    # -- peers -----------------------------------------------------------------------------

    @property
    def peers(self) -> list[Peer[Any]]:
        """The connected peers, oldest first; those whose ``on_disconnect`` runs are still among them."""
        return [connection.peer for connection in self.__context.connected.values()]

    def peer(self, addr: AddrLike) -> Peer[Any] | None:
        """Return the peer connected at ``addr``, if there is one."""
        connection = self.__context.connected.get(Addr.of(addr))
        return connection.peer if connection is not None else None

    def is_connected(self, addr: AddrLike) -> bool:
        """Return whether a peer is connected at ``addr``."""
        return Addr.of(addr) in self.__context.connected

    def is_connecting(self, addr: AddrLike) -> bool:
        """Return whether a connection with ``addr`` is being set up, either way."""
        return Addr.of(addr) in self.__context.connecting

    @property
    def num_connected(self) -> int:
        """How many peers are connected."""
        return len(self.__context.connected)

    @property
    def num_connecting(self) -> int:
        """How many connections are being set up."""
        return len(self.__context.connecting)

    @property
    def stats(self) -> Stats:
        """The traffic of all connections, also of those that ended: a copy, computed when asked for."""
        total = Stats()
        total.add(self.__context.closed_stats)
        for connection in self.__context.connected.values():
            total.add(connection.peer.stats)
        return total

    @property
    def heuristics(self) -> Heuristics:
        """What went wrong, counted."""
        return self.__context.heuristics

    # -- disconnecting -----------------------------------------------------------------------

    async def disconnect(self, peer: Peer[Any]) -> bool:
        """Close a connection; return once it is gone and its last hook has run.

        ``False``, at once, for a peer that is unknown or leaving already. If cancelled, the connection is closed all
        the same. Messages that are queued to be processed are dropped; a hook of this peer that calls this is not
        cancelled, and has ``disconnect_timeout`` to return.
        """
        if self.state is NodeState.NEW:
            return False
        self.__check_loop()
        if not self.end(peer, DisconnectReason(Cause.DISCONNECTED)):
            return False
        await peer.until_closed()
        return True

    def end(self, peer: Peer[Any], reason: DisconnectReason) -> bool:
        """Start to close a connection for ``reason``. Return whether this call did: only the first reason counts."""
        connection = self.__connection(peer)
        return connection is not None and connection.end(reason)

    async def end_stream(self, peer: Peer[Any]) -> None:
        """Half-close: write what is queued, then tell the peer that nothing more comes. It can still be received from.

        Raises :class:`UsageError` if the transport cannot do that (TLS cannot), and
        :class:`~pea2pea.errors.NotConnectedError` if the peer is gone.
        """
        connection = self.__connection(peer)
        if connection is None:
            raise peer.outbox.refusal()
        await connection.end_stream()

    # -- private -----------------------------------------------------------------------------

    def __connection(self, peer: Peer[Any]) -> Connection | None:
        connection = self.__context.connected.get(peer.addr)
        return connection if connection is not None and connection.peer is peer else None

    def __move(self, state: NodeState) -> None:
        context = self.__context
        context.state = move(context.state, state)
        if context.changed is not None and not context.changed.done():
            context.changed.set_result(None)

    def __abort_setups(self) -> None:
        for setup in self.__context.supervisor.held:
            if isinstance(setup, Setup):
                setup.abort()

    def __run(self) -> None:
        """Bind a new node to the running loop; refuse a closed one."""
        context = self.__context
        if context.state is NodeState.NEW:
            for name in (vars(self).keys() & vars(Node).keys()) - SETTINGS.keys():
                raise TypeError(f"{type(self).__name__}.{name} has replaced a part of Node: choose another name")
            context.loop = loop = asyncio.get_running_loop()
            abilities = self.network.abilities(loop)
            context.shared, context.gathers = abilities.fills_at_once, abilities.gathers
            if context.shared:
                context.memory = memory_of(loop, shared=True)
            self.__move(NodeState.RUNNING)
        elif context.state is not NodeState.RUNNING:
            raise NodeClosedError(f"the node is {context.state.value}")
        self.__check_loop()

    def __check_loop(self) -> None:
        if asyncio.get_running_loop() is not self.__context.loop:
            raise UsageError("a node lives on one event loop, and this is another one")

    def __check_not_in_hook(self) -> None:
        task, context = asyncio.current_task(), self.__context
        hooks = {setup.task for setup in context.supervisor.held if isinstance(setup, Setup)}
        hooks.update(task for connection in context.connected.values() for task in connection.hooks)
        if context.supervisor.spawned(task) or task in hooks:
            raise UsageError(
                "a hook cannot close its own node, which would wait for the hook: set an event, or use "
                "asyncio.create_task(node.aclose())"
            )
