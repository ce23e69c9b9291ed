"""What a contender is: one way of moving messages, in the roles that the measurements ask for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from ..job import Job, Line, Result

LOOPBACK = "127.0.0.1"


class Contender:
    """Plays roles; each returns what it measured. A role that is missing is one that it cannot play.

    ``sink``: listen, tell the port, take ``connections`` connections, measure. ``source``: dial so many
    and send for ``seconds``. ``echo`` and ``ping``: one connection, there and back. ``accept`` and ``dial``:
    connect and disconnect, one after the other; what accepts ends when all that it then hears of are gone.
    ``chain``: pass messages along ``nodes`` nodes in this process. ``life``: start and close a listener.
    ``plain``: dial the contender's ``sink`` with plain sockets, and send on the first ``active`` of them.
    """

    def play(self, role: str, job: Job, line: Line) -> Result:
        result: Result = getattr(self, role)(job, line)
        return result

    def greeting(self, job: Job) -> tuple[bytes, bytes]:
        """What a client says by hand before its first message, and how the answer to it ends."""
        return b"", b""

    def chunk(self, message: bytes, count: int) -> bytes:
        """So many messages as a client sends them."""
        return (len(message).to_bytes(4, "big") + message) * count


class AsyncContender(Contender):
    """One whose roles are coroutines, on one loop or the other."""

    def __init__(self, loop: str) -> None:
        self._loop = loop

    def play(self, role: str, job: Job, line: Line) -> Result:
        if role == "plain":
            return plain(self, job)
        with asyncio.Runner(loop_factory=loop_factory(self._loop)) as runner:
            result: Result = runner.run(getattr(self, role)(job, line))
            return result


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory


@dataclass(frozen=True)
class Entry:
    """A contender as the parent knows it, before anything that it needs is imported."""

    module: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    #: What it is, and which advice of its own documentation was followed.
    note: str = ""
    #: Why a role cannot be played, for the page.
    lacks: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> Contender:
        made: Contender = import_module(f"bench.contenders.{self.module}").Party(*self.arguments)
        return made

    def missing(self) -> str:
        """What keeps it from running here; empty if nothing."""
        for name in self.needs:
            try:
                import_module(name)
            except Exception as exc:  # a broken dependency may raise anything, and is to be told, not fatal
                return f"{name} cannot be imported: {type(exc).__name__}: {exc}"
        return ""


#: Messages per write of a plain dialler.
CHUNK = 64
#: Connections made before the first of them is greeted: fewer than a listener's backlog.
AT_ONCE = 500


def plain(contender: Contender, job: Job) -> Result:
    """Dial ``connections`` plain sockets; then send on the ``active`` ones in turn until the time or the peer ends."""
    socks: list[socket.socket] = []
    try:
        while len(socks) < job.connections:
            _dial_some(socks, min(AT_ONCE, job.connections - len(socks)), contender, job)
        if job.memory:
            socks[-1].recv(65536)  # until the other side has measured, and closes
            return {}
        return _flood(socks[: job.active], contender.chunk(job.message, CHUNK), job)
    finally:
        for sock in socks:
            sock.close()


def _dial_some(socks: list[socket.socket], count: int, contender: Contender, job: Job) -> None:
    hello, end = contender.greeting(job)
    new = [socket.create_connection((LOOPBACK, job.port), timeout=30) for _ in range(count)]
    socks += new
    if hello:
        for sock in new:
            sock.sendall(hello)
        for sock in new:
            answer = b""
            while not answer.endswith(end):
                piece = sock.recv(65536)
                if not piece:
                    raise EOFError("the other side closed instead of answering")
                answer += piece


def _flood(socks: list[socket.socket], chunk: bytes, job: Job) -> Result:
    until = job.until
    sent = 0
    try:
        while time.perf_counter() < until:
            for sock in socks:
                sock.sendall(chunk)
                sent += CHUNK
    except OSError:
        pass  # the other side has seen enough
    return {"sent": sent}


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """Read ``count`` bytes, or raise ``EOFError``."""
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
