"""The deadline of a connection being set up. May import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from .context import Context
from .errors import DialError, HandshakeError, NodeClosedError
from .supervisor import CANCEL_TIMEOUT


class Setup:
    """One connection being set up, within the deadline of its present stage: dialling, then the handshake.

    An asynchronous context manager around the work. Leaving it raises the error of a stage that ran out of time.
    """

    __slots__ = ("_abort_timer", "_context", "_scope", "_target", "task")

    def __init__(self, context: Context, target: object, seconds: float) -> None:
        self._context = context
        self._target = target
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self._scope = asyncio.timeout(seconds)
        # Set while the handshake runs.
        self._abort_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._context.supervisor.hold(self)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._context.supervisor.release(self)
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        try:
            await self._scope.__aexit__(*exc_info)
        except TimeoutError as expired:
            raise self._expired() from expired

    def begin_handshake(self, abort: Callable[[], object], seconds: float) -> None:
        """The connection is made; from now on the handshake's own deadline counts."""
        if not self._context.is_running:
            raise NodeClosedError("the node was closed meanwhile")
        when = self._context.loop.time() + seconds
        self._scope.reschedule(when)
        # A hook may close its writer and wait until that is closed, which a peer that never reads can hold up.
        self._abort_timer = self._context.loop.call_at(when + CANCEL_TIMEOUT, abort)

    def end_handshake(self) -> None:
        """Refuse a handshake that returned too late: its hook swallowed the cancellation or blocked the loop."""
        when = self._scope.when()
        if self._scope.expired() or (when is not None and when <= self._context.loop.time()):
            raise self._expired()

    def abort(self) -> None:
        """Stop at once: the node closes."""
        if not self._scope.expired():
            self._scope.reschedule(self._context.loop.time())

    def _expired(self) -> Exception:
        if not self._context.is_running:
            return NodeClosedError("the node was closed meanwhile")
        if self._abort_timer is not None:
            self._context.heuristics.handshake_timeouts += 1
            return HandshakeError(f"{self._target}: the handshake took longer than handshake_timeout")
        return DialError(f"{self._target}: no connection within connect_timeout")
