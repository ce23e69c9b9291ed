"""A network whose connections are TLS from their first byte. May import asyncio and ssl."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

from ..addr import Addr
from ..errors import ConfigError
from ..network import Incoming, Listener, Network, Socket, TcpNetwork
from .config import TlsConfig
from .transport import TlsWire


class TlsNetwork(Network):
    """TLS over another network, TCP unless one is given. Give it to a node: ``Node(config, network=TlsNetwork(...))``.

    A connection counts as made when both sides' certificates are checked; the node's ``connect_timeout`` bounds all of
    it. Files are read here. Raises :class:`CertificateFileError`, or ``OSError`` where one cannot be read.
    """

    def __init__(self, config: TlsConfig, network: Network | None = None) -> None:
        self.config = config
        self._network = network or TcpNetwork()
        self._dialling = config.context(server=False)
        self._listening = config.context(server=True) if config.certificate is not None else None

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        """As of any network. Raises :class:`ConfigError` without a certificate."""
        if self._listening is None:
            raise ConfigError("certificate", "is not set, and listening needs it")
        listener = await self._network.listen(addr, backlog=backlog, reuse_port=reuse_port)
        return TlsListener(listener, self._listening, self.config)

    async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: Socket | None = None) -> None:
        name = (self.config.server_name or addr.host) if self.config.check_name else None
        wire = TlsWire(protocol, self._dialling, self.config.check, server_name=name)
        await _attach(wire, self._network.dial(addr, wire, sock=sock))

    async def resolve(self, addr: Addr) -> Addr:
        return await self._network.resolve(addr)


class TlsListener(Listener):
    """A listener of the network below, whose connections are to be TLS."""

    __slots__ = ("_config", "_context", "_listener")

    def __init__(self, listener: Listener, context: ssl.SSLContext, config: TlsConfig) -> None:
        self.addr = listener.addr
        self._listener = listener
        self._context = context
        self._config = config

    def accept(self) -> Incoming | None:
        incoming = self._listener.accept()
        return TlsIncoming(incoming, self._context, self._config) if incoming is not None else None

    async def ready(self) -> None:
        await self._listener.ready()

    def close(self) -> None:
        self._listener.close()


class TlsIncoming(Incoming):
    """A connection that was accepted; TLS begins when it is opened."""

    __slots__ = ("_config", "_context", "_incoming")

    def __init__(self, incoming: Incoming, context: ssl.SSLContext, config: TlsConfig) -> None:
        self.addr = incoming.addr
        self._incoming = incoming
        self._context = context
        self._config = config

    async def open(self, protocol: asyncio.BaseProtocol) -> None:
        wire = TlsWire(protocol, self._context, self._config.check, server=True)
        await _attach(wire, self._incoming.open(wire))

    def reject(self) -> None:
        self._incoming.reject()


async def _attach(wire: TlsWire, attaching: Coroutine[Any, Any, None]) -> None:
    try:
        await attaching
        await wire.handshaken()
    except BaseException:
        await wire.give_up()
        raise
