"""The node: it serves the chunks that it has, and fetches those that it lacks from all its peers at once.

Who serves and who fetches is no different in kind: a sharer is a node that lacks nothing. Each peer
has one writer, its ``on_connect``, which sends what there is to say and one chunk at a time, when
the system has taken the one before: so however many peers ask, and however slowly they read, one
chunk for each is in memory. What a peer sends is bounded by what it was asked for.

A peer that lies (a chunk that does not prove), breaks the rules or stalls is dropped, and its
chunks are asked of others. An address that was given is dialled again, later and later, while
there is something to do; not one whose peer lied. A host that dialled and lied ``MAX_LIES`` times is
refused from then on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pea2pea import (
    Addr,
    Config,
    ConnectError,
    Decoder,
    DisconnectReason,
    Encoder,
    Handshake,
    Node,
    OnConnect,
    OnDisconnect,
    Peer,
    Reading,
    Writing,
)

from .errors import CliError, FileChangedError, PeerFaultError, ProofError, WrongFileError, why_unreachable
from .plan import Plan
from .security import Channel, Seal
from .store import PartialStore, Store
from .tree import Target, leaf_hash
from .wire import MAX_GOT, Bitmap, Chunk, Got, Hello, Message, Refuse, Request, Wire

#: How much is asked of one peer ahead of its answers: what a fast connection holds between two turns.
WINDOW_BYTES = 4 * 1024 * 1024
WINDOW_MOST, WINDOW_LEAST = 16, 2
#: Requests that one peer may have waiting here; ours never reach half of it.
MAX_WAITING = 64
#: Chunks above this size are hashed in a thread: below, the trip there costs more than it saves.
HASH_IN_LOOP = 1024 * 1024
#: A peer slower than this many bytes in a second counts as stalled, after ``PATIENCE`` seconds more.
SLOWEST = 64 * 1024
PATIENCE = 15.0
#: Seconds before an address is dialled again: doubled each time, up to the longer one.
BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
#: Seconds between two looks at who is late.
TICK = 0.25
#: Chunks' memory that is kept to be used again: new memory costs more than the copy into it.
MAX_SPARE = 2
MAX_LIES = 3
#: Hosts whose lies are remembered.
MAX_LIARS = 1024


@dataclass(slots=True, eq=False)
class Exchange:
    """What is under way with one peer; its session."""

    peer: Peer
    news: list[int] = field(default_factory=list)
    asks: list[int] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    lied: bool = False
    seal: Seal = field(default_factory=Seal)
    delivered: int = 0
    served: int = 0

    def messages(self) -> Iterator[Message]:
        """Take what there is to say, chunks aside."""
        asks, news = self.asks, self.news
        self.asks, self.news = [], []
        yield from map(Request, asks)
        for start in range(0, len(news), MAX_GOT):
            yield Got(tuple(news[start : start + MAX_GOT]))


class Asker(Node, Handshake):
    """A node that only asks what another one shares."""

    def __init__(self, config: Config, channel: Channel | None = None, **options: Any) -> None:
        self._channel = channel or Channel()
        super().__init__(config, **{**self._channel.options, **options})

    async def handshake(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Target:
        """Return what the other side shares. Raises :class:`PeerFaultError` where it shares nothing."""
        seal = await self._channel.secure(peer, reader, writer)
        hello = await greet(Hello(None), reader, writer, seal)
        if hello.target is None:
            raise PeerFaultError("the other side shares nothing")
        return hello.target

    async def ask(self, addr: Addr, root: bytes | None) -> Target:
        """Return what is shared at ``addr``. Raises :class:`CliError` where that is nothing, or not ``root``."""
        try:
            peer = await self.connect(addr)
        except ConnectError as error:
            raise CliError(f"cannot reach {addr}: {why_unreachable(error)}") from error
        target: Target = peer.session
        await self.disconnect(peer)
        if root is not None and target.root != root:
            raise CliError(f"{addr} offers another file: its root is {target.root.hex()}, not {root.hex()}")
        return target

    async def ask_all(self, addrs: Iterable[Addr], root: bytes | None) -> Target:
        """Ask all of ``addrs`` at once and return the first answer.

        Raises :class:`CliError`, with all their reasons, where none answers.
        """
        problems: list[str] = []
        tasks = [asyncio.create_task(self.ask(addr, root)) for addr in dict.fromkeys(addrs)]
        try:
            for answer in asyncio.as_completed(tasks):
                try:
                    return await answer
                except CliError as error:
                    problems.append(str(error))
        finally:
            await end(tasks)
        raise CliError("; ".join(problems))


class Swarm(Node, Handshake, Reading[Message], Writing[Message], OnConnect, OnDisconnect):
    """A node that exchanges one file.

    A peer is stalled after ``patience`` seconds; ``note`` is called with a line for the user when
    something happens; ``options`` are those of :class:`~pea2pea.Node`.
    """

    handshake_timeout: ClassVar[float] = 10.0
    #: Chunks that may wait to be verified, per peer.
    read_queue_depth: ClassVar[int] = WINDOW_MOST
    #: What the largest chunk takes at the slowest rate that is put up with, and some more.
    write_timeout: ClassVar[float | None] = 300.0

    def __init__(
        self,
        store: Store,
        config: Config,
        *,
        patience: float | None = None,
        note: Callable[[str], None] = lambda line: None,
        channel: Channel | None = None,
        **options: Any,
    ) -> None:
        self._channel = channel or Channel()
        super().__init__(config, **{**self._channel.options, **options})
        self.store = store
        self.target = store.target
        self.served = 0
        self.fetched = 0
        chunk = max(1, self.target.chunk)
        self.plan = Plan(
            self.target.count,
            store.have,
            window=max(WINDOW_LEAST, min(WINDOW_MOST, WINDOW_BYTES // chunk)),
            patience=PATIENCE + chunk / SLOWEST if patience is None else patience,
        )
        self._tell = note
        self._exchanges: dict[int, Exchange] = {}
        self._spare: list[bytearray] = []
        self._lies: dict[str, int] = {}
        self._failure: BaseException | None = None
        self._ended = asyncio.Event()
        self._progress_at = 0.0
        self._pursuits = 0
        self._last_note = ""
        self._check_complete()

    # -- what the user of a swarm calls -----------------------------------------------------

    @property
    def exchanges(self) -> list[Exchange]:
        """What is under way, per peer."""
        return list(self._exchanges.values())

    @asynccontextmanager
    async def pursuing(self, addrs: Iterable[Addr], *, give_up: float = 60.0) -> AsyncIterator[None]:
        """Stay connected to ``addrs`` and drop who stalls; fail after ``give_up`` seconds without a new chunk."""
        self._progress_at = self._now()
        chores = [partial(self._watch, give_up), *(partial(self._pursue, addr) for addr in dict.fromkeys(addrs))]
        self._pursuits = len(chores) - 1
        tasks = [asyncio.create_task(self._do(chore)) for chore in chores]
        try:
            yield
        finally:
            await end(tasks)

    async def complete(self) -> None:
        """Return when every chunk is there. Raises what made it impossible."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def failed(self) -> None:
        """Serve until that becomes impossible, and raise why."""
        while self._failure is None:
            self._ended.clear()
            await self._ended.wait()
        raise self._failure

    # -- hooks -------------------------------------------------------------------------------

    async def handshake(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Exchange | None:
        """Exchange hellos; ``None`` for one who only asks. Raises :class:`WrongFileError` for another file."""
        if peer.inbound and self._lies.get(peer.addr.host, 0) >= MAX_LIES:
            raise PeerFaultError(f"{peer.addr.host} has lied before")
        seal = await self._channel.secure(peer, reader, writer)
        hello = await greet(Hello(self.target), reader, writer, seal)
        if hello.target is None:
            return None
        if hello.target != self.target:
            if peer.inbound:  # who dialled is to read our hello, and to hang up: a reset could overtake it
                await reader.read()
            raise WrongFileError(f"another file: its root is {hello.target.root.hex()}")
        return Exchange(peer, seal=seal)

    def decoder(self, peer: Peer) -> Decoder[Message]:
        """Return the codec."""
        return self._seal(peer).decoder(Wire(self.target))

    def encoder(self, peer: Peer) -> Encoder[Message]:
        """Return the codec."""
        return self._seal(peer).encoder(Wire(self.target))

    def _seal(self, peer: Peer) -> Seal:
        exchange: Exchange | None = peer.session
        return exchange.seal if exchange is not None else Seal()  # who only asks says no more

    async def on_connect(self, peer: Peer) -> None:
        """Be the one writer to ``peer`` for as long as it is connected."""
        if peer.session is None:
            return
        exchange = self._exchange(peer)
        with suppress(ConnectionError):  # it left: on_disconnect is told why
            if self.store.have:
                await self.send(peer, Bitmap(self.store.have))
            while True:
                for message in exchange.messages():
                    await self.send(peer, message)
                if exchange.waiting:
                    await self._serve(exchange, exchange.waiting.popleft())
                else:
                    exchange.wake.clear()
                    await exchange.wake.wait()

    async def process_message(self, peer: Peer, message: Message) -> None:
        """Take one message. Raises :class:`PeerFaultError`, which ends the connection, where it breaks the rules."""
        exchange = self._exchange(peer)
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
                    raise PeerFaultError(f"refused chunk {index}, which nobody asked for")
        self._ask(exchange)

    async def on_disconnect(self, peer: Peer, reason: DisconnectReason) -> None:
        """Ask others for what ``peer`` was asked for."""
        exchange = self._exchanges.pop(peer.id, None)
        if exchange is None:
            return
        exchange.gone.set()
        self.plan.leave(peer.id)
        if isinstance(reason.exception, PeerFaultError):
            self._note(f"dropped {peer.addr}: {reason.exception}")
        self._ask_all()

    # -- serving -----------------------------------------------------------------------------

    def _queue(self, exchange: Exchange, index: int) -> None:
        if len(exchange.waiting) >= MAX_WAITING:
            raise PeerFaultError(f"more than {MAX_WAITING} requests at once")
        exchange.waiting.append(index)
        exchange.wake.set()

    async def _serve(self, exchange: Exchange, index: int) -> None:
        """Send a chunk, and wait until the system has taken it, so that one at a time is in memory."""
        if not self.store.has(index):
            await self.send(exchange.peer, Refuse(index))
            return
        memory = self._spare.pop() if self._spare else bytearray(self.target.chunk)
        try:
            data = self.store.read(index, memory)
        except (FileChangedError, OSError) as error:
            self._fail(error)
            return
        await self.send(exchange.peer, Chunk(index, tuple(self.store.tree.proof(index)), data))
        await self.flush(exchange.peer)
        exchange.served += len(data)
        self.served += len(data)
        # All of it is with the system, so nothing refers to that memory any more. (Where this was
        # cancelled or failed instead, the transport may: it is left to it.)
        if len(self._spare) < MAX_SPARE:
            self._spare.append(memory)

    # -- fetching ----------------------------------------------------------------------------

    async def _take(self, exchange: Exchange, chunk: Chunk) -> None:
        """Verify a chunk and keep it."""
        index, peer = chunk.index, exchange.peer
        if not self.plan.arrived(peer.id, index, self._now()):
            raise PeerFaultError(f"sent chunk {index}, which nobody asked for")
        if len(chunk.data) <= HASH_IN_LOOP:
            leaf = leaf_hash(chunk.data)
        else:
            leaf = await asyncio.to_thread(leaf_hash, chunk.data)
        if self.store.has(index):  # another was faster
            return
        try:
            self._keep(chunk, leaf)
        except ProofError as error:
            self._remember_lie(exchange)
            raise PeerFaultError(f"it lies: {error}") from error
        except OSError as error:
            self._fail(error)
            return
        exchange.delivered += len(chunk.data)
        self._spread(index)

    def _keep(self, chunk: Chunk, leaf: bytes) -> None:
        assert isinstance(self.store, PartialStore)  # a whole file has nothing missing, so nothing was asked for
        self.store.put(chunk.index, chunk.data, leaf, chunk.proof)
        self.plan.done(chunk.index)
        self.fetched += len(chunk.data)
        self._progress_at = self._now()
        self._check_complete()

    def _spread(self, index: int) -> None:
        """Tell the others, as far as they lack it."""
        for exchange in self._exchanges.values():
            if self.plan.needs(exchange.peer.id, index):
                exchange.news.append(index)
                exchange.wake.set()

    def _ask(self, exchange: Exchange) -> None:
        if self._failure is None and exchange.peer.id in self._exchanges:
            asks = self.plan.take(exchange.peer.id, self._now())
            if asks:
                exchange.asks += asks
                exchange.wake.set()

    def _ask_all(self) -> None:
        for exchange in self._exchanges.values():
            self._ask(exchange)

    def _exchange(self, peer: Peer) -> Exchange:
        """Return what is under way with ``peer``; it begins with the first hook, whichever that is."""
        exchange: Exchange | None = peer.session
        if exchange is None:
            raise PeerFaultError("said it only asks, and goes on")
        if peer.id not in self._exchanges and not exchange.gone.is_set():
            self._exchanges[peer.id] = exchange
            self.plan.join(peer.id)
        return exchange

    def _remember_lie(self, exchange: Exchange) -> None:
        exchange.lied = True
        if not exchange.peer.inbound:  # who was dialled is not dialled again
            return
        host = exchange.peer.addr.host
        lies = self._lies.pop(host, 0) + 1
        if len(self._lies) >= MAX_LIARS:
            del self._lies[next(iter(self._lies))]
        self._lies[host] = lies

    # -- what goes on beside -----------------------------------------------------------------

    async def _pursue(self, addr: Addr) -> None:
        """Dial ``addr``, and again whenever it is lost, until it is clear that nothing good comes from there."""
        wait = BACKOFF
        while True:
            try:
                exchange = await self._attend(addr)
            except ConnectError as error:
                if isinstance(error.__cause__, PeerFaultError):
                    self._note(f"left out {addr}: {error.__cause__}")
                    break
                self._note(f"cannot reach {addr}, will try again ({why_unreachable(error)})")
            else:
                if exchange.lied:
                    break
                wait = BACKOFF if exchange.delivered else wait
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_BACKOFF)
        self._pursuits -= 1
        self._check_hope()

    async def _attend(self, addr: Addr) -> Exchange:
        """Connect to ``addr`` and return when the connection has ended."""
        exchange: Exchange | None = (await self.connect(addr)).session
        if exchange is None:
            raise ConnectError(f"{addr} has nothing to share") from PeerFaultError("it only asks")
        await exchange.gone.wait()
        return exchange

    def _check_hope(self) -> None:
        if self.plan.missing and not self._pursuits and not self._exchanges:
            raise CliError(f"no peer is left to fetch from: {self._last_note}")

    def _note(self, line: str) -> None:
        """Tell the user, unless that was the last thing that was told."""
        if line != self._last_note:
            self._last_note = line
            self._tell(line)

    async def _watch(self, give_up: float) -> None:
        """Drop who stalls, ask again for what is late, and see when there is no more hope."""
        tick = min(TICK, self.plan.patience / 4)
        while True:
            await asyncio.sleep(tick)
            now = self._now()
            for late in self.plan.overdue(now):
                peer = self._exchanges[late].peer
                self._note(f"dropped {peer.addr}: it has stalled")
                await self.disconnect(peer)
            self._ask_all()
            if self.plan.missing and now - self._progress_at > give_up:
                raise CliError(f"nothing came for {give_up:g} seconds; run it again to go on from here")

    async def _do(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await chore()
        except Exception as error:  # handed to whoever waits for the outcome
            self._fail(error)

    def _check_complete(self) -> None:
        if self.store.complete:
            self._ended.set()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._ended.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def greet(
    hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seal: Seal | None = None
) -> Hello:
    """Send ``hello`` and return that of the other side.

    Raises :class:`PeerFaultError` where it sends something else.
    """
    seal = seal or Seal()
    writer.write(seal.seal(hello))
    await writer.drain()
    return await seal.read(reader)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` and wait until they have ended; what they raise is not looked at."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
