"""Hostile peers: truncated and altered handshakes, false proofs, floods. Each ends in a typed error, in bounded memory.

Fixtures fail each test that leaves a task or descriptor behind (see conftest).
"""

from __future__ import annotations

import asyncio
import datetime
import tracemalloc
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pea2pea import Addr, HandshakeError, MemoryNetwork, Origin, Pea2PeaError, Peer, Settings
from pea2pea.errors import DecodeError, FrameTooLargeError
from pea2pea.libp2p import Connection, Host, Identity, PeerIdentityError, StreamResetError, YamuxError
from pea2pea.libp2p import tls as tls_module
from pea2pea.libp2p.certificates import EXTENSION, make_certificate, make_extension
from pea2pea.libp2p.channel import Channel, SecureStream, negotiate
from pea2pea.libp2p.errors import (
    ChannelError,
    MalformedFrameError,
    TooManyStreamsError,
    UnknownStreamError,
    WindowExceededError,
)
from pea2pea.libp2p.frames import ACK, DATA, INITIAL_WINDOW, PING, SYN, WINDOW_UPDATE, Frame, FrameEncoder
from pea2pea.libp2p.host import SECURE, YAMUX
from pea2pea.libp2p.multistream import HEADER, Proposal, encode_message
from pea2pea.libp2p.noise import check_payload, make_payload
from pea2pea.libp2p.tls import TLS
from support import LOOPBACK, AnyEndpoint, Recorder, StreamEndpoint, accept, listening
from support.libp2p import (
    ANN,
    BOB,
    ECHO,
    KINDS,
    MIB,
    Alter,
    AlteringWriter,
    Attacker,
    NoiseHost,
    TlsHost,
    WitnessHost,
    flip_at,
    pair,
    truncate_at,
)
from support.node import CALLER, OPEN, transport_of

SLOW_TO_TEST = pytest.mark.timeout(120)


# Truncated and altered handshakes


@pytest.fixture
def quick_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates made in advance, which saves most of a handshake's time and makes all handshakes the same size."""
    made = {identity: certificate_of(identity) for identity in (ANN, BOB)}
    monkeypatch.setattr(tls_module, "make_certificate", lambda identity: made[identity])


def certificate_of(identity: Identity) -> tuple[x509.Certificate, ed25519.Ed25519PrivateKey]:
    """Make a certificate as ``make_certificate``, with a key whose signatures all have the same size."""
    key = ed25519.Ed25519PrivateKey.generate()
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    extension = x509.UnrecognizedExtension(EXTENSION, make_extension(identity, info))
    today = datetime.datetime.now(datetime.UTC)
    name, day = x509.Name([]), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today - day, today + day)
    return builder.add_extension(extension, critical=False).sign(key, None), key


def altering(kind: type[WitnessHost], alters: list[Alter], *, inbound: bool) -> type[WitnessHost]:
    """A host whose next handshake is altered by the last of ``alters``; it records how many bytes were written."""

    class Altering(kind):  # type: ignore[misc, valid-type]
        written = 0

        async def handshake(
            self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> Connection:
            if peer.inbound is not inbound:
                return cast(Connection, await super().handshake(peer, reader, writer))
            altered = AlteringWriter(writer, alters[-1])
            try:
                return cast(Connection, await super().handshake(peer, reader, cast(asyncio.StreamWriter, altered)))
            finally:
                type(self).written = max(type(self).written, altered.position)

    return Altering


async def shake(caller: Host, called: WitnessHost) -> Pea2PeaError | None:
    """Connect, and return the error on the dialling side, if that failed."""
    try:
        peer = await caller.connect(called.multiaddrs[0].addr)
    except HandshakeError as error:
        return error
    await caller.disconnect(peer)
    return None


async def size_of_handshake(memory: MemoryNetwork, kind: type[WitnessHost], *, inbound: bool) -> int:
    whole = altering(kind, [lambda writer, data, position: writer.write(data)], inbound=inbound)
    async with whole(CALLER, memory, ANN) as caller, whole(OPEN, memory, BOB) as called:
        assert await shake(caller, called) is None
    return int(whole.written)  # type: ignore[attr-defined]


SIDES = pytest.mark.parametrize("inbound", [False, True], ids=["dialler", "listener"])


@SLOW_TO_TEST
@pytest.mark.usefixtures("quick_certificates")
@SIDES
@pytest.mark.parametrize("name", KINDS)
async def test_a_handshake_truncated_anywhere_fails(memory: MemoryNetwork, name: str, inbound: bool) -> None:
    kind = KINDS[name]
    size = await size_of_handshake(memory, kind, inbound=inbound)
    alters: list[Alter] = []
    bad = altering(kind, alters, inbound=inbound)
    async with bad(CALLER, memory, ANN) as caller, bad(OPEN, memory, BOB) as called:
        for place in range(size):
            alters.append(truncate_at(place))
            error = await shake(caller, called)
            assert error is not None, place
            assert isinstance(error.__cause__, Pea2PeaError | ConnectionError), place
        alters.append(truncate_at(size))
        assert await shake(caller, called) is None
        assert caller.num_connecting == 0 and not caller.heuristics.handshake_timeouts
    assert called.num_connecting == called.num_connected == 0
    assert len(called.came.items) == len(called.left.items)


@SLOW_TO_TEST
@pytest.mark.usefixtures("quick_certificates")
@SIDES
@pytest.mark.parametrize("name", KINDS)
async def test_a_handshake_altered_anywhere_fails_or_has_no_effect(
    memory: MemoryNetwork, name: str, inbound: bool
) -> None:
    """A length that was enlarged makes the other side wait until its timeout, which a virtual clock skips.

    The version in the header of the first TLS record is not authenticated: RFC 8446, section 5.1, ignores it.
    """
    kind = KINDS[name]
    size = await size_of_handshake(memory, kind, inbound=inbound)
    alters: list[Alter] = []
    bad = altering(kind, alters, inbound=inbound)
    unharmed = set()
    async with bad(CALLER, memory, ANN) as caller, bad(OPEN, memory, BOB) as called:
        for place in range(size):
            alters.append(flip_at(place))
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


async def test_oversized_lengths_are_refused_before_any_payload_is_read(memory: MemoryNetwork) -> None:
    async with NoiseHost(OPEN, memory) as called:
        for hello in (b"\xff\xff\xff\xff", encode_message(HEADER) + b"\x81\x08", encode_message(HEADER) * 2):
            end = StreamEndpoint()
            await memory.dial(called.multiaddrs[0].addr, end)
            end.transport.write(hello)
            await end.events.when(lambda events: "lost" in events or "eof" in events)
            await end.aclose()
    assert called.num_connecting == 0


async def test_a_listener_with_an_oversized_message_is_refused(memory: MemoryNetwork) -> None:
    async with listening(memory) as listener, NoiseHost(CALLER, memory) as caller:
        dialling = asyncio.create_task(caller.connect(listener.addr))
        end: AnyEndpoint = StreamEndpoint()
        await (await accept(listener)).open(end)
        end.transport.write(encode_message(HEADER) + b"\xff\xff")
        with pytest.raises(HandshakeError, match="1024 bytes"):
            await dialling
        await end.aclose()


@pytest.mark.parametrize("cut", [None, 0, 5, 11], ids=["one message", "two", "split in the header", "split at the end"])
@pytest.mark.parametrize("name", KINDS)
async def test_a_frame_in_the_packet_of_the_last_proposal_is_answered_at_once(
    memory: MemoryNetwork, name: str, cut: int | None
) -> None:
    """A peer with one proposal may send frames before the answer, in the same encrypted message or the next."""
    (ping,) = FrameEncoder().encode([Frame(PING, SYN, 0, 7)])

    class Eager(KINDS[name]):  # type: ignore[misc, valid-type]
        async def _secure(
            self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> tuple[Channel, bytes]:
            secured = await negotiate(Proposal(self.security), reader, writer)
            channel = await SECURE[secured](self.identity, reader, writer, initiator=True)
            proposal = Proposal((YAMUX,))
            parts = [proposal.take() + ping] if cut is None else [proposal.take() + ping[:cut], bytes(ping[cut:])]
            writer.write(b"".join(channel.seal(part) for part in parts if part))
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


# False proofs of identity


def test_a_noise_payload_with_a_false_proof_is_refused() -> None:
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
    """Fact 6: js sends its muxers in field 4."""
    static = bytes(32)
    extension = b"\x22\x0e\x12\x0c/yamux/1.0.0"
    assert check_payload(make_payload(ANN, static) + extension, static, None) == ANN.peer_id


@pytest.mark.parametrize(
    ("name", "garbage"),
    [
        ("tls", b"\x17\x03\x03\x00\x20" + bytes(32)),
        ("tls", b"\xff" * 70_000),
        ("noise", b"\x00\x20" + bytes(32)),
        ("noise", b"\xff" * 70_000),
        ("noise", b"\0\0"),
    ],
    ids=["tls record", "not a tls record", "noise message", "large noise message", "too short noise message"],
)
async def test_injected_bytes_end_the_connection(memory: MemoryNetwork, name: str, garbage: bytes) -> None:
    async with pair(memory, KINDS[name]) as (caller, called, there, _):
        assert await caller.ping(there) >= 0
        transport_of(there).write(garbage)
        (reason,) = await called.left.count(1)
        assert isinstance(reason.exception, DecodeError)


@pytest.mark.parametrize("name", KINDS)
async def test_an_aborted_connection_fails_its_streams(memory: MemoryNetwork, name: str) -> None:
    async with pair(memory, KINDS[name]) as (caller, called, there, here):
        stream = await caller.open_stream(there, ECHO)
        transport_of(here).abort()
        with pytest.raises(StreamResetError):
            await stream.read(1)
        await asyncio.gather(caller.left.count(1), called.left.count(1))


async def test_a_malformed_frame_over_tls_ends_the_connection(memory: MemoryNetwork) -> None:
    async with pair(memory, TlsHost) as (caller, called, there, _):
        await caller.send(there, Frame(PING, SYN, 0, 1))
        await caller.send(there, Frame(9, 0, 0, 0))
        (reason,) = await called.left.count(1)
        assert isinstance(reason.exception, MalformedFrameError)


@pytest.mark.parametrize("liar", ["dialler", "listener"])
async def test_a_tls_peer_with_a_false_certificate_receives_an_alert(
    memory: MemoryNetwork, monkeypatch: pytest.MonkeyPatch, liar: str
) -> None:
    """Fact 7: a client whose certificate is refused gets the alert with its first read."""
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
    """Return the error that ends the connection of an attacker that sends ``frames``."""
    async with pair(memory, Attacker, NoiseHost) as (attacker, victim, there, _):
        assert isinstance(attacker, Attacker)
        sending = asyncio.create_task(attacker.send_frames(there, *frames))
        (reason,) = await victim.left.count(1)
        assert reason.origin is Origin.READING
        await asyncio.wait({sending})
        sending.exception()
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
    ids=["overrun", "too large", "huge", "unknown stream", "own number", "flags", "type", "pings"],
)
async def test_a_yamux_violation_ends_the_connection(
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
    # 256 streams with a task each, and the frames that the attacker holds.
    assert peak < 24 * MIB


async def test_an_unread_stream_holds_one_window_of_data(memory: MemoryNetwork) -> None:
    """An echo that is not read: the windows of both directions fill, then the stream stops and the rest goes on."""
    async with pair(memory) as (caller, called, there, here):
        stream = await caller.open_stream(there, ECHO)
        sent = 0
        for _ in range(64):
            stream.write(bytes(64 * 1024))
            sent += 64 * 1024
            await caller.ping(there)
        (theirs,) = [one for one in called.connection(here).streams if one.id == stream.id]
        assert stream.unread <= INITIAL_WINDOW
        assert theirs.unread + theirs.state.queued <= 2 * MIB
        assert stream.state.queued > sent - 4 * MIB
        stream.reset()
        assert await caller.ping(there) >= 0


async def test_silent_strangers_time_out_and_others_connect(memory: MemoryNetwork) -> None:
    """Connections that send nothing are closed after handshake_timeout; meanwhile other peers can connect."""
    config = Settings(listen=LOOPBACK, max_connections_per_ip=100, max_connecting=100)
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


