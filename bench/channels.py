"""Throughput of one connection between two processes: in plaintext, over Noise with each of its ciphers, over TLS 1.3.

Run it: ``python bench/channels.py [--size BYTES] [--mib N] [--rounds N] [--loops asyncio uvloop] [--only KIND ...]``.
All kinds take turns, so that a busy moment of the machine affects all alike. So does the ``openssl`` command, if it is
installed, with its own speed test of each cipher for blocks of 16 KiB. Prints one JSON object per line, of medians: the
rate, its ratio to openssl's, and the processor time of each side in seconds per gigabyte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pea2pea import Decoder, Encoder, LengthDelimited, Node, Peer, Reading, Settings, Writing
from pea2pea.noise import KeyPair, NoiseConfig, NoiseHandshake
from pea2pea.tls import TlsConfig, TlsNetwork
from pea2pea.tls.certificates import Identity

#: openssl's name for the cipher of each kind. For TLS it is the cipher that both sides' OpenSSL prefers.
CIPHERS = {"AESGCM": "aes-256-gcm", "ChaChaPoly": "chacha20-poly1305", "TLS": "aes-256-gcm"}
KINDS = ("plaintext", *CIPHERS)
LOOPS = ("asyncio", "uvloop") if find_spec("uvloop") else ("asyncio",)
MIB = 1024 * 1024
#: Bytes sent before the measurement.
WARM_UP = 128 * MIB


class Clock:
    """Measures the time of this process, from the end of the first ``WARM_UP`` bytes on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.first = WARM_UP // options.size
        self.last = self.first + options.mib * MIB // options.size
        self.count = 0
        self._begun = (0.0, 0.0)
        self._gigabytes = (self.last - self.first) * options.size / 1e9

    def tick(self) -> None:
        """Count one message."""
        self.count += 1
        if self.count == self.first:
            self._begun = time.perf_counter(), time.process_time()

    def report(self) -> None:
        """Print the seconds per gigabyte, and the seconds of processor time."""
        taken = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        print(json.dumps([seconds / self._gigabytes for seconds in taken]), flush=True)


class Plain(Node, Reading[bytes], Writing[bytes]):
    """Counts the messages it receives."""

    write_queue_depth = 16

    def __init__(self, config: Settings, options: argparse.Namespace, network: TlsNetwork | None = None) -> None:
        super().__init__(**config, network=network)
        self.clock = Clock(options)
        self.done = asyncio.Event()

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return LengthDelimited()

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        self.clock.tick()
        if self.clock.count == self.clock.last:
            self.clock.report()
            self.done.set()


class Sealed(Plain, NoiseHandshake):
    """Counts the messages it receives over Noise."""

    protocol = ""
    key = KeyPair.generate()

    def noise(self, peer: Peer) -> NoiseConfig:
        return NoiseConfig(protocol=self.protocol, static_key=self.key)

    def decoder(self, peer: Peer) -> Decoder[bytes]:
        return peer.session.decoder(LengthDelimited())  # type: ignore[no-any-return]

    def encoder(self, peer: Peer) -> Encoder[bytes]:
        return peer.session.encoder(LengthDelimited())  # type: ignore[no-any-return]


def new_node(config: Settings, options: argparse.Namespace) -> Plain:
    """Return a node of the kind ``options.kind``."""
    if options.kind == "plaintext":
        return Plain(config, options)
    if options.kind == "TLS":
        own = TlsConfig(certificate=options.identity, trusted=(options.identity,))
        return Plain(config, options, TlsNetwork(own))
    node = Sealed(config, options)
    node.protocol = f"Noise_XX_25519_{options.kind}_SHA256"
    return node


async def receive(options: argparse.Namespace) -> None:
    """Print the address to connect to, then receive everything and print the times."""
    async with new_node(Settings(listen="127.0.0.1:0"), options) as node:
        print(node.listening_addr, flush=True)
        await node.done.wait()


async def send(options: argparse.Namespace) -> None:
    """Send everything, and print the times."""
    async with new_node(Settings(), options) as node:
        peer = await node.connect(options.send)
        message = bytes(options.size)
        while node.clock.count < node.clock.last:
            await node.send(peer, message)
            node.clock.tick()
        await node.flush(peer)
        node.clock.report()
        await node.done.wait()


def measure(kind: str, loop: str, options: argparse.Namespace) -> dict[str, float]:
    """Measure one connection between two processes."""
    base = [sys.executable, __file__, "--loops", loop, "--size", str(options.size), "--mib", str(options.mib)]
    base += ["--kind", kind, "--identity", options.identity]
    with subprocess.Popen([*base, "--receive"], stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        addr = receiver.stdout.readline().strip()
        with subprocess.Popen([*base, "--send", addr], stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdout is not None
            _, sending = json.loads(sender.stdout.readline())
            seconds, receiving = json.loads(receiver.stdout.readline())
            sender.terminate()
    return {"GB_s": 1 / seconds, "sender_s_per_GB": sending, "receiver_s_per_GB": receiving}


def openssl(cipher: str) -> float:
    """Return how many gigabytes openssl encrypts per second."""
    command = ["openssl", "speed", "-seconds", "1", "-bytes", "16384", "-evp", cipher]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"([\d.]+)k\s*$", output)
    assert found is not None
    return float(found[1]) / 1e6


def report(options: argparse.Namespace) -> None:
    """Measure everything, and print the results."""
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    speeds: dict[str, list[float]] = defaultdict(list)
    ciphers = {CIPHERS[kind] for kind in options.only if kind in CIPHERS} if shutil.which("openssl") else set()
    loads = [os.getloadavg()[0]]
    for _ in range(options.rounds):
        for kind in options.only:
            for loop in options.loops:
                found[kind, loop].append(measure(kind, loop, options))
        for cipher in ciphers:
            speeds[cipher].append(openssl(cipher))
        loads.append(os.getloadavg()[0])
    for (kind, loop), measured in found.items():
        line: dict[str, Any] = {"what": kind, "loop": loop, "message": options.size}
        line |= {name: statistics.median(each[name] for each in measured) for name in measured[0]}
        if speeds[CIPHERS.get(kind, "")]:
            line["openssl_GB_s"] = statistics.median(speeds[CIPHERS[kind]])
            line["of_openssl"] = line["GB_s"] / line["openssl_GB_s"]
        print(json.dumps({name: round(it, 2) if isinstance(it, float) else it for name, it in line.items()}))
    print(json.dumps({"rounds": options.rounds, "load": [round(load, 1) for load in loads]}))


def run(work: Coroutine[Any, Any, None], loop: str) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=64 * 1024)
    parser.add_argument("--mib", type=int, default=1024, help="MiB to measure, after the warm-up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--identity", help=argparse.SUPPRESS)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--send", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        run(receive(options), options.loops[0])
    elif options.send:
        run(send(options), options.loops[0])
    else:
        with tempfile.TemporaryDirectory() as directory:
            options.identity = str(Path(directory) / "identity.pem")
            Identity.make(hosts=("127.0.0.1",)).save(options.identity)
            report(options)


if __name__ == "__main__":
    main()
