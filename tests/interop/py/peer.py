"""A py-libp2p peer for the interop tests, run in a virtual environment of its own.

It reports events as lines of JSON on stdout::

    python peer.py listen               listens on loopback until its stdin ends
    python peer.py dial MULTIADDR       runs every check of a dialler, and ends
    python peer.py listen-default       as listen, with the secure channels that py-libp2p has by default
    python peer.py serve-bytes SIZE     as listen; answers /pea2pea/bytes/1.0.0 with SIZE bytes (for the benchmark)
    python peer.py fetch-bytes ADDRESS  requests those bytes, and reports the time it took
"""

import hashlib
import json
import os
import sys
import time

import multiaddr
import trio
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from libp2p import generate_new_ed25519_identity, new_host

ECHO = TProtocol("/pea2pea/echo/1.0.0")
BYTES = TProtocol("/pea2pea/bytes/1.0.0")
MIB = 1024 * 1024
PART = 64 * 1024


def say(**event):
    print(json.dumps(event), flush=True)


async def parts(stream):
    try:
        while part := await stream.read(PART):
            yield part
    except StreamEOF:
        return


async def echo(stream):
    async for part in parts(stream):
        await stream.write(part)
    await stream.close_write()


async def echoed(host, peer, size):
    """Send ``size`` bytes and read them back at the same time; return whether the digests are equal."""
    stream = await host.new_stream(peer, [ECHO])
    sent, received, count = hashlib.sha256(), hashlib.sha256(), 0

    async def write():
        for _ in range(0, size, PART):
            part = os.urandom(PART)
            sent.update(part)
            await stream.write(part)
        await stream.close_write()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async for part in parts(stream):
            received.update(part)
            count += len(part)
    return count == size and sent.digest() == received.digest()


async def dial(host, target):
    info = info_from_p2p_addr(multiaddr.Multiaddr(target))
    peer = info.peer_id
    await host.connect(info)
    say(event="connected", peer=str(peer), encryption=NOISE)
    for micros in await PingService(host).ping(peer, 3):
        say(event="ping", ms=micros / 1000)
    try:
        await host.new_stream(peer, [TProtocol("/pea2pea/unknown/1.0.0")])
        say(event="unknown", error=None)
    except Exception as error:
        say(event="unknown", error=f"{type(error).__name__}: {error}")
    say(event="big", ok=await echoed(host, peer, 64 * MIB))
    results = []

    async def one():
        results.append(await echoed(host, peer, MIB))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    say(event="several", ok=all(results), count=len(results))
    stream = await host.new_stream(peer, [IDENTIFY])
    answer = parse_identify_response(b"".join([part async for part in parts(stream)]))
    say(event="asked", agent=answer.agent_version, protocols=list(answer.protocols))


async def fetch(host, target):
    info = info_from_p2p_addr(multiaddr.Multiaddr(target))
    await host.connect(info)
    stream = await host.new_stream(info.peer_id, [BYTES])
    begin, count = time.perf_counter(), 0
    async for part in parts(stream):
        count += len(part)
    say(event="fetched", bytes=count, seconds=time.perf_counter() - begin)


async def stdin_ended():
    await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


async def main():
    role = sys.argv[1]
    key = generate_new_ed25519_identity()
    # By default it would listen on every interface.
    listen = [] if role in ("dial", "fetch-bytes") else [multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]
    noise = Transport(key, noise_privkey=create_new_key_pair().private_key)
    stack = {} if role == "listen-default" else {"sec_opt": {NOISE: noise}, "muxer_opt": {TProtocol(YAMUX): Yamux}}
    host = new_host(key_pair=key, listen_addrs=listen, **stack)

    async def some_bytes(stream):
        part = bytes(PART)
        for _ in range(0, int(sys.argv[2]), PART):
            await stream.write(part)
        await stream.close_write()

    async with host.run(listen_addrs=listen):
        host.set_stream_handler(PING, PingService(host).handle_ping)
        host.set_stream_handler(ECHO, echo)
        if role == "dial":
            with trio.fail_after(120):
                await dial(host, sys.argv[2])
        elif role == "fetch-bytes":
            await fetch(host, sys.argv[2])
        else:
            if role == "serve-bytes":
                host.set_stream_handler(BYTES, some_bytes)
            say(event="ready", peer=str(host.get_id()), address=str(host.get_addrs()[0]))
            await stdin_ended()
        await host.close()


trio.run(main)
