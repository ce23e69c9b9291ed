"""TLS between a transport and a protocol. May import asyncio and ssl.

The TLS of asyncio and uvloop reports that everything is written when it is not: bytes that wait in the transport below
are not counted. ``flush`` promises that they have left, so TLS is done here, over the transport of any loop or network.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final, cast

from .alerts import translate
from .errors import TlsCutError, TlsError
from .records import PORTION, RECEIVE_SIZE, parts_of, receive_memory
from .session import TlsContext, TlsObject
from .transport import TlsTransport

#: Bytes that ssl sends in answer to the peer, and that the peer has not taken. One portion of input causes at most
#: that much. A peer that requests key updates (RFC 8446, section 4.6.3) without reading the answers would fill the
#: memory with them.
MOST_UNREAD: Final = PORTION
#: Bytes that arrived without data for the app. A peer has a few kilobytes of session tickets to send, and a key update
#: now and then. Each costs 15 us, so a peer that sends nothing else would take most of a processor at 1 MB/s.
MOST_USELESS: Final = 64 * 1024
#: The overhead that is normal: per byte for the app, and per record. A record with one byte has 23, or 85 with the
#: block ciphers of TLS 1.2; in TLS 1.3 the peer may add padding to hide the length.
WORTH: Final = 32
PADDING: Final = 1024
#: Seconds that a refused dialler has to read the alert and close. Closing while it still sends would cause a reset,
#: which can discard the alert before it is read.
LINGER: Final = 1.0


class Stage(Enum):
    """The stage of a connection."""

    HANDSHAKE = auto()
    OPEN = auto()
    #: One of the sides ended TLS with an error. Nothing more is read or written.
    FAILED = auto()


class TlsWire(asyncio.BufferedProtocol):
    """The protocol of the transport below, which carries records.

    ``app`` is the protocol for the plaintext. Its ``connection_made`` is called when the handshake is finished and
    ``check``, called with the TLS object, has not raised :class:`TlsError`. Its ``connection_lost`` is called if
    its ``connection_made`` was, or if it is ``attached``: it was the protocol of the transport below before
    (STARTTLS).
    """

    def __init__(
        self,
        app: asyncio.BaseProtocol,
        context: TlsContext,
        check: Callable[[TlsObject], None],
        *,
        server_name: str | None = None,
        server: bool = False,
        attached: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._context = context
        self._check = check
        self._server = server
        self._stage = Stage.HANDSHAKE
        # Each is emptied by the call that fills it, except for the input of a paused app: at most one receive.
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: TlsObject = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=server_name
        )
        self._memory = receive_memory(loop)
        self._handshaken: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._raw: asyncio.Transport | None = None
        #: The transport of ``app``.
        self.transport: TlsTransport = TlsTransport(self)
        self._failure: TlsError | None = None
        self._paused = False
        # The transport below was told to pause; it resumes when the app has taken everything that arrived before.
        self._held = False
        self._due = False
        self._unread = 0
        self._useless = 0
        self._closing = False
        self._given_up = False
        # The app has a transport, so its connection_lost must be called.
        self._attached = attached
        # The peer sent close_notify: anything after it is ignored.
        self._peer_ended = False
        self.use(app)

    @property
    def raw(self) -> asyncio.Transport:
        """The transport below."""
        assert self._raw is not None
        return self._raw

    def use(self, app: asyncio.BaseProtocol) -> None:
        """Make ``app`` the protocol for the plaintext."""
        self.app: Any = app
        self._buffered = isinstance(app, asyncio.BufferedProtocol)

    # -- the handshake -----------------------------------------------------------------------------

    async def handshaken(self) -> None:
        """Return when the handshake is finished and the app has its transport. Raises :class:`TlsError`."""
        await self._handshaken

    async def give_up(self) -> None:
        """End a connection whose handshake failed; a refused dialler gets ``LINGER`` seconds to read the alert."""
        self._given_up = True
        if self._handshaken.done() and not self._handshaken.cancelled():
            self._handshaken.exception()  # the caller knows it; without this, the loop would log it as not retrieved
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
        except ssl.SSLWantReadError:
            self._send()
            return
        except (ssl.SSLError, TlsError) as error:
            self._fail(translate(error))
            return
        self._send()
        try:
            self._check(self.tls)
        except TlsError as error:
            self._close_notify()  # the standard ssl cannot send an alert that the program chooses
            self._fail(error)
            return
        self._stage, self._attached = Stage.OPEN, True
        self.app.connection_made(self.transport)
        if not self._handshaken.done():
            self._handshaken.set_result(None)
        self._deliver()

    def _fail(self, failure: TlsError) -> None:
        """End TLS with an error, and send the alert that ssl has made of it, if it has."""
        shaking, self._stage, self._failure = self._stage is Stage.HANDSHAKE, Stage.FAILED, failure
        self._send()
        if not shaking:
            self._close_raw()
        elif not self._handshaken.done():
            self._handshaken.set_exception(failure)
            # asyncio's write_eof raises ENOTCONN if a reset came with the peer's alert; the alert is the cause.
            with suppress(OSError):
                if self.raw.can_write_eof() and not self.raw.is_closing():
                    self.raw.write_eof()

    def _close_raw(self) -> None:
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
        memory = self._memory.pop()  # an app that is TLS as well must not receive into the buffer that it reads
        try:
            self.feed(memory[:nbytes])
        finally:
            self._memory.append(memory)

    def feed(self, records: memoryview) -> None:
        """Take bytes that arrived from the peer."""
        for start in range(0, len(records), PORTION):
            self._receive(records[start : start + PORTION])

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
            return True  # the app knows, and may still write
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
            self._handshaken.set_exception(exc or TlsCutError("the connection ended during the TLS handshake"))
        if self._attached:
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
        """Pass plaintext to the app until there is no more or the app pauses."""
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
            if self._closing:  # the app closed the connection in that call, and gets nothing more
                break
            if not more and self._useless > MOST_USELESS:
                self._failure = self._failure or TlsError("the peer sends too many records without data")
            if self._failure is not None:
                self._fail(self._failure)
            elif self._peer_ended and not self.app.eof_received():
                self.transport.close()
        self._answer()
        if self._held and not self._paused and not self.raw.is_closing():
            self._held = False
            self.raw.resume_reading()

    def _decrypt(self, view: memoryview) -> tuple[int, bool]:
        """Fill ``view`` with plaintext; return how many bytes, and whether there may be more."""
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
        except (ssl.SSLError, TlsError) as error:
            self._failure = translate(error)
            return size, False
        return size, True

    def _answer(self) -> None:
        """Send what ssl has to answer. The app's flow control does not cover these bytes; they have their own bound."""
        size = self._outgoing.pending
        if not size:
            return
        # At most as much is unread as waits in the transport below. That may never be nothing if the app is busy.
        self._unread = min(self._unread, self.raw.get_write_buffer_size()) + size
        self._send()
        if self._unread > MOST_UNREAD and self._stage is Stage.OPEN:
            self._fail(TlsError("the peer requests answers, such as key updates, and does not read them"))

    def pause(self) -> None:
        """Deliver nothing to the app until :meth:`resume`."""
        self._paused = True
        if not self._held and not self.raw.is_closing():
            self._held = True
            self.raw.pause_reading()

    def resume(self) -> None:
        """Deliver again; first, in a callback of the loop as always, what arrived before the pause took effect.

        Only after that does the transport below resume. Otherwise an app that pauses after each small read would
        receive more than it takes, and the bytes that wait here would have no bound.
        """
        self._paused = False
        if not self._due and not self.raw.is_closing():
            self._due = True
            self._loop.call_soon(self._deliver)

    @property
    def is_paused(self) -> bool:
        """Whether the app has paused reading."""
        return self._paused

    # -- plaintext to records ----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt ``data`` and write the records."""
        self.writelines([data])

    def writelines(self, buffers: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt ``buffers`` as one stream and write the records."""
        if self._closing or self._stage is not Stage.OPEN:
            return
        try:
            for part in parts_of(buffers):
                while part:
                    part = part[self.tls.write(part) :]
                if self._outgoing.pending >= PORTION:
                    self._send()
                    if self.is_closing:  # it failed, or the app closed it when it was told to pause
                        return
        except (ssl.SSLError, TlsError) as error:
            self._fail(translate(error))
        self._send()

    def _send(self) -> None:
        if self._outgoing.pending and self._raw is not None and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing or self._stage is Stage.FAILED or self.raw.is_closing()

    def close(self) -> None:
        """Send close_notify, and close the transport below without waiting for the peer's (RFC 8446, section 6.1)."""
        if self._closing or self._stage is not Stage.OPEN:
            return
        self._closing = True
        self._close_notify()
        self.raw.close()

    def abort(self) -> None:
        """Close the transport below at once."""
        self._closing = True
        self.raw.abort()

    def _close_notify(self) -> None:
        # unwrap() raises unless the peer's close_notify has arrived, and if there is unread data: neither matters here.
        with suppress(ssl.SSLError, TlsError):
            self.tls.unwrap()
        self._send()

    def extra_info(self, name: str, default: Any) -> Any:
        """Answer ``get_extra_info``, with asyncio's names for TLS."""
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
