"""One connection per peer, where peers are known by something better than an address. May import asyncio.

Two nodes that dial each other have two connections. :class:`OnePerPeer` leaves one. Which, is for one side to
decide, and both compute alike which side that is: the one with the smaller identity. It keeps the connection
that was opened last (a peer that dials although it is connected has lost what was before) and ends the others;
the one that it keeps is open by then. The other side ends nothing for ``settle_seconds``, then whatever the first
has left over, again but the last: that happens where the first does not know this rule.

So there is no moment at which each side ends the connection that the other one keeps.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import ClassVar

from ..addr import AddrLike
from ..config import Config
from ..errors import ConnectError, Pea2PeaError, SelfConnectError
from ..lifecycle import ConnectionState, DisconnectReason, Origin
from ..network import Network, Socket
from ..node import Node
from ..peer import Peer
from ..protocols import OnConnect, OnDisconnect

__all__ = ["DuplicateError", "OnePerPeer"]


class DuplicateError(Pea2PeaError):
    """The connection ended since there is another one with the same peer."""


class OnePerPeer(Node, OnConnect, OnDisconnect):
    """A node that knows its peers by their identities, and has one connection with each.

    A subclass that has an ``on_connect`` or ``on_disconnect`` of its own calls the one here first.
    """

    #: Whether connections that are too many are ended. If not, :meth:`peer_of` gives the one that was opened last.
    one_per_peer: ClassVar[bool] = True
    #: Seconds that the side which decides has for it, before the other one does.
    settle_seconds: ClassVar[float] = 5.0

    def __init__(self, config: Config | None = None, *, network: Network | None = None) -> None:
        super().__init__(config, network=network)
        # Those whose on_connect has run; no identity without a connection.
        self._known: dict[bytes, list[Peer]] = {}
        self._settling: dict[bytes, asyncio.TimerHandle] = {}

    @property
    @abstractmethod
    def own_identity(self) -> bytes:
        """What the other side's :meth:`identity_of` returns for this node."""

    @abstractmethod
    def identity_of(self, peer: Peer) -> bytes:
        """Return who ``peer`` has proven to be; asked once its handshake is over."""

    def peer_of(self, identity: bytes) -> Peer | None:
        """The connection with the node of this identity; the one opened last, while there are several."""
        known = self.connections_of(identity)
        return known[-1] if known else None

    def connections_of(self, identity: bytes) -> list[Peer]:
        """All connections with the node of this identity that are not leaving, oldest first."""
        # Not from _known: a peer that connect() has just returned is not in it yet.
        return [
            peer for peer in self.peers if peer._state is ConnectionState.OPEN and self.identity_of(peer) == identity
        ]

    async def connect_to(self, identity: bytes, addr: AddrLike, *, sock: Socket | None = None) -> Peer:
        """Return the connection with the node of this identity; dial ``addr`` where there is none.

        Raises as :meth:`connect`, and :class:`ConnectError` where another node answers there.
        """
        found = self.peer_of(identity)
        if found is not None:
            if sock is not None:
                sock.close()
            return found
        dialled = await self.connect(addr, sock=sock)
        if self.identity_of(dialled) != identity:
            await self.disconnect(dialled)
            raise ConnectError(f"another node answers at {dialled.addr}")
        return self.peer_of(identity) or dialled

    async def on_connect(self, peer: Peer) -> None:
        """Take note of the peer, and end what is too much. Raises :class:`SelfConnectError` where it is this node."""
        identity = self.identity_of(peer)
        if self.one_per_peer and identity == self.own_identity:
            raise SelfConnectError(f"{peer.addr} is this node itself")
        self._known.setdefault(identity, []).append(peer)
        if not self.one_per_peer or len(self._known[identity]) == 1:
            return
        if self.own_identity < identity:
            self._end_surplus(identity)
        elif identity not in self._settling:
            timer = asyncio.get_running_loop().call_later(self.settle_seconds, self._settle, identity)
            self._settling[identity] = timer

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Forget the peer."""
        identity = self.identity_of(peer)
        known = self._known.get(identity, [])
        if peer in known:  # it may have left before on_connect ran
            known.remove(peer)
        if len(known) < 2 and identity in self._settling:
            self._settling.pop(identity).cancel()
        if not known:
            self._known.pop(identity, None)

    def _settle(self, identity: bytes) -> None:
        del self._settling[identity]
        self._end_surplus(identity)

    def _end_surplus(self, identity: bytes) -> None:
        connections = self.connections_of(identity)
        for peer in connections[:-1]:
            error = DuplicateError(f"there is another connection with the same node: {connections[-1]}")
            self._leave(peer, DisconnectReason(Origin.USER, error))
