"""What the network in memory has of its own; what every network promises is in ``test_network``."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.addr import Addr
from pea2pea.memory import MemoryNetwork
from pea2pea.memory import network as room
from support import (
    LOOPBACK,
    AnyEndpoint,
    BufferedEndpoint,
    StreamEndpoint,
    accept,
    connected,
    listening,
    turns,
)

Reports = list[dict[str, Any]]


@pytest.fixture
def reports() -> Reports:
    return []


def collect(reports: Reports) -> None:
    """Have what the running loop's exception handler is told go to ``reports``."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))


async def meet(net: MemoryNetwork, addr: Addr, listener: Any) -> tuple[StreamEndpoint, Addr]:
    """Dial, be rejected; return the dialler and the address it was seen under."""
    dialler = StreamEndpoint()
    await net.dial(addr, dialler)
    incoming = await accept(listener)
    incoming.reject()
    await dialler.events.has("lost")
    return dialler, incoming.addr


# Capacity


@given(capacity=st.integers(1, 50), sizes=st.lists(st.integers(0, 200), min_size=1, max_size=8))
async def test_a_paused_reader_holds_up_all_beyond_the_capacity(capacity: int, sizes: list[int]) -> None:
    total = sum(sizes)
    data = bytes(number % 251 for number in range(total))
    async with connected(MemoryNetwork(capacity=capacity), StreamEndpoint(), BufferedEndpoint()) as (left, right):
        right.transport.pause_reading()
        written = 0
        for size in sizes:
            left.transport.write(data[written : written + size])
            written += size
        await turns()
        assert left.transport.get_write_buffer_size() == max(0, total - capacity)
        right.transport.resume_reading()
        assert await right.until_data(total) == data
        assert left.transport.get_write_buffer_size() == 0


async def test_writing_pauses_above_the_high_mark_and_resumes_at_the_low_one() -> None:
    async with connected(MemoryNetwork(capacity=10)) as (left, right):
        left.transport.set_write_buffer_limits(high=8, low=3)
        right.transport.pause_reading()
        left.transport.write(bytes(18))
        assert left.events.items == ["made"]
        left.transport.write(bytes(1))
        assert left.events.items == ["made", "pause"]
        left.transport.write(bytes(1))
        assert left.events.items == ["made", "pause"]
        right.transport.resume_reading()
        await right.until_data(10)
        await left.events.has("resume")
        await right.until_data(20)
        assert left.events.items == ["made", "pause", "resume"]


async def test_between_the_marks_writing_stays_paused() -> None:
    async with connected(MemoryNetwork(capacity=2), StreamEndpoint(), BufferedEndpoint()) as (left, right):
        left.transport.set_write_buffer_limits(high=5, low=1)
        right.transport.pause_reading()
        left.transport.write(bytes(8))
        seen = {}
        right.transport.resume_reading()
        while len(right.data) < 8:
            await right.until_data(len(right.data) + 1)
            seen[left.transport.get_write_buffer_size()] = "resume" in left.events.items
        assert seen[4] is False
        assert seen[0] is True


@pytest.mark.parametrize(
    ("given_marks", "low", "high"),
    [
        ({}, 16 * 1024, 64 * 1024),
        ({"high": 100}, 25, 100),
        ({"low": 100}, 100, 400),
        ({"high": 7, "low": 7}, 7, 7),
        ({"high": 0}, 0, 0),
    ],
)
async def test_marks_have_the_defaults_of_asyncio(
    memory: MemoryNetwork, given_marks: dict[str, int], low: int, high: int
) -> None:
    async with connected(memory) as (left, _):
        left.transport.set_write_buffer_limits(**given_marks)
        assert left.transport.get_write_buffer_limits() == (low, high)


@pytest.mark.parametrize("marks", [(1, 2), (0, -1), (-1, None)])
async def test_marks_that_cannot_be_are_refused(memory: MemoryNetwork, marks: tuple[int, int]) -> None:
    async with connected(memory) as (left, _):
        with pytest.raises(ValueError, match="high"):
            left.transport.set_write_buffer_limits(*marks)


async def test_a_mark_that_is_lowered_below_what_waits_pauses_at_once() -> None:
    async with connected(MemoryNetwork(capacity=1)) as (left, right):
        right.transport.pause_reading()
        left.transport.write(b"abc")
        left.transport.set_write_buffer_limits(high=1)
        assert left.events.items == ["made", "pause"]


# Mistakes of protocols


class Failing(StreamEndpoint):
    """Raises ``failure`` in the callback named ``where``."""

    def __init__(self, where: str, failure: BaseException) -> None:
        super().__init__()
        self.where = where
        self.failure = failure

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.failure

    def data_received(self, data: bytes) -> None:
        self.fail("data_received")

    def eof_received(self) -> bool:
        self.fail("eof_received")
        return super().eof_received()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.fail("pause_writing")

    def resume_writing(self) -> None:
        super().resume_writing()
        self.fail("resume_writing")


class FailingBuffer(BufferedEndpoint):
    """Has no room, or raises when told what came."""

    def __init__(self, where: str, failure: BaseException) -> None:
        super().__init__()
        self.where = where
        self.failure = failure

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.where == "empty":
            return memoryview(b"")
        if self.where == "get_buffer":
            raise self.failure
        return super().get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        raise self.failure


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (Failing, "data_received"),
        (Failing, "eof_received"),
        (FailingBuffer, "get_buffer"),
        (FailingBuffer, "buffer_updated"),
    ],
)
async def test_what_a_protocol_raises_is_reported_and_resets_the_connection(
    memory: MemoryNetwork, reports: Reports, make: Callable[[str, BaseException], AnyEndpoint], where: str
) -> None:
    collect(reports)
    failure = ZeroDivisionError()
    async with connected(memory, StreamEndpoint(keep_open=True), make(where, failure)) as (left, right):
        left.transport.write(b"" if where == "eof_received" else b"x")
        left.transport.write_eof()
        await left.events.has("lost")
        assert isinstance(left.error, ConnectionResetError)
        assert right.error is failure
        (report,) = reports
        assert (report["exception"], report["transport"], report["protocol"]) == (failure, right.transport, right)


async def test_an_empty_receive_buffer_is_a_mistake(memory: MemoryNetwork, reports: Reports) -> None:
    collect(reports)
    async with connected(memory, StreamEndpoint(), FailingBuffer("empty", ZeroDivisionError())) as (left, right):
        left.transport.write(b"x")
        await right.events.has("lost")
        assert "empty buffer" in str(right.error)
        assert len(reports) == 1


async def test_an_os_error_of_a_protocol_ends_its_connection_without_report(
    memory: MemoryNetwork, reports: Reports
) -> None:
    collect(reports)
    async with connected(memory, StreamEndpoint(), Failing("data_received", BrokenPipeError())) as (left, right):
        left.transport.write(b"x")
        await right.events.has("lost")
        assert isinstance(right.error, BrokenPipeError)
        assert reports == []


@pytest.mark.parametrize("where", ["pause_writing", "resume_writing"])
async def test_a_failing_flow_callback_is_reported_and_the_connection_lives(reports: Reports, where: str) -> None:
    collect(reports)
    async with connected(MemoryNetwork(capacity=1), Failing(where, ZeroDivisionError())) as (left, right):
        left.transport.set_write_buffer_limits(high=1)
        left.transport.write(b"abc")
        assert await right.until_data(3) == b"abc"
        assert left.events.items == ["made", "pause", "resume"]
        assert [report["message"] for report in reports] == [f"protocol.{where}() failed"]


@pytest.mark.parametrize("where", ["data_received", "pause_writing"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
def test_what_stops_the_program_passes_through(where: str, failure: type[BaseException]) -> None:
    loop = asyncio.new_event_loop()
    failing = Failing(where, failure())

    async def run() -> None:
        async with connected(MemoryNetwork(capacity=1), StreamEndpoint(), failing) as (left, right):
            left.transport.write(b"x")
            right.transport.set_write_buffer_limits(high=0)
            loop.call_soon(right.transport.write, b"abc")
            await right.events.has("lost")

    task = loop.create_task(run())
    with pytest.raises(failure):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.run_until_complete(turns())
    loop.close()


# Closing in odd moments


async def test_what_is_written_after_the_end_is_ignored_and_what_is_no_bytes_refused(memory: MemoryNetwork) -> None:
    async with connected(memory) as (left, right):
        left.transport.write(b"")
        with pytest.raises(TypeError, match="str"):
            left.transport.write(cast(bytes, "text"))
        left.transport.close()
        left.transport.write(b"ignored")
        left.transport.write_eof()
        await right.events.has("lost")
        assert right.data == b""


async def test_closing_while_something_waits_to_be_written_still_takes_more() -> None:
    async with connected(MemoryNetwork(capacity=4)) as (left, right):
        left.transport.write(b"first ")
        left.transport.close()
        left.transport.write(b"second")
        await right.events.has("lost")
        assert right.data == b"first second"
        assert left.error is None


async def test_an_end_asked_for_while_something_waits_comes_after_it() -> None:
    async with connected(MemoryNetwork(capacity=4), StreamEndpoint(keep_open=True)) as (left, right):
        right.keep_open = True
        left.transport.write(b"first second")
        left.transport.write_eof()
        left.transport.write_eof()
        await right.events.has("eof")
        assert right.data == b"first second"
        assert "lost" not in left.events.items


async def test_closing_from_resume_writing_tells_the_protocol_once() -> None:
    class Closes(StreamEndpoint):
        def resume_writing(self) -> None:
            self.transport.close()

    async with connected(MemoryNetwork(capacity=1), Closes()) as (left, right):
        left.transport.set_write_buffer_limits(high=0)
        left.transport.write(b"ab")
        await right.events.has("lost")
        await turns()
        assert left.events.items == ["made", "pause", "lost"]


async def test_writing_from_resume_writing_comes_after_the_rest() -> None:
    class Adds(StreamEndpoint):
        def resume_writing(self) -> None:
            super().resume_writing()
            if self.events.items.count("resume") == 1:
                self.transport.write(b"cd")

    async with connected(MemoryNetwork(capacity=1), Adds()) as (left, right):
        left.transport.set_write_buffer_limits(high=0)
        left.transport.write(b"ab")
        assert await right.until_data(4) == b"abcd"


async def test_aborting_drops_what_was_about_to_be_written_and_read() -> None:
    async with connected(MemoryNetwork(capacity=4)) as (left, right):
        right.transport.pause_reading()
        left.transport.write(b"first second")
        right.transport.resume_reading()  # reading is due now, and so will writing be
        await turns(1)
        left.transport.abort()
        assert left.transport.get_write_buffer_size() == 0
        await left.events.has("lost")
        assert left.error is None
        await right.events.has("lost")
        assert isinstance(right.error, ConnectionResetError)
        assert right.error.errno == errno.ECONNRESET


async def test_an_aborted_end_writes_no_more_although_that_was_due() -> None:
    async with connected(MemoryNetwork(capacity=4)) as (left, right):
        right.transport.pause_reading()
        left.transport.write(b"first second")
        right.transport.resume_reading()
        await right.until_data(1)  # this made room, so that writing is due
        left.transport.abort()
        await left.events.has("lost")
        await right.events.has("lost")
        assert right.data == b"firs"


async def test_pausing_when_reading_is_due_puts_it_off(memory: MemoryNetwork) -> None:
    async with connected(memory) as (left, right):
        left.transport.write(b"x")
        right.transport.pause_reading()
        await turns()
        assert right.data == b""
        right.transport.resume_reading()
        assert await right.until_data(1) == b"x"


async def test_a_paused_reader_learns_of_a_reset_when_it_resumes(memory: MemoryNetwork) -> None:
    async with connected(memory) as (left, right):
        right.transport.pause_reading()
        left.transport.abort()
        await turns()
        assert right.events.items == ["made"]
        right.transport.resume_reading()
        await right.events.has("lost")
        assert isinstance(right.error, ConnectionResetError)


@pytest.mark.parametrize("capacity", [1, 100])
async def test_a_paused_reader_learns_of_a_reset_when_it_writes(capacity: int) -> None:
    async with connected(MemoryNetwork(capacity=capacity)) as (left, right):
        right.transport.pause_reading()
        left.transport.pause_reading()
        if capacity == 1:
            right.transport.write(b"more than fits")  # so that it waits to write when the reset comes
        left.transport.abort()
        if capacity == 100:
            right.transport.write(b"x")
        await right.events.has("lost")
        assert isinstance(right.error, ConnectionResetError)


async def test_closing_with_bytes_unread_resets_the_other_end_after_what_it_was_sent(memory: MemoryNetwork) -> None:
    async with connected(memory) as (left, right):
        left.transport.pause_reading()
        right.transport.write(b"never read")
        left.transport.write(b"goodbye")
        left.transport.close()
        await right.events.has("lost")
        assert right.data == b"goodbye"
        assert isinstance(right.error, ConnectionResetError)
        assert left.error is None


async def test_a_last_word_is_read_although_the_answer_to_it_meets_nobody(memory: MemoryNetwork) -> None:
    async with connected(memory) as (left, right):
        right.transport.pause_reading()
        left.transport.write(b"goodbye")
        left.transport.close()
        await left.events.has("lost")
        right.transport.write(b"answer")
        right.transport.resume_reading()
        await right.events.has("lost")
        assert right.data == b"goodbye"
        assert isinstance(right.error, ConnectionResetError)


async def test_a_transport_tells_its_state(memory: MemoryNetwork) -> None:
    async with connected(memory) as (left, right):
        sockname, peername = (Addr(*left.transport.get_extra_info(name)) for name in ("sockname", "peername"))
        assert repr(left.transport) == f"<MemoryTransport {sockname} -> {peername} open, write buffer 0>"
        right.transport.pause_reading()
        left.transport.write(bytes(room.CAPACITY + 7))
        left.transport.close()
        assert repr(left.transport).endswith(" closing, write buffer 7>")
        left.transport.abort()
        await left.events.has("lost")
        assert repr(left.transport).endswith(" closed, write buffer 0>")
        right.transport.resume_reading()


async def test_a_connection_that_is_forgotten_open_warns(memory: MemoryNetwork) -> None:
    async with listening(memory) as listener:
        await memory.dial(listener.addr, asyncio.Protocol())
        await (await accept(listener)).open(asyncio.Protocol())
    with pytest.warns(ResourceWarning, match="unclosed transport <MemoryTransport .* open, write buffer 0>") as caught:
        gc.collect()
    assert len(caught) == 2


# Addresses


async def test_diallers_come_from_the_host_of_their_view(memory: MemoryNetwork) -> None:
    async with listening(memory) as listener:
        for host in ("10.1.2.3", "10.1.2.4", "2001:db8::1"):
            dialler, seen = await meet(memory.at(host), listener.addr, listener)
            assert seen.host == host
            assert dialler.transport.get_extra_info("sockname")[:2] == seen


async def test_every_dial_has_an_address_of_its_own(memory: MemoryNetwork) -> None:
    async with listening(memory) as listener:
        seen = [(await meet(memory, listener.addr, listener))[1] for _ in range(20)]
    assert len(set(seen)) == 20


async def test_ipv6_names_have_four_parts_as_those_of_sockets(memory: MemoryNetwork) -> None:
    async with listening(memory, Addr("::1", 0)) as listener:
        dialler, seen = await meet(memory, listener.addr, listener)
    assert dialler.transport.get_extra_info("sockname") == ("::1", seen.port, 0, 0)


async def test_a_wildcard_takes_what_its_own_machine_is_dialled_as(memory: MemoryNetwork) -> None:
    here, there = memory.at("10.1.2.3"), memory.at("10.9.9.9")
    async with listening(here, Addr("0.0.0.0", 4000)) as ours, listening(there, Addr("0.0.0.0", 4000)) as theirs:
        await meet(memory, Addr("10.1.2.3", 4000), ours)
        await meet(memory, Addr("10.9.9.9", 4000), theirs)
        for addr in (Addr("10.1.2.3", 4001), Addr("127.0.0.1", 4000), Addr("10.1.2.4", 4000)):
            with pytest.raises(ConnectionRefusedError):
                await memory.dial(addr, StreamEndpoint())
        await meet(here, Addr("0.0.0.0", 4000), ours)


@pytest.mark.parametrize(("first", "second"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("::", "::")])
async def test_a_wildcard_and_an_address_of_it_are_in_each_others_way(
    memory: MemoryNetwork, first: str, second: str
) -> None:
    async with listening(memory, Addr(first, 4000)):
        with pytest.raises(OSError) as caught:
            await memory.listen(Addr(second, 4000), backlog=1, reuse_port=False)
        assert caught.value.errno == errno.EADDRINUSE
        async with listening(memory, Addr(second, 4001)):
            assert memory.listening == [Addr(first, 4000), Addr(second, 4001)]
    assert memory.listening == []


async def test_free_ports_skip_what_is_bound_and_run_out(
    memory: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LAST_PORT", room.FIRST_PORT + 1)
    small = MemoryNetwork()
    async with listening(small, Addr("127.0.0.1", room.FIRST_PORT)), listening(small) as second:
        assert second.addr.port == room.FIRST_PORT + 1
        with pytest.raises(OSError) as caught:
            await small.listen(LOOPBACK, backlog=1, reuse_port=True)
        assert caught.value.errno == errno.EADDRINUSE


async def test_names(memory: MemoryNetwork) -> None:
    with pytest.raises(socket.gaierror):
        await memory.resolve(Addr("node.example", 1))
    memory.names["node.example"] = "10.0.0.1"
    assert await memory.at("10.1.2.3").resolve(Addr("node.example", 1)) == [Addr("10.0.0.1", 1)]
    memory.names["node.example"] = ["2001:db8::1", "10.0.0.1"]
    assert await memory.resolve(Addr("node.example", 1)) == [Addr("2001:db8::1", 1), Addr("10.0.0.1", 1)]


# The backlog


async def test_a_full_backlog_makes_diallers_wait_in_turn(memory: MemoryNetwork) -> None:
    async with listening(memory, backlog=2) as listener:
        diallers = [StreamEndpoint() for _ in range(4)]
        dialling = [asyncio.ensure_future(memory.dial(listener.addr, dialler)) for dialler in diallers]
        await turns()
        assert [task.done() for task in dialling] == [True, True, False, False]
        dialling[2].cancel()  # who gives up leaves its turn to the next
        (await accept(listener)).reject()
        await dialling[3]
        for dialler in (diallers[1], diallers[3]):
            incoming = await accept(listener)
            assert incoming.addr == Addr(*dialler.transport.get_extra_info("sockname"))
            incoming.reject()
        assert listener.accept() is None
        assert diallers[2].events.items == []


async def test_diallers_that_wait_are_refused_when_the_listener_closes(memory: MemoryNetwork) -> None:
    diallers = [StreamEndpoint() for _ in range(3)]
    async with listening(memory, backlog=1) as listener:
        dialling = [asyncio.ensure_future(memory.dial(listener.addr, dialler)) for dialler in diallers]
        await turns()
    results = await asyncio.gather(*dialling, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ConnectionRefusedError, ConnectionRefusedError]
    await diallers[0].events.has("lost")
    assert isinstance(diallers[0].error, ConnectionResetError)


async def test_who_aborted_while_it_waited_is_skipped(memory: MemoryNetwork) -> None:
    async with listening(memory) as listener:
        gone, later = StreamEndpoint(), StreamEndpoint()
        await memory.dial(listener.addr, gone)
        await memory.dial(listener.addr, later)
        await gone.aclose()
        incoming = await accept(listener)
        assert incoming.addr == Addr(*later.transport.get_extra_info("sockname"))
        assert listener.accept() is None
        incoming.reject()
        await later.events.has("lost")


async def test_injected_failures_of_accept(memory: MemoryNetwork) -> None:
    error = OSError(errno.EMFILE, "too many")
    async with listening(memory) as listener:
        dialler = StreamEndpoint()
        await memory.dial(listener.addr, dialler)
        memory.at("10.1.2.3").fail_accept(error, times=2)
        for _ in range(2):
            await listener.ready()
            with pytest.raises(OSError) as caught:
                listener.accept()
            assert caught.value is error
        (await accept(listener)).reject()
        await dialler.events.has("lost")
