"""The node that exchanges one file: it serves the chunks it has and fetches the others from all its peers at once.

A node that shares a complete file is the same node with nothing left to fetch. Each peer has one
writer, its ``on_connect``, which sends requests and news first and then one chunk at a time, waiting
until the system has taken it. So the memory for outgoing data is one chunk per peer, however many
peers ask and however slowly they read. Incoming data is bounded by what was requested.

A peer that sends a chunk that does not verify, violates the protocol or stalls is disconnected, and
the chunks it was asked for are requested from others. A host that dials and sends wrong data
``MAX_LIES`` times is refused from then on. Dialling is in ``pursuit``. Imports asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pea2pea import (
    Cause,
    Decoder,
    DisconnectReason,
    Encoder,
    Handshake,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Settings,
    Writing,
)

from .errors import FileChangedError, PeerFaultError, ProofError, WrongFileError
from .exchange import Exchange, Liars, exchange_hellos, local_address
from .pacer import Pacer
from .partial import PartialStore
from .plan import Plan
from .security import Channel, Seal
from .store import Store
from .tree import leaf_hash
from .wire import Bitmap, Chunk, Got, Hello, Message, Refuse, Request, Wire

#: Bytes requested from one peer ahead of its answers, so that a fast connection is never idle between two requests.
WINDOW_BYTES = 4 * 1024 * 1024
WINDOW_MOST, WINDOW_LEAST = 16, 2
#: Requests of one peer that may wait here. Ours never reach half of it.
MAX_WAITING = 64
#: Chunks above this size are hashed in a thread. Below it, the switch costs more than it saves.
HASH_IN_LOOP = 1024 * 1024
#: A peer slower than this many bytes per second counts as stalled, after ``PATIENCE`` seconds more.
SLOWEST = 64 * 1024
PATIENCE = 15.0
#: Chunk buffers that are kept for reuse: allocating fresh memory costs more than copying a chunk.
MAX_SPARE = 2


class Swarm(Node, Handshake, Reading[Message], Writing[Message], OnConnect, OnDisconnect):
    """A node that exchanges one file.

    A peer that delivers nothing for ``patience`` seconds counts as stalled; the default depends on the
    chunk size. All peers together are sent at most ``rate`` bytes per second. ``note`` is called with a
    line for the user when something happens. ``options`` are those of :class:`~pea2pea.Node`.
    """

    handshake_timeout: float = 10.0
    #: Chunks per peer that may wait to be verified.
    read_queue_depth = WINDOW_MOST
    #: Enough for the largest chunk at the slowest rate that is accepted.
    write_timeout: float = 300.0

    def __init__(
        self,
        store: Store,
        config: Settings,
        *,
        patience: float | None = None,
        rate: float | None = None,
        note: Callable[[str], None] = lambda line: None,
        channel: Channel | None = None,
        **options: Any,
    ) -> None:
        self._channel = channel or Channel()
        super().__init__(**{**config, **self._channel.options, **options})
        self.store = store
        self.target = store.target
        #: Bytes of chunks sent to all peers.
        self.served = 0
        #: Bytes of verified chunks received from all peers.
        self.fetched = 0
        chunk = max(1, self.target.chunk)
        self.plan: Plan = Plan(
            self.target.count,
            store.have,
            window=max(WINDOW_LEAST, min(WINDOW_MOST, WINDOW_BYTES // chunk)),
            patience=PATIENCE + chunk / SLOWEST if patience is None else patience,
        )
        #: When the last chunk was verified, in seconds on the loop's clock.
        self.progress_at = 0.0
        #: The last line for the user.
        self.last_note = ""
        self.liars: Liars = Liars()
        self._tell = note
        self._exchanges: dict[int, Exchange] = {}
        self._pacer = Pacer(rate)
        self._spare: list[bytearray] = []
        self._failure: BaseException | None = None
        self._ended = asyncio.Event()
        self._check_complete()

    # -- what the user of a swarm calls -----------------------------------------------------

    @property
    def exchanges(self) -> list[Exchange]:
        """What is under way, per peer."""
        return list(self._exchanges.values())

    async def complete(self) -> None:
        """Wait until every chunk is here. Raises what made that impossible."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def failed(self) -> None:
        """Serve until that becomes impossible, then raise the reason."""
        while self._failure is None:
            self._ended.clear()
            await self._ended.wait()
        raise self._failure

    def fail(self, error: BaseException) -> None:
        """Make :meth:`complete` and :meth:`failed` raise ``error``, unless they raise an earlier one."""
        self._failure = self._failure or error
        self._ended.set()

    def note(self, line: str) -> None:
        """Report a line to the user, unless it repeats the last one."""
        if line != self.last_note:
            self.last_note = line
            self._tell(line)

    def ask_all(self) -> None:
        """Request chunks from every peer that has room for more requests."""
        for exchange in self._exchanges.values():
            self._ask(exchange)

    def now(self) -> float:
        """Return the time on the loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    # -- hooks -------------------------------------------------------------------------------

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Exchange | None:
        """Exchange hellos. Returns ``None`` for a peer that only asks what is shared.

        Raises :class:`WrongFileError` if the peer exchanges another file.
        """
        if peer.inbound and self.liars.refuses(peer.addr.host):
            raise PeerFaultError(f"{peer.addr.host} has sent wrong data before")
        seal = await self._channel.secure(peer, reader, writer)
        hello = await exchange_hellos(Hello(self.target), reader, writer, seal)
        if hello.target is None:
            return None
        if hello.target != self.target:
            if peer.inbound:
                # The dialler has to read our hello to report the reason. If we closed first, a reset could
                # discard it, so the dialler closes.
                await reader.read()
            raise WrongFileError(f"it shares another file: its root hash is {hello.target.root.hex()}")
        return Exchange(peer, seal=seal, local=local_address(writer))

    def decoder(self, peer: Peer) -> Decoder[Message]:
        """Return the codec."""
        return self._seal(peer).decoder(Wire(self.target))

    def encoder(self, peer: Peer) -> Encoder[Message]:
        """Return the codec."""
        return self._seal(peer).encoder(Wire(self.target))

    def _seal(self, peer: Peer) -> Seal:
        exchange: Exchange | None = peer.session
        return exchange.seal if exchange is not None else Seal()  # a peer that only asks sends no messages

    async def on_connect(self, peer: Peer) -> None:
        """Write to ``peer`` for as long as it is connected. Nothing else does."""
        if peer.session is None:
            return
        exchange = self._exchange(peer)
        with suppress(ConnectionError):  # the connection ended; on_disconnect gets the reason
            if self.store.have:
                await self.send(peer, Bitmap(self.store.have))
            while True:
                for message in exchange.messages():
                    await self.send(peer, message)
                if exchange.waiting:
                    await self.serve_chunk(exchange, exchange.waiting.popleft())
                else:
                    exchange.wake.clear()
                    await exchange.wake.wait()

    async def process_message(self, peer: Peer, message: Message) -> None:
        """Process one message. One that is not allowed ends the connection, as the peer's doing."""
        try:
            await self._process(self._exchange(peer), peer, message)
        except PeerFaultError as error:
            self.end(peer, DisconnectReason(Cause.BAD_DATA, error))

    async def _process(self, exchange: Exchange, peer: Peer, message: Message) -> None:
        match message:
            case Chunk():
                await self._take(exchange, message)
            case Request(index):
                self._queue(exchange, index)
            case Got(indexes):
                self.plan.announce(peer.id, indexes)
            case Bitmap(bits):
                self.plan.offer(peer.id, bits)
            case Refuse(index):
                if not self.plan.refused(peer.id, index):
                    raise PeerFaultError(f"refused chunk {index}, which was not requested")
        self._ask(exchange)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Request from others what ``peer`` was asked for."""
        exchange = self._exchanges.pop(peer.id, None)
        if exchange is None:
            return
        exchange.gone.set()
        self.plan.leave(peer.id)
        if isinstance(reason.exception, PeerFaultError):
            self.note(f"disconnected {peer.addr}: {reason.exception}")
        self.ask_all()

    # -- serving -----------------------------------------------------------------------------

    def _queue(self, exchange: Exchange, index: int) -> None:
        if len(exchange.waiting) >= MAX_WAITING:
            raise PeerFaultError(f"sent more than {MAX_WAITING} requests at once")
        exchange.waiting.append(index)
        exchange.wake.set()

    async def serve_chunk(self, exchange: Exchange, index: int) -> None:
        """Send a chunk and wait until the system has taken it, so that only one at a time is in memory."""
        if not self.store.has(index):
            await self.send(exchange.peer, Refuse(index))
            return
        await self._pacer.take(self.target.length(index))
        memory = self._spare.pop() if self._spare else bytearray(self.target.chunk)
        try:
            data = self.store.read(index, memory)
        except (FileChangedError, OSError) as error:
            self.fail(error)
            return
        await self.send(exchange.peer, Chunk(index, tuple(self.store.tree.proof(index)), data))
        await self.flush(exchange.peer)
        exchange.served += len(data)
        self.served += len(data)
        # The system has copied all of it, so nothing refers to the buffer any more and it can be reused. After a
        # cancellation or an error the transport may still refer to it; then it is not put back.
        if len(self._spare) < MAX_SPARE:
            self._spare.append(memory)

    # -- fetching ----------------------------------------------------------------------------

    async def _take(self, exchange: Exchange, chunk: Chunk) -> None:
        """Verify a chunk and keep it."""
        index, peer = chunk.index, exchange.peer
        if not self.plan.arrived(peer.id, index, self.now()):
            raise PeerFaultError(f"sent chunk {index}, which was not requested")
        if len(chunk.data) <= HASH_IN_LOOP:
            leaf = leaf_hash(chunk.data)
        else:
            leaf = await asyncio.to_thread(leaf_hash, chunk.data)
        if self.store.has(index):  # another peer delivered it first
            return
        try:
            self.keep_chunk(chunk, leaf)
        except ProofError as error:
            exchange.lied = True
            if peer.inbound:  # an address that was dialled is not dialled again, which is enough
                self.liars.add(peer.addr.host)
            raise PeerFaultError(f"it sent wrong data: {error}") from error
        except OSError as error:
            self.fail(error)
            return
        exchange.delivered += len(chunk.data)
        self._spread(index)

    def keep_chunk(self, chunk: Chunk, leaf: bytes) -> None:
        """Verify a chunk by its proof and write it. Raises :class:`ProofError` or ``OSError``."""
        # The store of a complete file is never reached here: nothing is missing, so nothing was requested.
        assert isinstance(self.store, PartialStore)
        self.store.put(chunk.index, chunk.data, leaf, chunk.proof)
        self.plan.done(chunk.index)
        self.fetched += len(chunk.data)
        self.progress_at = self.now()
        self._check_complete()

    def _spread(self, index: int) -> None:
        """Announce a new chunk to the peers that lack it."""
        for exchange in self._exchanges.values():
            if self.plan.needs(exchange.peer.id, index):
                exchange.news.append(index)
                exchange.wake.set()

    def _ask(self, exchange: Exchange) -> None:
        if self._failure is None and exchange.peer.id in self._exchanges:
            asks = self.plan.take(exchange.peer.id, self.now())
            if asks:
                exchange.asks += asks
                exchange.wake.set()

    def _exchange(self, peer: Peer) -> Exchange:
        """Return the exchange with ``peer``. The first hook that runs, whichever it is, registers it."""
        exchange: Exchange | None = peer.session
        if exchange is None:
            raise PeerFaultError("sent a message after a hello that only asks")
        if peer.id not in self._exchanges and not exchange.gone.is_set():
            self._exchanges[peer.id] = exchange
            self.plan.join(peer.id)
        return exchange

    def _check_complete(self) -> None:
        if self.store.complete:
            self._ended.set()
