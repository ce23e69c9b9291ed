"""The asyncio transport of a connection inside TLS. May import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .wire import TlsWire


class TlsTransport(asyncio.ReadTransport, asyncio.WriteTransport):
    """The transport of the protocol above TLS. It cannot be half-closed.

    It does not derive from ``asyncio.Transport``, nor do those of uvloop: the outbox joins a batch itself for an
    ``asyncio.Transport``, whose ``writelines`` copies on old versions of Python, and passes it on to all others.
    """

    def __init__(self, wire: TlsWire) -> None:
        super().__init__()
        #: The protocol that does the work.
        self.wire: TlsWire = wire

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.wire.extra_info(name, default)

    def is_closing(self) -> bool:
        return self.wire.is_closing

    def close(self) -> None:
        self.wire.close()

    def abort(self) -> None:
        self.wire.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.wire.use(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self.wire.app)

    def is_reading(self) -> bool:
        return not self.wire.is_paused and not self.wire.is_closing

    def pause_reading(self) -> None:
        self.wire.pause()

    def resume_reading(self) -> None:
        self.wire.resume()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.wire.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.wire.raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self.wire.raw.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.wire.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.wire.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("a TLS connection cannot be half-closed")
