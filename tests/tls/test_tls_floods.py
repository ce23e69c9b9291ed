"""TLS with peers that read nothing, or send records without data: memory stays bounded, and the others get their turn.

Records that no TLS library would send are forged, from the secrets that ``ssl`` writes into a key log.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from ssl import TLSVersion

import pytest

from pea2pea import LengthDelimited, Peer, QueueFullError
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.outbox import BATCH_SIZE, Outbox
from pea2pea.tls import TlsError
from pea2pea.tls.pinning import PinnedTls, PinningContext
from pea2pea.tls.records import PORTION, RECEIVE_SIZE
from pea2pea.tls.transport import TlsTransport
from pea2pea.tls.wire import MOST_USELESS, Stage, TlsWire
from support import BufferedEndpoint, Endpoint, StreamEndpoint, turns
from support.node import CALLER, OPEN, Witness, address
from support.tls import ALERT, DATA, ENGINES, HANDSHAKE, UPDATE, UPDATE_BOTH, Forger, Networks, context_of, issued
from support.tls_wire import End, carry

KIB = 1024
MIB = 1024 * KIB
#: What ssl itself holds of a record that is not whole, and what this package does of a portion.
MOST_HELD = PORTION + 32 * KIB

CHANGE_OF_CIPHERS = b"\x14\x03\x03\0\1\1"
NEW_SESSION_TICKET = b"\x04\0\0\x2d" + bytes(4) + b"xxxx" + b"\0" + b"\0\x20" + b"t" * 32 + b"\0\0"

class Victim:
    """An open connection; ``forger`` makes records for ``end`` as its peer."""

    def __init__(self, end: End, other: End, forger: Forger) -> None:
        self.end = end
        self.other = other
        self.forger = forger

    @property
    def held(self) -> int:
        """Bytes that wait between the transport below and the app."""
        return self.end.wire._incoming.pending + self.end.wire._outgoing.pending

    def feed(self, make: Callable[[], bytes], count: int) -> None:
        """Have ``count`` of these records come, in receives of the usual size."""
        waiting = bytearray()
        for number in range(1, count + 1):
            waiting += make()
            if len(waiting) > PORTION // 2 or number == count:
                self.end.feed(bytes(waiting))
                waiting.clear()
                assert self.held < MOST_HELD

    def is_alive(self) -> bool:
        """Whether what comes next is understood."""
        before = len(self.end.endpoint.data)
        self.end.feed(self.forger.record(DATA, b"hello"))
        return bytes(self.end.endpoint.data[before:]) == b"hello"


class Victims:
    """Opens connections."""

    def __init__(self, directory: Path, memory: MemoryNetwork, engine: str) -> None:
        self._log = directory / "secrets"
        self.networks = Networks(directory, memory).known(engine)
        for server, network in enumerate(self.networks):
            context = network._listening if server else network._dialling
            if isinstance(context, PinningContext):
                context._context.set_keylog_callback(lambda _, line: self._add(line))
            else:
                context_of(network, server=bool(server)).keylog_filename = str(self._log)

    def _add(self, line: bytes) -> None:
        with self._log.open("ab") as log:
            log.write(line + b"\n")

    def __call__(self, *, server: bool, endpoint: Endpoint | None = None) -> Victim:
        endpoint = endpoint or BufferedEndpoint()
        left = End(self.networks[0], StreamEndpoint() if server else endpoint, server=False)
        right = End(self.networks[1], endpoint if server else StreamEndpoint(), server=True)
        carry(left, right)
        name = f"{'CLIENT' if server else 'SERVER'}_TRAFFIC_SECRET_0"
        assert left.wire.tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        forger = Forger(self._log.read_text(encoding="ascii"), name)
        return Victim(right, left, forger) if server else Victim(left, right, forger)


@pytest.fixture(params=ENGINES)
def victims(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryNetwork) -> Victims:
    return Victims(tmp_path, memory, request.param)


@pytest.fixture
def over(tmp_path: Path, net: Network) -> Networks:
    return Networks(tmp_path, net)


SIDES = pytest.mark.parametrize("server", [False, True], ids=["dialler", "listener"])
RESIDENT = Path("/proc/self/statm")


def resident() -> int:
    """Bytes of memory that this process has, those of ssl among them."""
    gc.collect()
    return int(RESIDENT.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Records without data


@SIDES
async def test_forged_records_are_accepted_like_those_of_the_peer(victims: Victims, server: bool) -> None:
    victim = victims(server=server)
    assert victim.is_alive()
    victim.end.feed(victim.forger.update())
    assert victim.is_alive()
    victim.end.feed(victim.forger.update(UPDATE_BOTH))
    assert victim.is_alive()
    victim.end.wire.write(b"goes out under a new key, after the word that it does")
    victim.other.feed(victim.end.pipe.take())
    assert victim.other.endpoint.data == b"goes out under a new key, after the word that it does"


FLOOD = 10_000
#: A fraction of what it would be if a message left behind no more than what it takes while it is looked at.
MOST_GROWTH = 2 * MIB
Make = Callable[[Forger], bytes]


def tiny(forger: Forger) -> bytes:
    return forger.record(DATA, b"x")


def updates(forger: Forger) -> bytes:
    """One, and as much that is for the app as makes it bearable."""
    return tiny(forger) + forger.update() + forger.record(DATA, b"four")


def updates_both_ways(forger: Forger) -> bytes:
    return forger.update(UPDATE_BOTH) + forger.record(DATA, b"four")


def tickets(forger: Forger) -> bytes:
    return forger.record(HANDSHAKE, NEW_SESSION_TICKET * 10) + forger.record(DATA, bytes(32))


@pytest.mark.skipif(not RESIDENT.exists(), reason="memory of this process is not told")
@pytest.mark.parametrize("make", [tiny, updates, updates_both_ways])
@SIDES
async def test_an_endless_flood_does_not_grow_memory(victims: Victims, make: Make, server: bool) -> None:
    await flood(victims(server=server, endpoint=Blind()), make)


@pytest.mark.skipif(not RESIDENT.exists(), reason="memory of this process is not told")
async def test_endless_tickets_do_not_grow_memory(victims: Victims) -> None:
    await flood(victims(server=False, endpoint=Blind()), tickets)


async def flood(victim: Victim, make: Make) -> None:
    """Of what is just bearable, so that it never ends."""
    victim.feed(lambda: make(victim.forger), FLOOD // 10)  # what grows once, does so now
    before = resident()
    victim.feed(lambda: make(victim.forger), FLOOD)
    assert resident() - before < MOST_GROWTH
    assert not victim.end.pipe.closed
    assert victim.held == 0
    victim.end.pipe.take()
    victim.end.wire.write(b"it can speak")
    assert len(victim.end.pipe.take()) in range(30, 200)


class Blind(BufferedEndpoint):
    """Discards what it receives."""

    def got(self, data: bytes | memoryview) -> None:
        pass


@pytest.mark.parametrize("each", [0, 200])
@pytest.mark.parametrize(
    ("content", "server"),
    [(UPDATE, False), (UPDATE, True), (UPDATE_BOTH, False), (UPDATE_BOTH, True), (NEW_SESSION_TICKET, False)],
)
async def test_a_peer_that_sends_too_many_records_without_data_is_disconnected(
    victims: Victims, content: bytes, each: int, server: bool
) -> None:
    """A few kilobytes are tolerated; not more, even with a byte of data among them now and then."""
    victim, sent = victims(server=server), 0
    while not victim.end.pipe.closed and sent < 2 * MOST_USELESS:
        rekeys = content is not NEW_SESSION_TICKET
        record = victim.forger.update(content) if rekeys else victim.forger.record(HANDSHAKE, content)
        sent += len(record)
        if each and not sent // len(record) % each:
            record += victim.forger.record(DATA, b"x")
        victim.end.feed(record)
    assert MOST_USELESS // 2 < sent < 2 * MOST_USELESS
    victim.end.wire.connection_lost(None)
    assert isinstance(victim.end.endpoint.error, TlsError) and "without data" in str(victim.end.endpoint.error)


@SIDES
@pytest.mark.parametrize(("size", "padding"), [(1, 1000), (20, 1004), (100, 4000), (500, 15_000)])
async def test_a_peer_may_pad_its_records(victims: Victims, size: int, padding: int, server: bool) -> None:
    """RFC 8446, section 5.4: padding hides the length of the data."""
    victim = victims(server=server, endpoint=Blind())
    for _ in range(500):
        victim.end.feed(victim.forger.record(0, bytes([*b"x" * size, DATA, *bytes(padding)])))
    assert not victim.end.pipe.closed


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES128-SHA256", "AES256-SHA384"])
async def test_a_peer_that_sends_byte_by_byte_is_not_disconnected_with_any_cipher(
    tmp_path: Path, memory: MemoryNetwork, cipher: str
) -> None:
    """In TLS 1.2 a byte has 85 with the last of these."""
    make = Networks(tmp_path, memory)
    networks = [make(issued(name=name, kind="p256"), minimum_version=TLSVersion.TLSv1_2) for name in ("ann", "bob")]
    dialling = context_of(networks[0])
    dialling.maximum_version = TLSVersion.TLSv1_2
    dialling.set_ciphers(f"ECDHE-ECDSA-{cipher}")
    left = End(networks[0], StreamEndpoint(), server=False)
    right = End(networks[1], Blind(), server=True)
    carry(left, right)
    sent = 0
    while sent < 4 * MOST_USELESS:
        left.wire.write(b"x")
        record = left.pipe.take()
        sent += len(record)
        right.feed(record)
    assert not right.pipe.closed


@SIDES
async def test_a_peer_that_requests_answers_and_reads_none_is_disconnected(victims: Victims, server: bool) -> None:
    """Each update both ways is answered by ssl, past the flow control of the app: 27 bytes for 27."""
    victim = victims(server=server, endpoint=Blind())
    pipe = victim.end.pipe
    for _ in range(2 * PORTION // 27):
        pipe.waiting = sum(map(len, pipe.sent))
        assert pipe.waiting <= PORTION + 32 * KIB
        if pipe.closed:
            break
        victim.end.feed(updates_both_ways(victim.forger))
    assert pipe.closed
    victim.end.wire.connection_lost(None)
    assert isinstance(victim.end.endpoint.error, TlsError) and "answers" in str(victim.end.endpoint.error)


@SIDES
async def test_a_peer_that_reads_the_answers_may_request_more(victims: Victims, server: bool) -> None:
    victim = victims(server=server)
    for number in range(2 * PORTION // 27):
        victim.end.feed(updates_both_ways(victim.forger))
        victim.end.pipe.waiting = 1000 * (number % 2)  # all of it is taken, if not always at once
    assert not victim.end.pipe.closed and victim.is_alive()


@SIDES
async def test_a_peer_that_reads_the_answers_of_a_busy_app_may_request_more(victims: Victims, server: bool) -> None:
    """While the app is busy, something always waits in the transport, but not the same bytes."""
    victim = victims(server=server, endpoint=Blind())
    for number in range(2 * PORTION // 27):
        victim.end.pipe.waiting = 1 + number % 1000
        victim.end.feed(updates_both_ways(victim.forger))
    assert not victim.end.pipe.closed


@SIDES
@pytest.mark.parametrize(
    "make",
    [
        lambda forger: b"".join(forger.record(DATA, b"") for _ in range(100)),
        lambda forger: forger.record(HANDSHAKE, b"\x18\xff\xff\xff"),
        lambda forger: forger.record(HANDSHAKE, b"\x0b\0\0\4" + bytes(4)),
        lambda forger: forger.record(HANDSHAKE, b"\x01\0\xff\xff"),
        lambda forger: forger.record(HANDSHAKE, b"\x63\0\0\1\0"),
        lambda forger: forger.record(HANDSHAKE, b"\x18\0\0\1\7"),
        lambda forger: b"".join(forger.record(ALERT, b"\x01\x5a") for _ in range(100)),
        lambda forger: forger.record(99, b"x"),
        lambda forger: forger.record(DATA, bytes(16_385)),
        lambda forger: CHANGE_OF_CIPHERS,
        lambda forger: b"\x17\x03\x03\xff\xff",
    ],
    ids=["empty records", "an update of 16 MiB", "a certificate", "a hello", "an unknown message", "a wrong update",
         "warnings", "an unknown record", "a record too large", "a change of ciphers", "a record of 64 KiB"],
)  # fmt: skip
async def test_an_invalid_record_ends_the_connection(
    victims: Victims, make: Callable[[Forger], bytes], server: bool
) -> None:
    victim = victims(server=server)
    record = make(victim.forger)
    victim.end.feed(record)
    if record == CHANGE_OF_CIPHERS and isinstance(victim.end.wire.tls, PinnedTls):
        victim.end.feed(record * (MOST_USELESS // len(record)))  # OpenSSL 4 ignores it, like a ticket
    assert victim.end.pipe.closed
    assert victim.held < MOST_HELD
    victim.end.wire.connection_lost(None)
    assert isinstance(victim.end.endpoint.error, TlsError)
    assert victim.end.endpoint.data == b""


async def test_a_listener_refuses_a_ticket(victims: Victims) -> None:
    victim = victims(server=True)
    victim.end.feed(victim.forger.record(HANDSHAKE, NEW_SESSION_TICKET))
    assert victim.end.pipe.closed
    victim.end.wire.connection_lost(None)
    assert isinstance(victim.end.endpoint.error, TlsError)


@SIDES
async def test_a_handshake_that_never_ends_does_not_grow_memory(victims: Victims, server: bool) -> None:
    """Its messages have bounds of ssl's; what is larger, or comes in too many pieces, is refused."""
    end = End(victims.networks[server], StreamEndpoint(), server=server)
    end.pipe.take()
    kind = b"\1" if server else b"\2"
    most = 0
    for content in [kind + b"\0\xff\xff", *[bytes(1000)] * 1000]:
        end.feed(b"\x16\x03\x03" + len(content).to_bytes(2) + content)
        most = max(most, end.wire._incoming.pending)
        if end.wire._stage is Stage.FAILED:
            break
    assert end.wire._stage is Stage.FAILED and most < MOST_HELD
    assert isinstance(end.outcome(), TlsError)


# Slow readers


class Slowly(BufferedEndpoint):
    """Takes 1000 bytes at a time, and pauses after each read."""

    buffer = bytearray(1000)

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.transport.pause_reading()


@SIDES
async def test_bytes_that_the_app_does_not_take_wait_in_the_transport_below(victims: Victims, server: bool) -> None:
    """However often it goes on and pauses again, and whoever is first then: it, or what came meanwhile."""
    victim = victims(server=server, endpoint=Slowly())
    end, chunk = victim.end, bytes(60_000)
    sent = 0
    for _ in range(200):
        if end.pipe.reading:
            victim.other.wire.write(chunk)
            sent += len(chunk)
            end.feed(victim.other.pipe.take())
        assert victim.held <= MOST_HELD
        end.endpoint.transport.resume_reading()
        if end.pipe.reading:  # it had asked for more, and may be told at once
            victim.other.wire.write(chunk)
            sent += len(chunk)
            end.feed(victim.other.pipe.take())
        await turns(2)
    assert len(end.endpoint.data) >= 200 * 1000
    while len(end.endpoint.data) < sent:
        end.endpoint.transport.resume_reading()
        await turns(2)
    assert end.endpoint.data == bytes(sent)


async def test_a_flood_does_not_starve_the_other_connections(over: Networks, tmp_path: Path) -> None:
    """One receive at a time: what an honest peer sends when all of the flood was sent is there before its end."""
    names = ("mallory", "bob", "ann")
    bad, mine, good = (over(issued(name=name)) for name in names)
    log = tmp_path / "secrets"
    context_of(bad, server=True).keylog_filename = str(log)
    async with Witness(OPEN, bad) as mallory, Witness(OPEN, mine) as bob, Witness(CALLER, good) as ann:
        to_mallory = await bob.connect(address(mallory))
        (to_flood,) = await mallory.met.count(1)
        to_bob = await ann.connect(address(bob))
        forger = Forger(log.read_text(encoding="ascii"), "SERVER_TRAFFIC_SECRET_0")
        (last,) = LengthDelimited().encode([b"last"])  # behind frames of no byte, which are messages too
        records = [tickets(forger) for _ in range(6000)]
        wire_of(to_flood).raw.write(b"".join(records) + forger.record(DATA, bytes(last)))
        ann.send_nowait(to_bob, b"first")
        got = await bob.got.when(lambda got: got[-1:] == [(to_mallory, b"last")])
        before = [message for _, message in got].index(b"first")
        assert before < len(got) // 2
        assert bob.is_connected(to_mallory.addr)


DEPTH = 8
SIZE = 64 * KIB


class Slow(Witness):
    """Processes nothing while its gate is closed, and has short queues."""

    read_queue_depth = DEPTH
    write_queue_depth = DEPTH


async def test_a_peer_that_stops_reading_costs_the_sender_its_queue_and_a_batch(over: Networks) -> None:
    calling, called = over(issued(name="ann")), over(issued(name="bob"))
    async with Slow(OPEN, called) as right, Slow(CALLER, calling) as left:
        there = await left.connect(address(right))
        (here,) = await right.met.count(1)
        right.gates["process_message"].close()
        sent = await fill(left, there)
        wire, outbox = wire_of(there), there.outbox
        assert wire.raw.get_write_buffer_size() + waiting_in(outbox) <= (DEPTH + 1) * SIZE + BATCH_SIZE + 32 * KIB
        assert not wire._outgoing.pending and wire._incoming.pending == 0
        # What the one holds that does not process: its queue, with what one portion may add, and one receive.
        assert wire_of(here)._incoming.pending <= RECEIVE_SIZE + 32 * KIB
        assert right.stats.messages_received <= DEPTH + 1 + PORTION // SIZE + 1
        right.gates["process_message"].open()
        await left.flush(there)
        await right.got.count(sent)
        assert wire_of(here)._incoming.pending == 0


async def fill(node: Witness, peer: Peer) -> int:
    """Send until there is no room, and again after a while, until nothing has moved."""
    sent = before = 0
    while True:
        try:
            while True:
                node.send_nowait(peer, bytes(SIZE))
                sent += 1
        except QueueFullError:
            await turns(100)
        if sent == before:
            return sent
        before = sent


def waiting_in(outbox: Outbox) -> int:
    return sum(map(len, outbox.queue)) + sum(map(len, outbox._unwritten))


def wire_of(peer: Peer) -> TlsWire:
    transport = peer.transport
    assert isinstance(transport, TlsTransport)
    return transport.wire
