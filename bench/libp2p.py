"""Throughput of one stream over TCP, Noise and Yamux between two processes: this library and py-libp2p, in turns.

Run it: ``python -m bench.libp2p [--mib N] [--rounds N]``, after ``make test-interop``, which installs py-libp2p. Prints
one JSON object per line: the median of each library's rounds, and how many times faster this library is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pea2pea.libp2p import Host, Stream

ROOT = Path(__file__).parent.parent
PY_PEER = [str(ROOT / path) for path in ("build/interop/py/bin/python", "tests/interop/py/peer.py")]
OUR_PEER = [sys.executable, __file__]

BYTES = "/pea2pea/bytes/1.0.0"
MIB = 1024 * 1024
PART = 64 * 1024


class NoiseHost(Host):
    """Uses only Noise, as the py-libp2p peer does."""

    security = ("/noise",)


def say(**event: object) -> None:
    print(json.dumps(event), flush=True)


async def serve(size: int) -> None:
    """Send ``size`` bytes on every stream, until stdin ends."""
    part = bytes(PART)

    async def some_bytes(stream: Stream) -> None:
        for _ in range(0, size, PART):
            stream.write(part)
            await stream.drain()

    async with NoiseHost(listen="127.0.0.1:0") as host:
        host.handle(BYTES, some_bytes)
        say(event="ready", address=str(host.multiaddrs[0]))
        await asyncio.to_thread(sys.stdin.read)


async def fetch(address: str) -> None:
    """Request the bytes, and report the time it took."""
    async with NoiseHost() as host:
        stream = await host.open_stream(await host.dial(address), BYTES)
        begin, count = time.perf_counter(), 0
        while part := await stream.read(MIB):
            count += len(part)
        say(event="fetched", bytes=count, seconds=time.perf_counter() - begin)


def measure(peer: list[str], size: int) -> float:
    """Return the rate from one process to another, in bytes per second."""
    command = [*peer, "serve-bytes", str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            address = json.loads(server.stdout.readline())["address"]
            done = subprocess.run(
                [*peer, "fetch-bytes", address], capture_output=True, text=True, timeout=300, check=True
            )
        finally:
            server.stdin.close()
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["bytes"] == size
    return size / float(result["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"pea2pea": [], "py-libp2p": []}
    for _ in range(options.rounds):
        for name, peer in (("pea2pea", OUR_PEER), ("py-libp2p", PY_PEER)):
            rates[name].append(measure(peer, options.mib * MIB))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        say(name=name, mb_per_second=round(rate / 1e6, 1), all=[round(each / 1e6, 1) for each in rates[name]])
    say(times_faster=round(medians["pea2pea"] / medians["py-libp2p"], 1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve-bytes"]:
        asyncio.run(serve(int(sys.argv[2])))
    elif sys.argv[1:2] == ["fetch-bytes"]:
        asyncio.run(fetch(sys.argv[2]))
    else:
        main()
