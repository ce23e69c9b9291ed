"""What the connections of one node share. May import asyncio for types only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .addr import Addr
from .errors import RefusedError
from .gate import Attempt, Gate
from .instruments import Instrument
from .lifecycle import NodeState
from .reporting import Report
from .stats import Heuristics, Stats
from .supervisor import Supervisor

if TYPE_CHECKING:
    import asyncio

    from .connection import Connection


@dataclass(slots=True)
class Context:
    """The services of a node, for its connections.

    ``node`` is the user's object, whose hooks are called and whose settings are read.
    """

    node: Any
    gate: Gate
    report: Report
    supervisor: Supervisor
    #: ``None`` if there are no instruments.
    instrument: Instrument | None
    #: The protocols that connections get from now on.
    enabled: frozenset[type] = frozenset()
    state: NodeState = NodeState.NEW
    heuristics: Heuristics = field(default_factory=Heuristics)
    #: The traffic of connections that are closed.
    closed_stats: Stats = field(default_factory=Stats)
    #: The registry: connections that are set up, and those that are being set up. Bounded by the gate.
    connected: dict[Addr, Connection] = field(default_factory=dict)
    connecting: dict[Addr, Connection] = field(default_factory=dict)
    #: Set when the node starts to run.
    loop: asyncio.AbstractEventLoop = field(init=False)
    memory: memoryview = field(init=False)
    #: Whether connections receive into that memory one after the other.
    shared: bool = field(init=False)
    #: Whether transports write several buffers with one system call.
    gathers: bool = field(init=False)
    #: Whether the gate wants to be asked after the handshake.
    confirms: bool = False
    #: Done when the state of the node changes, if anyone waits for that.
    changed: asyncio.Future[None] | None = None
    #: The address that the node listens on, if it does.
    local: Addr | None = None

    @property
    def is_running(self) -> bool:
        """Whether connections may still be made."""
        return self.state is NodeState.RUNNING

    def refusal(self, attempt: Attempt, exc: Exception) -> RefusedError:
        """Count a refusal by the gate under its rule, and return the error for it. A gate that raises refuses too."""
        error = exc
        if not isinstance(error, RefusedError):
            self.report.error("the gate raised, and refuses %s", attempt.addr, exc_info=exc)
            error = RefusedError(type(exc).__name__, f"the gate raised {type(exc).__name__}: {exc}")
        self.heuristics.refused[error.rule] += 1
        if not attempt.inbound:
            self.heuristics.limit_rejections += 1
        if self.instrument is not None:
            self.instrument.refused(attempt, error)
        return error
