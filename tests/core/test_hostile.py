"""Strangers at the door: bare sockets that send garbage, half a message, nothing, or come by the thousand.

Whatever they do, the node serves its friends meanwhile, and afterwards has the tasks, descriptors and slots that it had
before. Over real TCP only: what is at stake is what the system gives and takes.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest

from conftest import descriptors
from pea2pea import CodecError, Node, Origin, Peer, Settings
from pea2pea.errors import FrameTooLargeError, IdleTimeoutError, IncompleteFrameError, WriteTimeoutError
from pea2pea.network import Network
from support.node import CALLER, Polite, Witness, address, check_views, context_of, echoed, slots

pytestmark = pytest.mark.parametrize("net_kind", ["tcp", "tcp-uvloop"], indirect=True)

#: All strangers come from one address.
DOOR = Settings(
    listen="127.0.0.1:0", max_connections_per_ip=200, max_connections=200, backlog=256, exempt_loopback=False
)
#: At once; each takes two descriptors, one on either side.
CHUNK = 100
BURST = 10_000


class Guarded(Witness):
    """A node as one would put on the open internet, in a hurry."""

    idle_timeout = 0.3
    write_timeout = 0.3
    disconnect_timeout = 0.3


class Polished(Polite):
    handshake_timeout = 0.3


class Stranger:
    """A bare socket."""

    def __init__(self, addr: tuple[str, int]) -> None:
        self.addr = addr
        self.sock = socket.socket()
        self.sock.setblocking(False)

    async def connect(self) -> Stranger:
        await asyncio.get_running_loop().sock_connect(self.sock, self.addr)
        return self

    async def say(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)
        except ConnectionError:
            return  # thrown out before the end of the sentence

    async def until_thrown_out(self) -> bytes:
        """Return what the node said until it closed the connection."""
        heard = b""
        try:
            while data := await asyncio.get_running_loop().sock_recv(self.sock, 65536):
                heard += data
        except ConnectionError:
            pass  # by a reset
        return heard

    def leave(self, *, rudely: bool = False) -> None:
        if rudely:  # with a reset, which also spares the system a socket that lingers
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@asynccontextmanager
async def served(net: Network, node: Witness) -> AsyncIterator[Friend]:
    """``node``, open, with a friend; at the end of the block it must have again what it had at its start."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(node)
        kind = Polite if isinstance(node, Polite) else Witness
        friend = Friend(await stack.enter_async_context(kind(CALLER, net)), node)
        await friend.come()
        before = (asyncio.all_tasks(), descriptors(), slots(node), node.peers)
        yield friend
        await until_alone_with(friend.here, node)
        await friend.talk()
        check_views(node)
        assert (asyncio.all_tasks(), descriptors(), slots(node), node.peers) == before
        assert node.num_connecting == 0


async def until_alone_with(peer: Peer, node: Node) -> None:
    """Return when ``node`` has no peer but this one, and is done with all others."""
    supervisor = context_of(node).supervisor
    # One link is the friend's, and one task is the listener's.
    while node.peers != [peer] or len(supervisor.held) > 1 or len(supervisor._tasks) > 1:
        await supervisor.changed()


class Friend:
    """A connection that has to work, whatever strangers do."""

    there: Peer
    here: Peer

    def __init__(self, caller: Witness, node: Witness) -> None:
        self.caller = caller
        self.node = node
        self.count = 0

    async def come(self) -> None:
        self.there = await self.caller.connect(address(self.node))
        (self.here,) = await self.node.met.count(1)
        await self.talk()

    async def talk(self) -> None:
        """A message there and one back."""
        self.count += 1
        message = f"friend {self.count}".encode()
        await echoed(self.caller, self.node, self.there, message)
        await self.node.send(self.here, message)
        await self.caller.got.when(lambda got: got[-1:] == [(self.there, message)])

    async def talk_until(self, done: asyncio.Future[None]) -> None:
        """Talk all the time, and let each word take a second at the most."""
        while not done.done():
            async with asyncio.timeout(2.0):
                await self.talk()


async def meanwhile(friend: Friend, attack: Awaitable[None]) -> None:
    """Have ``friend`` talk while ``attack`` goes on."""
    attacking = asyncio.ensure_future(attack)
    talking = asyncio.ensure_future(friend.talk_until(attacking))
    await asyncio.gather(attacking, talking)


def garbage(seed: int) -> bytes:
    return random.Random(seed).randbytes(4096)


async def throw(addr: tuple[str, int], data: bytes) -> None:
    """Say ``data``, and stay until thrown out."""
    stranger = Stranger(addr)
    try:
        await stranger.connect()
        await stranger.say(data)
        await stranger.until_thrown_out()
    finally:
        stranger.leave()


async def test_garbage_ends_the_connection_that_it_comes_on(net: Network) -> None:
    async with served(net, Witness(DOOR, net)) as friend:
        addr = address(friend.node)
        # Lengths of more than the limit; the first four bytes are all that counts.
        words = [b"\xff" * 4, b"\xff" * 100_000, b"GET / HTTP/1.1\r\n\r\n", b"\x80" + garbage(0)]

        async def attack() -> None:
            await asyncio.gather(*(throw(addr, word) for word in words * 5))

        await meanwhile(friend, attack())
        left = await friend.node.left.count(20)
        for _, reason in left:
            assert reason.origin is Origin.READING
            assert isinstance(reason.exception, FrameTooLargeError)


async def test_random_bytes_end_the_connection_or_are_messages(net: Network) -> None:
    async with served(net, Guarded(DOOR, net)) as friend:
        addr = address(friend.node)

        async def attack() -> None:
            await asyncio.gather(*(throw(addr, garbage(seed)) for seed in range(50)))

        await meanwhile(friend, attack())
        for _, reason in await friend.node.left.count(50):
            assert isinstance(reason.exception, CodecError | IdleTimeoutError)


@pytest.mark.parametrize("rudely", [False, True])
async def test_half_a_frame_and_gone(net: Network, rudely: bool) -> None:
    async with served(net, Witness(DOOR, net)) as friend:
        addr = address(friend.node)

        async def attack() -> None:
            for size in (1, 3, 4, 50):
                strangers = [await Stranger(addr).connect() for _ in range(5)]
                for stranger in strangers:
                    await stranger.say((struct.pack(">I", 100) + bytes(100))[:size])
                    stranger.leave(rudely=rudely)

        await meanwhile(friend, attack())
        for _, reason in await friend.node.left.count(20):
            assert reason.origin is Origin.READING
            assert isinstance(reason.exception, ConnectionError if rudely else IncompleteFrameError)
        assert not [message for peer, message in friend.node.got.items if peer is not friend.here]


async def test_half_a_frame_for_ever(net: Network) -> None:
    """One byte now and then is no message: it does not put off the idle timeout."""
    async with served(net, Guarded(DOOR, net)) as friend:
        addr = address(friend.node)

        async def trickle() -> None:
            stranger = await Stranger(addr).connect()
            thrown_out = asyncio.ensure_future(stranger.until_thrown_out())
            data = iter(struct.pack(">I", 10_000) + bytes(10_000))
            while not thrown_out.done():
                await stranger.say(bytes([next(data)]))
                await asyncio.wait([thrown_out], timeout=0.02)
            stranger.leave()

        async def attack() -> None:
            await asyncio.gather(*(trickle() for _ in range(5)))

        await meanwhile(friend, attack())
        assert friend.node.heuristics.idle_timeouts == 5


async def test_silence_instead_of_a_handshake(net: Network) -> None:
    """Those who say nothing hold setup slots no longer than ``handshake_timeout``, and nobody's but those."""
    config = Settings(
        listen="127.0.0.1:0",
        max_connections_per_ip=200,
        max_connections=200,
        max_connecting=10,
        exempt_loopback=False,
    )
    async with served(net, Polished(config, net)) as friend:
        addr = address(friend.node)

        async def attack() -> None:
            await asyncio.gather(*(throw(addr, b"") for _ in range(25)))

        await meanwhile(friend, attack())
        assert friend.node.heuristics.handshake_timeouts == 25
        assert friend.node.heuristics.inbound_rejections == 0
        assert friend.node.met.items == [friend.here]


async def test_silence_after_it(net: Network) -> None:
    async with served(net, Guarded(DOOR, net)) as friend:
        addr = address(friend.node)

        async def attack() -> None:
            await asyncio.gather(*(throw(addr, b"") for _ in range(25)))

        await meanwhile(friend, attack())
        assert friend.node.heuristics.idle_timeouts == 25


async def test_who_never_listens_is_given_up(net: Network) -> None:
    async with served(net, Guarded(DOOR, net)) as friend:
        node = friend.node
        async with asyncio.timeout(10.0):
            deaf = await Stranger(address(node)).connect()
            peer = (await node.met.count(2))[1]

            async def attack() -> None:
                with pytest.raises(ConnectionError):
                    while True:
                        await node.send(peer, bytes(1_000_000))

            with ExitStack() as stack:
                stack.callback(deaf.leave, rudely=True)
                await deaf.say(struct.pack(">I", 0) * 10)
                await meanwhile(friend, attack())
                ((gone, reason),) = await node.left.count(1)
                assert gone is peer
                assert isinstance(reason.exception, WriteTimeoutError | IdleTimeoutError)


@pytest.mark.parametrize("rudely", [False, True])
async def test_thousands_that_come_and_go(net: Network, rudely: bool) -> None:
    """Let in, every one of them, and gone as soon as the kernel has accepted it."""
    async with served(net, Witness(DOOR, net)) as friend:
        addr = address(friend.node)

        async def attack() -> None:
            for _ in range(20):
                strangers = [Stranger(addr) for _ in range(CHUNK)]
                await asyncio.gather(*(stranger.connect() for stranger in strangers))
                for stranger in strangers:
                    stranger.leave(rudely=rudely)
                # The next come when there is room again: these are not to be turned away.
                await last_in_line(addr, friend.node)
                await until_alone_with(friend.here, friend.node)

        await meanwhile(friend, attack())
        node = friend.node
        assert node.heuristics.inbound_rejections == 0
        gone = [peer for peer, _ in node.left.items]
        assert len(set(gone)) == len(gone)
        assert {*node.met.items} - {friend.here} <= set(gone)


async def last_in_line(addr: tuple[str, int], node: Witness) -> None:
    """Come and go behind all who wait to be accepted."""
    last = await Stranger(addr).connect()
    name = last.sock.getsockname()
    await node.met.when(lambda met: any(peer.addr == name for peer in met))
    last.leave()


async def test_ten_thousand_where_there_is_no_room(net: Network) -> None:
    """All slots are taken: each is turned away at once, and counted."""
    config = Settings(
        listen="127.0.0.1:0", max_connections_per_ip=50, max_connections=50, backlog=256, exempt_loopback=False
    )
    async with served(net, Witness(config, net)) as friend:
        addr = address(friend.node)
        squatters = [await Stranger(addr).connect() for _ in range(49)]
        await friend.node.met.count(50)

        async def attack() -> None:
            for _ in range(BURST // CHUNK):
                strangers = [Stranger(addr) for _ in range(CHUNK)]
                await asyncio.gather(*(stranger.connect() for stranger in strangers))
                await asyncio.gather(*(stranger.until_thrown_out() for stranger in strangers))
                for stranger in strangers:
                    stranger.leave(rudely=True)

        began = asyncio.get_running_loop().time()
        await meanwhile(friend, attack())
        assert asyncio.get_running_loop().time() - began < 20.0
        assert friend.node.heuristics.inbound_rejections == BURST
        assert len(friend.node.met.items) == 50
        for squatter in squatters:
            squatter.leave()
