"""What every network promises, on each of them: a suite to run a new network against.

It speaks through the interfaces of :mod:`pea2pea.network` and asyncio's transports alone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.addr import Addr
from pea2pea.errors import UsageError
from pea2pea.network import Listener, Network
from pea2pea.tcp import TcpNetwork
from support import (
    LOOPBACK,
    AnyEndpoint,
    BufferedEndpoint,
    Endpoint,
    Recorder,
    StreamEndpoint,
    accept,
    connected,
    listening,
    turns,
)

#: More than the kernel buffers of both ends take together (Linux: 4 MiB out, 6 MiB in).
MUCH = bytes(range(256)) * 64 * 1024

EndpointType = type[StreamEndpoint] | type[BufferedEndpoint]


@pytest.fixture(params=[StreamEndpoint, BufferedEndpoint])
def endpoint(request: pytest.FixtureRequest) -> EndpointType:
    made: EndpointType = request.param
    return made


@pytest.fixture(params=["dialler", "acceptor"])
def swap(request: pytest.FixtureRequest) -> Callable[[tuple[AnyEndpoint, AnyEndpoint]], tuple[AnyEndpoint, ...]]:
    """Orders a pair so that the end which acts comes first: the dialling one, then the accepting one."""
    return tuple if request.param == "dialler" else lambda pair: pair[::-1]


def os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


# Bytes


@given(writes=st.lists(st.binary(max_size=20_000), max_size=12), joined=st.booleans())
async def test_bytes_arrive_in_order_however_they_were_written(
    net: Network, endpoint: EndpointType, writes: list[bytes], joined: bool
) -> None:
    async with connected(net, endpoint(), endpoint()) as ends:
        for writer, reader in (ends, ends[::-1]):
            if joined:
                writer.transport.writelines(writes)
            for data in () if joined else writes:
                writer.transport.write(data)
            expected = b"".join(writes)
            assert await reader.until_data(len(expected)) == expected


async def test_a_buffer_may_be_reused_once_write_returned(net: Network) -> None:
    async with connected(net) as (left, right):
        right.transport.pause_reading()
        left.transport.write(MUCH)
        buffer = bytearray(b"first")
        left.transport.write(bytes(buffer))
        buffer[:] = b"other"
        right.transport.resume_reading()
        assert (await right.until_data(len(MUCH) + 5))[-5:] == b"first"


async def test_any_bytes_like_object_can_be_written(net: Network) -> None:
    async with connected(net) as (left, right):
        for data in (b"a", bytearray(b"b"), memoryview(b"cd")[:1]):
            left.transport.write(data)
        assert await right.until_data(3) == b"abc"


async def test_both_ways_at_once(net: Network, endpoint: EndpointType) -> None:
    async with connected(net, endpoint(), endpoint()) as (left, right):
        left.transport.write(MUCH[:1_000_000])
        right.transport.write(MUCH[:999_999])
        assert await right.until_data(1_000_000) == MUCH[:1_000_000]
        assert await left.until_data(999_999) == MUCH[:999_999]


async def test_protocols_are_not_called_from_inside_write(net: Network) -> None:
    async with connected(net) as (left, right):
        left.transport.write(b"x")
        assert right.data == b""
        await right.until_data(1)


async def test_connection_made_comes_first_and_may_write(net: Network, endpoint: EndpointType) -> None:
    def greet(transport: asyncio.Transport) -> None:
        transport.write(b"hello")

    async with connected(net, endpoint(on_made=greet), endpoint(on_made=greet)) as ends:
        for end in ends:
            assert await end.until_data(5) == b"hello"
            assert end.events.items[0] == "made"


async def test_another_protocol_can_take_over_in_the_middle(net: Network) -> None:
    async with connected(net) as (left, right):
        left.transport.write(b"before")
        await right.until_data(6)
        later = BufferedEndpoint()
        right.transport.set_protocol(later)
        assert right.transport.get_protocol() is later
        left.transport.write(b"after")
        assert await later.until_data(5) == b"after"
        assert right.data == b"before"
        right.transport.set_protocol(right)


async def test_the_names_of_the_two_ends_mirror_each_other(net: Network) -> None:
    async with connected(net) as (left, right):
        names = [left.transport.get_extra_info(name) for name in ("sockname", "peername")]
        assert names == [right.transport.get_extra_info(name) for name in ("peername", "sockname")]
        assert names[0] != names[1]
        assert left.transport.get_extra_info("no such thing", "default") == "default"


# Flow control


async def test_a_full_connection_pauses_the_writer_until_the_reader_reads(net: Network) -> None:
    async with connected(net) as (left, right):
        right.transport.pause_reading()
        left.transport.write(MUCH)
        await left.events.has("pause")
        await turns()
        assert "resume" not in left.events.items
        assert left.transport.get_write_buffer_size() > 0
        right.transport.resume_reading()
        await left.events.has("resume")
        assert await right.until_data(len(MUCH)) == MUCH
        assert left.transport.get_write_buffer_size() == 0


async def test_with_a_high_mark_of_0_the_writer_is_resumed_when_all_is_accepted(net: Network) -> None:
    left_behind: list[int] = []

    class Writer(StreamEndpoint):
        def resume_writing(self) -> None:
            left_behind.append(self.transport.get_write_buffer_size())
            super().resume_writing()

    writer = Writer(on_made=lambda transport: transport.set_write_buffer_limits(high=0))
    async with connected(net, writer) as (left, right):
        assert left.transport.get_write_buffer_limits() == (0, 0)
        left.transport.write(MUCH)
        await left.events.has("resume")
        assert left_behind == [0]
        await right.until_data(len(MUCH))


async def test_a_paused_reader_is_given_nothing_until_it_resumes(net: Network, endpoint: EndpointType) -> None:
    # Not from connection_made: uvloop starts to read after that whatever it did.
    async with connected(net, endpoint(), endpoint()) as (left, right):
        right.transport.pause_reading()
        assert not right.transport.is_reading()
        left.transport.write(b"x")
        left.transport.write_eof()
        # That this arrives shows that the loop has seen what was written before it.
        right.transport.write(b"y")
        await left.until_data(1)
        await turns()
        assert right.events.items == ["made"]
        right.transport.resume_reading()
        assert right.transport.is_reading()
        await right.events.has("eof")
        assert right.data == b"x"


async def test_pausing_while_data_is_handed_over_keeps_the_rest(net: Network) -> None:
    class Picky(BufferedEndpoint):
        def get_buffer(self, sizehint: int) -> memoryview:
            return memoryview(self.buffer)[:3]

        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async with connected(net, StreamEndpoint(), Picky()) as (left, right):
        left.transport.write(b"abcdefgh")
        for expected in (b"abc", b"abcdef", b"abcdefgh"):
            assert await right.until_data(len(expected)) == expected
            await turns()
            assert bytes(right.data) == expected
            right.transport.resume_reading()


# The end


async def test_half_close_leaves_the_other_direction_open(net: Network, swap: Any) -> None:
    async with connected(net, StreamEndpoint(keep_open=True), StreamEndpoint(keep_open=True)) as ends:
        first, second = swap(ends)
        assert first.transport.can_write_eof()
        first.transport.write(MUCH)
        first.transport.write_eof()
        await second.events.has("eof")
        assert second.data == MUCH
        with pytest.raises(RuntimeError, match="write_eof"):
            first.transport.write(b"x")
        second.transport.write(b"still here")
        assert await first.until_data(10) == b"still here"
        second.transport.write_eof()
        await first.events.has("eof")
        await turns()
        assert "lost" not in first.events.items + second.events.items


async def test_the_end_of_the_stream_closes_whoever_does_not_ask_to_stay_open(net: Network, swap: Any) -> None:
    async with connected(net) as ends:
        first, second = swap(ends)
        first.transport.write_eof()
        await second.events.has("lost")
        await first.events.has("lost")
        for end in ends:
            assert end.events.items == ["made", "eof", "lost"]
            assert end.error is None


async def test_close_delivers_what_was_written(net: Network, swap: Any) -> None:
    async with connected(net) as ends:
        first, second = swap(ends)
        first.transport.write(MUCH)
        first.transport.close()
        assert first.transport.is_closing()
        first.transport.close()
        await second.events.has("lost")
        assert second.data == MUCH
        assert second.events.items[-2:] == ["eof", "lost"]
        assert first.error is None
        assert first.events.items.count("lost") == 1


async def test_close_and_abort_tell_the_protocol_once_and_later(net: Network) -> None:
    async with connected(net) as (left, right):
        left.transport.abort()
        left.transport.abort()
        left.transport.close()
        assert left.transport.is_closing()
        assert "lost" not in left.events.items
        await left.events.has("lost")
        await right.events.has("lost")
        await turns()
        for end in (left, right):
            assert end.events.items.count("lost") == 1
        assert left.error is None


async def test_no_data_is_handed_over_after_close(net: Network) -> None:
    async with connected(net) as (left, right):
        left.transport.write(b"x")
        right.transport.close()
        await right.events.has("lost")
        assert right.data == b""


async def test_a_reset_reaches_the_other_side_as_an_error(net: Network, swap: Any) -> None:
    async with connected(net) as ends:
        first, second = swap(ends)
        first.transport.pause_reading()
        second.transport.write(MUCH)
        await second.events.has("pause")
        await turns()
        first.transport.abort()  # with bytes that were not read: a reset
        await second.events.has("lost")
        assert isinstance(second.error, ConnectionError)
        assert second.transport.is_closing()


async def test_writing_to_an_end_that_is_gone_ends_in_an_error_or_a_close(net: Network) -> None:
    async with connected(net, StreamEndpoint(keep_open=True)) as (left, right):
        right.transport.close()
        await left.events.has("eof")
        while "lost" not in left.events.items:
            left.transport.write(b"x")
            await turns(1)
        assert isinstance(left.error, ConnectionError)


async def test_an_exception_in_a_protocol_ends_its_connection_alone(net: Network, swap: Any) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

    class Fails(StreamEndpoint):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async with connected(net, Fails(), Fails()) as ends, connected(net) as (left, right):
        first, second = swap(ends)
        first.transport.write(b"x")
        await second.events.has("lost")
        await first.events.has("lost")
        assert isinstance(second.error, ZeroDivisionError)
        assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]
        left.transport.write(b"fine")
        assert await right.until_data(4) == b"fine"


# Listening, accepting


async def test_a_listener_tells_its_real_port(net: Network) -> None:
    async with listening(net) as listener, listening(net) as other:
        assert listener.addr.host == "127.0.0.1"
        assert listener.addr.port not in (0, other.addr.port)


async def test_accept_gives_none_where_nobody_waits(net: Network) -> None:
    async with listening(net) as listener:
        assert listener.accept() is None


async def test_incoming_tells_who_dialled(net: Network) -> None:
    async with listening(net) as listener:
        dialler = StreamEndpoint()
        await net.dial(listener.addr, dialler)
        assert dialler.events.items == ["made"]
        incoming = await accept(listener)
        assert incoming.addr == Addr(*dialler.transport.get_extra_info("sockname"))
        assert listener.addr == Addr(*dialler.transport.get_extra_info("peername"))
        incoming.reject()
        await dialler.events.has("lost")


async def test_ready_wakes_when_somebody_dials(net: Network) -> None:
    async with listening(net) as listener:
        waiting = asyncio.ensure_future(accept(listener))
        await turns()
        assert not waiting.done()
        dialler = StreamEndpoint()
        await net.dial(listener.addr, dialler)
        (await waiting).reject()
        await dialler.aclose()


async def test_ready_is_safe_to_cancel(net: Network) -> None:
    async with listening(net) as listener:
        for after in range(4):
            waiting = asyncio.ensure_future(listener.ready())
            await turns(after)
            dialler = StreamEndpoint()
            await net.dial(listener.addr, dialler)
            waiting.cancel()
            await asyncio.wait([waiting])
            (await accept(listener)).reject()
            await dialler.aclose()
        assert listener.accept() is None


async def test_the_dialler_is_connected_and_may_write_before_it_is_accepted(net: Network) -> None:
    async with listening(net) as listener:
        dialler, acceptor = StreamEndpoint(), StreamEndpoint()
        await net.dial(listener.addr, dialler)
        dialler.transport.write(b"early")
        dialler.transport.write_eof()
        await turns()
        await (await accept(listener)).open(acceptor)
        assert acceptor.events.items[0] == "made"
        await acceptor.events.has("lost")
        await dialler.events.has("lost")
        assert acceptor.data == b"early"


async def test_rejected_is_closed(net: Network) -> None:
    async with listening(net) as listener:
        dialler = StreamEndpoint()
        await net.dial(listener.addr, dialler)
        (await accept(listener)).reject()
        await dialler.events.has("lost")


async def test_open_cancelled_is_closed(net: Network) -> None:
    async with listening(net) as listener:
        dialler, acceptor = StreamEndpoint(), StreamEndpoint()
        await net.dial(listener.addr, dialler)
        opening = asyncio.ensure_future((await accept(listener)).open(acceptor))
        await turns(1)
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        await dialler.events.has("lost")
        assert "data" not in acceptor.events.items


async def test_many_diallers_at_once(net: Network) -> None:
    diallers, acceptors = ([StreamEndpoint() for _ in range(100)] for _ in range(2))
    async with listening(net, backlog=128) as listener:
        dialling = asyncio.gather(*(net.dial(listener.addr, dialler) for dialler in diallers))
        seen = set()
        for acceptor in acceptors:
            incoming = await accept(listener)
            seen.add(incoming.addr)
            await incoming.open(acceptor)
        await dialling
        assert listener.accept() is None
    assert seen == {Addr(*dialler.transport.get_extra_info("sockname")) for dialler in diallers}
    for number, dialler in enumerate(diallers):
        dialler.transport.write(number.to_bytes(1))
    assert {await acceptor.until_data(1) for acceptor in acceptors} == {bytes([number]) for number in range(100)}
    for end in diallers + acceptors:
        await end.aclose()


async def test_a_closed_listener_frees_its_address_and_leaves_connections_alone(net: Network) -> None:
    async with connected(net) as (left, right):  # its listener is closed by now
        addr = Addr(*right.transport.get_extra_info("sockname"))
        for _ in range(2):
            async with listening(net, addr) as listener:
                assert listener.addr == addr
                listener.close()
        left.transport.write(b"x")
        assert await right.until_data(1) == b"x"


async def test_closing_a_listener_resets_who_waits_there(net: Network) -> None:
    dialler = StreamEndpoint()
    async with listening(net) as listener:
        await net.dial(listener.addr, dialler)
    assert listener.accept() is None
    await dialler.events.has("lost")
    assert isinstance(dialler.error, ConnectionResetError)


async def test_an_address_in_use_is_refused(net: Network) -> None:
    async with listening(net) as listener:
        for reuse_port in (False, True):
            with pytest.raises(OSError) as caught:
                await net.listen(listener.addr, backlog=1, reuse_port=reuse_port)
            assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the platform shares no ports")
async def test_listeners_that_all_agree_share_a_port(net: Network) -> None:
    async with listening(net, reuse_port=True) as one, listening(net, one.addr, reuse_port=True) as two:
        assert one.addr == two.addr
        reached: set[Listener] = set()
        while len(reached) < 2:
            dialler = StreamEndpoint()
            await net.dial(one.addr, dialler)
            waits = [asyncio.ensure_future(listener.ready()) for listener in (one, two)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
            for listener in (one, two):
                if (incoming := listener.accept()) is not None:
                    reached.add(listener)
                    incoming.reject()
            await dialler.aclose()


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
async def test_a_wildcard_is_reached_through_loopback(net: Network, wildcard: str) -> None:
    async with listening(net, Addr(wildcard, 0)) as listener:
        dialler = StreamEndpoint()
        await net.dial(Addr("127.0.0.1", listener.addr.port), dialler)
        incoming = await accept(listener)
        assert incoming.addr.host == "127.0.0.1"
        incoming.reject()
        await dialler.aclose()


async def test_ipv6(net: Network) -> None:
    async with listening(net, Addr("::1", 0)) as listener:
        dialler = StreamEndpoint()
        await net.dial(listener.addr, dialler)
        incoming = await accept(listener)
        assert incoming.addr == Addr(*dialler.transport.get_extra_info("sockname")[:2])
        assert incoming.addr.host == "::1"
        incoming.reject()
        await dialler.aclose()


# Dialling


async def test_dialling_where_nobody_listens_is_refused(net: Network) -> None:
    async with listening(net) as listener:
        pass
    dialler = StreamEndpoint()
    with pytest.raises(ConnectionRefusedError):
        await net.dial(listener.addr, dialler)
    assert dialler.events.items == []


@pytest.mark.parametrize("after", range(6))
async def test_a_cancelled_dial_leaves_nothing_behind(net: Network, after: int) -> None:
    dialler = StreamEndpoint()
    async with listening(net) as listener:
        dialling = asyncio.ensure_future(net.dial(listener.addr, dialler))
        await turns(after)
        dialling.cancel()
        await asyncio.wait([dialling])
        if not dialling.cancelled():
            await dialler.aclose()
        # The next in the queue is this one, unless the cancelled one got there: then it has ended.
        later, acceptor = StreamEndpoint(), StreamEndpoint()
        await net.dial(listener.addr, later)
        while (incoming := await accept(listener)).addr != Addr(*later.transport.get_extra_info("sockname")):
            gone = StreamEndpoint()
            await incoming.open(gone)
            await gone.events.has("lost")
        await incoming.open(acceptor)
        await later.aclose()
        await acceptor.aclose()


async def test_dialling_from_a_socket_of_ones_own(net: Network, net_kind: str) -> None:
    dialler = StreamEndpoint()
    with socket.socket() as sock:
        sock.bind(LOOPBACK)
        name = Addr(*sock.getsockname())
        async with listening(net) as listener:
            if net_kind == "memory":
                with pytest.raises(UsageError, match="at"):
                    await net.dial(listener.addr, dialler, sock=sock)
                return
            await net.dial(listener.addr, dialler, sock=sock)
            incoming = await accept(listener)
            assert incoming.addr == name
            incoming.reject()
            await dialler.aclose()


async def test_resolve(net: Network) -> None:
    for addr in (Addr("127.0.0.1", 1), Addr("::1", 2)):
        assert list(await net.resolve(addr)) == [addr]
    found = await net.resolve(Addr("localhost", 3))
    assert found
    assert all(addr.ip is not None and addr.is_loopback and addr.port == 3 for addr in found)


async def test_a_host_that_can_be_no_name_is_an_os_error(net: Network) -> None:
    with pytest.raises(OSError):
        await net.resolve(Addr.of(("a" * 64, 1)))  # RFC 1035, 2.3.4: a label has at most 63 octets


# asyncio's streams: what a handshake is given


async def test_streams(net: Network) -> None:
    ends = []
    async with listening(net) as listener:
        for attach in (
            lambda protocol: net.dial(listener.addr, protocol),
            lambda protocol: _open_next(listener, protocol),
        ):
            ends.append(await _streams(attach))  # noqa: PERF401
    (reader, writer), (other_reader, other_writer) = ends
    writer.write(b"line\n" + MUCH)
    reading = asyncio.ensure_future(_line_and_rest(other_reader))
    await writer.drain()
    writer.write_eof()
    assert await reading == (b"line\n", MUCH)
    other_writer.write(b"answer")
    other_writer.close()
    await other_writer.wait_closed()
    assert await reader.read() == b"answer"
    writer.close()
    await writer.wait_closed()


async def _open_next(listener: Any, protocol: asyncio.BaseProtocol) -> None:
    await (await accept(listener)).open(protocol)


async def _line_and_rest(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    return await reader.readline(), await reader.read()


async def _streams(attach: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    made: Recorder[asyncio.BaseTransport] = Recorder()
    wrapped = protocol.connection_made

    def connection_made(transport: asyncio.BaseTransport) -> None:
        wrapped(transport)
        made.add(transport)

    protocol.connection_made = connection_made  # type: ignore[method-assign]
    await attach(protocol)
    transport = cast(asyncio.WriteTransport, made.items[0])
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())


# What only TCP has


@pytest.fixture
def failing_accept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[OSError], None]]:
    """Makes the system's ``accept`` fail."""

    def fail(error: OSError) -> None:
        def accept_and_fail(sock: socket.socket) -> tuple[socket.socket, Any]:
            raise error

        monkeypatch.setattr(socket.socket, "accept", accept_and_fail)

    yield fail


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_exhaustion_is_raised_by_accept(
    net: Network, net_kind: str, failing_accept: Callable[[OSError], None], code: int
) -> None:
    if net_kind == "memory":
        net.fail_accept(os_error(code))  # type: ignore[attr-defined]
    else:
        failing_accept(os_error(code))
    async with listening(net) as listener:
        with pytest.raises(OSError) as caught:
            listener.accept()
        assert caught.value.errno == code


@pytest.mark.loop("tcp")
async def test_one_that_aborted_while_it_waited_costs_nothing(failing_accept: Callable[[OSError], None]) -> None:
    failing_accept(os_error(errno.ECONNABORTED))
    async with listening(TcpNetwork()) as listener:
        assert listener.accept() is None


async def test_a_socket_of_ones_own_is_closed_when_the_dial_fails(net_kind: str, net: Network) -> None:
    async with listening(net) as listener:
        pass
    with socket.socket() as sock:
        sock.bind(LOOPBACK)
        if net_kind != "memory":
            with pytest.raises(ConnectionRefusedError):
                await net.dial(listener.addr, Endpoint(), sock=sock)  # type: ignore[arg-type]
            assert sock.fileno() == -1


async def test_small_messages_are_not_held_back(net: Network) -> None:
    """Without TCP_NODELAY the second of two small writes waits for the other side's delayed acknowledgement."""
    async with connected(net) as ends:
        for end in ends:
            sock = end.transport.get_extra_info("socket")
            assert sock is None or sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
