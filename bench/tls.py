"""Throughput of one connection between two processes: in plaintext, and over TLS 1.3 with both sides' certificates.

Run it: ``python bench/tls.py [--size BYTES] [--seconds S] [--rounds N] [--loop asyncio|uvloop]``. Prints one JSON
object a line: the median of the rounds, which take turns so that a busy moment of the machine hits all alike. With
the ``openssl`` command there, what it says of the same cipher for blocks of 16 KiB, and how we compare.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pea2pea import Config, LengthDelimited, Node, Peer, Reading, Writing
from pea2pea.tls import TlsConfig, TlsNetwork
from pea2pea.tls.certificates import Identity

KINDS = ("plaintext", "tls")
#: What both sides' OpenSSL prefers.
CIPHER = "aes-256-gcm"
WARM_UP = 0.3


class Counter(Node, Reading[bytes], Writing[bytes]):
    """Counts what comes."""

    write_queue_depth = 16

    def __init__(self, config: Config, network: TlsNetwork | None, seconds: float = 0.0) -> None:
        super().__init__(config, network=network)
        self.seconds = seconds
        self.begun = 0.0
        self.count = 0
        self.rate = asyncio.get_running_loop().create_future()

    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes | bytearray) -> None:
        now = time.perf_counter()
        if not self.begun:
            self.begun = now + WARM_UP
        elif now >= self.begun:
            self.count += len(message)
            if now >= self.begun + self.seconds and not self.rate.done():
                self.rate.set_result(self.count / (now - self.begun))


def network(kind: str, identity: str) -> TlsNetwork | None:
    return TlsNetwork(TlsConfig(certificate=identity, trusted=(identity,))) if kind == "tls" else None


async def receive(options: argparse.Namespace) -> None:
    """Say where to connect to, and then how many bytes came in a second."""
    config = Config(listen="127.0.0.1:0")
    async with Counter(config, network(options.kind, options.identity), options.seconds) as node:
        print(node.listening_addr, flush=True)
        print(await node.rate, flush=True)


async def send(options: argparse.Namespace) -> None:
    """Send until nobody listens any more."""
    async with Counter(Config(), network(options.kind, options.identity)) as node:
        peer = await node.connect(options.send)
        message = bytes(options.size)
        try:
            while True:
                await node.send(peer, message)
        except ConnectionError:
            return


def measure(kind: str, options: argparse.Namespace) -> float:
    """Bytes per second of one connection, each end a process."""
    base = [sys.executable, __file__, "--loop", options.loop, "--size", str(options.size), "--kind", kind]
    base += ["--identity", options.identity, "--seconds", str(options.seconds)]
    with subprocess.Popen([*base, "--receive"], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        addr = receiver.stdout.readline().strip()
        with subprocess.Popen([*base, "--send", addr], stderr=subprocess.DEVNULL) as sender:
            rate = float(receiver.stdout.readline())
            sender.wait(20)
    return rate


def openssl() -> float | None:
    """What openssl encrypts in a second."""
    if shutil.which("openssl") is None:
        return None
    command = ["openssl", "speed", "-seconds", "1", "-bytes", "16384", "-evp", CIPHER]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"([\d.]+)k\s*$", said)
    return float(found[1]) * 1000 if found else None


def run(work: Coroutine[Any, Any, None], loop: str) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


def report(options: argparse.Namespace) -> None:
    """Measure all, and print it."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    speeds: list[float] = []
    for _ in range(options.rounds):
        for kind, found in rates.items():
            found.append(measure(kind, options))
        speeds += filter(None, [openssl()])
    for kind, found in rates.items():
        rate = statistics.median(found)
        line: dict[str, object] = {"what": kind, "loop": options.loop, "message": options.size}
        line["MB_s"] = round(rate / 1e6)
        if speeds and kind != "plaintext":
            speed = statistics.median(speeds)
            line |= {"openssl_MB_s": round(speed / 1e6), "of_openssl": round(rate / speed, 2)}
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=64 * 1024)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help=argparse.SUPPRESS)
    parser.add_argument("--identity", help=argparse.SUPPRESS)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--send", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        run(receive(options), options.loop)
    elif options.send:
        run(send(options), options.loop)
    else:
        with tempfile.TemporaryDirectory() as directory:
            options.identity = str(Path(directory) / "identity.pem")
            Identity.make(hosts=("127.0.0.1",)).save(options.identity)
            report(options)


if __name__ == "__main__":
    main()
