"""TLS that starts inside a handshake, after a negotiation in plaintext (STARTTLS). May import asyncio and ssl."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from ..errors import ConfigError, UsageError
from .config import TlsConfig
from .session import TlsContext, TlsObject
from .wire import TlsWire


async def start_tls(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    config: TlsConfig | ssl.SSLContext,
    *,
    server_side: bool,
    server_name: str | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Switch a connection to TLS, and return the reader and writer to use from then on.

    Call it in a node's ``handshake``, when both sides have agreed to start TLS. Everything after it is encrypted: what
    the handshake goes on to exchange, and all messages of the connection. ``reader`` and ``writer`` are unusable
    afterwards.

    Read exactly the bytes of the plaintext negotiation before (``readline``, ``readexactly``). Whatever ``reader`` has
    received beyond them becomes the first input of TLS, which raises :class:`NotTlsError` if it is not TLS. So
    plaintext that an attacker appends to the negotiation is never taken for protected data (CVE-2011-0411).

    ``server_side``: whether this side is the TLS server, which need not be the side that accepted the connection.
    ``server_name`` is the name to check the certificate for and to send (SNI); by default ``config.server_name``, or
    the IP address of the peer. An ``SSLContext`` verifies what it is set to verify; one that checks names needs
    ``server_name``. The duration is limited by the node's ``handshake_timeout``.

    Raises :class:`TlsError` or ``OSError`` if TLS fails, ``EOFError`` if the peer closed its side before, and
    :class:`~pea2pea.UsageError` if ``reader`` and ``writer`` are not those of a node's handshake. The connection is
    closed then: it cannot continue in plaintext.
    """
    upgrade = getattr(writer.transport, "upgrade", None)
    if upgrade is None:
        raise UsageError("start_tls() needs the reader and writer that a node passed to handshake()")
    if isinstance(config, TlsConfig):
        if server_side and config.certificate is None:
            raise ConfigError("certificate", "must be set for the server side of TLS")
        name = server_name or config.name_for(_host(writer))
        context, check = config.shared_context(server=server_side), partial(config.check, server=server_side)
        wrap = _Wrap(context, check, server=server_side, server_name=name)
    else:
        wrap = _Wrap(config, _accept, server=server_side, server_name=server_name)
    return cast(tuple[asyncio.StreamReader, asyncio.StreamWriter], await upgrade(wrap))


class _Wrap:
    """Puts TLS between a connection and its transport; see :meth:`pea2pea.link.Link.upgrade`."""

    def __init__(
        self, context: TlsContext, check: Callable[[TlsObject], None], *, server: bool, server_name: str | None
    ) -> None:
        self._context = context
        self._check = check
        self._server = server
        self._server_name = None if server else server_name

    async def __call__(
        self, app: asyncio.BufferedProtocol, raw: asyncio.Transport, received: bytes
    ) -> asyncio.Transport:
        wire = TlsWire(
            app, self._context, self._check, server=self._server, server_name=self._server_name, attached=True
        )
        try:
            raw.set_protocol(wire)
            wire.connection_made(raw)
            wire.feed(memoryview(received))
            await wire.handshaken()
        except BaseException:
            await wire.give_up()
            raise
        return cast(asyncio.Transport, wire.transport)


def _accept(tls: TlsObject) -> None:
    """Accept every connection that the ``SSLContext`` accepts."""


def _host(writer: asyncio.StreamWriter) -> str | None:
    name: Any = writer.get_extra_info("peername")
    return name[0] if isinstance(name, tuple) else None
