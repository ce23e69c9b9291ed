"""A mesh over TLS, in which everybody signs for himself: who is known by his certificate is let in, and nobody else.

Each node makes its key and certificate once, keeps both in a file that only its owner can read, and passes the
certificate round. Run it: ``python examples/tls_mesh.py``
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from pea2pea import Config, DisconnectReason, Node, OnDisconnect, Peer, Raw, Reading, Topology, connect_nodes
from pea2pea.tls import TlsConfig, TlsIdentity, TlsNetwork
from pea2pea.tls.certificates import load_or_make_identity


class Member(Node, TlsIdentity, Reading[bytes], OnDisconnect):
    """Knows its peers by their keys: ``peer.session.node_id``."""

    def __init__(self, name: str, directory: Path, trusted: tuple[str, ...]) -> None:
        # A certificate is for a key here, and not for an address.
        tls = TlsConfig(certificate=directory / name, trusted_pem=trusted, check_name=False)
        config = Config(name=name, listen="127.0.0.1:0", max_connections_per_ip=100)
        super().__init__(config, network=TlsNetwork(tls))
        self.left: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def decoder(self, peer: Peer) -> Raw:
        return Raw()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        """Nothing is said in this example."""

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        if not self.left.done():
            self.left.set_result(reason.exception)


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        known = {name: load_or_make_identity(directory / name, name) for name in ("ann", "bob", "cleo")}
        certificates = tuple(identity.certificate_pem for identity in known.values())
        load_or_make_identity(directory / "eve", "eve")
        async with (
            Member("ann", directory, certificates) as ann,
            Member("bob", directory, certificates) as bob,
            Member("cleo", directory, certificates) as cleo,
            Member("eve", directory, certificates) as eve,
        ):
            await connect_nodes([ann, bob, cleo], Topology.MESH)
            ids = {identity.node_id for identity in known.values()}
            assert {peer.session.node_id for node in (ann, bob, cleo) for peer in node.peers} == ids
            print("ann and bob and cleo know each other")
            assert ann.listening_addr is not None
            await eve.connect(ann.listening_addr)  # in TLS 1.3 a dialler is told a moment later that it is refused
            error = await eve.left
            print(f"eve is turned away by ann: {type(error).__name__}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
