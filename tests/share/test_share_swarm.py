"""The node that serves and fetches, on a network in memory and a virtual clock, with peers that misbehave."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pea2pea import (
    Addr,
    ConnectError,
    DisconnectReason,
    Handshake,
    Node,
    OnDisconnect,
    Peer,
    Reading,
    Settings,
    Writing,
)
from pea2pea.memory import MemoryNetwork
from pea2pea.share import exchange, swarm
from pea2pea.share.asker import Asker
from pea2pea.share.errors import FileChangedError, ShareError
from pea2pea.share.exchange import MAX_LIES, Liars, exchange_hellos
from pea2pea.share.mode import Mode
from pea2pea.share.partial import PartialStore
from pea2pea.share.pursuit import pursuing
from pea2pea.share.security import Channel
from pea2pea.share.store import Store
from pea2pea.share.swarm import MAX_WAITING, Swarm
from pea2pea.share.tree import Target
from pea2pea.share.wire import Bitmap, Chunk, Got, Hello, Message, Refuse, Request, Wire, preamble
from support.share import Liar, Staller, Stores, Vanisher, Watched, any_line, config, copy_chunk, make_file

N = TypeVar("N", bound=Node)


class Crowd(AsyncExitStack):
    """Nodes around one file, all on one network in memory, each on a machine of its own."""

    def __init__(self, directory: Path, chunks: float = 12) -> None:
        super().__init__()
        self.network = MemoryNetwork()
        self.stores = self.enter_context(Stores())
        self.directory = directory
        self.file = make_file(directory / "file", chunks)
        self.machines = 0

    async def sharer(self, kind: type[Watched] = Watched, file: Path | None = None) -> Watched:
        return await self.node(self.stores.share(file or self.file), kind)

    async def fetcher(self, name: str, target: Target, *, patience: float | None = None) -> Watched:
        return await self.node(self.stores.resume(self.directory / name, target), Watched, patience=patience)

    async def node(self, chunks: Store, kind: type[Watched], *, patience: float | None = None) -> Watched:
        self.machines += 1
        node = kind(chunks, config(f"10.0.0.{self.machines}"), patience=patience, network=self.network)
        return await self.enter_async_context(node)

    @asynccontextmanager
    async def dialler(self, kind: Callable[..., N], *args: Any) -> AsyncIterator[N]:
        async with kind(*args, Settings(max_connections_per_ip=9), network=self.network) as node:
            yield node


def addr_of(node: Swarm) -> Addr:
    assert node.listening_addr is not None
    return node.listening_addr


async def fetch(node: Swarm, sources: Iterable[Swarm], *, give_up: float = 60.0) -> None:
    async with pursuing(node, map(addr_of, sources), give_up=give_up):
        await node.complete()


def check(node: Swarm, crowd: Crowd) -> None:
    """The copy is right, and gets its name."""
    assert isinstance(node.store, PartialStore)
    node.store.verify(lambda done: None)
    node.store.publish()
    assert node.store.path.read_bytes() == crowd.file.read_bytes()


@pytest.mark.parametrize("chunks", [0, 0.1, 1, 12.5])
async def test_one_fetches_from_one(tmp_path: Path, chunks: float) -> None:
    async with Crowd(tmp_path, chunks) as crowd:
        sharer = await crowd.sharer()
        node = await crowd.fetcher("copy", sharer.target)
        await fetch(node, [sharer])
        check(node, crowd)
        assert node.fetched == node.target.size
        assert sharer.store.complete


async def test_one_fetches_from_three_at_once(tmp_path: Path) -> None:
    async with Crowd(tmp_path, 60) as crowd:
        sharers = [await crowd.sharer() for _ in range(3)]
        node = await crowd.fetcher("copy", sharers[0].target)
        await fetch(node, sharers)
        check(node, crowd)
        assert all(sharer.served > 0 for sharer in sharers)


async def test_chunks_are_offered_while_others_are_fetched(tmp_path: Path) -> None:
    """A line of five: only its second knows the sharer, and the last gets all of it."""
    async with Crowd(tmp_path) as crowd:
        nodes = [await crowd.sharer()]
        nodes += [await crowd.fetcher(f"copy{n}", nodes[0].target) for n in range(4)]
        async with AsyncExitStack() as stack:
            for before, after in itertools.pairwise(nodes):
                await stack.enter_async_context(pursuing(after, [addr_of(before)]))
            await asyncio.gather(*(node.complete() for node in nodes))
        for node in nodes[1:]:
            check(node, crowd)
        assert all(node.served >= node.target.size for node in nodes[:-1])


async def test_two_halves_make_a_whole(tmp_path: Path) -> None:
    """Neither has it all; each fetches from the other what it lacks, over one connection."""
    async with Crowd(tmp_path) as crowd:
        source = crowd.stores.share(crowd.file)
        left, right = [await crowd.fetcher(name, source.target) for name in ("left", "right")]
        for index in range(source.target.count):
            half = (left if index % 2 else right).store
            assert isinstance(half, PartialStore)
            copy_chunk(source, half, index)
        # The plans are made from what is there when the nodes are.
        again = [await crowd.node(node.store, Watched) for node in (left, right)]
        async with pursuing(again[0], [addr_of(again[1])]), pursuing(again[1], []):
            await asyncio.gather(*(node.complete() for node in again))
        for node in again:
            check(node, crowd)


async def test_a_stopped_download_is_resumed(tmp_path: Path) -> None:
    async with Crowd(tmp_path, 30) as crowd:
        sharer = await crowd.sharer(Vanisher)
        node = await crowd.fetcher("copy", sharer.target)
        async with pursuing(node, [addr_of(sharer)]):
            await node.kept.count(1)
        await node.aclose()
        node.store.close()
        had = node.fetched
        assert 0 < had < node.target.size
        honest, again = await crowd.sharer(), await crowd.fetcher("copy", sharer.target)
        await fetch(again, [honest])
        check(again, crowd)
        assert had + again.fetched == again.target.size


@pytest.mark.expects_errors
async def test_a_peer_that_sends_wrong_data_is_dropped_and_not_dialled_again(tmp_path: Path) -> None:
    async with Crowd(tmp_path, 40) as crowd:
        honest, liar = await crowd.sharer(), await crowd.sharer(Liar)
        node = await crowd.fetcher("copy", honest.target)
        await fetch(node, [liar, honest])
        check(node, crowd)
        assert liar.sent.items
        assert any_line(node.notes.items, f"disconnected {addr_of(liar)}", "wrong data")
        assert node.stats.messages_received < 100


@pytest.mark.expects_errors
async def test_all_peers_send_wrong_data(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        liars = [await crowd.sharer(Liar) for _ in range(2)]
        node = await crowd.fetcher("copy", liars[0].target)
        with pytest.raises(ShareError, match=r"no peer is left.*wrong data"):
            await fetch(node, liars)
        assert node.store.have == 0
        assert not node.store.path.exists()


async def test_a_peer_that_stalls_is_made_up_for_by_others(tmp_path: Path) -> None:
    async with Crowd(tmp_path, 40) as crowd:
        staller, honest = await crowd.sharer(Staller), await crowd.sharer()
        node = await crowd.fetcher("copy", honest.target)
        began = asyncio.get_running_loop().time()
        await fetch(node, [staller, honest])
        check(node, crowd)
        assert asyncio.get_running_loop().time() - began < 10, "the others are asked long before it is given up"


async def test_a_download_fails_if_its_only_peer_stalls(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        staller = await crowd.sharer(Staller)
        node = await crowd.fetcher("copy", staller.target, patience=2.0)
        began = asyncio.get_running_loop().time()
        with pytest.raises(ShareError, match="received nothing for 20 seconds"):
            await fetch(node, [staller], give_up=20.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(20, abs=5)
        assert any_line(node.notes.items, f"disconnected {addr_of(staller)}", "it stalled")


@pytest.mark.expects_errors
async def test_a_lost_peer_is_dialled_again(tmp_path: Path) -> None:
    """It comes back each time, for three chunks more."""
    async with Crowd(tmp_path, 12) as crowd:
        sharer = await crowd.sharer(Vanisher)
        node = await crowd.fetcher("copy", sharer.target)
        await fetch(node, [sharer])
        check(node, crowd)


async def test_a_lost_peer_is_made_up_for_by_others(tmp_path: Path) -> None:
    async with Crowd(tmp_path, 60) as crowd:
        sharers = [await crowd.sharer() for _ in range(3)]
        node = await crowd.fetcher("copy", sharers[0].target)
        async with pursuing(node, map(addr_of, sharers)):
            await sharers[0].sent.count(1)
            await sharers[0].aclose()
            await node.complete()
        check(node, crowd)


async def test_an_address_that_refuses_is_dialled_again(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer()
        addr = addr_of(sharer)
        await sharer.aclose()
        node = await crowd.fetcher("copy", sharer.target)
        async with pursuing(node, [addr]):
            assert any_line(await node.notes.count(1), f"cannot reach {addr}")
            late = Swarm(sharer.store, Settings(listen=addr), network=crowd.network)
            await crowd.enter_async_context(late)
            await node.complete()
        assert len(node.notes.items) == 1, "said once"
        check(node, crowd)


@pytest.mark.expects_errors
async def test_another_file_is_left_out(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        right = await crowd.sharer()
        wrong = await crowd.sharer(file=make_file(tmp_path / "other", 2, seed=2))
        node = await crowd.fetcher("copy", right.target)
        await fetch(node, [wrong, right])
        check(node, crowd)
        another = await crowd.fetcher("another", right.target)
        with pytest.raises(ShareError, match=r"no peer is left.*another file"):
            await fetch(another, [wrong])


async def test_a_disk_that_fills_up_ends_the_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer()
        node = await crowd.fetcher("copy", sharer.target)

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(node.store, "put", full)
        with pytest.raises(OSError, match="No space"):
            await fetch(node, [sharer])


async def test_a_shared_file_that_changes_ends_the_sharing(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer()
        node = await crowd.fetcher("copy", sharer.target)
        os.utime(crowd.file, ns=(1, 1))
        async with pursuing(node, [addr_of(sharer)]):
            with pytest.raises(FileChangedError):
                await sharer.failed()
        assert node.fetched == 0


async def test_large_chunks_are_hashed_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm, "HASH_IN_LOOP", 1000)
    async with Crowd(tmp_path, 3) as crowd:
        sharer = await crowd.sharer()
        node = await crowd.fetcher("copy", sharer.target)
        await fetch(node, [sharer])
        check(node, crowd)


async def test_a_swarm_sends_no_faster_than_its_limit(tmp_path: Path) -> None:
    async with Crowd(tmp_path, 8) as crowd:
        chunks = crowd.stores.share(crowd.file)
        rate = chunks.target.size / 10
        sharer = await crowd.enter_async_context(Watched(chunks, config("10.1.0.1"), rate=rate, network=crowd.network))
        nodes = [await crowd.fetcher(f"copy{n}", sharer.target) for n in range(2)]
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(fetch(node, [sharer]) for node in nodes))
        seconds = asyncio.get_running_loop().time() - began
        assert seconds >= sum(node.fetched for node in nodes) / rate - 2 * chunks.target.chunk / rate
        for node in nodes:
            check(node, crowd)


# Asking


async def test_asking_what_there_is(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer()
        async with crowd.dialler(Asker) as asker:
            assert await asker.ask_all([addr_of(sharer), Addr("10.9.9.9", 1)], None) == sharer.target
            assert await asker.ask_all([addr_of(sharer)], sharer.target.root) == sharer.target
            with pytest.raises(ShareError, match="shares another file"):
                await asker.ask_all([addr_of(sharer)], bytes(32))
            with pytest.raises(ShareError, match=r"10\.9\.9\.8.*; .*10\.9\.9\.9|10\.9\.9\.9.*; .*10\.9\.9\.8"):
                await asker.ask_all([Addr("10.9.9.8", 1), Addr("10.9.9.9", 1)], None)


class Stranger(Node, Handshake):
    """Sends what it was made with in place of a hello."""

    def __init__(self, hello: bytes, config: Settings, **options: Any) -> None:
        super().__init__(**config, **options)
        self._hello = hello

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._hello)
        await writer.drain()
        await reader.read()


@pytest.mark.expects_errors
async def test_an_address_that_shares_nothing_is_given_up(tmp_path: Path) -> None:
    """The address is that of a node that only asks."""
    async with Crowd(tmp_path) as crowd:
        only_asks = Stranger(preamble(Mode.PLAIN) + Hello(None).encode(), config("10.0.9.9"), network=crowd.network)
        await crowd.enter_async_context(only_asks)
        addr = only_asks.listening_addr
        assert addr is not None
        async with crowd.dialler(Asker) as asker:
            with pytest.raises(ShareError, match="shares nothing"):
                await asker.ask_all([addr], None)
        node = await crowd.fetcher("copy", crowd.stores.share(crowd.file).target)
        with pytest.raises(ShareError, match="no peer is left"):
            async with pursuing(node, [addr]):
                await node.complete()


@pytest.mark.expects_errors
async def test_another_protocol_is_refused(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer()
        async with crowd.dialler(Stranger, b"GET / HTTP/1.1\r\n".ljust(64)) as stranger:
            with pytest.raises(ConnectError):
                await stranger.connect(addr_of(sharer))
        assert sharer.exchanges == []


# A peer that breaks the rules, message by message


class Puppet(Node, Handshake, Reading[Message], Writing[Message], OnDisconnect):
    """Sends the messages of a test, and notices when it is dropped."""

    def __init__(self, target: Target, says_it_only_asks: bool, config: Settings, **options: Any) -> None:
        super().__init__(**config, **options)
        self.target = target
        self.hello = Hello(None if says_it_only_asks else target)
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.dropped = asyncio.Event()

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Channel().secure(peer, reader, writer)
        await exchange_hellos(self.hello, reader, writer)

    def decoder(self, peer: Peer) -> Wire:
        return Wire(self.target)

    def encoder(self, peer: Peer) -> Wire:
        return Wire(self.target)

    async def process_message(self, peer: Peer, message: Message) -> None:
        self.heard.put_nowait(message)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        self.dropped.set()


@asynccontextmanager
async def puppet(crowd: Crowd, node: Swarm, *, only_asks: bool = False) -> AsyncIterator[tuple[Puppet, Peer]]:
    async with crowd.dialler(Puppet, node.target, only_asks) as one:
        yield one, await one.connect(addr_of(node))


FAULTS: list[tuple[str, list[Message]]] = [
    ("was not requested", [Chunk(0, (), b"x")]),
    ("was not requested", [Refuse(0)]),
    (f"more than {MAX_WAITING}", [Request(0)] * (MAX_WAITING * 2)),
]


@pytest.mark.expects_errors
@pytest.mark.parametrize(("why", "messages"), FAULTS)
async def test_a_peer_that_violates_the_protocol_is_dropped(tmp_path: Path, why: str, messages: list[Message]) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer(Staller)
        async with puppet(crowd, sharer) as (one, peer):
            for message in messages:
                await one.send(peer, message)
            await one.dropped.wait()
        assert any_line(sharer.notes.items, "disconnected", why)


@pytest.mark.expects_errors
async def test_a_peer_that_only_asks_and_then_sends_messages_is_dropped(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        sharer = await crowd.sharer()
        async with puppet(crowd, sharer, only_asks=True) as (one, peer):
            assert sharer.exchanges == []
            one.send_nowait(peer, Request(0))
            await one.dropped.wait()


async def test_missing_chunks_are_refused_and_new_ones_requested(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        source = crowd.stores.share(crowd.file)
        node = await crowd.fetcher("copy", source.target)
        async with puppet(crowd, node) as (one, peer), pursuing(node, []):
            one.send_nowait(peer, Request(3))
            assert await one.heard.get() == Refuse(3)
            one.send_nowait(peer, Got((7,)))
            assert await one.heard.get() == Request(7)
            one.send_nowait(peer, Refuse(7))
            one.send_nowait(peer, Bitmap(1 << 5))
            assert await one.heard.get() == Request(5)
            one.send_nowait(peer, Chunk(5, tuple(source.tree.proof(5)), source.read(5)))
            one.send_nowait(peer, Request(5))
            answer = await one.heard.get()
            assert isinstance(answer, Chunk) and bytes(answer.data) == source.read(5)
            assert node.store.have == 1 << 5


@pytest.mark.expects_errors
async def test_a_host_that_repeatedly_sends_wrong_data_is_refused(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as crowd:
        node = await crowd.fetcher("copy", crowd.stores.share(crowd.file).target)
        for _ in range(MAX_LIES):
            async with puppet(crowd, node) as (one, peer):
                one.send_nowait(peer, Bitmap(1))
                await one.heard.get()
                one.send_nowait(peer, Chunk(0, (), b"a lie"))
                await one.dropped.wait()
        with pytest.raises(ConnectError):
            async with puppet(crowd, node):
                pass
        assert any_line(node.notes.items, "wrong data")


def test_the_memory_for_hosts_that_sent_wrong_data_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_LIARS", 2)
    liars = Liars()
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"):
        liars.add(host)
    assert liars.counts == {"10.0.0.1": 2, "10.0.0.3": 1}


def test_a_swarm_does_not_override_private_names_of_node() -> None:
    """Private names of the core are not reserved; two that meet by accident would break both."""
    own = {name for name in vars(Swarm) if name.startswith("_") and not name.startswith("__")} - {"_abc_impl"}
    theirs = {name for base in Swarm.__mro__[1:] for name in vars(base)} | set(vars(Node()))
    assert not own & (theirs - {"_abc_impl"} - {"__orig_bases__"})
