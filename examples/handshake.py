"""Nodes that only accept peers with the same secret, without ever sending it. Run it: ``python examples/handshake.py``.

Each side sends random bytes, and proves that it knows the secret by an HMAC over both sides' bytes. The roles are part
of what is hashed, so that sending back what was received proves nothing. The example shows the shape of a handshake; it
does not encrypt, and anyone who can modify the traffic can take over the connection after it.
"""

import asyncio
import hmac
import secrets
from typing import Unpack

from pea2pea import Frames, Handshake, HandshakeError, LengthDelimited, Node, Peer, Reading, Settings

NONCE_SIZE = 32
#: The messages of the handshake: nonces and proofs, which have the same size.
STEPS = LengthDelimited(length_size=1, max_frame=NONCE_SIZE)


class Guarded(Node, Handshake[bytes], Reading[bytes]):
    """Accepts peers that know the same secret. ``peer.session`` names the connection on both sides."""

    handshake_timeout = 5.0
    codec = LengthDelimited()

    def __init__(self, secret: bytes, **settings: Unpack[Settings]) -> None:
        super().__init__(**settings)
        self.secret = secret

    async def process_message(self, peer: Peer[bytes], message: bytes) -> None:
        print(f"{peer.addr}: {message!r}")

    async def handshake(self, peer: Peer[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Raise unless the other side knows the secret; return bytes that name this connection on both sides."""
        frames = Frames(reader, writer, STEPS)
        ours = secrets.token_bytes(NONCE_SIZE)
        await frames.send(ours)
        theirs = await frames.receive()
        nonces = theirs + ours if peer.inbound else ours + theirs
        # The dialler proves itself first: a listener that answers strangers would help them to guess.
        if peer.inbound:
            self.check(await frames.receive(), b"dialler" + nonces)
            await frames.send(self.proof(b"listener" + nonces))
        else:
            await frames.send(self.proof(b"dialler" + nonces))
            self.check(await frames.receive(), b"listener" + nonces)
        return self.proof(b"session" + nonces)

    def proof(self, statement: bytes) -> bytes:
        """Return what only a node with the secret can make."""
        return hmac.digest(self.secret, statement, "sha256")

    def check(self, proof: bytes, statement: bytes) -> None:
        """Raise unless ``proof`` proves ``statement``."""
        if not hmac.compare_digest(proof, self.proof(statement)):
            raise PermissionError("the other side does not know the secret")


async def main() -> None:
    """Accept one peer, and refuse another."""
    async with (
        Guarded(b"open sesame", listen="127.0.0.1:0") as cave,
        Guarded(b"open sesame") as friend,
        Guarded(b"open barley") as stranger,
    ):
        peer = await friend.connect(cave.address)
        print(f"friend: accepted, session {len(peer.session)} bytes")
        try:
            await stranger.connect(cave.address)
        except HandshakeError as error:
            print(f"stranger: refused ({type(error.__cause__).__name__})")


if __name__ == "__main__":
    asyncio.run(main())
