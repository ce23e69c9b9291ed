"""A Noise peer of another implementation: PyPI's noiseprotocol or dissononce, over blocking sockets.

``noise_peer.py LIBRARY ROLE``: the role is ``listen`` or ``dial``. The settings are a line of JSON on standard input:
``protocol``, ``port`` (to dial), ``static`` (private), ``remote`` (public), ``psk`` in hexadecimal, ``frames`` and
``confirm``. Messages are preceded by their length in two bytes.

A listener reports its port, performs one handshake and returns each Noise message. A dialler sends ``frames``
(plaintexts; the first in the same packet as its last handshake message) and expects the same bytes, or with
``messages`` the same Noise messages, to be returned. With ``confirm``, the side that reads the last handshake message
sends an empty message, for which the other side waits. Each reports what it knows about the connection, as lines of
JSON.
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


def report(**what: Any) -> None:
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


def perform_handshake(sock: socket.socket, noise: Any, initiator: bool) -> tuple[bytes, bool]:
    """Return this side's last message, unsent, if it is the last of all, and nothing otherwise; and whether it is."""
    mine, last, sends_last = initiator, b"", False
    payloads = []
    while not noise.finished:
        if mine:
            message = framed(noise.write())
            if noise.finished:
                last, sends_last = message, True
            else:
                sock.sendall(message)
        else:
            payloads.append(noise.read(receive_message(sock)).decode())
        mine = not mine
    report(hash=noise.hash(), remote=noise.remote(), payloads=payloads)
    return last, sends_last


def connect(sock: socket.socket, noise: Any, settings: dict[str, Any], initiator: bool) -> tuple[bytes, Crypt, Crypt]:
    """Perform the handshake and the confirmation. Return what is still to be sent, and the ciphers."""
    unsent, sends_last = perform_handshake(sock, noise, initiator)
    encrypt, decrypt = noise.ciphers()
    if settings.get("confirm") and sends_last:
        sock.sendall(unsent)
        unsent = b""
        report(confirmation=len(decrypt(receive_message(sock))))
    elif settings.get("confirm"):
        unsent = framed(encrypt(b""))
    return unsent, encrypt, decrypt


def listen(library: Any, settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        report(port=server.getsockname()[1], pid=os.getpid())
        sock, _ = server.accept()
    with sock:
        unsent, encrypt, decrypt = connect(sock, library(settings, False), settings, False)
        sock.sendall(unsent)
        try:
            while True:
                sock.sendall(framed(encrypt(decrypt(receive_message(sock)))))
        except EOFError:
            report(ended=True)


def dial(library: Any, settings: dict[str, Any]) -> None:
    with socket.create_connection(("127.0.0.1", settings["port"]), 20) as sock:
        unsent, encrypt, decrypt = connect(sock, library(settings, True), settings, True)
        frames = [bytes.fromhex(frame) for frame in settings["frames"]]
        sock.sendall(unsent + b"".join(framed(encrypt(frame)) for frame in frames))
        if settings.get("messages"):
            report(echoed=[decrypt(receive_message(sock)) for _ in frames] == frames)
            return
        wanted, got = b"".join(frames), b""
        while len(got) < len(wanted):
            got += decrypt(receive_message(sock))
        report(echoed=got == wanted)


if __name__ == "__main__":
    {"listen": listen, "dial": dial}[sys.argv[2]](LIBRARIES[sys.argv[1]], json.loads(sys.stdin.readline()))
