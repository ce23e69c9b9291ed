"""A peer, and the registry of a node's peers. May import asyncio for types only."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from .addr import Addr, AddrLike
from .admission import Slot
from .lifecycle import ConnectionState, move
from .stats import Stats

if TYPE_CHECKING:
    import asyncio

    from .link import Link

_ids = itertools.count(1)


class Peer:
    """One live connection, from its handshake to its last hook.

    Compares by identity: another connection with the same address is another peer.
    """

    __slots__ = (
        "__weakref__", "_gone", "_greeting", "_link", "_protocols", "_slot", "_state", "addr", "id", "inbound",
        "opened_at", "session", "stats",
    )

    def __init__(self, addr: Addr, *, inbound: bool, slot: Slot) -> None:
        #: Unique in this process, never reused.
        self.id = next(_ids)
        #: The address that was dialled, or that the connection came from.
        self.addr = addr
        #: Whether the other side dialled.
        self.inbound = inbound
        #: The traffic of this connection alone, handshake excluded.
        self.stats = Stats()
        #: Whatever the handshake returned; ``None`` before, and without one.
        self.session: Any = None
        #: When it was registered, in seconds on the loop's clock; ``None`` before.
        self.opened_at: float | None = None
        self._state = ConnectionState.CONNECTING
        # What the connection owns; the node sets and ends it.
        self._slot = slot
        self._link: Link
        self._protocols: frozenset[type] = frozenset()
        self._greeting: asyncio.Task[None] | None = None
        self._gone: asyncio.Future[None]  # once it is leaving

    def _move(self, state: ConnectionState) -> None:
        self._state = move(self._state, state)

    def __repr__(self) -> str:
        way = "from" if self.inbound else "to"
        return f"<Peer {self.id} {way} {self.addr}, {self._state.value}>"


class Registry:
    """The views of a node on its peers; all of them read the same two tables."""

    def __init__(self) -> None:
        # Bounded by max_connections and max_connecting.
        self._peers: dict[Addr, Peer] = {}
        self._connecting: dict[Addr, Peer] = {}

    @property
    def peers(self) -> list[Peer]:
        """The connected peers, oldest first; those whose ``on_disconnect`` runs are still among them."""
        return list(self._peers.values())

    def peer(self, addr: AddrLike) -> Peer | None:
        """The peer connected at ``addr``, if there is one."""
        return self._peers.get(Addr.of(addr))

    def is_connected(self, addr: AddrLike) -> bool:
        """Whether a peer is connected at ``addr``."""
        return Addr.of(addr) in self._peers

    def is_connecting(self, addr: AddrLike) -> bool:
        """Whether a connection with ``addr`` is being set up, either way."""
        return Addr.of(addr) in self._connecting

    @property
    def num_connected(self) -> int:
        """How many peers are connected."""
        return len(self._peers)

    @property
    def num_connecting(self) -> int:
        """How many connections are being set up."""
        return len(self._connecting)
