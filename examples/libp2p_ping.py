"""Ping a libp2p peer: ``python examples/libp2p_ping.py /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW...``

It pings any peer that supports TCP, Noise or TLS, and Yamux: js-libp2p, py-libp2p, go-libp2p, rust-libp2p. Without an
address, one host of this program pings another, and opens a stream with a protocol of its own.
"""

from __future__ import annotations

import asyncio
import sys

from pea2pea.libp2p import Host, Stream

SHOUT = "/shout/1.0.0"


async def shout(stream: Stream) -> None:
    """Answer in upper case. The stream is closed when the handler returns."""
    stream.write((await stream.read()).upper())


async def ping(host: Host, address: str) -> None:
    """Dial, identify the peer and ping it three times. If the address has a peer id, another peer is refused."""
    peer = await host.dial(address)
    them = await host.identify(peer)
    print(f"{host.remote_id(peer)} is {them.agent_version or 'unnamed'}, and supports {', '.join(them.protocols)}")
    for _ in range(3):
        print(f"ping: {await host.ping(peer) * 1000:.1f} ms")


async def main() -> None:
    if len(sys.argv) > 1:
        async with Host() as host:
            await ping(host, sys.argv[1])
        return
    async with Host(listen="127.0.0.1:0") as ann, Host(listen="127.0.0.1:0") as bob:
        ann.handle(SHOUT, shout)
        await ping(bob, str(ann.multiaddrs[0]))
        stream = await bob.open_stream(bob.peers[0], SHOUT)
        stream.write(b"hello")
        stream.close_write()
        print((await stream.read()).decode())


if __name__ == "__main__":
    asyncio.run(main())
