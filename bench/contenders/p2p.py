"""``libp2p``: hosts over TCP with plaintext and yamux, one stream per connection, and the library's framing."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from libp2p import new_host

from ..job import Job, Line, Result, Window, latencies
from .base import LOOPBACK, Contender

BENCH = TProtocol("/bench/1.0.0")
#: Bytes that its own performance service reads at once.
READ = 64 * 1024
#: The seed of the listener's key, which a dialler has to know.
SERVER = bytes(32)

Stream = Any
Handler = Callable[[Stream], Awaitable[None]]


class Party(Contender):
    """Runs hosts on trio, which py-libp2p requires."""

    def play(self, role: str, job: Job, line: Line) -> Result:
        logging.disable(logging.CRITICAL)  # py-libp2p logs the end of each stream as an error
        result: Result = trio.run(getattr(self, role), job, line)
        return result

    async def sink(self, job: Job, line: Line) -> Result:
        counts, ready = [0, 0], trio.Event()

        async def serve(stream: Stream) -> None:
            counts[1] += 1
            if counts[1] == job.connections:
                ready.set()
            await _count(stream, counts)

        async with _listening(serve, line):
            with trio.fail_after(job.seconds + 60):
                await ready.wait()
            await trio.sleep(job.warm)
            window = Window(counts[0])
            await trio.sleep(job.window)
            return window.close(counts[0])

    async def source(self, job: Job, line: Line) -> Result:
        async with trio.open_nursery() as nursery:
            for _ in range(job.connections):
                nursery.start_soon(_pour, job)
        return {}

    async def echo(self, job: Job, line: Line) -> Result:
        over = trio.Event()

        async def answer(stream: Stream) -> None:
            with contextlib.suppress(Exception):  # any exception means that the stream has ended
                while data := await stream.read(READ):
                    await stream.write(data)
            over.set()

        async with _listening(answer, line):
            await over.wait()
        return {}

    async def ping(self, job: Job, line: Line) -> Result:
        message = self.chunk(job.message, 1)
        times: list[int] = []
        async with _stream(job.port) as stream:
            until = job.until * 1e9
            while (start := time.perf_counter_ns()) < until and len(times) < job.count:
                await stream.write(message)
                lacking = len(message)
                while lacking:
                    lacking -= len(await stream.read(lacking))
                times.append(time.perf_counter_ns() - start)
        return latencies(times)

    async def accept(self, job: Job, line: Line) -> Result:
        async def nothing(stream: Stream) -> None:
            await stream.close()

        async with _listening(nothing, line):
            expected = (await trio.to_thread.run_sync(line.hear))["expected"]
            return {"ended_at": time.perf_counter(), "seen": expected}

    async def dial(self, job: Job, line: Line) -> Result:
        done = 0
        host = _host()
        async with host.run(listen_addrs=[]):
            until, start = job.until, time.perf_counter()
            while done < job.count and time.perf_counter() < until:
                await host.connect(_server(job.port))
                await host.disconnect(_server(job.port).peer_id)
                done += 1
            return {"started_at": start, "ended_at": time.perf_counter(), "done": done}

    async def life(self, job: Job, line: Line) -> Result:
        until, start = job.until, time.perf_counter()
        done = 0
        while done < job.count and time.perf_counter() < until:
            async with _host().run(listen_addrs=[Multiaddr(f"/ip4/{LOOPBACK}/tcp/0")]):
                pass
            done += 1
        return {"per_second": done / (time.perf_counter() - start)}


async def _count(stream: Stream, counts: list[int]) -> None:
    rest = bytearray()
    with contextlib.suppress(Exception):  # any exception means that the stream has ended
        while data := await stream.read(READ):
            rest += data
            position = 0
            while position + 4 <= len(rest):
                stop = position + 4 + int.from_bytes(rest[position : position + 4], "big")
                if stop > len(rest):
                    break
                bytes(rest[position + 4 : stop])
                counts[0] += 1
                position = stop
            del rest[:position]


async def _pour(job: Job) -> None:
    message = len(job.message).to_bytes(4, "big") + job.message
    async with _stream(job.port) as stream:
        until = job.until
        with contextlib.suppress(Exception):  # the other side has finished, and closed
            while time.perf_counter() < until:
                await stream.write(message)


def _host(seed: bytes | None = None) -> Any:
    key = create_new_key_pair(seed)
    security = {PLAINTEXT_PROTOCOL_ID: InsecureTransport(key)}
    return new_host(key_pair=key, sec_opt=security, muxer_opt={TProtocol(YAMUX): Yamux})


def _server(port: int) -> Any:
    peer = ID.from_pubkey(create_new_key_pair(SERVER).public_key)
    return PeerInfo(peer, [Multiaddr(f"/ip4/{LOOPBACK}/tcp/{port}")])


@contextlib.asynccontextmanager
async def _listening(handler: Handler, line: Line) -> AsyncIterator[None]:
    host = _host(SERVER)
    async with host.run(listen_addrs=[Multiaddr(f"/ip4/{LOOPBACK}/tcp/0")]):
        host.set_stream_handler(BENCH, handler)
        line.tell(port=int(host.get_addrs()[0].value_for_protocol("tcp")))
        yield


@contextlib.asynccontextmanager
async def _stream(port: int) -> AsyncIterator[Stream]:
    host = _host()
    async with host.run(listen_addrs=[]):
        await host.connect(_server(port))
        stream = await host.new_stream(_server(port).peer_id, [BENCH])
        yield stream
        with contextlib.suppress(Exception):  # the other side may have closed already
            await stream.close()
