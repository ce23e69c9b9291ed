"""A wire that lies: every handshake cut and flipped, records forged, truncated and replayed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pea2pea.memory import MemoryNetwork
from pea2pea.tls import TlsCutError, TlsError, TlsNetwork
from pea2pea.tls.transport import TlsWire
from support import BufferedEndpoint, Endpoint, StreamEndpoint
from tls_support import Networks, issued


class Pipe(asyncio.Transport):
    """One end of a wire without a network: what is written waits to be carried over by hand."""

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
    """A wire on a pipe, and the endpoint behind it."""

    def __init__(self, network: TlsNetwork, endpoint: Endpoint, *, server: bool) -> None:
        context = network._listening if server else network._dialling
        assert context is not None
        name = None if server else "localhost"
        self.endpoint = endpoint
        self.pipe = Pipe()
        self.wire = TlsWire(endpoint, context, network.config.check, server=server, server_name=name)  # type: ignore[arg-type]
        self.wire.connection_made(self.pipe)

    def feed(self, data: bytes) -> None:
        for start in range(0, len(data), 65_536):
            part = data[start : start + 65_536]
            self.wire.get_buffer(-1)[: len(part)] = part
            self.wire.buffer_updated(len(part))

    def outcome(self) -> BaseException | None:
        done = self.wire._handshaken
        return done.exception() if done.done() else None


def carry(left: End, right: End, change: Callable[[bytes], bytes] = bytes) -> None:
    """Carry over what both have written until neither has anything to say; ``change`` it on its way to ``right``."""
    while data := (left.pipe.take(), right.pipe.take()):
        if not any(data):
            return
        if data[0]:
            right.feed(change(data[0]))
        if data[1]:
            left.feed(data[1])


@pytest.fixture
def networks(tmp_path: Path, memory: MemoryNetwork) -> tuple[TlsNetwork, TlsNetwork]:
    make = Networks(tmp_path, memory)
    return make(issued(name="ann")), make(issued(name="bob"))


Pair = tuple[TlsNetwork, TlsNetwork]


def ends(networks: Pair, dialler: Endpoint | None = None, listener: Endpoint | None = None) -> tuple[End, End]:
    left = End(networks[0], dialler or StreamEndpoint(), server=False)
    return left, End(networks[1], listener or BufferedEndpoint(), server=True)


def flights(networks: Pair) -> list[bytes]:
    """What the dialler and the listener write in a handshake that goes well, in turn."""
    left, right = ends(networks)
    first = left.pipe.take()
    right.feed(first)
    second = right.pipe.take()
    left.feed(second)
    return [first, second, left.pipe.take()]


async def test_a_handshake_byte_by_byte(networks: Pair) -> None:
    left, right = ends(networks)
    for _ in range(4):
        for source, sink in ((left, right), (right, left)):
            for byte in source.pipe.take():
                sink.feed(bytes((byte,)))
    assert left.endpoint.events.items == right.endpoint.events.items == ["made"]
    left.wire.write(b"hello")
    carry(left, right)
    assert right.endpoint.data == b"hello"


async def test_a_handshake_cut_anywhere(networks: Pair) -> None:
    """Everywhere in its beginning, and in steps afterwards: each is a typed error on the side that is cut off."""
    first, second, third = flights(networks)
    for flight, place in ((0, first), (1, second), (2, third)):
        for cut in sorted({*range(0, 12), *range(12, len(place), 97), len(place) - 1}):
            left, right = ends(networks)
            sides = [left, right]
            for number in range(flight):
                sides[(number + 1) % 2].feed(sides[number % 2].pipe.take())
            victim = sides[(flight + 1) % 2]
            victim.feed(sides[flight % 2].pipe.take()[:cut])
            victim.wire.eof_received()
            victim.wire.connection_lost(None)
            assert isinstance(victim.outcome(), TlsError), (flight, cut)
            assert victim.endpoint.events.items == []
            left.outcome()


async def test_a_handshake_with_a_byte_flipped_anywhere(networks: Pair) -> None:
    """Either side gives up with a typed error, or waits for the rest of what now claims to be longer."""
    third = flights(networks)[2]
    errors = 0
    for place in sorted({*range(0, 12), *range(12, len(third), 61), len(third) - 1}):
        left, right = ends(networks)
        right.feed(left.pipe.take())
        left.feed(right.pipe.take())
        flight = bytearray(left.pipe.take())
        place = min(place, len(flight) - 1)
        flight[place] ^= 0x41
        right.feed(bytes(flight))
        assert right.endpoint.events.items == [], place
        errors += isinstance(right.outcome(), TlsError)
        right.wire.connection_lost(None)
        assert isinstance(right.outcome(), TlsError)
    assert errors > 20


async def opened(networks: Pair, **endpoints: Endpoint) -> tuple[End, End]:
    left, right = ends(networks, endpoints.get("dialler"), endpoints.get("listener"))
    carry(left, right)
    await left.wire.handshaken()
    await right.wire.handshaken()
    return left, right


async def test_a_forged_record_ends_the_connection(networks: Pair) -> None:
    for place in (0, 1, 3, 5, 10, -1):
        left, right = await opened(networks)
        left.wire.write(b"x" * 100)
        record = bytearray(left.pipe.take())
        record[place] ^= 1
        right.feed(bytes(record))
        right.wire.eof_received()  # for where it now claims to be longer
        assert right.pipe.closed
        right.wire.connection_lost(None)
        assert right.endpoint.data == b""
        assert isinstance(right.endpoint.error, TlsError)


async def test_records_replayed_or_out_of_order_end_the_connection(networks: Pair) -> None:
    for order in ((0, 0), (1,), (0, 2)):
        left, right = await opened(networks)
        records = []
        for text in (b"a", b"b", b"c"):
            left.wire.write(text)
            records.append(left.pipe.take())
        for number in order:
            right.feed(records[number])
        right.wire.connection_lost(None)
        assert isinstance(right.endpoint.error, TlsError)
        assert bytes(right.endpoint.data) == (b"a" if order[0] == 0 else b"")


async def test_a_stream_cut_at_any_byte_is_no_end(networks: Pair) -> None:
    for cut in (0, 1, 5, 50, 121):
        left, right = await opened(networks)
        left.wire.write(b"x" * 100)
        right.feed(left.pipe.take()[:cut])
        assert right.wire.eof_received()
        right.wire.connection_lost(None)
        assert "eof" not in right.endpoint.events.items
        assert isinstance(right.endpoint.error, TlsCutError), cut


async def test_a_goodbye_is_an_end_and_what_comes_after_it_is_not_read(networks: Pair) -> None:
    left, right = await opened(networks, listener=StreamEndpoint(keep_open=True))
    left.wire.write(b"last")
    left.wire.close()
    left.wire.write(b"never")
    assert left.pipe.closed and left.wire.is_closing
    right.feed(left.pipe.take())
    assert right.endpoint.data == b"last"
    assert right.endpoint.events.items == ["made", "data", "eof"]
    right.feed(b"garbage")
    assert right.wire.eof_received()
    right.wire.write(b"a reply")  # who keeps its half open may use it
    assert right.pipe.take()
    right.wire.connection_lost(None)
    assert right.endpoint.error is None


async def test_who_does_not_keep_it_open_says_goodbye_too(networks: Pair) -> None:
    left, right = await opened(networks)
    left.wire.close()
    right.feed(left.pipe.take())
    assert right.pipe.closed
    right.wire.close()


async def test_a_paused_app_is_handed_nothing(networks: Pair) -> None:
    endpoint = BufferedEndpoint()
    left, right = await opened(networks, listener=endpoint)
    endpoint.transport.pause_reading()
    assert not endpoint.transport.is_reading() and not right.pipe.reading
    left.wire.write(b"x" * 10_000)
    right.feed(left.pipe.take())  # was under way already
    assert endpoint.data == b""
    endpoint.transport.resume_reading()
    endpoint.transport.resume_reading()
    await endpoint.until_data(10_000)
    assert endpoint.transport.is_reading() and right.pipe.reading


async def test_a_transport_that_is_closing_is_left_alone(networks: Pair) -> None:
    left, right = await opened(networks)
    left.pipe.close()
    transport = left.endpoint.transport
    transport.pause_reading()
    transport.resume_reading()
    transport.write(b"nothing")
    transport.close()
    assert left.pipe.sent == [] and left.pipe.reading
    assert not right.pipe.closed


async def test_a_failure_with_bytes_that_wait_does_not_wait_for_them(networks: Pair) -> None:
    _, right = await opened(networks)
    right.pipe.waiting = 1
    right.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert right.pipe.closed


async def test_what_a_transport_tells(networks: Pair) -> None:
    left, right = await opened(networks)
    transport = left.endpoint.transport
    assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)
    assert transport.get_extra_info("sslcontext") is networks[0]._dialling
    assert transport.get_extra_info("cipher")[1] == "TLSv1.3"
    assert ("commonName", "bob") in transport.get_extra_info("peercert")["subject"][0]
    assert transport.get_extra_info("peername", "unknown") == "unknown"
    assert not transport.can_write_eof()
    with pytest.raises(NotImplementedError):
        transport.write_eof()
    other = StreamEndpoint()
    assert transport.get_protocol() is cast(Any, left.endpoint)
    transport.set_protocol(other)
    assert transport.get_protocol() is other
    right.wire.write(b"hello")
    carry(right, left)
    assert other.data == b"hello"
    left.wire.pause_writing()
    left.wire.resume_writing()
    assert other.events.items == ["data", "pause", "resume"]
    transport.abort()
    assert left.pipe.closed


async def test_a_connection_given_up_before_it_was_made(networks: Pair) -> None:
    assert networks[0]._dialling is not None
    wire = TlsWire(StreamEndpoint(), networks[0]._dialling, networks[0].config.check, server_name="localhost")
    await wire.give_up()
    pipe = Pipe()
    wire.connection_made(pipe)
    assert pipe.closed and not pipe.sent
