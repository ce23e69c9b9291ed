"""Throughput of one connection between two processes: in plaintext, and with each cipher of Noise.

Run it: ``python bench/noise.py [--size BYTES] [--seconds S] [--rounds N] [--loop asyncio|uvloop]``. Prints one JSON
object a line: the median of the rounds, which take turns so that a busy moment of the machine hits all alike. With
the ``openssl`` command there, what it says of the same ciphers for blocks of 16 KiB, and how we compare.
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
import time
from collections.abc import Coroutine
from typing import Any

from pea2pea import Config, Decoder, Encoder, LengthDelimited, Node, Peer, Reading, Writing
from pea2pea.noise import KeyPair, NoiseConfig, NoiseHandshake

#: What openssl calls the ciphers.
CIPHERS = {"AESGCM": "aes-256-gcm", "ChaChaPoly": "chacha20-poly1305"}
WARM_UP = 0.3


class Plain(Node, Reading[bytes], Writing[bytes]):
    """Counts what comes."""

    write_queue_depth = 16

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.seconds = 0.0
        self.begun = 0.0
        self.count = 0
        self.rate = asyncio.get_running_loop().create_future()

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        now = time.perf_counter()
        if not self.begun:
            self.begun = now + WARM_UP
        elif now >= self.begun:
            self.count += len(message)
            if now >= self.begun + self.seconds and not self.rate.done():
                self.rate.set_result(self.count / (now - self.begun))


class Sealed(Plain, NoiseHandshake):
    """The same, encrypted."""

    protocol = ""
    key = KeyPair.generate()

    def noise(self, peer: Peer) -> NoiseConfig:
        return NoiseConfig(protocol=self.protocol, static_key=self.key)

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return peer.session.decoder(LengthDelimited())  # type: ignore[no-any-return]

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return peer.session.encoder(LengthDelimited())  # type: ignore[no-any-return]


def new_node(cipher: str, config: Config) -> Plain:
    if cipher not in CIPHERS:
        return Plain(config)
    node = Sealed(config)
    node.protocol = f"Noise_XX_25519_{cipher}_SHA256"
    return node


async def receive(cipher: str, seconds: float) -> None:
    """Say where to connect to, and then how many bytes came in a second."""
    async with new_node(cipher, Config(listen="127.0.0.1:0")) as node:
        node.seconds = seconds
        print(node.listening_addr, flush=True)
        print(await node.rate, flush=True)


async def send(cipher: str, addr: str, size: int) -> None:
    """Send until nobody listens any more."""
    async with new_node(cipher, Config()) as node:
        peer = await node.connect(addr)
        message = bytes(size)
        try:
            while True:
                await node.send(peer, message)
        except ConnectionError:
            return


def measure(cipher: str, options: argparse.Namespace) -> float:
    """Bytes per second of one connection, each end a process."""
    base = [sys.executable, __file__, "--loop", options.loop, "--size", str(options.size), "--cipher", cipher]
    with subprocess.Popen(
        [*base, "--seconds", str(options.seconds), "--receive"], stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        addr = receiver.stdout.readline().strip()
        with subprocess.Popen([*base, "--send", addr], stderr=subprocess.DEVNULL) as sender:
            rate = float(receiver.stdout.readline())
            sender.wait(20)
    return rate


def openssl(cipher: str) -> float | None:
    """What openssl encrypts in a second."""
    if shutil.which("openssl") is None:
        return None
    command = ["openssl", "speed", "-seconds", "1", "-bytes", "16384", "-evp", CIPHERS[cipher]]
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
    rates: dict[str, list[float]] = {kind: [] for kind in ("plaintext", *CIPHERS)}
    for _ in range(options.rounds):
        for kind, found in rates.items():
            found.append(measure(kind, options))
    for kind, found in rates.items():
        rate = statistics.median(found)
        line: dict[str, object] = {"what": kind, "loop": options.loop, "message": options.size}
        line["MB_s"] = round(rate / 1e6)
        speed = openssl(kind) if kind in CIPHERS else None
        if speed:
            line |= {"openssl_MB_s": round(speed / 1e6), "of_openssl": round(rate / speed, 2)}
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=64 * 1024)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--cipher", default="plaintext", help=argparse.SUPPRESS)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--send", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        run(receive(options.cipher, options.seconds), options.loop)
    elif options.send:
        run(send(options.cipher, options.send, options.size), options.loop)
    else:
        report(options)


if __name__ == "__main__":
    main()
