"""Peers that let in only who knows a secret, without ever sending it. Run it: ``python examples/handshake.py``.

Each side sends random bytes and proves that it knows the secret by an HMAC over both sides' bytes. The roles are part
of what is hashed, so that nobody passes by sending back what it was sent. It shows the shape of a handshake; it does
not encrypt, and who can change bytes on the way can take the connection over after it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets

from pea2pea import Config, Handshake, HandshakeError, LengthDelimited, Node, Peer, Reading

NONCE_SIZE = 32
PROOF_SIZE = 32


class Guarded(Node, Handshake, Reading[bytes]):
    """Lets in whoever knows the same secret."""

    handshake_timeout = 5.0

    def __init__(self, secret: bytes, config: Config) -> None:
        super().__init__(config)
        self.secret = secret

    def decoder(self, peer: Peer) -> LengthDelimited:
        return LengthDelimited()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        print(f"{peer.addr}: {message!r}")

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Raise unless the other side knows the secret; return bytes that name this connection on both sides."""
        ours = secrets.token_bytes(NONCE_SIZE)
        writer.write(ours)
        theirs = await reader.readexactly(NONCE_SIZE)
        dialler, listener = (theirs, ours) if peer.inbound else (ours, theirs)
        # The dialler proves itself first: a listener that answers strangers would be an oracle for guesses.
        if peer.inbound:
            await self.check(reader, b"dialler" + dialler + listener)
            writer.write(self.proof(b"listener" + dialler + listener))
        else:
            writer.write(self.proof(b"dialler" + dialler + listener))
            await self.check(reader, b"listener" + dialler + listener)
        return self.proof(b"session" + dialler + listener)

    def proof(self, statement: bytes) -> bytes:
        """Only who knows the secret can make this."""
        return hmac.digest(self.secret, statement, "sha256")

    async def check(self, reader: asyncio.StreamReader, statement: bytes) -> None:
        """Raise unless the other side proves ``statement``."""
        if not hmac.compare_digest(await reader.readexactly(PROOF_SIZE), self.proof(statement)):
            raise PermissionError("the other side does not know the secret")


async def main() -> None:
    """Let one in, and turn one away."""
    async with Guarded(b"open sesame", Config(listen="127.0.0.1:0", max_connections_per_ip=2)) as cave:
        assert cave.listening_addr is not None
        async with Guarded(b"open sesame", Config()) as friend, Guarded(b"open barley", Config()) as stranger:
            peer = await friend.connect(cave.listening_addr)
            print(f"friend: in, session {len(peer.session)} bytes")
            try:
                await stranger.connect(cave.listening_addr)
            except HandshakeError as error:
                print(f"stranger: turned away ({type(error.__cause__).__name__})")


if __name__ == "__main__":
    asyncio.run(main())
