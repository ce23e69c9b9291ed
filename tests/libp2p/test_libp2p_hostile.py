"""Hosts among peers that mean no good: cut and altered handshakes, floods, overruns. A typed error, bounded memory.

That nothing is left behind, no task and no descriptor, is what every test here is watched for (see conftest).
"""

from __future__ import annotations

import asyncio
import datetime
import tracemalloc
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pea2pea import Addr, Config, HandshakeError, MemoryNetwork, Origin, Pea2PeaError, Peer
from pea2pea.errors import DecodeError, FrameTooLargeError
from pea2pea.libp2p import Connection, Host, Identity, PeerIdentityError, StreamResetError, YamuxError
from pea2pea.libp2p import tls as tls_module
from pea2pea.libp2p.channel import Channel, SecureStream, negotiate
from pea2pea.libp2p.errors import (
    ChannelError,
    MalformedFrameError,
    TooManyStreamsError,
    UnknownStreamError,
    WindowExceededError,
)
from pea2pea.libp2p.frames import ACK, DATA, INITIAL_WINDOW, PING, SYN, WINDOW_UPDATE, Frame, FrameDecoder, FrameEncoder
from pea2pea.libp2p.host import _SECURE as SECURE
from pea2pea.libp2p.host import YAMUX
from pea2pea.libp2p.multistream import HEADER, Proposal, encode_message
from pea2pea.libp2p.noise import check_payload, make_payload
from pea2pea.libp2p.tls import EXTENSION, TLS, check_certificate, make_certificate, make_extension
from support import LOOPBACK, AnyEndpoint, Pipe, Recorder, StreamEndpoint, accept, listening
from support.libp2p import (
    ANN,
    BOB,
    ECHO,
    KINDS,
    MIB,
    Attacker,
    Bent,
    NoiseHost,
    TlsHost,
    WitnessHost,
    cut_at,
    flip_at,
    pair,
)
from support.node import CALLER, OPEN
from support.tls import DATA as TLS_DATA
from support.tls import UPDATE_BOTH, Forger

SLOW_TO_TEST = pytest.mark.timeout(120)


# Handshakes that are cut or altered


@pytest.fixture
def quick_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one takes longer than the rest of the handshake; with these, handshakes are all of one size."""
    made = {identity: certificate_of(identity) for identity in (ANN, BOB)}
    monkeypatch.setattr(tls_module, "make_certificate", lambda identity: made[identity])


def certificate_of(identity: Identity) -> tuple[x509.Certificate, ed25519.Ed25519PrivateKey]:
    """As ``make_certificate``, with a key whose signatures are always of the same size."""
    key = ed25519.Ed25519PrivateKey.generate()
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    extension = x509.UnrecognizedExtension(EXTENSION, make_extension(identity, info))
    today = datetime.datetime.now(datetime.UTC)
    name, day = x509.Name([]), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today - day, today + day)
    return builder.add_extension(extension, critical=False).sign(key, None), key


def bending(kind: type[WitnessHost], bends: list[object], *, inbound: bool) -> type[WitnessHost]:
    """A host whose writer does in the next handshake what is last in ``bends``; it counts the bytes written."""

    class Bending(kind):  # type: ignore[misc, valid-type]
        written = 0

        async def handshake(
            self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> Connection:
            if peer.inbound is not inbound:
                return cast(Connection, await super().handshake(peer, reader, writer))
            bent = Bent(writer, bends[-1])  # type: ignore[arg-type]
            try:
                return cast(Connection, await super().handshake(peer, reader, cast(asyncio.StreamWriter, bent)))
            finally:
                type(self).written = max(type(self).written, bent._position)

    return Bending


async def shake(caller: Host, called: WitnessHost) -> Pea2PeaError | None:
    """Connect, and return why that failed, on the dialling side."""
    try:
        peer = await caller.connect(called.multiaddrs[0].addr)
    except HandshakeError as error:
        return error
    await caller.disconnect(peer)
    return None


async def size_of_handshake(memory: MemoryNetwork, kind: type[WitnessHost], *, inbound: bool) -> int:
    whole = bending(kind, [lambda writer, data, position: writer.write(data)], inbound=inbound)
    async with whole(CALLER, memory, ANN) as caller, whole(OPEN, memory, BOB) as called:
        assert await shake(caller, called) is None
    return int(whole.written)  # type: ignore[attr-defined]


SIDES = pytest.mark.parametrize("inbound", [False, True], ids=["dialler", "listener"])


@SLOW_TO_TEST
@pytest.mark.usefixtures("quick_certificates")
@SIDES
@pytest.mark.parametrize("name", KINDS)
async def test_a_handshake_cut_anywhere_fails(memory: MemoryNetwork, name: str, inbound: bool) -> None:
    kind = KINDS[name]
    size = await size_of_handshake(memory, kind, inbound=inbound)
    bends: list[object] = [None]
    bad = bending(kind, bends, inbound=inbound)
    async with bad(CALLER, memory, ANN) as caller, bad(OPEN, memory, BOB) as called:
        for place in range(size):
            bends.append(cut_at(place))
            error = await shake(caller, called)
            assert error is not None, place
            assert isinstance(error.__cause__, Pea2PeaError | ConnectionError), place
        bends.append(cut_at(size))
        assert await shake(caller, called) is None
        assert caller.num_connecting == 0 and not caller.heuristics.handshake_timeouts
    assert called.num_connecting == called.num_connected == 0
    assert len(called.came.items) == len(called.left.items)


@SLOW_TO_TEST
@pytest.mark.usefixtures("quick_certificates")
@SIDES
@pytest.mark.parametrize("name", KINDS)
async def test_a_handshake_altered_anywhere_fails_or_harms_nobody(
    memory: MemoryNetwork, name: str, inbound: bool
) -> None:
    """A length that grew makes the other side wait for more; on a virtual clock that takes no time.

    Nobody vouches for the version of the first TLS record, which RFC 8446, section 5.1, has ignored.
    """
    kind = KINDS[name]
    size = await size_of_handshake(memory, kind, inbound=inbound)
    bends: list[object] = [None]
    bad = bending(kind, bends, inbound=inbound)
    unharmed = set()
    async with bad(CALLER, memory, ANN) as caller, bad(OPEN, memory, BOB) as called:
        for place in range(size):
            bends.append(flip_at(place))
            try:
                peer = await caller.connect(called.multiaddrs[0].addr)
            except HandshakeError as error:
                assert isinstance(error.__cause__, Pea2PeaError | ConnectionError | TimeoutError), place
                continue
            unharmed.add(place)
            assert caller.remote_id(peer) == BOB.peer_id
            assert await caller.ping(peer) >= 0
            await caller.disconnect(peer)
    first_record = len(encode_message(HEADER) + encode_message(TLS))
    assert unharmed <= ({first_record + 1, first_record + 2} if name == "tls" else set())
    assert called.num_connecting == called.num_connected == 0
    assert len(called.came.items) == len(called.left.items)


async def test_oversized_lengths_are_refused_before_anything_is_kept(memory: MemoryNetwork) -> None:
    async with NoiseHost(OPEN, memory) as called:
        for hello in (b"\xff\xff\xff\xff", encode_message(HEADER) + b"\x81\x08", encode_message(HEADER) * 2):
            end = StreamEndpoint()
            await memory.dial(called.multiaddrs[0].addr, end)
            end.transport.write(hello)
            await end.events.when(lambda events: "lost" in events or "eof" in events)
            await end.aclose()
    assert called.num_connecting == 0


async def test_a_listener_that_says_too_much_is_refused(memory: MemoryNetwork) -> None:
    async with listening(memory) as listener, NoiseHost(CALLER, memory) as caller:
        dialling = asyncio.create_task(caller.connect(listener.addr))
        end: AnyEndpoint = StreamEndpoint()
        await (await accept(listener)).open(end)
        end.transport.write(encode_message(HEADER) + b"\xff\xff")
        with pytest.raises(HandshakeError, match="1024 bytes"):
            await dialling
        await end.aclose()


@pytest.mark.parametrize("cut", [None, 0, 5, 11], ids=["one message", "two", "cut in the head", "cut at the end"])
@pytest.mark.parametrize("name", KINDS)
async def test_frames_in_the_packet_of_the_last_proposal_are_not_kept_waiting(
    memory: MemoryNetwork, name: str, cut: int | None
) -> None:
    """Who proposes one protocol may go on as if it were agreed on; its frames come in messages of their own, or not."""
    (ping,) = FrameEncoder().encode([Frame(PING, SYN, 0, 7)])

    class Eager(KINDS[name]):  # type: ignore[misc, valid-type]
        async def _secure(
            self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> tuple[Channel, bytes]:
            secured = await negotiate(Proposal(self.security), reader, writer)
            channel = await SECURE[secured](self.identity, reader, writer, initiator=True)
            proposal = Proposal((YAMUX,))
            says = [proposal.take() + ping] if cut is None else [proposal.take() + ping[:cut], bytes(ping[cut:])]
            writer.write(b"".join(channel.seal(part) for part in says if part))
            secure = SecureStream(channel, reader, writer)
            await negotiate(proposal, secure, secure)
            return channel, bytes(secure.rest) + channel.received()

        async def process_message(self, peer: Peer, message: Frame) -> None:
            self.frames.add(message)

    async with Eager(CALLER, memory, ANN) as caller, KINDS[name](OPEN, memory, BOB) as called:
        caller.frames = Recorder()
        await caller.connect(called.multiaddrs[0].addr)
        assert await caller.frames.count(1) == [Frame(PING, ACK, 0, 7)]
        assert asyncio.get_running_loop().time() < 1


# Proofs that prove nothing


def test_a_payload_that_proves_nothing_is_refused() -> None:
    static = bytes(range(32))
    assert check_payload(make_payload(ANN, static), static, None) == ANN.peer_id
    with pytest.raises(PeerIdentityError, match="signature"):
        check_payload(make_payload(ANN, static), bytes(32), None)
    with pytest.raises(PeerIdentityError, match="expected"):
        check_payload(make_payload(ANN, static), static, BOB.peer_id)
    for payload in (b"", b"\xff", make_payload(ANN, static)[:40]):
        with pytest.raises(Pea2PeaError):
            check_payload(payload, static, None)


def test_extensions_of_a_payload_are_ignored() -> None:
    """Fact 6: js has its muxers in field 4."""
    static = bytes(32)
    extension = b"\x22\x0e\x12\x0c/yamux/1.0.0"
    assert check_payload(make_payload(ANN, static) + extension, static, None) == ANN.peer_id


def test_a_certificate_that_proves_nothing_is_refused() -> None:
    good, _ = make_certificate(ANN)
    assert check_certificate(good) == ANN.peer_id
    with pytest.raises(PeerIdentityError, match="expected"):
        check_certificate(good, BOB.peer_id)
    extension = good.extensions[0].value.public_bytes()
    wrong_ones = [b"", extension[:-1], extension + b"x", b"\x30\x80" + extension[2:], b"0" * 9000, b"\x30\x00"]
    for wrong in (*wrong_ones, extension):
        with pytest.raises(PeerIdentityError):
            check_certificate(make_certificate(ANN, wrong)[0])


def certificate(
    *, days: tuple[int, int] = (-1, 1), extension: x509.ExtensionType | None = None, sign: bool = True
) -> x509.Certificate:
    """One as a peer might make it, otherwise than it should."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    first, last = (now + datetime.timedelta(days=number) for number in days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, first, last)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key if sign else other, hashes.SHA256())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (certificate(days=(-2, -1)), "expired"),
        (certificate(days=(1, 2)), "not valid yet"),
        (certificate(sign=False), "did not sign itself"),
        (certificate(), "without libp2p's"),
        (certificate(extension=x509.BasicConstraints(ca=False, path_length=None)), "without libp2p's"),
    ],
)
def test_a_certificate_is_refused_and_said_why(bad: x509.Certificate, why: str) -> None:
    with pytest.raises(PeerIdentityError, match=why):
        check_certificate(bad)


@pytest.mark.parametrize(
    ("name", "garbage"),
    [
        ("tls", b"\x17\x03\x03\x00\x20" + bytes(32)),
        ("tls", b"\xff" * 70_000),
        ("noise", b"\x00\x20" + bytes(32)),
        ("noise", b"\xff" * 70_000),
        ("noise", b"\0\0"),
    ],
    ids=["tls record", "no tls record", "noise message", "large noise message", "no noise message"],
)
async def test_bytes_from_a_third_end_the_connection(memory: MemoryNetwork, name: str, garbage: bytes) -> None:
    async with pair(memory, KINDS[name]) as (caller, called, there, _):
        assert await caller.ping(there) >= 0
        there._link.transport.write(garbage)
        (reason,) = await called.left.count(1)
        assert isinstance(reason.exception, DecodeError)


@pytest.mark.parametrize("name", KINDS)
async def test_a_connection_that_is_cut_fails_its_streams(memory: MemoryNetwork, name: str) -> None:
    async with pair(memory, KINDS[name]) as (caller, called, there, here):
        stream = await caller.open_stream(there, ECHO)
        here._link.transport.abort()
        with pytest.raises(StreamResetError):
            await stream.read(1)
        await asyncio.gather(caller.left.count(1), called.left.count(1))


async def test_a_frame_that_is_none_over_tls(memory: MemoryNetwork) -> None:
    async with pair(memory, TlsHost) as (caller, called, there, _):
        await caller.send(there, Frame(PING, SYN, 0, 1))
        await caller.send(there, Frame(9, 0, 0, 0))
        (reason,) = await called.left.count(1)
        assert isinstance(reason.exception, MalformedFrameError)


async def open_channels(monkeypatch: pytest.MonkeyPatch) -> tuple[Channel, Channel, Forger, asyncio.StreamReader]:
    """Those of a dialler and of a listener, who forges what the dialler says, and what the dialler has not read."""
    log: list[str] = []
    made = tls_module._context

    def logging(*args: Any) -> Any:
        context = made(*args)
        context.set_keylog_callback(lambda _, line: log.append(line.decode()))
        return context

    monkeypatch.setattr(tls_module, "_context", logging)
    readers = asyncio.StreamReader(), asyncio.StreamReader()

    def secure(identity: Identity, number: int) -> Coroutine[Any, Any, Channel]:
        writer = cast(asyncio.StreamWriter, Pipe(readers[1 - number]))
        return tls_module.secure_with_tls(identity, readers[number], writer, initiator=not number)

    ann, bob = await asyncio.gather(secure(ANN, 0), secure(BOB, 1))
    return ann, bob, Forger("\n".join(log), "CLIENT_TRAFFIC_SECRET_0"), readers[0]


async def test_a_tls_peer_that_pads_its_records_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    _, bob, forger, _ = await open_channels(monkeypatch)
    decoder = bob.decoder(FrameDecoder())
    frame = Frame(PING, SYN, 0, 7)
    content = b"".join(FrameEncoder().encode([frame])) + bytes([TLS_DATA]) + bytes(1200)
    for _ in range(4 * tls_module.MOST_USELESS // len(content)):
        assert decoder.decode(memoryview(forger.record(0, content)))[0] == [frame]


@pytest.mark.parametrize("talks", [False, True], ids=["and says nothing", "and says something, too"])
async def test_a_tls_peer_that_goes_on_asking_for_new_keys_is_left(
    monkeypatch: pytest.MonkeyPatch, talks: bool
) -> None:
    """OpenSSL answers each time, whether this side has anything to say or not: the answers wait, and have a bound."""
    ann, bob, forger, unread = await open_channels(monkeypatch)
    decoder, encoder = bob.decoder(FrameDecoder()), bob.encoder(FrameEncoder())
    frame = Frame(PING, SYN, 0, 7)
    theirs = ann.decoder(FrameDecoder())
    unread.feed_eof()
    theirs.decode(memoryview(await unread.read()))  # tickets, if any
    for _ in range(2):
        for _ in range(100):
            assert decoder.decode(memoryview(forger.update(UPDATE_BOTH))) == ([], 27)
        assert theirs.decode(memoryview(b"".join(encoder.encode([frame]))))[0] == [frame]
    most = tls_module.MOST_ANSWERS if talks else tls_module.MOST_USELESS
    asked = 0
    with pytest.raises(ChannelError, match="new keys" if talks else "for nobody"):
        while asked < 2 * most:
            asked += decoder.decode(memoryview(forger.update(UPDATE_BOTH)))[1]
            if talks:
                decoder.decode(memoryview(forger.record(TLS_DATA, b"".join(FrameEncoder().encode([frame])))))
    assert asked > most // 2


@pytest.mark.parametrize("liar", ["dialler", "listener"])
async def test_a_tls_peer_that_lies_is_told_so(
    memory: MemoryNetwork, monkeypatch: pytest.MonkeyPatch, liar: str
) -> None:
    """Fact 7: a client whose certificate is refused learns that from its first read."""
    honest, of_another = make_certificate(BOB), make_certificate(ANN)[0].extensions[0].value.public_bytes()
    lie = make_certificate(ANN, of_another)
    monkeypatch.setattr(tls_module, "make_certificate", lambda identity: lie if identity is ANN else honest)
    first, second = (ANN, BOB) if liar == "dialler" else (BOB, ANN)
    async with TlsHost(CALLER, memory, first) as caller, TlsHost(OPEN, memory, second) as called:
        with pytest.raises(HandshakeError) as caught:
            await caller.connect(called.multiaddrs[0].addr)
    cause = caught.value.__cause__
    if liar == "dialler":
        assert isinstance(cause, ChannelError) and "alert" in str(cause)
    else:
        assert isinstance(cause, PeerIdentityError) and "signature" in str(cause)


# Floods and overruns


async def outcome(memory: MemoryNetwork, *frames: Frame) -> BaseException | None:
    """What ends the connection of an attacker who says this."""
    async with pair(memory, Attacker, NoiseHost) as (attacker, victim, there, _):
        assert isinstance(attacker, Attacker)
        with_all = asyncio.create_task(attacker.say(there, *frames))
        (reason,) = await victim.left.count(1)
        assert reason.origin is Origin.READING
        await asyncio.wait({with_all})
        with_all.exception()
        return reason.exception


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([Frame(WINDOW_UPDATE, SYN, 1, 0), Frame(DATA, 0, 1, INITIAL_WINDOW, bytes(INITIAL_WINDOW)),
          Frame(DATA, 0, 1, 1, b"x")], WindowExceededError),
        ([Frame(DATA, SYN, 1, INITIAL_WINDOW + 1, bytes(INITIAL_WINDOW + 1))], FrameTooLargeError),
        ([Frame(DATA, SYN, 1, 2**32 - 1)], FrameTooLargeError),
        ([Frame(DATA, 0, 7, 1, b"x")], UnknownStreamError),
        ([Frame(WINDOW_UPDATE, SYN, 2, 0)], MalformedFrameError),
        ([Frame(PING, SYN | ACK, 0, 0)], MalformedFrameError),
        ([Frame(9, 0, 0, 0)], MalformedFrameError),
        ([Frame(PING, SYN, 0, n) for n in range(4000)], TooManyStreamsError),
    ],
    ids=["overrun", "too large", "huge", "unknown stream", "our number", "flags", "type", "pings"],
)
async def test_what_breaks_yamux_ends_the_connection(
    memory: MemoryNetwork, frames: list[Frame], error: type[YamuxError]
) -> None:
    assert isinstance(await outcome(memory, *frames), error)


async def test_a_hundred_thousand_streams_are_not_opened(memory: MemoryNetwork) -> None:
    opens = [Frame(WINDOW_UPDATE, SYN, number, 0) for number in range(1, 200_001, 2)]
    tracemalloc.start()
    try:
        error = await outcome(memory, *opens)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, TooManyStreamsError)
    # 256 streams with a task each, and what the attacker itself holds of its opens.
    assert peak < 24 * MIB


async def test_whoever_does_not_read_a_stream_holds_one_window_of_it(memory: MemoryNetwork) -> None:
    """An echo that nobody reads: the windows of both ways fill, then nothing moves, and the rest of the host does."""
    async with pair(memory) as (caller, called, there, here):
        stream = await caller.open_stream(there, ECHO)
        sent = 0
        for _ in range(64):
            stream.write(bytes(64 * 1024))
            sent += 64 * 1024
            await caller.ping(there)
        (theirs,) = [one for one in called.connection(here).streams if one.id == stream.id]
        assert stream.unread <= INITIAL_WINDOW
        assert theirs.unread + theirs._state.queued <= 2 * MIB
        assert stream._state.queued > sent - 4 * MIB
        stream.reset()
        assert await caller.ping(there) >= 0


async def test_a_host_survives_a_crowd_of_strangers(memory: MemoryNetwork) -> None:
    """Those that say nothing are let go after handshake_timeout; others get in meanwhile."""
    config = Config(listen=LOOPBACK, max_connections_per_ip=100, max_connecting=100)
    async with NoiseHost(config, memory) as called, NoiseHost(CALLER, memory) as caller:
        addr = cast(Addr, called.listening_addr)
        ends = [StreamEndpoint() for _ in range(50)]
        for end in ends:
            await memory.dial(addr, end)
        peer = await caller.dial(called.multiaddrs[0])
        assert await caller.ping(peer) >= 0
        await asyncio.sleep(called.handshake_timeout + 1)
        assert called.heuristics.handshake_timeouts == 50 and called.num_connecting == 0
        for end in ends:
            await end.aclose()


