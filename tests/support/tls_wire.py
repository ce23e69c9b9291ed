"""TLS without a network: the test carries the bytes from one end to the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from pea2pea.tls import TlsNetwork
from pea2pea.tls.wire import TlsWire
from support import Endpoint


class Pipe(asyncio.Transport):
    """The transport of one end: what is written waits until the test takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.ended = False
        self.closed = False
        self.waiting = 0
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.sent.append(bytes(data))

    def take(self) -> bytes:
        data = b"".join(self.sent)
        self.sent.clear()
        return data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.waiting


class End:
    """A TlsWire on a pipe, and the endpoint above it."""

    def __init__(self, network: TlsNetwork, endpoint: Endpoint, *, server: bool, layers: int = 1) -> None:
        context = network._listening if server else network._dialling
        assert context is not None
        name = None if server else "localhost"
        self.endpoint = endpoint
        self.pipe = Pipe()
        app: Any = endpoint
        for _ in range(layers):
            check = partial(network.config.check, server=server)
            app = self.wire = TlsWire(app, context, check, server=server, server_name=name)
        self.wire.connection_made(self.pipe)

    def feed(self, data: bytes) -> None:
        while data:
            memory = self.wire.get_buffer(-1)
            size = min(len(memory), len(data))
            memory[:size] = data[:size]
            self.wire.buffer_updated(size)
            data = data[size:]

    def outcome(self) -> BaseException | None:
        done = self.wire._handshaken
        return done.exception() if done.done() else None


def carry(left: End, right: End, change: Callable[[bytes], bytes] = bytes) -> None:
    """Carry bytes between the ends until neither writes more; ``change`` those on the way to ``right``."""
    while data := (left.pipe.take(), right.pipe.take()):
        if not any(data):
            return
        if data[0]:
            right.feed(change(data[0]))
        if data[1]:
            left.feed(data[1])
