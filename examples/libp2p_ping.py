"""Ping a libp2p peer: ``python examples/libp2p_ping.py /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...``

Any peer will do that speaks TCP, Noise or TLS, and Yamux: js-libp2p, py-libp2p, go-libp2p, rust-libp2p. Without an
address two hosts in this program ping each other, and speak a protocol of their own.
"""

from __future__ import annotations

import asyncio
import sys

from pea2pea import Config
from pea2pea.libp2p import Host, Stream

SHOUT = "/shout/1.0.0"


async def shout(stream: Stream) -> None:
    """Serve a stream: when this returns, it is closed."""
    stream.write((await stream.read()).upper())


async def ping(host: Host, address: str) -> None:
    """Dial, ask who is there, and ping three times. Where the address names a peer, nobody else is talked to."""
    peer = await host.dial(address)
    them = await host.identify(peer)
    print(f"{host.remote_id(peer)} is {them.agent_version or 'nameless'}, and speaks {', '.join(them.protocols)}")
    for _ in range(3):
        print(f"ping: {await host.ping(peer) * 1000:.1f} ms")


async def main() -> None:
    if len(sys.argv) > 1:
        async with Host() as host:
            await ping(host, sys.argv[1])
        return
    async with Host(Config(listen="127.0.0.1:0")) as ann, Host(Config(listen="127.0.0.1:0")) as bob:
        ann.handle(SHOUT, shout)
        await ping(bob, str(ann.multiaddrs[0]))
        stream = await bob.open_stream(bob.peers[0], SHOUT)
        stream.write(b"hello")
        stream.close_write()
        print((await stream.read()).decode())


if __name__ == "__main__":
    asyncio.run(main())
