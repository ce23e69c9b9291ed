"""What the tests of the command share: files of chunks, stores, and nodes that behave badly. Imports nothing slow."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from pea2pea import Settings
from pea2pea.share.exchange import Exchange
from pea2pea.share.jobs import Limits, get_file, share_file
from pea2pea.share.link import Link
from pea2pea.share.partial import PartialStore, resume
from pea2pea.share.progress import Progress
from pea2pea.share.store import Store, open_whole
from pea2pea.share.swarm import Swarm
from pea2pea.share.tree import MIN_CHUNK, Target
from pea2pea.share.wire import Chunk
from support import Recorder

P = ParamSpec("P")


def tickless(done: int) -> None:
    """Takes no interest."""


def same(*paths: Path) -> bool:
    """Whether these files hold the same."""
    return len({path.read_bytes() for path in paths}) == 1


def listing(directory: Path) -> set[str]:
    """The names of what is in ``directory``."""
    return {path.name for path in directory.iterdir()}


def length(path: Path) -> int:
    """The size of a file."""
    return path.stat().st_size


def make_file(path: Path, chunks: float, seed: int = 1) -> Path:
    """Write a file of so many chunks, like no other."""
    path.write_bytes(random.Random(seed).randbytes(int(chunks * MIN_CHUNK)))
    return path


class Stores(ExitStack):
    """Opens stores, and closes them at the end."""

    def share(self, path: Path) -> Store:
        return self.closed(open_whole(path, tickless))

    def resume(self, path: Path, target: Target, *, force: bool = False) -> PartialStore:
        chunks = self.closed(resume(path, target, tickless, force=force))
        assert isinstance(chunks, PartialStore)
        return chunks

    def closed(self, chunks: Store) -> Store:
        self.callback(chunks.close)
        return chunks


def tidy(test: Callable[P, None]) -> Callable[P, None]:
    """Close the stores of a test when it ends, before it is looked at what it leaves behind."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        stores = kwargs["stores"]
        assert isinstance(stores, Stores)
        with stores:
            test(*args, **kwargs)

    return run


def copy_chunk(source: Store, sink: PartialStore, index: int) -> None:
    data = source.read(index)
    leaf = source.tree.leaf(index)
    assert leaf is not None
    sink.put(index, data, leaf, tuple(source.tree.proof(index)))


def config(host: str = "10.0.0.1") -> Settings:
    """Settings of a node of its own machine in a network in memory."""
    return Settings(listen=f"{host}:0", max_connections=50, max_connections_per_ip=50)


class Watched(Swarm):
    """Writes down what happens."""

    def __init__(self, chunks: Store, config: Settings, **options: Any) -> None:
        self.notes: Recorder[str] = Recorder()
        self.kept: Recorder[int] = Recorder()
        self.sent: Recorder[int] = Recorder()
        super().__init__(chunks, config, note=self.notes.add, **options)

    def keep_chunk(self, chunk: Chunk, leaf: bytes) -> None:
        super().keep_chunk(chunk, leaf)
        self.kept.add(chunk.index)

    async def serve_chunk(self, exchange: Exchange, index: int) -> None:
        await super().serve_chunk(exchange, index)
        self.sent.add(index)


class Liar(Watched):
    """Sends chunks with one bit wrong."""

    async def serve_chunk(self, exchange: Exchange, index: int) -> None:
        data = self.store.read(index)
        data[0] ^= 1
        await self.send(exchange.peer, Chunk(index, tuple(self.store.tree.proof(index)), data))
        self.sent.add(index)


class Staller(Watched):
    """Has everything and sends nothing."""

    async def serve_chunk(self, exchange: Exchange, index: int) -> None:
        await asyncio.Event().wait()


class Vanisher(Watched):
    """Is gone after a few chunks."""

    last = 3

    async def serve_chunk(self, exchange: Exchange, index: int) -> None:
        if exchange.served >= self.last * self.target.chunk:
            raise ConnectionError("gone")
        await super().serve_chunk(exchange, index)


class Printed(io.StringIO):
    """A file that is printed to, by the line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Recorder[str] = Recorder()

    def write(self, text: str) -> int:
        if text != "\n":
            self.lines.add(text)
        return len(text)


async def share(path: Path, limits: Limits, progress: Progress, printed: Printed) -> None:
    """Share a file, and write the link down."""
    await share_file(path, limits, progress, lambda link: printed.lines.add(str(link)))


async def get(
    sources: Sequence[str],
    path: Path,
    limits: Limits,
    progress: Progress,
    printed: Printed,
    *,
    force: bool = False,
    stay: bool = False,
) -> None:
    """Get a file, and write down when it is there."""
    links = [Link.parse(text) for text in sources]

    def done(target: Target) -> None:
        printed.lines.add(f"verified {target.root.hex()}")

    await get_file(links, path, limits, progress, done, force=force, stay=stay)


def root_in(link: str) -> str:
    """The root hash that a link names."""
    root = Link.parse(link).root
    assert root is not None
    return root.hex()


class Notes(Progress):
    """Writes down what is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.begun: Recorder[tuple[str, int | None]] = Recorder()
        self.last: dict[str, int] = {}
        self.ended = 0

    def begin(self, what: str, total: int | None) -> None:
        self.begun.add((what, total))

    def at(self, done: int, note: str = "") -> None:
        self.last[self.begun.items[-1][0]] = done

    def say(self, line: str) -> None:
        self.lines.append(line)

    def end(self) -> None:
        self.ended += 1


def any_line(lines: Sequence[str], *parts: str) -> bool:
    """Whether one of ``lines`` has all of ``parts``."""
    return any(all(part in line for part in parts) for line in lines)
