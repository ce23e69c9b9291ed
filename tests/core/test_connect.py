"""connect(): names with several addresses, attempts that are shared, and entering it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pea2pea import (
    Addr,
    AlreadyConnectedError,
    Cause,
    ConnectError,
    DialError,
    LimitError,
    SelfConnectError,
    Settings,
)
from pea2pea.dialing import ATTEMPT_DELAY
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Network
from pea2pea.tcp import TcpNetwork, interleaved
from support import StreamEndpoint, listening, turns
from support.node import CALLER, OPEN, Polite, Witness, address, check_idle, echoed, settled, slots

NAME = "node.example"


def on(host: str) -> Settings:
    return Settings(listen=(host, 4000), max_connections_per_ip=100)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    "hosts", [["2001:db8::1", "10.0.0.1"], ["10.0.0.9", "10.0.0.1"], ["10.0.0.8", "10.0.0.9", "10.0.0.1"]]
)
async def test_a_name_is_tried_at_all_its_addresses(memory: MemoryNetwork, hosts: list[str]) -> None:
    memory.names[NAME] = hosts
    async with Witness(CALLER, memory) as caller, Witness(on("10.0.0.1"), memory.at("10.0.0.1")) as called:
        peer = await caller.connect((NAME, 4000))
        assert peer.addr == Addr("10.0.0.1", 4000)
        assert now() == 0.0, "an address that refuses is not waited for"
        await echoed(caller, called, peer, b"hello")
        assert slots(caller) == (1, 0)


async def full(memory: MemoryNetwork, addr: Addr) -> StreamEndpoint:
    """Fill the backlog of one at ``addr``: whoever dials then waits."""
    filler = StreamEndpoint()
    await memory.dial(addr, filler)
    return filler


async def test_an_address_that_does_not_answer_delays_the_next_a_quarter_of_a_second(memory: MemoryNetwork) -> None:
    memory.names[NAME] = ["10.0.0.9", "10.0.0.1"]
    stuck = Addr("10.0.0.9", 4000)
    async with (
        listening(memory.at("10.0.0.9"), stuck, backlog=1),
        Witness(CALLER, memory) as caller,
        Witness(on("10.0.0.1"), memory.at("10.0.0.1")),
    ):
        filler = await full(memory, stuck)
        peer = await caller.connect((NAME, 4000))
        assert (peer.addr.host, now()) == ("10.0.0.1", ATTEMPT_DELAY)
        assert slots(caller) == (1, 0), "the attempt that is no longer needed is gone"
        assert not caller.is_connecting(stuck)
        await filler.aclose()


async def test_all_of_them_have_one_connect_timeout(memory: MemoryNetwork) -> None:
    memory.names[NAME] = ["10.0.0.8", "10.0.0.9"]
    stuck = [Addr(host, 4000) for host in memory.names[NAME]]
    config = Settings(connect_timeout=3.0, max_connections_per_ip=100)
    async with (
        listening(memory.at("10.0.0.8"), stuck[0], backlog=1),
        listening(memory.at("10.0.0.9"), stuck[1], backlog=1),
        Witness(config, memory) as caller,
    ):
        fillers = [await full(memory, addr) for addr in stuck]
        with pytest.raises(DialError, match="connect_timeout"):
            await caller.connect((NAME, 4000))
        assert now() == 3.0
        check_idle(caller)
        for filler in fillers:
            await filler.aclose()


async def test_the_error_names_every_address(memory: MemoryNetwork) -> None:
    memory.names[NAME] = ["10.0.0.8", "10.0.0.9"]
    async with Witness(CALLER, memory) as caller:
        with pytest.raises(DialError, match=rf"{NAME}:4000.*10\.0\.0\.8:4000.*10\.0\.0\.9:4000") as error:
            await caller.connect((NAME, 4000))
        assert isinstance(error.value.__cause__, DialError)
        check_idle(caller)


async def test_a_limit_is_told_by_its_own_error_for_a_name_too(memory: MemoryNetwork) -> None:
    memory.names[NAME] = ["10.0.0.8", "10.0.0.9"]
    alone = Settings(max_connections=1)
    async with Witness(alone, memory) as caller, Witness(on("10.0.0.1"), memory.at("10.0.0.1")) as called:
        await caller.connect(address(called))
        with pytest.raises(LimitError):
            await caller.connect((NAME, 4000))


async def test_a_name_that_is_connected_already_or_is_ones_own_is_refused(memory: MemoryNetwork) -> None:
    memory.names[NAME] = ["10.0.0.8", "10.0.0.1"]
    memory.names["self.example"] = ["10.0.0.8", "10.0.0.2"]
    async with (
        Witness(on("10.0.0.2"), memory.at("10.0.0.2")) as caller,
        Witness(on("10.0.0.1"), memory.at("10.0.0.1")),
    ):
        await caller.connect((NAME, 4000))
        with pytest.raises(AlreadyConnectedError):
            await caller.connect((NAME, 4000))
        with pytest.raises(SelfConnectError):
            await caller.connect(("self.example", 4000))


@pytest.mark.parametrize("after", range(8))
async def test_a_cancelled_race_leaves_nothing_or_a_connection(memory: MemoryNetwork, after: int) -> None:
    memory.names[NAME] = ["10.0.0.8", "10.0.0.1"]
    async with Witness(CALLER, memory) as caller, Witness(on("10.0.0.1"), memory.at("10.0.0.1")) as called:
        dial = asyncio.ensure_future(caller.connect((NAME, 4000)))
        await turns(after)
        dial.cancel()
        await asyncio.wait([dial])
        if dial.cancelled():
            check_idle(caller)
            await settled(caller)
        else:
            assert caller.peers == [dial.result()]
        await called.aclose()


class TwoAddresses(TcpNetwork):
    async def resolve(self, addr: Addr) -> list[Addr]:
        return [Addr("::1", addr.port), Addr("127.0.0.1", addr.port)] if addr.host == NAME else [addr]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="needs ::1")
@pytest.mark.parametrize("net_kind", ["tcp", "tcp-uvloop"], indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_over_tcp_a_listener_of_either_family_is_found(net: Network, host: str) -> None:
    net = TwoAddresses()
    async with Witness(CALLER, net) as caller, Witness(Settings(listen=(host, 0)), net) as called:
        peer = await caller.connect((NAME, address(called)[1]))
        assert peer.addr.host == host
        await echoed(caller, called, peer, b"hello")


def test_addresses_alternate_between_families_and_begin_with_the_first() -> None:
    v6, v4 = [Addr(f"::{n}", 1) for n in range(1, 5)], [Addr(f"10.0.0.{n}", 1) for n in range(1, 3)]
    assert interleaved([*v6, *v4]) == [v6[0], v4[0], v6[1], v4[1], v6[2], v6[3]]
    assert interleaved([*v4, *v6])[:2] == [v4[0], v6[0]]
    assert interleaved(v4) == v4


# Reuse


async def test_with_reuse_a_connected_peer_is_returned(net: Network) -> None:
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as called:
        first = await caller.connect(address(called))
        assert await caller.connect(address(called), reuse=True) is first
        with pytest.raises(AlreadyConnectedError):
            await caller.connect(address(called))


async def test_with_reuse_concurrent_calls_share_one_attempt(net: Network) -> None:
    async with Polite(CALLER, net) as caller, Polite(OPEN, net) as called:
        called.gates["handshake"].close()
        calls = [asyncio.ensure_future(caller.connect(address(called), reuse=True)) for _ in range(3)]
        await called.gates["handshake"].reached.count(1)
        calls[0].cancel()  # the others go on
        await asyncio.wait([calls[0]])
        called.gates["handshake"].open()
        assert await calls[1] is await calls[2]
        assert calls[0].cancelled()
        assert caller.num_connected == len(called.gates["handshake"].reached.items) == 1


async def test_with_reuse_the_last_to_give_up_ends_the_attempt(net: Network) -> None:
    async with Polite(CALLER, net) as caller, Polite(OPEN, net) as called:
        called.gates["handshake"].close()
        calls = [asyncio.ensure_future(caller.connect(address(called), reuse=True)) for _ in range(2)]
        await called.gates["handshake"].reached.count(1)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        check_idle(caller)
        called.gates["handshake"].open()


async def test_with_reuse_a_failure_is_everyones_and_the_next_call_tries_again(memory: MemoryNetwork) -> None:
    async with Witness(CALLER, memory) as caller:
        calls = [asyncio.ensure_future(caller.connect("10.0.0.1:4000", reuse=True)) for _ in range(2)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, ConnectError) for result in results)
        async with Witness(on("10.0.0.1"), memory.at("10.0.0.1")):
            await caller.connect("10.0.0.1:4000", reuse=True)


# Entering


async def test_entering_disconnects_at_the_end_also_after_an_error(net: Network) -> None:
    async with Witness(CALLER, net) as caller, Witness(OPEN, net) as called:
        async with caller.connect(address(called)) as peer:
            await echoed(caller, called, peer, b"hello")
        assert (await peer.closed()).cause is Cause.DISCONNECTED
        assert not caller.peers
        with pytest.raises(KeyError):
            async with caller.connect(address(called)) as peer:
                raise KeyError
        assert not caller.peers
