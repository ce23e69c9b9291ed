"""Instruments: observers of a node. Pure: no asyncio, no sockets.

A node has none by default, and then pays nothing for them. An instrument overrides the methods that it needs; each is
called in the step of the loop in which the event happens, so it must be quick and must not block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .addr import Addr
    from .errors import RefusedError
    from .gate import Attempt
    from .lifecycle import DisconnectReason
    from .peer import Peer


class Instrument:
    """Does nothing: derive from it, and override what you want to observe."""

    def attempt(self, attempt: Attempt) -> None:
        """A connection is dialled, or was accepted; the gate has not been asked yet."""

    def refused(self, attempt: Attempt, error: RefusedError) -> None:
        """The gate refused the connection."""

    def handshake_started(self, peer: Peer) -> None:
        """The handshake hook is about to run."""

    def handshake_ended(self, peer: Peer, error: BaseException | None) -> None:
        """The handshake hook returned or raised."""

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """The connection was not made: the dial or the handshake failed, or it was cancelled."""

    def opened(self, peer: Peer) -> None:
        """The peer is registered and usable."""

    def closed(self, peer: Peer, reason: DisconnectReason) -> None:
        """The connection is gone, and its last hook has run."""

    def batch_received(self, peer: Peer, messages: int) -> None:
        """So many messages were decoded from one receive, and queued."""

    def batch_sent(self, peer: Peer, messages: int, size: int) -> None:
        """So many messages, which take ``size`` bytes, were handed to the transport in one batch."""

    def reading_paused(self, peer: Peer) -> None:
        """The inbox is full: nothing is read until it drains."""

    def reading_resumed(self, peer: Peer) -> None:
        """The inbox has drained."""

    def writing_paused(self, peer: Peer) -> None:
        """The system accepts no more bytes for this peer for now."""

    def writing_resumed(self, peer: Peer) -> None:
        """The system accepts bytes again."""

    def messages_dropped(self, peer: Peer, messages: int) -> None:
        """So many messages were dropped because the inbox was full."""

    def listener_failed(self, addr: Addr, error: BaseException) -> None:
        """A listener stopped working; the node tries to resume it."""


class Instruments(Instrument):
    """Several instruments as one. An instrument that raises is logged, and disturbs nobody else."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._all = tuple(instruments)

    def __getattribute__(self, name: str) -> Any:
        if name not in _EVENTS:
            return super().__getattribute__(name)
        instruments = self._all

        def call(*args: Any) -> None:
            for instrument in instruments:
                try:
                    getattr(instrument, name)(*args)
                except Exception:  # the user's code
                    logging.getLogger("pea2pea").exception("instrument %r raised in %s", instrument, name)

        return call


_EVENTS = frozenset(name for name, value in vars(Instrument).items() if callable(value) and not name.startswith("_"))
