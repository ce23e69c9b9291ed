"""One connection of a host: its secure channel, its streams, and the tasks that serve them. May import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from ..codec import KIB, Buffer, Decoder, Encoder
from ..errors import SendError
from ..waiting import Deadline
from .channel import Channel
from .errors import KeepaliveError, StreamResetError
from .frames import Frame, FrameDecoder, FrameEncoder
from .limits import YamuxLimits
from .peer_id import PeerId
from .stream import Stream
from .yamux import Event, EventKind, Yamux
from .yamux_stream import YamuxStream

if TYPE_CHECKING:
    from ..peer import Peer

#: Bytes of data taken from the streams at once. They are flushed before more is taken, so that streams take turns.
OUTPUT: Final = 512 * KIB

Serve = Callable[[Stream], Awaitable[None]]
Send = Callable[[Frame], Awaitable[None]]
Flush = Callable[[], Awaitable[None]]


class Connection:
    """The session of a peer (``peer.session``), made by the host's handshake.

    ``serve`` runs in a task of its own for each stream that the peer opens. The connection owns these tasks;
    :meth:`aclose` cancels them. ``early`` is plaintext that was received behind the handshake. ``keepalive`` is the
    time without a frame after which the peer is pinged, and the time in which it has to answer, in seconds.
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
        self.yamux: Yamux = Yamux(dialled=not peer.inbound, limits=limits)
        # The whole frames in early are processed first; the decoder gets the rest.
        self._early, used = FrameDecoder().decode(memoryview(early))
        self._frames = FrameDecoder(early[used:])
        self._serve = serve
        self._streams: dict[YamuxStream, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._output_ready = asyncio.Event()
        self._ping_interval, self._ping_timeout = keepalive
        self._deadline: Deadline | None = None
        self._pinged = False
        self._ended = False
        # Frames were taken from Yamux, and not all of them were sent. Those in _unsent surely were not.
        self._sending = False
        self._unsent: list[Frame] = []
        self._failure: Exception | None = None

    @property
    def remote_id(self) -> PeerId:
        """The id of the peer."""
        return self.channel.remote_id

    @property
    def streams(self) -> list[Stream]:
        """The open streams."""
        return list(self._streams.values())

    def decoder(self) -> Decoder[Frame]:
        """Return the decoder of the connection: it decrypts, and decodes frames."""
        return self.channel.decoder(self._frames)

    def encoder(self) -> Encoder[Frame]:
        """Return the encoder of the connection: it encodes frames, and encrypts."""
        return self.channel.encoder(FrameEncoder())

    def __repr__(self) -> str:
        return f"<Connection with {self.remote_id} over {self.channel.name}, {len(self._streams)} streams>"

    # -- streams ---------------------------------------------------------------------------

    def open(self) -> Stream:
        """Open a stream. Raises :class:`GoneAwayError`, :class:`StreamLimitError`, :class:`StreamResetError`."""
        if self._ended:
            raise StreamResetError("the connection has ended")
        stream = self.add_stream(self.yamux.open())
        self._output_ready.set()
        return stream

    def add_stream(self, state: YamuxStream) -> Stream:
        """Return a new :class:`Stream` for a stream that Yamux has opened."""
        stream = self._streams[state] = Stream(self, state)
        return stream

    def write(self, state: YamuxStream, data: Buffer) -> None:
        """Queue ``data`` on a stream."""
        self.yamux.write(state, data)
        self._output_ready.set()

    def finish(self, state: YamuxStream) -> None:
        """Queue the end of a stream."""
        self.yamux.finish(state)
        self._output_ready.set()

    def reset(self, state: YamuxStream) -> None:
        """Reset a stream."""
        self.yamux.reset(state)
        self._streams.pop(state, None)
        self._output_ready.set()

    def consumed(self, state: YamuxStream, size: int) -> None:
        """Count ``size`` bytes of a stream as read."""
        if size:
            self.yamux.consumed(state, size)
            # A larger window allows larger frames; the decoder must know before the peer does.
            self._frames.max_payload = self.yamux.largest_window
            self._wake()

    def _forget_if_over(self, state: YamuxStream) -> None:
        if not state.is_open:
            self._streams.pop(state, None)

    # -- receiving -------------------------------------------------------------------------

    def handle(self, frame: Frame) -> None:
        """Process a frame that was received. Raises :class:`YamuxError`."""
        self._pinged = False
        if self._deadline is not None:
            self._deadline.restart()
        self.handle_early()
        for event in self.yamux.receive(frame):
            self._handle_event(event)
        self._wake()

    def handle_early(self) -> None:
        """Process the frames that were received behind the handshake, if that was not done yet."""
        early, self._early = self._early, ()
        for frame in early:
            self.handle(frame)

    def _handle_event(self, event: Event) -> None:
        if event.stream is None:
            return
        if event.kind is EventKind.OPENED:
            self._start_serving(self.add_stream(event.stream))
            return
        stream = self._streams.get(event.stream)
        if stream is None:  # reset while an earlier event of the same frame was handled
            return
        if event.kind is EventKind.DATA:
            stream.feed_data(bytes(event.data))
        elif event.kind is EventKind.ENDED:
            stream.feed_eof()
        elif event.kind is EventKind.RESET:
            stream.set_exception(StreamResetError(f"the peer reset stream {stream.id}"))
        self._forget_if_over(event.stream)

    def _start_serving(self, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self._run_handler(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_handler(self, stream: Stream) -> None:
        await self._serve(stream)

    # -- sending ---------------------------------------------------------------------------

    async def run(self, send: Send, flush: Flush) -> None:
        """Send the output of the streams, and ping a silent peer, until cancelled.

        Raises :class:`KeepaliveError` if the peer does not answer.
        """
        self._deadline = Deadline(asyncio.get_running_loop(), self._ping_interval, self._on_silence)
        self._deadline.restart()
        try:
            self.handle_early()
            while self._failure is None:
                if not self.yamux.has_output:
                    self._output_ready.clear()
                    await self._output_ready.wait()
                elif frames := self.yamux.take(OUTPUT):
                    await self.send_frames(frames, send, flush)
            raise self._failure
        finally:
            self._deadline.close()

    async def send_frames(self, frames: Sequence[Frame], send: Send, flush: Flush) -> None:
        """Send frames taken from Yamux. If this is cancelled, :meth:`farewell` knows that some may be lost."""
        self._sending = True
        for n, frame in enumerate(frames):
            try:
                await send(frame)
            except SendError:  # the connection is ending: on_disconnect sends them
                self._unsent, self._sending = list(frames[n:]), False
                raise
        self._sending = False
        for stream in list(self._streams.values()):
            stream.wake_writers()
            self._forget_if_over(stream.state)
        await flush()

    def _wake(self) -> None:
        if self.yamux.has_output:
            self._output_ready.set()

    def _on_silence(self) -> None:
        assert self._deadline is not None
        if self._pinged:
            self._failure = KeepaliveError(f"the peer did not answer a ping within {self._ping_timeout} seconds")
        else:
            self._pinged = True
            self.yamux.ping()
            self._deadline.seconds = self._ping_timeout
            self._deadline.restart()
            self._deadline.seconds = self._ping_interval
        self._output_ready.set()

    # -- the end ---------------------------------------------------------------------------

    def farewell(self, code: int) -> list[Frame]:
        """Return the last frames to send when this side ends the connection: queued data, and GoAway with ``code``."""
        self.yamux.go_away(code)
        # If data frames were lost, the peer would take the data after them for theirs: send control frames only.
        return [*self._unsent, *self.yamux.take(0 if self._sending else OUTPUT)]

    async def aclose(self) -> None:
        """End all streams with :class:`StreamResetError`, and cancel the tasks that serve them."""
        self._ended = True
        self.yamux.end()
        for stream in self._streams.values():
            stream.set_exception(StreamResetError("the connection has ended"))
        self._streams.clear()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
