"""A mesh over mutual TLS with self-signed certificates, in which each device accepts the devices it knows.

Each node makes its key and certificate once, and keeps both in a file that only its owner can read. It accepts the
peers whose ids are pinned. An unknown device is refused, and its fingerprint reported; once that is pinned, it can
connect, without a restart. Run it: ``python examples/tls_mesh.py``
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from pea2pea import Addr, Node, OnConnect, Peer, Raw, Reading, Settings, Topology, connect_nodes
from pea2pea.tls import CertificateRefusedError, TlsConfig, TlsIdentity, TlsNetwork
from pea2pea.tls.certificates import load_or_make_identity


class Member(Node, TlsIdentity, Reading[bytes], OnConnect):
    """Accepts the peers in ``pinned``; ``news`` says who was refused and who has connected."""

    def __init__(self, name: str, directory: Path, pinned: set[str]) -> None:
        tls = TlsConfig(certificate=directory / name, pinned=pinned)
        config = Settings(name=name, listen="127.0.0.1:0", max_connections_per_ip=100)
        super().__init__(**config, network=TlsNetwork(tls, on_refused=self.on_refused))
        self.news: asyncio.Queue[tuple[str, str]] = asyncio.Queue(10)

    def on_refused(self, addr: Addr, error: CertificateRefusedError) -> None:
        # Anyone can cause this call, so what it stores is bounded.
        if error.node_id is not None and not self.news.full():
            self.news.put_nowait(("refused", error.node_id))

    def decoder(self, peer: Peer) -> Raw:
        return Raw()

    async def process_message(self, peer: Peer, message: bytes) -> None:
        """The members send no messages in this example."""

    async def on_connect(self, peer: Peer) -> None:
        await self.news.put(("connected", peer.session.node_id))


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ids = {name: load_or_make_identity(directory / name, name).node_id for name in ("ann", "bob", "cleo", "eve")}
        names = {node_id: name for name, node_id in ids.items()}
        pinned = {ids["ann"], ids["bob"], ids["cleo"]}
        async with (
            Member("ann", directory, pinned) as ann,
            Member("bob", directory, pinned) as bob,
            Member("cleo", directory, pinned) as cleo,
        ):
            await connect_nodes([ann, bob, cleo], Topology.MESH)
            met = sorted([names[(await ann.news.get())[1]] for _ in range(2)])
            print(f"ann is connected with {' and '.join(met)}")
            for _ in range(2):
                async with Member("eve", directory, pinned) as eve:
                    await eve.connect(ann.listening_addr or "127.0.0.1:1")
                    event, node_id = await ann.news.get()
                    print(f"{names[node_id]}: {event}")
                pinned.add(node_id)  # the user has compared it with the id that eve's device shows


if __name__ == "__main__":
    asyncio.run(main())
