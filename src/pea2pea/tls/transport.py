"""TLS between a transport and a protocol. May import asyncio and ssl.

The event loops' own TLS says that all is written when it is not: what waits in the transport below is not counted.
``flush`` promises more than that, so the records go through here: on any transport, of any loop, of any network.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from .errors import TlsCutError, TlsError, translate

#: The most bytes in a TLS record.
RECORD: Final = 16 * 1024
#: Bytes decrypted, or encrypted and written, at once: what fits a processor's cache. OpenSSL keeps about that much for
#: each connection that had it.
PORTION: Final = 12 * RECORD
#: The most that is given to OpenSSL in one call.
PART: Final = 4 * RECORD
#: Bytes received at once. With half of them, the system works twice as long to hand them over.
RECEIVE_SIZE: Final = 512 * 1024
#: Bytes that ssl answers by itself, and that the peer has not taken. A portion asks for that much at the most; who
#: goes on to ask for new keys (RFC 8446, section 4.6.3) and reads no answer would fill the memory with them.
MOST_UNREAD: Final = PORTION
#: Bytes that came and held nothing for the app. A peer has a few kilobytes of tickets to send, and now and then a new
#: key; these cost 15 us a piece, so that one that sends nothing else would take most of a processor for 1 MB/s.
MOST_USELESS: Final = 64 * 1024
#: Bytes in which a byte for the app may come, and a record of them besides: one of one byte has 23, but 85 with the
#: ciphers of TLS 1.2 that take blocks, and in TLS 1.3 as many as the peer likes, to hide how many are meant.
WORTH: Final = 32
PADDING: Final = 1024
#: Seconds for who is refused to read why, and to leave: hanging up on what it still sends would take the reason back.
LINGER: Final = 1.0

_receive_memory: WeakKeyDictionary[asyncio.AbstractEventLoop, list[memoryview]] = WeakKeyDictionary()


class Stage(Enum):
    """Where a connection is."""

    HANDSHAKE = auto()
    OPEN = auto()
    #: This side or the other one gave up. Nothing more is read or written.
    FAILED = auto()


class TlsWire(asyncio.BufferedProtocol):
    """The protocol of the transport below, which carries records.

    ``app`` is what the plaintext is for: its ``connection_made`` is called when the handshake is over and ``check``
    has not raised :class:`TlsError`.
    """

    def __init__(
        self,
        app: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        check: Callable[[ssl.SSLObject], None],
        *,
        server_name: str | None = None,
        server: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._context = context
        self._check = check
        self._server = server
        self._stage = Stage.HANDSHAKE
        # Both are emptied by the call that fills them, except for what a paused app leaves: one receive at the most.
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=server_name)
        self._memory = _memory_of(loop)
        self._handshaken: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._raw: asyncio.Transport | None = None
        self._transport = TlsTransport(self)
        self._failure: TlsError | None = None
        self._paused = False
        # The transport below was told to pause, and goes on when the app has had all that came before.
        self._held = False
        self._due = False
        self._unread = 0
        self._useless = 0
        self._closing = False
        self._given_up = False
        # The app was given its transport, and is owed its end.
        self._made = False
        # The peer said goodbye: nothing that comes after it counts.
        self._peer_ended = False
        self.use(app)

    @property
    def raw(self) -> asyncio.Transport:
        """The transport below."""
        assert self._raw is not None
        return self._raw

    def use(self, app: asyncio.BaseProtocol) -> None:
        """Have ``app`` told from now on."""
        self.app = cast(Any, app)
        self._buffered = isinstance(app, asyncio.BufferedProtocol)

    # -- setting up ------------------------------------------------------------------------------

    async def handshaken(self) -> None:
        """Return when the app has its transport. Raises :class:`TlsError`."""
        await self._handshaken

    async def give_up(self) -> None:
        """Leave nothing open; who was refused has ``LINGER`` seconds to learn why."""
        self._given_up = True
        if self._handshaken.done() and not self._handshaken.cancelled():
            self._handshaken.exception()  # whoever calls this knows
        if self._raw is None or self._gone.done():
            return
        try:
            if self._server and self._stage is Stage.FAILED:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LINGER):
                        await asyncio.shield(self._gone)
        finally:
            self._raw.abort()
        await asyncio.shield(self._gone)

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
            self._send()
            self._check(self.tls)
        except ssl.SSLWantReadError:
            self._send()
        except ssl.SSLError as error:
            self._fail(translate(error))
        except TlsError as error:
            self._say_goodbye()  # ssl has no way to send an alert of one's own
            self._fail(error)
        else:
            self._stage, self._made = Stage.OPEN, True
            self.app.connection_made(self._transport)
            if not self._handshaken.done():
                self._handshaken.set_result(None)
            self._deliver()

    def _fail(self, failure: TlsError) -> None:
        """Give up, and say so as far as TLS has words for it."""
        shaking, self._stage, self._failure = self._stage is Stage.HANDSHAKE, Stage.FAILED, failure
        self._send()
        if not shaking:
            self._hang_up()
        elif not self._handshaken.done():
            if self.raw.can_write_eof() and not self.raw.is_closing():
                self.raw.write_eof()
            self._handshaken.set_exception(failure)

    def _hang_up(self) -> None:
        if self.raw.get_write_buffer_size():
            self.raw.abort()
        else:
            self.raw.close()

    # -- what the transport below calls ------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        if self._given_up:
            self._raw.abort()
        else:
            self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        if not self._memory:
            self._memory.append(memoryview(bytearray(RECEIVE_SIZE)))
        return self._memory[-1]

    def buffer_updated(self, nbytes: int) -> None:
        memory = self._memory.pop()  # where the app is TLS as well, it needs other memory than what is handed to it
        try:
            for start in range(0, nbytes, PORTION):
                self._receive(memory[start : min(start + PORTION, nbytes)])
        finally:
            self._memory.append(memory)

    def _receive(self, records: memoryview) -> None:
        if self._stage is Stage.FAILED or self._peer_ended:
            return
        self._incoming.write(records)
        if self._stage is Stage.HANDSHAKE:
            self._shake_hands()
        else:
            self._useless += len(records)
            self._deliver()

    def eof_received(self) -> bool:
        if self._stage is Stage.FAILED:
            return False
        if self._peer_ended:
            return True  # the app knows, and may still have something to say
        self._incoming.write_eof()
        if self._stage is Stage.HANDSHAKE:
            self._shake_hands()
            return False
        self._deliver()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        if not self._handshaken.done():
            self._handshaken.set_exception(exc or TlsCutError("the connection ended inside the TLS handshake"))
        if self._made:
            self._stage = Stage.FAILED
            self.app.connection_lost(self._failure or exc)

    def pause_writing(self) -> None:
        if self._stage is Stage.OPEN:
            self.app.pause_writing()

    def resume_writing(self) -> None:
        if self._stage is Stage.OPEN:
            self.app.resume_writing()

    # -- records to plaintext ----------------------------------------------------------------------

    def _deliver(self) -> None:
        """Hand the app what there is, as long as it takes it."""
        self._due = False
        more = True
        while more and not (self._paused or self._closing or self._peer_ended) and self._stage is Stage.OPEN:
            view = self.app.get_buffer(-1) if self._buffered else memoryview(bytearray(PORTION))
            size, more = self._decrypt(memoryview(view))
            self._useless = max(0, self._useless)
            if size and self._buffered:
                self.app.buffer_updated(size)
            elif size:
                self.app.data_received(bytes(view[:size]))
            if self._closing:  # the app left over what it was handed: it is told nothing more
                break
            if not more and self._useless > MOST_USELESS:
                self._failure = self._failure or TlsError("the peer sends what is for nobody, without end")
            if self._failure is not None:
                self._fail(self._failure)
            elif self._peer_ended and not self.app.eof_received():
                self._transport.close()
        self._answer()
        if self._held and not self._paused and not self.raw.is_closing():
            self._held = False
            self.raw.resume_reading()

    def _decrypt(self, view: memoryview) -> tuple[int, bool]:
        """Fill ``view``; return how far, and whether there may be more."""
        read = cast(Callable[[int, memoryview], int], self.tls.read)
        size = 0
        try:
            while size < len(view):
                count = read(len(view) - size, view[size:])
                if not count:
                    self._peer_ended = True
                    return size, False
                size += count
                self._useless -= WORTH * count + PADDING
        except ssl.SSLWantReadError:
            return size, False
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
            return size, False
        except ssl.SSLError as error:
            self._failure = translate(error)
            return size, False
        return size, True

    def _answer(self) -> None:
        """Send what ssl says to what came. It has no part in the app's flow control, and has a bound of its own."""
        size = self._outgoing.pending
        if not size:
            return
        # No more of it waits than of all that does: below a busy app that may never be nothing.
        self._unread = min(self._unread, self.raw.get_write_buffer_size()) + size
        self._send()
        if self._unread > MOST_UNREAD and self._stage is Stage.OPEN:
            self._fail(TlsError("the peer asks for answers, and takes none"))

    def pause(self) -> None:
        """The app takes no more for now."""
        self._paused = True
        if not self._held and not self.raw.is_closing():
            self._held = True
            self.raw.pause_reading()

    def resume(self) -> None:
        """The app takes more; what was held back comes from a callback, as all bytes do.

        Only then does the transport below go on: an app that pauses after each sip would else be sent more than it
        drinks, and what waits here would have no bound.
        """
        self._paused = False
        if not self._due and not self.raw.is_closing():
            self._due = True
            self._loop.call_soon(self._deliver)

    @property
    def is_paused(self) -> bool:
        """Whether the app takes no more for now."""
        return self._paused

    # -- plaintext to records ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt ``data``, and write it below."""
        self.writelines([data])

    def writelines(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt ``buffers`` as one stream, and write it below."""
        if self._closing or self._stage is not Stage.OPEN:
            return
        try:
            for part in _parts(buffers):
                while part:
                    part = part[self.tls.write(part) :]
                if self._outgoing.pending >= PORTION:
                    self._send()
                    if self.is_closing:  # it failed, or the app that was told to pause has left
                        return
        except ssl.SSLError as error:
            self._fail(translate(error))
        self._send()

    def _send(self) -> None:
        if self._outgoing.pending and self._raw is not None and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing or self._stage is Stage.FAILED or self.raw.is_closing()

    def close(self) -> None:
        """Say goodbye, and close what is below. The peer's goodbye is not waited for: RFC 8446, section 6.1."""
        if self._closing or self._stage is not Stage.OPEN:
            return
        self._closing = True
        self._say_goodbye()
        self.raw.close()

    def abort(self) -> None:
        """Say nothing more, and hear nothing more."""
        self._closing = True
        self.raw.abort()

    def _say_goodbye(self) -> None:
        # Raised where the peer's goodbye is not there yet, or where data is: neither is wanted any more.
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        self._send()

    def extra_info(self, name: str, default: Any) -> Any:
        """Answer ``get_extra_info``: for TLS with asyncio's names."""
        match name:
            case "ssl_object":
                return self.tls
            case "sslcontext":
                return self._context
            case "peercert":
                return self.tls.getpeercert()
            case "cipher":
                return self.tls.cipher()
        return self.raw.get_extra_info(name, default)


class TlsTransport(asyncio.ReadTransport, asyncio.WriteTransport):
    """The transport that the app sees. Half of it cannot be closed.

    No ``asyncio.Transport``, as uvloop's are not: of those it is known that not all gather what they write.
    """

    def __init__(self, wire: TlsWire) -> None:
        super().__init__()
        self._wire = wire

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._wire.extra_info(name, default)

    def is_closing(self) -> bool:
        return self._wire.is_closing

    def close(self) -> None:
        self._wire.close()

    def abort(self) -> None:
        self._wire.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._wire.use(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._wire.app)

    def is_reading(self) -> bool:
        return not self._wire.is_paused and not self._wire.is_closing

    def pause_reading(self) -> None:
        self._wire.pause()

    def resume_reading(self) -> None:
        self._wire.resume()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._wire.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._wire.raw.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        return self._wire.raw.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._wire.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS cannot close one half of a connection")


def _parts(buffers: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes | memoryview]:
    """The bytes of ``buffers``, cut so that only the last record is not full.

    Even an empty record takes either side a microsecond. Less than two records of each buffer are copied.
    """
    small: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if small and size + len(view) >= RECORD:
            odd = RECORD - size
            yield b"".join([*small, view[:odd]])
            small, size, view = [], 0, view[odd:]
        whole = len(view) // RECORD * RECORD
        for start in range(0, whole, PART):
            yield view[start : min(start + PART, whole)]
        if whole < len(view):
            small.append(view[whole:])
            size += len(view) - whole
    if small:
        yield b"".join(small)


def _memory_of(loop: asyncio.AbstractEventLoop) -> list[memoryview]:
    """Memory to receive records into, which all connections of a loop share: nobody needs it between two calls."""
    if hasattr(asyncio, "ProactorEventLoop") and isinstance(loop, asyncio.ProactorEventLoop):
        return [memoryview(bytearray(PART))]  # it fills the memory while other connections go on
    return _receive_memory.setdefault(loop, [])
