"""One connection in memory: what plays the kernel, and a transport that follows asyncio's over sockets.

May import asyncio and the rooms below ``network``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import warnings

from ..addr import Addr

# The most that one read hands over, as in asyncio, so that one busy connection leaves turns to the others.
MAX_READ = 256 * 1024
# asyncio's default for the high mark of a transport's write buffer.
HIGH_WATER = 64 * 1024


class MemorySocket:
    """What the kernel keeps of one end: the bytes that arrived for it, and how the other end left."""

    __slots__ = ("capacity", "closed", "ended", "local", "peer", "received", "reset", "transport")

    peer: MemorySocket

    def __init__(self, local: Addr, capacity: int) -> None:
        self.local: Addr = local
        self.capacity: int = capacity
        self.received: bytearray = bytearray()
        self.ended: bool = False  # the other end has sent all that it will
        self.reset = False
        self.closed = False
        self.transport: MemoryTransport | None = None

    @classmethod
    def pair(cls, local: Addr, remote: Addr, capacity: int) -> tuple[MemorySocket, MemorySocket]:
        """Return the two ends of one connection."""
        ours, theirs = cls(local, capacity), cls(remote, capacity)
        ours.peer, theirs.peer = theirs, ours
        return ours, theirs

    @property
    def readable(self) -> bool:
        return bool(self.received or self.ended or self.reset)

    @property
    def writable(self) -> bool:
        return self.reset or self.peer.closed or len(self.peer.received) < self.peer.capacity

    def send(self, data: bytearray | memoryview) -> int:
        """Take as much of ``data`` as there is room for; return how much. Raises ``ConnectionResetError``."""
        if self.reset:
            raise os_error(errno.ECONNRESET)
        if self.peer.closed:
            # As in TCP: what is sent to an end that is gone is accepted, and answered with a reset.
            self.reset = True
            self.wake()
            return len(data)
        size = min(len(data), self.peer.capacity - len(self.peer.received))
        self.peer.received += data[:size]
        self.peer.wake()
        return size

    def receive(self, limit: int) -> bytearray:
        """Return up to ``limit`` bytes, none at the end of the stream. Raises ``ConnectionResetError``."""
        if self.reset and not self.received:
            raise os_error(errno.ECONNRESET)
        data = self.received[:limit]
        del self.received[:limit]
        self.peer.wake()
        return data

    def shutdown(self) -> None:
        """Tell the other end that nothing more comes."""
        self.peer.ended = True
        self.peer.wake()

    def close(self) -> None:
        """Be gone. As in TCP, the other end learns by a reset if something that it sent was not read."""
        if not self.closed:
            self.closed = True
            self.transport = None
            self.peer.reset |= bool(self.received)
            self.shutdown()

    def abort(self) -> None:
        """Be gone with a reset; what is on the way is lost."""
        self.peer.received.clear()
        self.peer.reset = True
        self.close()

    def wake(self) -> None:
        if self.transport is not None:
            self.transport._poll()


class MemoryTransport(asyncio.Transport):
    """One end of a connection, to asyncio's contract of a socket transport.

    Protocols are called from the loop, never from inside a method of the transport, except for
    ``pause_writing``. A reader that is paused learns of the end, or of a reset, when it resumes or writes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: MemorySocket, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"sockname": sockaddr(sock.local), "peername": sockaddr(sock.peer.local)})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._buffer = bytearray()  # written, and not yet accepted by the socket
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._reading_paused = self._writing_paused = False
        self._read_due = self._write_due = False
        self._ended = self._write_ended = False
        self._closing = self._lost = False
        loop.call_soon(protocol.connection_made, self)
        sock.transport = self
        self._poll()

    def __repr__(self) -> str:
        state = "closed" if self._sock.closed else "closing" if self._closing else "open"
        ends = f"{self._sock.local} -> {self._sock.peer.local}"
        return f"<{type(self).__name__} {ends} {state}, write buffer {len(self._buffer)}>"

    def __del__(self) -> None:
        if not self._sock.closed:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # Reading

    def is_reading(self) -> bool:
        return not self._closing and not self._reading_paused

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._poll()

    def _poll(self) -> None:
        """Have the loop call what the socket is ready for, as a selector would."""
        if self.is_reading() and not (self._ended or self._read_due) and self._sock.readable:
            self._read_due = True
            self._loop.call_soon(self._read_ready)
        if self._buffer and not self._write_due and self._sock.writable:
            self._write_due = True
            self._loop.call_soon(self._write_ready)

    def _read_ready(self) -> None:
        self._read_due = False
        if not self.is_reading():
            return
        try:
            self._read()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal error: reading, or the protocol that was given what was read, failed.")
        else:
            self._poll()

    def _read(self) -> None:
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            size = self._read_into(self._protocol)
        else:
            data = self._sock.receive(MAX_READ)
            size = len(data)
            if size:
                self._protocol.data_received(bytes(data))  # type: ignore[attr-defined]
        if not size:
            self._ended = True
            if not self._protocol.eof_received():  # type: ignore[attr-defined]
                self.close()

    def _read_into(self, protocol: asyncio.BufferedProtocol) -> int:
        with memoryview(protocol.get_buffer(-1)) as buffer:
            if not buffer.nbytes:
                raise RuntimeError("get_buffer() returned an empty buffer")
            data = self._sock.receive(buffer.nbytes)
            buffer.cast("B")[: len(data)] = data
        if data:
            protocol.buffer_updated(len(data))
        return len(data)

    # Writing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_writing()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._write_ended:
            raise RuntimeError("Cannot call write() after write_eof()")
        view = memoryview(data).cast("B")
        if self._lost or not view:
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self._sock.send(view)
            except OSError as error:
                self._force_close(error)
                return
        self._buffer += view[sent:]
        self._pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._write_ended:
            return
        self._write_ended = True
        if not self._buffer:
            self._sock.shutdown()

    def _write_ready(self) -> None:
        self._write_due = False
        if not self._buffer:
            return  # the connection was lost since this was due
        try:
            sent = self._sock.send(self._buffer)
        except OSError as error:
            self._force_close(error)
            return
        del self._buffer[:sent]
        self._resume_writing()
        if self._buffer:
            self._poll()
        elif self._closing and not self._lost:
            self._lost = True
            self._connection_lost(None)
        elif self._write_ended and not self._closing:
            self._sock.shutdown()

    def _pause_writing(self) -> None:
        if len(self._buffer) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._tell_flow("pause_writing")

    def _resume_writing(self) -> None:
        if len(self._buffer) <= self._low and self._writing_paused:
            self._writing_paused = False
            self._tell_flow("resume_writing")

    def _tell_flow(self, method: str) -> None:
        try:
            getattr(self._protocol, method)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, f"protocol.{method}() failed")

    # Closing

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._buffer:
            self._lost = True
            self._loop.call_soon(self._connection_lost, None)

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._buffer.clear()
        self._sock.abort()
        self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]  # asyncio's own transports pass it too
        finally:
            self._sock.close()

    def _fatal_error(self, error: BaseException, message: str) -> None:
        # As in asyncio: an OSError is the network's everyday, anything else is a mistake in the protocol.
        if not isinstance(error, OSError):
            self._report(error, message)
        self._force_close(error)

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )


def sockaddr(addr: Addr) -> tuple[str, int] | tuple[str, int, int, int]:
    """``addr`` as a socket names it."""
    return (addr.host, addr.port, 0, 0) if ":" in addr.host else (addr.host, addr.port)


def os_error(code: int) -> OSError:
    """The error that a socket raises with ``code``."""
    # OSError picks the subclass that belongs to the code, such as ConnectionResetError.
    return OSError(code, os.strerror(code))
