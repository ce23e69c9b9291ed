"""Accepting connections: one listener, and the task that accepts from it. May import asyncio."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from .addr import Addr
from .connection import Connection
from .context import Context
from .errors import ConnectError, ListenError, NodeClosedError, UsageError
from .network import Incoming, Listener, Network
from .setup import Setup

# Seconds that the listener waits when the system has no descriptors or memory for a connection.
ACCEPT_PAUSE = 0.1
# Connections accepted in a row before everything else gets a turn.
ACCEPT_BURST = 64
# Seconds before a listener that stopped working is bound again: the first time, and at most, doubling in between.
FIRST_RETRY, LAST_RETRY = 0.1, 10.0


_Attach = Callable[[asyncio.BaseProtocol], Coroutine[Any, Any, None]]


class Listening:
    """The listener of a node. If it stops working, it is bound again, with growing pauses."""

    def __init__(self, context: Context, network: Network) -> None:
        self._context = context
        self._network = network
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self._binding = False
        self._room = asyncio.Event()
        #: Why the listener does not work at present.
        self.failure: BaseException | None = None

    @property
    def addr(self) -> Addr | None:
        """The bound address, with its real port; ``None`` while not listening."""
        return self._listener.addr if self._listener is not None else None

    @property
    def is_active(self) -> bool:
        """Whether there is a listener, or one is being made or resumed."""
        return self._binding or self._task is not None

    async def start(self, wanted: Addr) -> Addr:
        """Listen on ``wanted`` and return the bound address. Raises :class:`ListenError`."""
        if self.is_active:
            raise UsageError("the node is listening already")
        self._binding = True
        try:
            listener = await self._bind(wanted)
        except OSError as exc:
            raise ListenError(exc.errno, f"cannot listen on {wanted}: {exc.strerror or exc}") from exc
        finally:
            self._binding = False
        if not self._context.is_running:
            listener.close()
            raise NodeClosedError("the node was closed meanwhile")
        self._use(listener)
        self._context.gate.watch(self._room.set)
        self._task = self._context.supervisor.spawn(self._run(listener.addr), f"listen on {listener.addr}")
        return listener.addr

    async def stop(self) -> None:
        """Close the listener, if there is one. Connections stay."""
        task, self._task = self._task, None
        if task is None:
            return
        self._drop()
        self._context.gate.unwatch(self._room.set)
        task.cancel()
        await asyncio.wait({task})

    async def _bind(self, wanted: Addr) -> Listener:
        node = self._context.node
        return await self._network.listen(wanted, backlog=node.backlog, reuse_port=node.reuse_port)

    def _use(self, listener: Listener) -> None:
        self._listener = listener
        self._context.local = listener.addr
        self._context.report.info("listening on %s", listener.addr)

    def _drop(self) -> None:
        listener, self._listener, self._context.local = self._listener, None, None
        if listener is not None:
            listener.close()

    async def _run(self, addr: Addr) -> None:
        """Accept until cancelled; bind ``addr`` again whenever the listener stops working."""
        pause, loop = FIRST_RETRY, self._context.loop
        while True:
            started = loop.time()
            try:
                listener = self._listener
                if listener is None:
                    listener = await self._bind(addr)
                    self._use(listener)
                self.failure = None
                await self._accept_from(listener)
            except Exception as exc:  # the network's listener, or the system
                self._failed(addr, exc)
            if loop.time() - started > LAST_RETRY:  # it worked for a while
                pause = FIRST_RETRY
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)

    def _failed(self, addr: Addr, exc: Exception) -> None:
        context, self.failure = self._context, exc
        with suppress(Exception):  # it is broken already
            self._drop()
        context.heuristics.listener_failures += 1
        kind = type(exc).__name__
        context.report.stranger(logging.ERROR, addr, "the listener failed and is resumed: %s: %s", kind, exc)
        if context.instrument is not None:
            context.instrument.listener_failed(addr, exc)

    async def _accept_from(self, listener: Listener) -> None:
        for n in itertools.count(1):
            await self._accept_one(listener)
            if n % ACCEPT_BURST == 0:
                await asyncio.sleep(0)

    async def _accept_one(self, listener: Listener) -> None:
        context = self._context
        while not context.gate.has_room:
            self._room.clear()
            await self._room.wait()
        try:
            incoming = listener.accept()
        except OSError as exc:
            context.heuristics.accept_errors += 1
            problem = "cannot accept, waiting %s s: %s"
            context.report.stranger(logging.WARNING, listener.addr, problem, ACCEPT_PAUSE, exc)
            await asyncio.sleep(ACCEPT_PAUSE)
        else:
            if incoming is None:
                await listener.ready()
            else:
                self._welcome(incoming)

    def _welcome(self, incoming: Incoming) -> None:
        """Start to set up an inbound connection, or close it."""
        context = self._context
        try:
            connection = Connection.admit(context, incoming.addr, inbound=True)
        except ConnectError as exc:
            heuristics = context.heuristics
            heuristics.inbound_rejections += 1
            # The first refusal is news; the rest is counted.
            level = logging.WARNING if heuristics.inbound_rejections == 1 else logging.DEBUG
            context.report.stranger(level, incoming.addr, "refused: %s", exc)
            incoming.reject()
        else:
            context.supervisor.spawn(self._let_in(connection, incoming.open), "set up an inbound connection")

    async def _let_in(self, connection: Connection, attach: _Attach) -> None:
        context, addr = self._context, connection.peer.addr
        try:
            async with Setup(context, addr, context.node.connect_timeout) as setup:
                await connection.attach(attach(connection.link))
                await connection.set_up(setup)
        except (ConnectError, NodeClosedError) as exc:
            context.report.stranger(logging.INFO, addr, "not let in: %s", exc)
