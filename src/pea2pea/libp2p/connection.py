"""One connection of a host: its secure channel, its streams, and the tasks that serve them. May import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..codec import KIB, Buffer, Decoder, Encoder
from ..waiting import Deadline
from .channel import Channel
from .errors import KeepaliveError, StreamResetError
from .frames import Frame, FrameDecoder, FrameEncoder
from .peer_id import PeerId
from .stream import Stream
from .yamux import Event, Happening, Yamux, YamuxLimits, YamuxStream

if TYPE_CHECKING:
    from ..peer import Peer

#: Data that is taken off the streams before the system has had all of what was taken before.
OUTPUT: Final = 512 * KIB

Serve = Callable[[Stream], Awaitable[None]]
Send = Callable[[Frame], Awaitable[None]]
Flush = Callable[[], Awaitable[None]]


class Connection:
    """What a host's handshake makes: ``peer.session``.

    ``serve`` is run, in a task of its own, for each stream that the other side opens; these tasks
    belong to the connection, and :meth:`aclose` ends them.
    """

    def __init__(
        self,
        peer: Peer,
        channel: Channel,
        serve: Serve,
        *,
        early: bytes = b"",
        limits: YamuxLimits | None = None,
        keepalive: tuple[float, float] = (30.0, 15.0),
    ) -> None:
        self.peer = peer
        self.channel = channel
        self.yamux = Yamux(dialled=not peer.inbound, limits=limits)
        # Frames that came in one packet with the end of the handshake, and the beginning of one that is not whole.
        self._early, used = FrameDecoder().decode(memoryview(early))
        self._frames = FrameDecoder(early[used:])
        self._serve = serve
        self._streams: dict[YamuxStream, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._interval, self._patience = keepalive
        self._deadline: Deadline | None = None
        self._asked = False
        self._ended = False
        # Frames were taken, and not all of them sent.
        self._torn = False
        self._failure: Exception | None = None

    @property
    def remote_id(self) -> PeerId:
        """Who is on the other side."""
        return self.channel.remote_id

    @property
    def streams(self) -> list[Stream]:
        """The streams that are open on either side."""
        return list(self._streams.values())

    def decoder(self) -> Decoder[Frame]:
        """Return what takes the connection's bytes apart."""
        return self.channel.decoder(self._frames)

    def encoder(self) -> Encoder[Frame]:
        """Return what puts them together."""
        return self.channel.encoder(FrameEncoder())

    def __repr__(self) -> str:
        return f"<Connection with {self.remote_id} over {self.channel.name}, {len(self._streams)} streams>"

    # -- streams ---------------------------------------------------------------------------

    def open(self) -> Stream:
        """Open a stream. Raises :class:`GoneAwayError`, :class:`StreamLimitError`, :class:`StreamResetError`."""
        if self._ended:
            raise StreamResetError("the connection has ended")
        stream = self._made(self.yamux.open())
        self._wake.set()
        return stream

    def write(self, state: YamuxStream, data: Buffer) -> None:
        """Queue ``data`` on a stream."""
        self.yamux.write(state, data)
        self._wake.set()

    def finish(self, state: YamuxStream) -> None:
        """Queue the end of a stream."""
        self.yamux.finish(state)
        self._wake.set()

    def reset(self, state: YamuxStream) -> None:
        """Give a stream up."""
        self.yamux.reset(state)
        self._streams.pop(state, None)
        self._wake.set()

    def consumed(self, state: YamuxStream, size: int) -> None:
        """So much of a stream was read."""
        if size:
            self.yamux.consumed(state, size)
            # Before the other side is told of a larger window.
            self._frames.max_payload = self.yamux.largest_window
            if self.yamux.has_output:
                self._wake.set()

    def _made(self, state: YamuxStream) -> Stream:
        stream = self._streams[state] = Stream(self, state)
        return stream

    # -- in --------------------------------------------------------------------------------

    def handle(self, frame: Frame) -> None:
        """Take one frame that came. Raises :class:`YamuxError`."""
        self._asked = False
        if self._deadline is not None:
            self._deadline.restart()
        self.catch_up()
        for event in self.yamux.receive(frame):
            self._happened(event)
        if self.yamux.has_output:
            self._wake.set()

    def catch_up(self) -> None:
        """Take the frames that came with the handshake, if any are left."""
        early, self._early = self._early, ()
        for frame in early:
            self.handle(frame)

    def _happened(self, event: Event) -> None:
        if event.stream is None:
            return
        if event.kind is Happening.OPENED:
            self._start_serving(self._made(event.stream))
            return
        stream = self._streams.get(event.stream)
        if stream is None:  # reset by what an event of the same frame brought about
            return
        if event.kind is Happening.DATA:
            stream._feed(bytes(event.data))
        elif event.kind is Happening.ENDED:
            stream._ended()
        elif event.kind is Happening.RESET:
            stream._fail(StreamResetError(f"stream {stream.id} was reset by the other side"))
        self._forget_if_over(event.stream)

    def _start_serving(self, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self._run(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, stream: Stream) -> None:
        await self._serve(stream)

    def _forget_if_over(self, state: YamuxStream) -> None:
        if not state.is_open:
            self._streams.pop(state, None)

    # -- out -------------------------------------------------------------------------------

    async def run(self, send: Send, flush: Flush) -> None:
        """Send what the streams have to send, and ask for a sign of life where none comes; ends by being cancelled.

        Raises :class:`KeepaliveError` where there is none.
        """
        self._deadline = Deadline(asyncio.get_running_loop(), self._interval, self._fell_silent)
        self._deadline.restart()
        try:
            self.catch_up()
            while self._failure is None:
                if not self.yamux.has_output:
                    self._wake.clear()
                    await self._wake.wait()
                elif frames := self.yamux.take(OUTPUT):
                    await self._send(frames, send, flush)
            raise self._failure
        finally:
            self._deadline.close()

    async def _send(self, frames: Iterable[Frame], send: Send, flush: Flush) -> None:
        self._torn = True
        for frame in frames:
            await send(frame)
        self._torn = False
        for stream in list(self._streams.values()):
            stream._wake_writers()
            self._forget_if_over(stream._state)
        await flush()

    def _fell_silent(self) -> None:
        assert self._deadline is not None
        if self._asked:
            self._failure = KeepaliveError("no answer to a ping of the connection")
        else:
            self._asked = True
            self.yamux.ping()
            self._deadline.seconds = self._patience
            self._deadline.restart()
            self._deadline.seconds = self._interval
        self._wake.set()

    # -- the end ---------------------------------------------------------------------------

    def farewell(self, reason: int) -> list[Frame]:
        """Return what is left to be sent when the connection ends by this side's will."""
        self.yamux.go_away(reason)
        # Where frames were lost on their way, what follows them would pass for what they carried.
        return self.yamux.take(0 if self._torn else OUTPUT)

    async def aclose(self) -> None:
        """The connection is over: fail all streams and end what serves them."""
        self._ended = True
        self.yamux.end()
        for stream in self._streams.values():
            stream._fail(StreamResetError("the connection has ended"))
        self._streams.clear()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
