"""A network whose connections use TLS from their first byte. May import asyncio and logging."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from ..addr import Addr
from ..errors import ConfigError
from ..network import Abilities, Incoming, Listener, Network, Socket
from ..tcp import TcpNetwork
from .config import TlsConfig
from .errors import CertificateRefusedError
from .session import TlsContext
from .wire import TlsWire

logger: logging.Logger = logging.getLogger("pea2pea")

#: Called with the address of an inbound connection and the reason why its certificate was refused.
OnRefused = Callable[[Addr, CertificateRefusedError], object]


class TlsNetwork(Network):
    """TLS over another network, by default TCP. Pass it to a node: ``Node(network=TlsNetwork(...))``.

    ``on_refused`` is called for each inbound connection whose certificate is refused; the error has the peer's ids, see
    :class:`CertificateRefusedError`. Anyone who can connect can cause calls, so it must be fast, and what it stores
    must be bounded. For a dialled connection, ``connect`` raises the error.

    ``connect`` returns when the TLS handshake is finished; ``connect_timeout`` includes it. The files are read here.
    Raises :class:`CertificateFileError`, ``OSError`` if one cannot be read, and ``ImportError`` for ``pinned`` without
    pyOpenSSL.
    """

    def __init__(
        self, config: TlsConfig, network: Network | None = None, *, on_refused: OnRefused | None = None
    ) -> None:
        self.config: TlsConfig = config
        self._network = network or TcpNetwork()
        self._on_refused = on_refused
        self._dialling = config.context(server=False)
        self._listening = config.context(server=True) if config.certificate is not None else None

    async def listen(self, addr: Addr, *, backlog: int, reuse_port: bool) -> Listener:
        """As in any network. Raises :class:`ConfigError` if there is no certificate."""
        if self._listening is None:
            raise ConfigError("certificate", "must be set in order to listen")
        listener = await self._network.listen(addr, backlog=backlog, reuse_port=reuse_port)
        return TlsListener(listener, self._listening, self.config, self._on_refused)

    async def dial(self, addr: Addr, protocol: asyncio.BaseProtocol, *, sock: Socket | None = None) -> None:
        check = partial(self.config.check, server=False)
        wire = TlsWire(protocol, self._dialling, check, server_name=self.config.name_for(addr.host))
        try:
            await self._network.dial(addr, wire, sock=sock)
            await wire.handshaken()
        except BaseException:
            await wire.give_up()
            raise

    def abilities(self, loop: asyncio.AbstractEventLoop) -> Abilities:
        return Abilities(gathers=True)

    async def resolve(self, addr: Addr) -> Sequence[Addr]:
        return await self._network.resolve(addr)


class TlsListener(Listener):
    """A listener of the network below, whose connections use TLS."""

    __slots__ = ("_config", "_context", "_listener", "_on_refused")

    def __init__(
        self, listener: Listener, context: TlsContext, config: TlsConfig, on_refused: OnRefused | None = None
    ) -> None:
        self.addr: Addr = listener.addr
        self._listener = listener
        self._context = context
        self._config = config
        self._on_refused = on_refused

    def accept(self) -> Incoming | None:
        incoming = self._listener.accept()
        return TlsIncoming(incoming, self._context, self._config, self._on_refused) if incoming is not None else None

    async def ready(self) -> None:
        await self._listener.ready()

    def close(self) -> None:
        self._listener.close()


class TlsIncoming(Incoming):
    """An accepted connection; the TLS handshake starts when it is opened."""

    __slots__ = ("_config", "_context", "_incoming", "_on_refused")

    def __init__(
        self, incoming: Incoming, context: TlsContext, config: TlsConfig, on_refused: OnRefused | None = None
    ) -> None:
        self.addr: Addr = incoming.addr
        self._incoming = incoming
        self._context = context
        self._config = config
        self._on_refused = on_refused

    async def open(self, protocol: asyncio.BaseProtocol) -> None:
        wire = TlsWire(protocol, self._context, partial(self._config.check, server=True), server=True)
        try:
            await self._incoming.open(wire)
            await wire.handshaken()
        except BaseException as error:
            if isinstance(error, CertificateRefusedError):
                self._report(error)
            await wire.give_up()
            raise

    def reject(self) -> None:
        self._incoming.reject()

    def _report(self, error: CertificateRefusedError) -> None:
        if self._on_refused is None:
            return
        try:
            self._on_refused(self.addr, error)
        except Exception:
            logger.exception("on_refused failed for the connection from %s", self.addr)
