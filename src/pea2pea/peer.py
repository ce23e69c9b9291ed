"""A peer: what a user holds of one connection. May import asyncio."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, Generic

from .addr import Addr
from .lifecycle import ConnectionState, DisconnectReason
from .outbox import UNOPENED, Outbox
from .stats import Stats

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from .inbox import Inbox

    Session = TypeVar("Session", default=Any)
else:  # defaults of type variables came with Python 3.13
    from typing import TypeVar

    Session = TypeVar("Session")

_ids = itertools.count(1)


class Peer(Generic[Session]):
    """One connection, from before its handshake until after its last hook.

    ``Session`` is the type of what the handshake returns; ``Peer`` alone is ``Peer[Any]``. Peers compare by identity:
    another connection with the same address is another peer. Its attributes are for reading; the node sets them.
    """

    __slots__ = (
        "__weakref__", "_waiters", "addr", "id", "inbound", "inbox", "opened_at", "outbox", "reason", "session",
        "state", "stats", "transport",
    )

    def __init__(self, addr: Addr, *, inbound: bool) -> None:
        #: Unique in this process, never reused.
        self.id: int = next(_ids)
        #: The address that was dialled, or that the connection came from.
        self.addr: Addr = addr
        #: Whether the other side dialled.
        self.inbound: bool = inbound
        #: The traffic of this connection alone, handshake excluded.
        self.stats: Stats = Stats()
        #: What the handshake returned; ``None`` before, and without one.
        self.session: Session = None  # type: ignore[assignment]  # there is none yet
        #: When it was registered, in seconds on the loop's clock; ``None`` before.
        self.opened_at: float | None = None
        #: Where its life stands.
        self.state: ConnectionState = ConnectionState.CONNECTING
        #: Why it ended, or is being closed; ``None`` before.
        self.reason: DisconnectReason | None = None
        #: The transport, while there is one. Read from it, and leave writing to the node.
        self.transport: asyncio.Transport | None = None
        #: Its queues, for the node's own verbs.
        self.inbox: Inbox | None = None
        self.outbox: Outbox = UNOPENED
        # As many as tasks wait for the end.
        self._waiters: list[asyncio.Future[None]] | None = None

    @property
    def read_queue_size(self) -> int:
        """How many messages are received and not processed yet."""
        return len(self.inbox.queue) if self.inbox is not None else 0

    @property
    def write_queue_size(self) -> int:
        """How many messages are sent and not encoded yet; one more batch may wait for the system."""
        return len(self.outbox.queue)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows by that name, as ``asyncio.BaseTransport.get_extra_info`` does."""
        return default if self.transport is None else self.transport.get_extra_info(name, default)

    async def closed(self) -> DisconnectReason:
        """Return the reason once the connection is gone and its last hook has run; at once if it is.

        For peers that were registered. Any number of tasks may wait. Cancelling one does nothing to the connection.
        """
        if self.state is not ConnectionState.CLOSED:
            await self.until_closed()
        assert self.reason is not None
        return self.reason

    def until_closed(self) -> asyncio.Future[None]:
        """Return a future that is done when the connection is gone. Each call returns another one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters = self._waiters or []
        self._waiters.append(waiter)
        return waiter

    def wake_waiters(self) -> None:
        """The connection is gone. Called by the node."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        way = "from" if self.inbound else "to"
        return f"<Peer {self.id} {way} {self.addr}, {self.state.value}>"
