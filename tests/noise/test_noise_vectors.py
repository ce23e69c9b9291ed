"""Every public test vector of an interactive pattern: same messages, same plaintexts, same hash, on both sides."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pea2pea.noise import HandshakeState, KeyPair, NoiseProtocol
from pea2pea.noise.patterns import MESSAGES

VECTORS = Path(__file__).parents[1] / "data" / "noise"
#: How many vectors of interactive patterns each file has.
COUNTS = {"cacophony": 848, "snow": 384}
ONE_WAY = ("N", "K", "X", "Npsk0", "Kpsk0", "Xpsk1")

Vector = dict[str, Any]


@cache
def vectors(file: str) -> dict[str, list[Vector]]:
    """The vectors of one file, by pattern."""
    found = defaultdict(list)
    for vector in json.loads((VECTORS / f"{file}.txt").read_text(encoding="utf-8"))["vectors"]:
        name = vector["protocol_name"].split("_")[1]
        if name not in ONE_WAY:
            found[name].append(vector)
    return found


def cases() -> Iterator[tuple[str, str]]:
    for file in COUNTS:
        for name in vectors(file):
            yield file, name


def side(vector: Vector, role: str) -> HandshakeState:
    protocol = NoiseProtocol.of(vector["protocol_name"])

    def raw(name: str) -> bytes | None:
        text = vector.get(f"{role}_{name}")
        return bytes.fromhex(text) if text else None

    def pair(name: str) -> KeyPair | None:
        private = raw(name)
        return KeyPair.from_private(private, protocol.curve) if private else None

    return HandshakeState(
        protocol,
        initiator=role == "init",
        prologue=raw("prologue") or b"",
        static=pair("static"),
        ephemeral=pair("ephemeral"),
        remote_static=raw("remote_static"),
        psks=[bytes.fromhex(psk) for psk in vector.get(f"{role}_psks", [])],
    )


def check(vector: Vector) -> None:
    sides = side(vector, "init"), side(vector, "resp")
    ciphers = None
    for number, message in enumerate(vector["messages"]):
        payload, expected = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        writer, reader = number % 2, 1 - number % 2
        if not sides[0].finished:
            assert sides[writer].write_message(payload) == expected
            assert sides[reader].read_message(expected) == payload
            continue
        ciphers = ciphers or (sides[0].split(), sides[1].split())
        assert ciphers[writer][0].encrypt(b"", payload) == expected
        assert ciphers[reader][1].decrypt(b"", expected) == payload
    assert ciphers is not None
    assert sides[0].handshake_hash == sides[1].handshake_hash
    if "handshake_hash" in vector:
        assert sides[0].handshake_hash.hex() == vector["handshake_hash"]
    check_statics(vector, *sides)


def check_statics(vector: Vector, initiator: HandshakeState, responder: HandshakeState) -> None:
    """Each side knows the other's key, if the pattern has one for it."""
    wanted = initiator.protocol.pattern
    for one, role, is_initiator in ((responder, "init", True), (initiator, "resp", False)):
        private = bytes.fromhex(vector.get(f"{role}_static", ""))
        if not wanted.has_static(initiator=is_initiator):
            assert one.remote_static is None
        else:
            assert one.remote_static == KeyPair.from_private(private, one.protocol.curve).public


@pytest.mark.parametrize(("file", "pattern"), list(cases()))
def test_every_vector_of_the_pattern(file: str, pattern: str) -> None:
    for vector in vectors(file)[pattern]:
        check(vector)


@pytest.mark.parametrize("file", COUNTS)
def test_no_vector_is_left_out(file: str) -> None:
    assert sum(map(len, vectors(file).values())) == COUNTS[file]
    plain = {name.partition("psk")[0] for name in vectors(file)}
    assert plain == set(MESSAGES)
