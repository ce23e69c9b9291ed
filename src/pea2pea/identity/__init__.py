"""One connection per peer, for nodes that know their peers by something better than an address. May import asyncio.

Two nodes that dial each other get two connections. :class:`OnePerPeer` keeps one of them. The two sides must not choose
independently, since each could end the connection that the other keeps. So one side decides: the one with the smaller
identity, which both sides can compute. It keeps the connection that was opened last, since a peer that dials again has
lost the earlier ones, and ends the others. The one it keeps is open by then.

The other side waits ``settle_seconds``. If there is more than one connection after that, because the first side does
not follow this rule, it also keeps the one that was opened last.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Unpack

from ..addr import AddrLike
from ..errors import ConnectError, Pea2PeaError, SelfConnectError
from ..gate import Gate
from ..instruments import Instrument
from ..lifecycle import Cause, ConnectionState, DisconnectReason
from ..network import Network, Socket
from ..node import Node
from ..peer import Peer
from ..protocols import OnConnect, OnDisconnect
from ..settings import Settings

__all__ = ["DuplicateError", "OnePerPeer"]


class DuplicateError(Pea2PeaError):
    """The connection was ended because there is another one with the same peer."""


class OnePerPeer(Node, OnConnect, OnDisconnect):
    """A node that knows its peers by their identities, and keeps one connection with each.

    A subclass with an ``on_connect`` or ``on_disconnect`` of its own must call the one here first.
    """

    #: Whether duplicate connections are ended. If not, :meth:`peer_of` returns the one that was opened last.
    one_per_peer: ClassVar[bool] = True
    #: Seconds for the side that decides to end duplicate connections, before the other side does.
    settle_seconds: ClassVar[float] = 5.0

    def __init__(
        self,
        *,
        network: Network | None = None,
        gate: Gate | None = None,
        instruments: Iterable[Instrument] = (),
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(network=network, gate=gate, instruments=instruments, **settings)
        # The peers whose on_connect has run. Identities without a connection are removed.
        self._known: dict[bytes, list[Peer]] = {}
        self._settling: dict[bytes, asyncio.TimerHandle] = {}

    @property
    @abstractmethod
    def own_identity(self) -> bytes:
        """The identity of this node: what :meth:`identity_of` returns for it on the other side."""

    @abstractmethod
    def identity_of(self, peer: Peer) -> bytes:
        """Return the identity that ``peer`` has proven. Called after its handshake only."""

    def peer_of(self, identity: bytes) -> Peer | None:
        """Return the connection with this identity, or ``None``. If there are several, the one that was opened last."""
        known = self.connections_of(identity)
        return known[-1] if known else None

    def connections_of(self, identity: bytes) -> list[Peer]:
        """Return the open connections with this identity, oldest first, without those that are being torn down."""
        # Not taken from _known: the on_connect of a peer that connect() has just returned may not have run yet.
        opened = [peer for peer in self.peers if peer.state is ConnectionState.OPEN]
        return [peer for peer in opened if self.identity_of(peer) == identity]

    async def connect_to(self, identity: bytes, addr: AddrLike, *, sock: Socket | None = None) -> Peer:
        """Return the connection with this identity. If there is none, dial ``addr``.

        Raises what :meth:`connect` raises, and :class:`ConnectError` if the node at ``addr`` has another identity.
        """
        found = self.peer_of(identity)
        if found is not None:
            if sock is not None:
                sock.close()
            return found
        dialled = await self.connect(addr, sock=sock)
        if self.identity_of(dialled) != identity:
            await self.disconnect(dialled)
            raise ConnectError(f"{dialled.addr}: the node there has another identity than expected")
        return self.peer_of(identity) or dialled

    async def on_connect(self, peer: Peer) -> None:
        """Register the peer, and end duplicate connections.

        A connection of this node to itself ends with a :class:`SelfConnectError` in its reason.
        """
        identity = self.identity_of(peer)
        if self.one_per_peer and identity == self.own_identity:
            # Not raised: an exception of on_connect counts as a mistake of the program, and this is none.
            error = SelfConnectError(f"{peer.addr} has the identity of this node")
            self.end(peer, DisconnectReason(Cause.DISCONNECTED, error))
            return
        self._known.setdefault(identity, []).append(peer)
        if not self.one_per_peer or len(self._known[identity]) == 1:
            return
        if self.own_identity < identity:
            self._end_surplus(identity)
        elif identity not in self._settling:
            timer = asyncio.get_running_loop().call_later(self.settle_seconds, self._settle, identity)
            self._settling[identity] = timer

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Remove the peer."""
        identity = self.identity_of(peer)
        known = self._known.get(identity, [])
        if peer in known:  # its on_connect may not have run
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
            error = DuplicateError(f"there is another connection with the same peer: {connections[-1]}")
            self.end(peer, DisconnectReason(Cause.REPLACED, error))
