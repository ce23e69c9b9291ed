"""The interface of a contender: one way to move messages, in the roles that the measurements need."""

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
    """Has a method for each role that it can play; each returns what it measured.

    ``sink``: listen, report the port, accept ``connections`` connections and measure. ``source``: dial so many
    connections and send for ``seconds``. ``echo`` and ``ping``: one connection, in both directions. ``accept`` and
    ``dial``: connect and disconnect, one after the other; the accepting side is told how many connections there were,
    and ends when all are closed. ``chain``: pass messages along ``nodes`` nodes in this process. ``life``: start and
    close a listener. ``plain``: dial the contender's ``sink`` with plain sockets, and send on the first ``active``.
    """

    def play(self, role: str, job: Job, line: Line) -> Result:
        result: Result = getattr(self, role)(job, line)
        return result

    def handshake_bytes(self, job: Job) -> tuple[bytes, bytes]:
        """Return the handshake that a plain socket sends before its first message, and the end of the answer."""
        return b"", b""

    def chunk(self, message: bytes, count: int) -> bytes:
        """Return ``count`` messages as a client sends them."""
        return (len(message).to_bytes(4, "big") + message) * count


class AsyncContender(Contender):
    """A contender whose roles are coroutines, on the event loop named ``loop``."""

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
    """A contender as the parent process knows it, without its libraries."""

    module: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    #: How it is used, and which advice of its documentation was followed. Printed on the page.
    note: str = ""
    #: The roles that it cannot play, and why. Printed on the page.
    lacks: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> Contender:
        made: Contender = import_module(f"bench.contenders.{self.module}").Party(*self.arguments)
        return made

    def missing(self) -> str:
        """Return why it cannot run on this machine; empty if it can."""
        for name in self.needs:
            try:
                import_module(name)
            except Exception as exc:  # a broken dependency may raise anything; it is reported on the page
                return f"{name} cannot be imported: {type(exc).__name__}: {exc}"
        return ""


#: Messages per write of a plain socket.
CHUNK = 64
#: Connections opened before the first handshake: fewer than the backlog of a listener.
AT_ONCE = 500


def plain(contender: Contender, job: Job) -> Result:
    """Dial ``connections`` plain sockets; send on ``active`` of them in turn until the end, or the peer closes."""
    socks: list[socket.socket] = []
    try:
        while len(socks) < job.connections:
            _dial_some(socks, min(AT_ONCE, job.connections - len(socks)), contender, job)
        if job.memory:
            socks[-1].recv(65536)  # returns when the other side has measured and closes
            return {}
        return _flood(socks[: job.active], contender.chunk(job.message, CHUNK), job)
    finally:
        for sock in socks:
            sock.close()


def _dial_some(socks: list[socket.socket], count: int, contender: Contender, job: Job) -> None:
    hello, end = contender.handshake_bytes(job)
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
                    raise EOFError("the other side closed the connection during the handshake")
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
        pass  # the other side has finished, and closed
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
