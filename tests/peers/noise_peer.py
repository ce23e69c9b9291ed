"""A Noise peer that is not ours: PyPI's noiseprotocol or dissononce, over blocking sockets.

``noise_peer.py LIBRARY ROLE``: the role is ``listen`` or ``dial``. The settings are a line of JSON on standard input:
``protocol``, ``port`` (to dial), ``static`` (private), ``remote`` (public), ``psk`` in hexadecimal, and ``frames``.
Messages go behind two bytes of length. A listener says its port, shakes hands once and sends each Noise message
back; a dialler sends ``frames`` (plaintexts; the first in the same packet as its last handshake message), and expects
them back. Either says what it knows of the connection.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

Crypt = Callable[[bytes], bytes]
PAYLOAD = b"not ours"


class NoiseProtocolLibrary:
    """PyPI's ``noiseprotocol``."""

    def __init__(self, settings: dict[str, Any], initiator: bool) -> None:
        from noise.connection import Keypair, NoiseConnection

        self.noise = noise = NoiseConnection.from_name(settings["protocol"].encode())
        if settings.get("psk"):
            noise.set_psks(bytes.fromhex(settings["psk"]))
        if settings.get("static"):
            noise.set_keypair_from_private_bytes(Keypair.STATIC, bytes.fromhex(settings["static"]))
        if settings.get("remote"):
            noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, bytes.fromhex(settings["remote"]))
        (noise.set_as_initiator if initiator else noise.set_as_responder)()
        noise.start_handshake()
        self.state = noise.noise_protocol.handshake_state

    @property
    def finished(self) -> bool:
        return bool(self.noise.handshake_finished)

    def write(self) -> bytes:
        return bytes(self.noise.write_message(PAYLOAD))

    def read(self, message: bytes) -> bytes:
        return bytes(self.noise.read_message(message))

    def remote(self) -> str:
        key = getattr(self.state, "rs", None)
        return str(key.public_bytes.hex()) if key is not None and hasattr(key, "public_bytes") else ""

    def hash(self) -> str:
        return str(self.noise.get_handshake_hash().hex())

    def ciphers(self) -> tuple[Crypt, Crypt]:
        return self.noise.encrypt, self.noise.decrypt


class DissononceLibrary:
    """PyPI's ``dissononce``."""

    def __init__(self, settings: dict[str, Any], initiator: bool) -> None:
        from dissononce.dh.x25519.private import PrivateKey
        from dissononce.dh.x25519.public import PublicKey
        from dissononce.dh.x25519.x25519 import X25519DH
        from dissononce.extras.meta.protocol.factory import NoiseProtocolFactory

        protocol = NoiseProtocolFactory().get_noise_protocol(settings["protocol"])
        self.state = protocol.create_handshakestate()
        self.initiator = initiator
        self.split: Any = None
        keys: dict[str, Any] = {}
        if settings.get("static"):
            keys["s"] = X25519DH().generate_keypair(PrivateKey(bytes.fromhex(settings["static"])))
        if settings.get("remote"):
            keys["rs"] = PublicKey(bytes.fromhex(settings["remote"]))
        if settings.get("psk"):
            keys["psks"] = (bytes.fromhex(settings["psk"]),)
        self.state.initialize(handshake_pattern=protocol.pattern, initiator=initiator, prologue=b"", **keys)

    @property
    def finished(self) -> bool:
        return self.split is not None

    def write(self) -> bytes:
        buffer = bytearray()
        self.split = self.state.write_message(PAYLOAD, buffer)
        return bytes(buffer)

    def read(self, message: bytes) -> bytes:
        buffer = bytearray()
        self.split = self.state.read_message(message, buffer)
        return bytes(buffer)

    def remote(self) -> str:
        return str(self.state.rs.data.hex()) if self.state.rs is not None else ""

    def hash(self) -> str:
        return bytes(self.state.symmetricstate.get_handshake_hash()).hex()

    def ciphers(self) -> tuple[Crypt, Crypt]:
        out, back = self.split if self.initiator else reversed(self.split)
        return (lambda data: out.encrypt_with_ad(b"", data)), (lambda data: back.decrypt_with_ad(b"", data))


LIBRARIES: dict[str, Any] = {"noiseprotocol": NoiseProtocolLibrary, "dissononce": DissononceLibrary}


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def framed(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def receive_message(sock: socket.socket) -> bytes:
    return receive(sock, struct.unpack(">H", receive(sock, 2))[0])


def shake_hands(sock: socket.socket, noise: Any, initiator: bool) -> bytes:
    """Return this side's last message, unsent, where it is the last of all, and nothing otherwise."""
    mine, last = initiator, b""
    payloads = []
    while not noise.finished:
        if mine:
            message = framed(noise.write())
            if noise.finished:
                last = message
            else:
                sock.sendall(message)
        else:
            payloads.append(noise.read(receive_message(sock)).decode())
        mine = not mine
    say(hash=noise.hash(), remote=noise.remote(), payloads=payloads)
    return last


def listen(library: Any, settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        say(port=server.getsockname()[1], pid=os.getpid())
        sock, _ = server.accept()
    with sock:
        noise = library(settings, False)
        sock.sendall(shake_hands(sock, noise, False))
        encrypt, decrypt = noise.ciphers()
        try:
            while True:
                sock.sendall(framed(encrypt(decrypt(receive_message(sock)))))
        except EOFError:
            say(ended=True)


def dial(library: Any, settings: dict[str, Any]) -> None:
    with socket.create_connection(("127.0.0.1", settings["port"]), 20) as sock:
        noise = library(settings, True)
        last = shake_hands(sock, noise, True)
        encrypt, decrypt = noise.ciphers()
        frames = [bytes.fromhex(frame) for frame in settings["frames"]]
        sock.sendall(last + b"".join(framed(encrypt(frame)) for frame in frames))
        wanted, got = b"".join(frames), b""
        while len(got) < len(wanted):
            got += decrypt(receive_message(sock))
        say(echoed=got == wanted)


if __name__ == "__main__":
    {"listen": listen, "dial": dial}[sys.argv[2]](LIBRARIES[sys.argv[1]], json.loads(sys.stdin.readline()))
