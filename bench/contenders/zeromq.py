"""``pyzmq``: blocking sockets, which its documentation calls faster than asyncio; zero-copy for large messages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import zmq

from ..job import Job, Line, Result, count_blocking, latencies
from .base import LOOPBACK, Contender

#: From this size on, the zero-copy path is faster (``zmq.COPY_THRESHOLD``).
ZERO_COPY = 64 * 1024
#: Timeout in milliseconds of a socket that receives nothing.
PATIENCE = 2000
#: Timeout in milliseconds of a sender, which expires after the receiver has closed.
SEND_PATIENCE = 300


class Party(Contender):
    """Uses PUSH and PULL sockets, and DEALER for the round trip."""

    def sink(self, job: Job, line: Line) -> Result:
        copy = job.size < ZERO_COPY
        with _context() as context, _bound(context, zmq.PULL) as (sock, port):
            line.tell(port=port)
            receive, look = sock.recv, range(min(64, job.look))

            def some() -> int:
                for _ in look:
                    receive(copy=copy)
                return len(look)

            return count_blocking(job, some)

    def source(self, job: Job, line: Line) -> Result:
        message, look, copy = job.message, range(job.look), job.size < ZERO_COPY
        with _context() as context:
            socks = [_dialled(context, zmq.PUSH, job.port) for _ in range(job.connections)]
            until = job.until
            with contextlib.suppress(zmq.Again):  # the other side has finished, and closed
                while time.perf_counter() < until:
                    for sock in socks:
                        send = sock.send
                        for _ in look:
                            send(message, copy=copy)
        return {}

    def echo(self, job: Job, line: Line) -> Result:
        with _context() as context, _bound(context, zmq.DEALER) as (sock, port):
            line.tell(port=port)
            with contextlib.suppress(zmq.Again):
                while message := sock.recv():
                    sock.send(message)
        return {}

    def ping(self, job: Job, line: Line) -> Result:
        message = job.message
        times: list[int] = []
        with _context() as context:
            sock = _dialled(context, zmq.DEALER, job.port)
            until = job.until * 1e9
            while (start := time.perf_counter_ns()) < until and len(times) < job.count:
                sock.send(message)
                sock.recv()
                times.append(time.perf_counter_ns() - start)
            sock.close(linger=1000)
        return latencies(times)

    def chain(self, job: Job, line: Line) -> Result:
        message = job.message
        times: list[int] = []
        with _context() as context, contextlib.ExitStack() as stack:
            hops = []
            for _ in range(job.nodes - 1):
                receiver, port = stack.enter_context(_bound(context, zmq.PULL))
                hops.append((_dialled(context, zmq.PUSH, port), receiver))
            until = job.until * 1e9
            while (start := time.perf_counter_ns()) < until and len(times) < job.count:
                for sender, receiver in hops:
                    sender.send(message)
                    receiver.recv()
                times.append((time.perf_counter_ns() - start) // len(hops))
        return latencies(times)

    def life(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        with _context() as context:
            while done < job.count and time.perf_counter() < until:
                with _bound(context, zmq.PULL):
                    done += 1
        return {"per_second": done / (time.perf_counter() - start)}


@contextlib.contextmanager
def _context() -> Iterator[Any]:
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    try:
        yield context
    finally:
        context.destroy(linger=0)


@contextlib.contextmanager
def _bound(context: Any, kind: int) -> Iterator[tuple[Any, int]]:
    with context.socket(kind) as sock:
        _patient(sock)
        yield sock, sock.bind_to_random_port(f"tcp://{LOOPBACK}")


def _dialled(context: Any, kind: int, port: int) -> Any:
    sock = context.socket(kind)
    _patient(sock)
    sock.connect(f"tcp://{LOOPBACK}:{port}")
    return sock


def _patient(sock: Any) -> None:
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.RCVTIMEO, PATIENCE)
    sock.setsockopt(zmq.SNDTIMEO, SEND_PATIENCE)
