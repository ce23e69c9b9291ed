"""Raw blocking sockets: the limit of the system. Messages are not decoded."""

from __future__ import annotations

import contextlib
import gc
import select
import selectors
import socket
import sys
import time

from ..job import SETTLE, Job, Line, Result, count_blocking, latencies, resident
from .base import LOOPBACK, Contender, plain, read_exactly

#: Bytes per write, enough to fill the receive buffer of the other side.
WRITE = 256 * 1024
READ = 1024 * 1024


class Party(Contender):
    """Uses the ``socket`` module."""

    def sink(self, job: Job, line: Line) -> Result:
        memory = resident()
        with _listen(line) as listener:
            socks = [_accepted(listener) for _ in range(job.connections)]
        try:
            if job.memory:
                time.sleep(SETTLE)
                gc.collect()
                return {"bytes_per_connection": (resident() - memory) / job.connections}
            return self._count(job, socks)
        finally:
            for sock in socks:
                sock.close()

    def _count(self, job: Job, socks: list[socket.socket]) -> Result:
        buffer = memoryview(bytearray(READ))
        frame = job.size + 4
        if len(socks) == 1:
            result = count_blocking(job, lambda: socks[0].recv_into(buffer))
        else:
            with selectors.DefaultSelector() as selector:
                for sock in socks:
                    selector.register(sock, selectors.EVENT_READ, sock)
                result = count_blocking(
                    job, lambda: sum(key.data.recv_into(buffer) for key, _ in selector.select())
                )
        return {
            "messages_per_second": result["messages_per_second"] / frame,
            "cpu_us_per_message": result["cpu_us_per_message"] * frame,
        }

    def source(self, job: Job, line: Line) -> Result:
        chunk = self.chunk(job.message, max(1, WRITE // (job.size + 4)))
        socks = [_dialled(job.port) for _ in range(job.connections)]
        until = job.until
        with contextlib.suppress(OSError):  # the other side has finished, and closed
            while time.perf_counter() < until:
                for sock in socks:
                    sock.sendall(chunk)
        for sock in socks:
            sock.close()
        return {}

    def echo(self, job: Job, line: Line) -> Result:
        with _listen(line) as listener, _accepted(listener) as sock:
            while data := sock.recv(65536):
                sock.sendall(data)
        return {}

    def ping(self, job: Job, line: Line) -> Result:
        message = self.chunk(job.message, 1)
        size = len(message)
        times: list[int] = []
        until = job.until
        with _dialled(job.port) as sock:
            while (start := time.perf_counter_ns()) < until * 1e9 and len(times) < job.count:
                sock.sendall(message)
                read_exactly(sock, size)
                times.append(time.perf_counter_ns() - start)
        return latencies(times)

    def accept(self, job: Job, line: Line) -> Result:
        seen, expected = 0, job.count
        with _listen(line) as listener:
            while seen < expected:
                readable, _, _ = select.select([listener, sys.stdin] if expected == job.count else [listener], [], [])
                if listener in readable:
                    with listener.accept()[0] as sock:
                        sock.recv(1)
                    seen += 1
                elif sys.stdin in readable:
                    expected = line.hear()["expected"]
        return {"ended_at": time.perf_counter(), "seen": seen}

    def dial(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            _dialled(job.port).close()
            done += 1
        return {"started_at": start, "ended_at": time.perf_counter(), "done": done}

    def chain(self, job: Job, line: Line) -> Result:
        message = self.chunk(job.message, 1)
        size = len(message)
        hops = [_connected_pair() for _ in range(job.nodes - 1)]
        times: list[int] = []
        until = job.until
        while (start := time.perf_counter_ns()) < until * 1e9 and len(times) < job.count:
            for sender, receiver in hops:
                sender.sendall(message)
                read_exactly(receiver, size)
            times.append((time.perf_counter_ns() - start) // len(hops))
        for sock in (sock for hop in hops for sock in hop):
            sock.close()
        return latencies(times)

    def life(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            socket.create_server((LOOPBACK, 0)).close()
            done += 1
        return {"per_second": done / (time.perf_counter() - start)}

    def plain(self, job: Job, line: Line) -> Result:
        return plain(self, job)




def _listen(line: Line) -> socket.socket:
    listener = socket.create_server((LOOPBACK, 0), backlog=4096)
    line.tell(port=listener.getsockname()[1])
    return listener


def _accepted(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _dialled(port: int) -> socket.socket:
    sock = socket.create_connection((LOOPBACK, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connected_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        dialled = _dialled(listener.getsockname()[1])
        return dialled, _accepted(listener)
