"""The reader and the writer that a handshake is given. May import asyncio.

They are asyncio's, over a transport that is lent to the handshake and taken back after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .errors import UsageError

#: Puts a protocol between a transport and the protocol above it, see :meth:`pea2pea.link.Link.upgrade`. It is given the
#: protocol above, the transport, and the bytes that arrived and were not read. It returns the transport to use.
Wrap = Callable[[asyncio.BufferedProtocol, asyncio.Transport, bytes], Awaitable[asyncio.Transport]]
Upgrade = Callable[[Wrap], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class HandshakeReader(asyncio.StreamReader):
    """asyncio's reader, with bytes that were read but not used.

    Those are of :class:`~pea2pea.frames.Frames`, which bounds them by the size of a frame and of one read.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.left: bytearray = bytearray()

    async def read_more(self, n: int) -> bytes:
        """As :meth:`read`, whether or not bytes are left."""
        return await super().read(n)

    async def read(self, n: int = -1) -> bytes:
        """As asyncio's. Raises :class:`UsageError` if ``Frames`` has read further."""
        self._check()
        return await super().read(n)

    async def readexactly(self, n: int) -> bytes:
        """As asyncio's. Raises :class:`UsageError` if ``Frames`` has read further."""
        self._check()
        return await super().readexactly(n)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        """As asyncio's. Raises :class:`UsageError` if ``Frames`` has read further."""
        self._check()
        return await super().readuntil(separator)

    def _check(self) -> None:
        if self.left:
            raise UsageError("Frames has read beyond its last message: read through it only")


class HandshakeWriter(asyncio.StreamWriter):
    """asyncio's writer, but for ``start_tls``."""

    async def start_tls(self, *args: Any, **kwargs: Any) -> None:
        """Raise :class:`UsageError`: only this writer would be encrypted, and none of the node's messages."""
        raise UsageError(
            "StreamWriter.start_tls() would leave the messages after the handshake unencrypted; "
            "use: reader, writer = await pea2pea.tls.start_tls(reader, writer, config, server_side=...)"
        )


class HandshakeProtocol(asyncio.StreamReaderProtocol):
    """asyncio's protocol of streams, but for the error of a connection that was lost."""

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio's. The future of ``wait_closed`` counts as retrieved at once.

        asyncio does that when the protocol is deleted, which is too late if both are garbage of one cycle: then the
        future may be deleted first, and the loop reports an error that nobody made.
        """
        super().connection_lost(exc)
        closed: asyncio.Future[None] = getattr(self, "_get_close_waiter")(None)  # noqa: B009 - not in the stubs
        if closed.done() and not closed.cancelled():
            closed.exception()


class LentTransport:
    """The transport as a handshake sees it. After the handshake it is closed for anyone who still holds it.

    Without this, a ``StreamWriter`` that is garbage collected would close the connection of the node (Python 3.13), and
    one that is kept would write into the middle of a frame.
    """

    # What asyncio's loop.start_tls() looks for. It would replace the protocol of the transport below, and the node
    # would go on writing to that transport, unencrypted. uvloop's refuses every transport that is not its own.
    _start_tls_compatible = False

    def __init__(self, transport: asyncio.Transport, upgrade: Upgrade) -> None:
        self._transport = transport
        self._upgrade = upgrade
        #: Why it is no longer usable; empty while it is.
        self.returned: str = ""

    def is_closing(self) -> bool:
        return bool(self.returned) or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, or do nothing if the connection is closing (uvloop would raise ``RuntimeError``)."""
        self._check()
        if not self._transport.is_closing():
            self._transport.write(data)

    def writelines(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """As :meth:`write`, for several buffers."""
        self._check()
        if not self._transport.is_closing():
            self._transport.writelines(buffers)

    async def upgrade(self, wrap: Wrap) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See :meth:`pea2pea.link.Link.upgrade`."""
        self._check()
        return await self._upgrade(wrap)

    def __getattr__(self, name: str) -> Any:
        if name != "get_extra_info":
            self._check()
        return getattr(self._transport, name)

    def _check(self) -> None:
        if self.returned:
            raise UsageError(self.returned)
