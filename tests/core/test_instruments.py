"""Instruments: what each event tells, in which order, and that one that raises disturbs nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pea2pea import Addr, ConnectError, Instrument, Settings
from pea2pea.memory import MemoryNetwork
from pea2pea.network import Incoming, Listener, Network
from support import Recorder, StreamEndpoint
from support.link import facing, frame, numbered
from support.node import OPEN, Polite, Witness, address

EVENTS = sorted(name for name, value in vars(Instrument).items() if callable(value) and not name.startswith("_"))


class Watching(Instrument):
    """Writes down every event, with what it is about."""

    def __init__(self) -> None:
        self.events: Recorder[tuple[str, Any]] = Recorder()

    def names(self) -> list[str]:
        return [name for name, _ in self.events.items]


for _name in EVENTS:
    setattr(Watching, _name, lambda self, *args, _name=_name: self.events.add((_name, args)))


async def test_the_life_of_a_connection_is_told_in_order(net: Network) -> None:
    watch = Watching()
    async with Polite(OPEN, net) as other, Polite(OPEN, net, instruments=[watch]) as node:
        peer = await node.connect(address(other))
        (there,) = await other.met.count(1)
        await node.send(peer, b"out")
        await other.got.count(1)
        await other.send(there, b"in")
        await node.got.count(1)
        await node.disconnect(peer)
        reason = peer.reason
    assert watch.names() == [
        "attempt", "handshake_started", "handshake_ended", "opened", "batch_sent", "batch_received", "closed",
    ]
    told = dict(watch.events.items)
    assert told["attempt"][0].addr == peer.addr and not told["attempt"][0].inbound
    assert told["handshake_ended"] == (peer, None)
    assert (told["batch_sent"], told["batch_received"]) == ((peer, 1, 7), (peer, 1))
    assert told["closed"] == (peer, reason)


async def test_a_refusal_and_a_failure_are_told(memory: MemoryNetwork) -> None:
    watch = Watching()
    config = Settings(max_connections=1)
    async with Witness(OPEN, memory) as other, Witness(config, memory, instruments=[watch]) as node:
        with pytest.raises(ConnectError) as failure:
            await node.connect("127.0.0.1:1")
        await node.connect(address(other))
        with pytest.raises(ConnectError) as refusal:
            await node.connect("127.0.0.1:2")
        assert watch.names() == ["attempt", "failed", "attempt", "opened", "attempt", "refused"]
        assert watch.events.items[1][1][1] is failure.value
        assert watch.events.items[-1][1][1] is refusal.value
        assert node.heuristics.refused == {"max_connections": 1}


async def test_pauses_and_drops_are_told(memory: MemoryNetwork) -> None:
    class Short(Witness):
        read_queue_depth = 2

    class Dropping(Short):
        backpressure = False

    for kind, expected in ((Short, {"reading_paused", "reading_resumed"}), (Dropping, {"messages_dropped"})):
        watch = Watching()
        node = kind(OPEN, memory, instruments=[watch])
        async with facing("listener", memory, node) as (peer, end):
            node.gates["process_message"].close()
            end.transport.write(b"".join(map(frame, numbered(9))))
            await node.gates["process_message"].reached.count(1)
            node.gates["process_message"].open()
            await node.got.count(2)
            end.transport.pause_reading()
            node.send_nowait(peer, bytes(1 << 20))
            await watch.events.when(lambda events: "writing_paused" in [name for name, _ in events])
            end.transport.resume_reading()
            await end.until_data(1 << 20)
            await watch.events.when(lambda events: "writing_resumed" in [name for name, _ in events])
        assert expected | {"writing_paused", "writing_resumed"} <= {*watch.names()}


class Fragile(Listener):
    """A listener that stops working when its network says so."""

    def __init__(self, inner: Listener, network: Breaking) -> None:
        self.inner = inner
        self.addr = inner.addr
        self.network = network

    def accept(self) -> Incoming | None:
        return self.inner.accept()

    async def ready(self) -> None:
        waits = [asyncio.ensure_future(self.inner.ready()), asyncio.ensure_future(self.network.broken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.network.broken.is_set():
            self.network.broken.clear()
            raise OSError("the listener broke")

    def close(self) -> None:
        self.inner.close()


class Breaking(MemoryNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.broken = asyncio.Event()

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        return Fragile(await super().listen(addr, backlog=backlog, reuse_port=reuse_port), self)


@pytest.mark.expects_errors
async def test_a_listener_that_fails_is_resumed_and_told() -> None:
    net, watch = Breaking(), Watching()
    async with Witness(OPEN, net, instruments=[watch]) as node, Witness(Settings(), net) as caller:
        addr = node.address
        net.broken.set()
        await watch.events.when(lambda events: "listener_failed" in [name for name, _ in events])
        assert node.listening_addr is None
        with pytest.raises(OSError, match="being resumed: the listener broke"):
            assert node.address
        assert node.heuristics.listener_failures == 1
        await asyncio.sleep(0.2)
        assert node.address == addr
        await caller.connect(addr)
        await node.met.count(1)


@pytest.mark.expects_errors
async def test_one_that_raises_alone_ends_no_connection(memory: MemoryNetwork) -> None:
    class Raising(Instrument):
        pass

    def fail(self: Instrument, *args: Any) -> None:
        raise KeyError("on purpose")

    for name in EVENTS:
        setattr(Raising, name, fail)
    async with Polite(OPEN, memory, instruments=[Raising()]) as node, Polite(OPEN, memory) as caller:
        peer = await caller.connect(node.address)
        await caller.send(peer, b"hello")
        await node.got.count(1)
    assert len(node.left.items) == 1


@pytest.mark.expects_errors
async def test_one_of_several_that_raises_is_logged_and_the_others_are_told(memory: MemoryNetwork) -> None:
    class Raising(Watching):
        def opened(self, peer: Any) -> None:
            raise KeyError("on purpose")

    raising, watch = Raising(), Watching()
    node = Witness(OPEN, memory, instruments=[raising, watch])
    async with node:
        end = StreamEndpoint()
        await memory.dial(node.address, end)
        await node.met.count(1)
        await end.aclose()
    assert watch.names() == ["attempt", "opened", "closed"]
    assert raising.names() == ["attempt", "closed"]
