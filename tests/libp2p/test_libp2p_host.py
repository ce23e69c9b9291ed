"""Hosts that talk to each other, on every network and over both secure channels."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from pea2pea import HandshakeError, MemoryNetwork, NotConnectedError, Origin, Peer, Settings
from pea2pea.errors import SelfConnectError, UsageError
from pea2pea.libp2p import (
    GoneAwayError,
    Identity,
    KeepaliveError,
    MalformedAddressError,
    PeerIdentityError,
    Stream,
    StreamClosedError,
    StreamError,
    StreamLimitError,
    StreamResetError,
    UnsupportedProtocolError,
    YamuxLimits,
)
from pea2pea.libp2p import host as host_module
from pea2pea.libp2p.channel import Reader, Writer, negotiate
from pea2pea.libp2p.frames import GO_AWAY, INITIAL_WINDOW, Frame
from pea2pea.libp2p.identify import Identified
from pea2pea.libp2p.multistream import Negotiation
from pea2pea.network import Network
from support import Recorder, turns
from support.libp2p import ANN, BOB, ECHO, KINDS, MIB, Attacker, NoiseHost, TlsHost, WitnessHost, echoed, pair
from support.node import CALLER, OPEN


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[WitnessHost]:
    return KINDS[request.param]


# In both directions


async def test_ping_and_identify_both_ways(net: Network, kind: type[WitnessHost]) -> None:
    async with pair(net, kind) as (caller, called, there, here):
        for host, peer, other in ((caller, there, called), (called, here, caller)):
            assert await host.ping(peer) >= 0
            found = await host.identify(peer)
            assert found.public_key == other.identity.public_key
            assert set(found.protocols) == {"/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", ECHO}
            assert found.agent_version == "pea2pea" and found.protocol_version == "ipfs/0.1.0"
            assert [address.with_peer(other.peer_id) for address in found.listen_addrs] == other.multiaddrs
            assert host.remote_id(peer) == other.peer_id == host.connection(peer).remote_id
        assert caller.connection(there).channel.name == kind.security[0]
        assert (await caller.identify(there)).observed_addr is not None


@pytest.mark.parametrize("net_kind", ["tcp", "tcp-uvloop"])
async def test_small_frames_are_sent_at_once(net: Network) -> None:
    """Nagle's algorithm would add up to 40 ms to a ping, if the other side delays its acknowledgements."""
    async with pair(net) as (_, __, there, here):
        for peer in (there, here):
            sock = peer.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_an_unknown_protocol_is_refused_and_the_connection_stays(net: Network, kind: type[WitnessHost]) -> None:
    async with pair(net, kind) as (caller, called, there, here):
        for host, peer in ((caller, there), (called, here)):
            with pytest.raises(UnsupportedProtocolError):
                await host.open_stream(peer, "/unknown/1", "/unknown/2")
            stream = await host.open_stream(peer, "/unknown/1", ECHO)
            assert stream.protocol == ECHO
            stream.reset()
        called.unhandle(ECHO)
        assert ECHO not in called.protocols
        with pytest.raises(UnsupportedProtocolError):
            await caller.open_stream(there, ECHO)


async def test_several_streams_at_once_carry_their_own_data(net: Network, kind: type[WitnessHost]) -> None:
    async with pair(net, kind) as (caller, called, there, here):
        done = await asyncio.gather(
            *(echoed(caller, there, size) for size in (1, 70_000, MIB, 3 * MIB + 1)),
            *(echoed(called, here, size) for size in (0, 2 * MIB)),
        )
        assert all(done)
        assert await caller.ping(there) >= 0


async def test_both_secure_channels_are_proposed_and_the_first_common_one_is_used(memory: MemoryNetwork) -> None:
    async with WitnessHost(CALLER, memory) as caller, TlsHost(OPEN, memory) as tls, NoiseHost(OPEN, memory) as noise:
        for called in (tls, noise):
            peer = await caller.dial(called.multiaddrs[0])
            assert caller.connection(peer).channel.name == called.security[0]
    async with NoiseHost(CALLER, memory) as caller, TlsHost(OPEN, memory) as called:
        with pytest.raises(HandshakeError) as caught:
            await caller.dial(called.multiaddrs[0])
        assert isinstance(caught.value.__cause__, UnsupportedProtocolError)


# Identities


async def test_a_peer_with_another_id_than_expected_is_refused(net: Network, kind: type[WitnessHost]) -> None:
    async with kind(CALLER, net, ANN) as caller, kind(OPEN, net, BOB) as called:
        wrong = called.multiaddrs[0].with_peer(Identity.generate().peer_id)
        with pytest.raises(HandshakeError) as caught:
            await caller.dial(wrong)
        assert isinstance(caught.value.__cause__, PeerIdentityError)
        assert not caller.peers
        # Without a peer id, or with the right one, it is accepted.
        plain = await caller.dial(str(called.multiaddrs[0]).partition("/p2p")[0])
        assert await caller.dial(called.multiaddrs[0]) is plain


async def test_identify_with_another_key_than_the_proven_one_is_refused(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, _):

        async def lie(stream: Stream) -> None:
            data = Identified(public_key=Identity.generate().public_key).to_bytes()
            stream.write(bytes((len(data),)) + data)

        called.handle("/ipfs/id/1.0.0", lie)
        with pytest.raises(PeerIdentityError):
            await caller.identify(there)


async def test_an_address_without_tcp_is_not_dialled(memory: MemoryNetwork) -> None:
    async with NoiseHost(CALLER, memory) as host:
        assert host.multiaddrs == []
        with pytest.raises(MalformedAddressError):
            await host.dial("/ip4/127.0.0.1/udp/1")


# Streams


async def served(caller: WitnessHost, called: WitnessHost, there: Peer) -> tuple[Stream, Stream, asyncio.Event]:
    """Open a stream; return both ends, and the event that ends its handler."""
    met: Recorder[Stream] = Recorder()
    done = asyncio.Event()

    async def handler(stream: Stream) -> None:
        met.add(stream)
        await done.wait()

    called.handle("/test/1", handler)
    ours = await caller.open_stream(there, "/test/1")
    (theirs,) = await met.count(1)
    return ours, theirs, done


async def test_reading_and_writing_as_in_asyncio(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, here):
        ours, theirs, done = await served(caller, called, there)
        assert (ours.id, ours.inbound, theirs.inbound) == (theirs.id, False, True)
        assert theirs.peer is here and theirs.remote_id == caller.peer_id and "open" in repr(ours)
        ours.write(b"one")
        ours.write(bytearray(b"two"))
        assert await theirs.read(2) == b"on"
        assert await theirs.readexactly(3) == b"etw"
        assert await theirs.read(0) == b""
        reading = asyncio.create_task(theirs.readexactly(5))
        await turns()
        with pytest.raises(RuntimeError, match="another task"):
            await theirs.readexactly(5)
        ours.write(memoryview(b"12"))
        ours.write_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reading
        assert caught.value.partial == b"o12"
        assert theirs.at_eof() and await theirs.read(10) == b"" == await theirs.read()
        with pytest.raises(StreamClosedError):
            ours.write(b"more")
        theirs.write(b"answer")
        done.set()  # the handler returns, and closes
        assert await ours.read() == b"answer"
        assert ours.at_eof() and not caller.connection(there).streams and not called.connection(here).streams
        assert "closed" in repr(ours)


@pytest.mark.parametrize("side", [0, 1])
async def test_a_reset_fails_readers_and_writers(memory: MemoryNetwork, side: int) -> None:
    async with pair(memory) as (caller, called, there, _):
        ours, theirs, done = await served(caller, called, there)
        ends = (ours, theirs) if side else (theirs, ours)
        reading = asyncio.create_task(ends[0].read(1))
        await turns()
        ends[1].reset()
        with pytest.raises(StreamResetError):
            await reading
        for attempt in (lambda: ends[0].read(1), ends[0].drain):
            with pytest.raises(StreamResetError):
                await attempt()
        with pytest.raises(StreamResetError):
            ends[0].write(b"x")
        with pytest.raises(StreamClosedError):
            await ends[1].read(1)
        done.set()
        assert await caller.ping(there) >= 0


async def test_an_exception_in_the_context_resets_the_stream(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, _):
        ours, theirs, done = await served(caller, called, there)
        with pytest.raises(ZeroDivisionError):
            async with ours:
                raise ZeroDivisionError
        with pytest.raises(StreamResetError):
            await theirs.read(1)
        done.set()


async def test_data_after_closing_is_discarded_and_then_refused(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, _):
        ours, theirs, _ = await served(caller, called, there)
        ours.write(b"never read")
        await caller.ping(there)
        theirs.close()
        with pytest.raises(StreamClosedError):
            await theirs.read(1)
        assert await ours.read() == b""
        ours.write(b"and this is too much")
        with pytest.raises(StreamResetError):
            while True:
                ours.write(b"x")
                await caller.ping(there)


@pytest.mark.expects_errors
@pytest.mark.parametrize("mistake", [ZeroDivisionError, FileNotFoundError, TimeoutError])
async def test_a_handler_that_raises_resets_only_its_stream_and_is_logged_as_an_error(
    memory: MemoryNetwork, caplog: pytest.LogCaptureFixture, mistake: type[Exception]
) -> None:
    async with pair(memory) as (caller, called, there, here):

        async def broken(stream: Stream) -> None:
            raise mistake

        called.handle("/broken/1", broken)
        with pytest.raises(StreamResetError):
            await (await caller.open_stream(there, "/broken/1")).read(1)
        assert await caller.ping(there) >= 0
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.name == "pea2pea.libp2p" and record.exc_info is not None
    assert record.getMessage() == f"[{called.name}] {here.addr}: the handler of /broken/1 raised"
    fields = vars(record)
    assert (fields["node"], fields["peer"], fields["address"]) == (called.name, here.id, str(here.addr))


async def test_a_handler_that_a_peer_makes_fail_is_not_logged_as_an_error(
    memory: MemoryNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    async with pair(memory) as (caller, called, there, _):

        async def reads_more(stream: Stream) -> None:
            await stream.readexactly(10)

        called.handle("/more/1", reads_more)
        async with await caller.open_stream(there, "/more/1") as stream:
            stream.write(b"less")
        await caller.ping(there)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_handler_that_is_removed_during_the_negotiation_resets_the_stream(
    memory: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(memory) as (caller, called, there, _):

        async def negotiate_and_remove(negotiation: Negotiation, reader: Reader, writer: Writer) -> str:
            protocol = await negotiate(negotiation, reader, writer)
            called.unhandle(ECHO)
            return protocol

        monkeypatch.setattr(host_module, "negotiate", negotiate_and_remove)
        with pytest.raises(StreamResetError):
            await caller.open_stream(there, ECHO)


async def test_a_stream_without_a_proposal_is_reset_after_a_timeout(memory: MemoryNetwork) -> None:
    class ShortTimeout(NoiseHost):
        negotiation_timeout = 1.0

    async with pair(memory, ShortTimeout) as (caller, _, there, __):
        stream = caller.connection(there).open()
        with pytest.raises(StreamResetError):
            await stream.read(1)


async def test_a_proposal_without_an_answer_times_out(memory: MemoryNetwork) -> None:
    class ShortTimeout(NoiseHost):
        negotiation_timeout = 1.0

    async with pair(memory, ShortTimeout, Attacker) as (caller, _, there, __):
        with pytest.raises(TimeoutError):
            await caller.open_stream(there, ECHO)
        assert not caller.connection(there).streams


async def test_a_slow_reader_delays_only_its_own_stream_and_memory_is_bounded(net: Network) -> None:
    async with pair(net) as (caller, called, there, _):
        ours, theirs, done = await served(caller, called, there)
        part = bytes(MIB)

        async def write() -> None:
            for _ in range(8):
                ours.write(part)
                await ours.drain()
            ours.close_write()

        writing = asyncio.create_task(write())
        assert await echoed(caller, there, 4 * MIB)
        assert INITIAL_WINDOW - 100 < theirs.unread <= INITIAL_WINDOW and not writing.done()
        assert len(await theirs.read()) == 8 * MIB
        await writing
        done.set()


async def test_limits_on_streams(memory: MemoryNetwork) -> None:
    class Few(NoiseHost):
        limits = YamuxLimits(max_inbound=2, max_outbound=3)

    async with pair(memory, Few) as (caller, _, there, __):
        streams = [await caller.open_stream(there, ECHO) for _ in range(2)]
        with pytest.raises(StreamError):
            await caller.open_stream(there, ECHO)
        streams.append(caller.connection(there).open())
        with pytest.raises(StreamLimitError):
            await caller.open_stream(there, ECHO)
        for stream in streams:
            stream.reset()
        assert await caller.ping(there) >= 0


async def test_a_stream_needs_a_protocol_and_a_peer(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, _, there, __):
        with pytest.raises(UsageError):
            await caller.open_stream(there)
        assert await caller.disconnect(there)
        with pytest.raises(NotConnectedError):
            await caller.open_stream(there, ECHO)
        with pytest.raises(StreamResetError):
            caller.connection(there).open()


# The end of a connection


async def test_the_end_of_a_connection_ends_its_streams(net: Network, kind: type[WitnessHost]) -> None:
    async with pair(net, kind) as (caller, called, there, here):
        ours, theirs, _ = await served(caller, called, there)
        reading = [asyncio.create_task(end.read(1)) for end in (ours, theirs)]
        await turns()
        await caller.disconnect(there)
        for task in reading:
            with pytest.raises(StreamError):
                await task
        (reason,) = await called.left.count(1)
        assert (reason.origin, reason.exception) == (Origin.READING, None)
        # GoAway was received, with the code for an orderly end.
        assert called.connection(here).yamux.went_away == 0


async def test_data_written_before_a_disconnect_arrives(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, _):
        ours, theirs, _done = await served(caller, called, there)
        reading = asyncio.create_task(theirs.read())
        ours.write(bytes(100_000))
        ours.close_write()
        await caller.disconnect(there)
        assert len(await reading) == 100_000


async def test_no_data_is_sent_after_frames_were_lost(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, _):
        ours, _theirs, done = await served(caller, called, there)
        connection = caller.connection(there)

        async def stuck(*frames: Frame) -> None:
            await asyncio.Event().wait()

        ours.write(b"lost")
        sending = asyncio.create_task(connection.send_frames(connection.yamux.take(100), stuck, stuck))
        await turns()
        sending.cancel()
        await asyncio.wait({sending})
        ours.write(b"behind")
        assert [frame.kind for frame in connection.farewell(0)] == [GO_AWAY]
        done.set()


async def test_after_go_away_no_stream_is_opened(memory: MemoryNetwork) -> None:
    async with pair(memory, NoiseHost, Attacker) as (caller, called, there, here):
        assert isinstance(called, Attacker)
        await called.send_frames(here, Frame(GO_AWAY, 0, 0, 0))
        await turns()
        with pytest.raises(GoneAwayError):
            await caller.open_stream(there, ECHO)


async def test_a_handler_may_disconnect_its_peer(memory: MemoryNetwork) -> None:
    async with pair(memory) as (caller, called, there, _):

        async def leave(stream: Stream) -> None:
            await called.disconnect(stream.peer)

        called.handle("/leave/1", leave)
        await caller.open_stream(there, "/leave/1")
        await caller.left.count(1)
        assert called.left.items[0].origin is Origin.USER


async def test_a_silent_peer_is_pinged_and_then_disconnected(memory: MemoryNetwork) -> None:
    """Hosts that answer each other stay connected; one that does not answer is disconnected (on a virtual clock)."""

    class Brief(NoiseHost):
        keepalive = (10.0, 5.0)

    async with pair(memory, Brief) as (caller, called, _, __):
        await asyncio.sleep(3600)
        assert caller.peers and called.peers and not caller.left.items
    async with pair(memory, Brief, Attacker) as (caller, called, _, __):
        begin = asyncio.get_running_loop().time()
        (reason,) = await caller.left.count(1)
        assert isinstance(reason.exception, KeepaliveError)
        assert asyncio.get_running_loop().time() - begin == pytest.approx(15, abs=0.1)


# One connection per peer


class Single(NoiseHost):
    one_per_peer = True


async def test_simultaneous_dials_leave_one_connection(net: Network) -> None:
    async with Single(OPEN, net, ANN) as ann, Single(OPEN, net, BOB) as bob:
        await asyncio.gather(ann.dial(bob.multiaddrs[0]), bob.dial(ann.multiaddrs[0]))
        await asyncio.gather(ann.left.count(1), bob.left.count(1))
        assert len(ann.connections_of(bob.own_identity)) == 1 == len(bob.connections_of(ann.own_identity))
        peer = ann.peer_of(bob.own_identity)
        assert peer is not None and await ann.ping(peer) >= 0


async def test_a_host_disconnects_itself(memory: MemoryNetwork) -> None:
    async with Single(OPEN, memory, ANN) as host, Single(Settings(listen="127.0.0.1:0"), memory, ANN) as twin:
        await host.connect(twin.multiaddrs[0].addr)
        (mine,), (twins,) = await host.left.count(1), await twin.left.count(1)
        assert any(isinstance(reason.exception, SelfConnectError) for reason in (mine, twins))
