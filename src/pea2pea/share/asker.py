"""A node that asks others what they share, and does not share anything itself. Imports asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pea2pea import Addr, ConnectError, Handshake, Node, Peer, Settings

from .errors import PeerFaultError, ShareError, why_unreachable
from .exchange import end, exchange_hellos
from .security import Channel
from .tree import Target
from .wire import Hello


class Asker(Node, Handshake):
    """A node that asks others what they share. ``options`` are those of :class:`~pea2pea.Node`."""

    def __init__(self, config: Settings, channel: Channel | None = None, **options: Any) -> None:
        self._channel = channel or Channel()
        super().__init__(**{**config, **self._channel.options, **options})

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Target:
        """Return what the peer shares. Raises :class:`PeerFaultError` if it shares nothing."""
        seal = await self._channel.secure(peer, reader, writer)
        hello = await exchange_hellos(Hello(None), reader, writer, seal)
        if hello.target is None:
            raise PeerFaultError("the other side shares nothing")
        return hello.target

    async def ask(self, addr: Addr, root: bytes | None) -> Target:
        """Return what is shared at ``addr``.

        Raises :class:`ShareError` if nothing is, or a file whose root hash is not ``root``.
        """
        try:
            peer = await self.connect(addr)
        except ConnectError as error:
            raise ShareError(f"cannot reach {addr}: {self._why(error)}") from error
        target: Target = peer.session
        await self.disconnect(peer)
        if root is not None and target.root != root:
            raise ShareError(f"{addr} shares another file: its root hash is {target.root.hex()}, not {root.hex()}")
        return target

    def _why(self, error: ConnectError) -> str:
        cause = error.__cause__
        return (self._channel.explain(cause) if cause is not None else "") or why_unreachable(error)

    async def ask_all(self, addrs: Iterable[Addr], root: bytes | None) -> Target:
        """Ask all of ``addrs`` at once and return the first answer.

        Raises :class:`ShareError`, with the reason for each address, if none answers.
        """
        problems: list[str] = []
        tasks = [asyncio.create_task(self.ask(addr, root)) for addr in dict.fromkeys(addrs)]
        try:
            for answer in asyncio.as_completed(tasks):
                try:
                    return await answer
                except ShareError as error:
                    problems.append(str(error))
        finally:
            await end(tasks)
        raise ShareError("; ".join(problems))
