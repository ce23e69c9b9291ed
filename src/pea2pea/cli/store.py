"""A file on disk: a whole one that is shared, or a partial one that is being fetched. No asyncio.

While ``FILE`` is fetched there are two files beside it: ``FILE.part``, of its full size, which
chunks are written into as they come; and ``FILE.part.tree``, what is known of the tree. A chunk is
there when the tree knows its leaf; data is written before its leaf is. Nothing in either is
trusted when a fetch is resumed: chunks are hashed again, and what the tree does not prove is
fetched anew, so that a crash at any moment costs chunks and never the file's integrity. ``FILE``
itself appears by a rename, after all of ``FILE.part`` has been written out, read back and verified.

Reading and writing a chunk blocks its caller: for a chunk that is shorter than the trip to another
thread and back. Hashing a whole file does not belong in an event loop; what does it takes a
``tick``, called with the bytes done so far, which may raise to end it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import ModuleType

from .errors import CliError, FileChangedError, ProofError
from .tree import HASH_SIZE, Target, Tree, leaf_hash

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: two fetches of one file at once are caught when the result is verified
    fcntl = None

Tick = Callable[[int], None]

TREE_MAGIC = b"pea2tree"
TREE_HEADER = len(TREE_MAGIC) + 8 + HASH_SIZE


class Store:
    """The chunks of one file, as many as are there."""

    def __init__(self, file: FileIO, path: Path, target: Target, tree: Tree, have: int) -> None:
        self.target = target
        self.path = path
        self.tree = tree
        self.have = have
        self._file = file
        self._stamp = _stamp(file)

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return self.have == (1 << self.target.count) - 1

    @property
    def held(self) -> int:
        """How many bytes of the file are there."""
        whole, last = self.have.bit_count() * self.target.chunk, self.target.count - 1
        return whole - self.target.chunk + self.target.length(last) if self.has(last) else whole

    def has(self, index: int) -> bool:
        """Return whether chunk ``index`` is there."""
        return index >= 0 and bool(self.have >> index & 1)

    def read(self, index: int, memory: bytearray | None = None) -> memoryview:
        """Return chunk ``index``, in ``memory`` (of the size of a chunk) or memory of its own.

        Raises :class:`FileChangedError` where the file is no longer what it was.
        """
        self._check_unchanged()
        size = self.target.length(index)
        data = memoryview(bytearray(size) if memory is None else memory)[:size]
        self._file.seek(index * self.target.chunk)
        if _fill(self._file, data) != size:
            raise FileChangedError(f"{self.path} has become shorter while it was shared")
        return data

    def close(self) -> None:
        """Close the file; what is there of it stays."""
        self._file.close()

    def _check_unchanged(self) -> None:
        if _stamp(self._file) != self._stamp:
            raise FileChangedError(f"{self.path} has changed while it was shared; share it anew")


class PartialStore(Store):
    """A file that is being fetched. Made by :func:`resume`."""

    def __init__(self, file: FileIO, state: FileIO, path: Path, target: Target) -> None:
        super().__init__(file, path, target, Tree(target.count, target.top), 0)
        self._state: FileIO | None = state

    def put(self, index: int, data: bytes | bytearray | memoryview, leaf: bytes, proof: tuple[bytes, ...]) -> None:
        """Verify chunk ``index`` and keep it.

        Raises :class:`ProofError`, and ``OSError`` where the disk takes no more.
        """
        if self._state is None:
            raise ValueError(f"{self.path} is complete")
        if len(data) != self.target.length(index):
            raise ProofError(f"chunk {index} of {len(data)} bytes")
        fresh = self.tree.learn(index, leaf, proof)
        with _naming(part_of(self.path)):
            _write(self._file, index * self.target.chunk, data)
            self.have |= 1 << index
            for position in fresh:
                node = memoryview(self.tree.nodes)[position * HASH_SIZE : (position + 1) * HASH_SIZE]
                _write(self._state, TREE_HEADER + position * HASH_SIZE, node)

    def verify(self, tick: Tick) -> None:
        """Write everything out to the disk, read it back and hash it.

        Raises :class:`CliError` where it is not the file.
        """
        os.fsync(self._file.fileno())
        with FileIO(part_of(self.path)) as file:
            if hash_file(file, self.target.size, tick) != self.target:
                raise CliError(f"{part_of(self.path)} does not hold what was written to it; run it again to repair it")

    def publish(self, *, force: bool = False) -> None:
        """Give the verified file its name. Raises :class:`CliError` where that is taken, unless ``force`` is set.

        Chunks can be read as before; none can be put any more.
        """
        if not force and os.path.lexists(self.path):
            raise CliError(f"{self.path} has appeared meanwhile; the file that was fetched is {part_of(self.path)}")
        self.close()
        part_of(self.path).replace(self.path)
        _sync_directory(self.path.parent)
        tree_of(self.path).unlink(missing_ok=True)
        self._file = FileIO(self.path)
        self._stamp = _stamp(self._file)

    def close(self) -> None:
        """Close the files; what is there of them stays, for :func:`resume`."""
        super().close()
        if self._state is not None:
            self._state.close()
            self._state = None

    def _check_unchanged(self) -> None:
        # its own writing changes the file; what others do to it shows when it is verified
        if self._state is None:
            super()._check_unchanged()

    def _recover(self, old: Tree, tick: Tick) -> None:
        """Take over the chunks that ``old``, of which nothing is trusted, says are there, and that are."""
        done = 0
        for index in range(self.target.count):
            leaf = old.leaf(index)
            if leaf is not None:
                with suppress(ProofError, FileChangedError):
                    data = self.read(index)
                    self.put(index, data, leaf_hash(data), tuple(old.proof(index)))
            done += self.target.length(index)
            tick(done)


def size_of(path: Path) -> int:
    """Return the size of ``path``. Raises ``OSError`` where it is not there."""
    return path.stat().st_size


def part_of(path: Path) -> Path:
    """Return where the data of an unfinished ``path`` is."""
    return path.with_name(path.name + ".part")


def tree_of(path: Path) -> Path:
    """Return where the tree of an unfinished ``path`` is."""
    return path.with_name(path.name + ".part.tree")


def share(path: Path, tick: Tick) -> Store:
    """Open ``path`` and hash it. Raises :class:`CliError`, and ``OSError`` where it cannot be read."""
    file = _open_regular(path)
    try:
        stamp = _stamp(file)
        target = Target(stamp[0], b"")
        leaves = list(_leaves(file, target, tick))
        if len(leaves) != target.count or _stamp(file) != stamp:
            raise FileChangedError(f"{path} has changed while it was read")
    except BaseException:
        file.close()
        raise
    tree = Tree.of(leaves)
    return Store(file, path, Target(target.size, tree.top), tree, (1 << target.count) - 1)


def resume(path: Path, target: Target, tick: Tick, *, force: bool = False) -> Store:
    """Open what is there of ``path``: all of it, part of it, or nothing yet.

    Raises :class:`CliError` where there is something else under its name, or where another fetch is
    at it; with ``force`` what is there is replaced. ``OSError`` where the disk does not take it.
    """
    if os.path.lexists(path) and not force:
        return _existing(path, target, tick)
    if not path.parent.is_dir():
        raise CliError(f"no such directory: {path.parent}")
    state, file, is_new = _open_both_ways(tree_of(path)), None, not part_of(path).exists()
    try:
        _lock(state, path)
        old = _read_tree(state, path, target, force=force)
        file = _open_both_ways(part_of(path))
        with _naming(part_of(path)):
            _allocate(file, target.size)
        store = PartialStore(file, state, path, target)
        store._recover(old, tick)
        _write_tree(state, target, store.tree)
    except BaseException:
        state.close()
        if file is not None:
            file.close()
            if is_new:
                discard(path)
        raise
    return store


def discard(path: Path) -> None:
    """Remove what is there of an unfinished ``path``."""
    part_of(path).unlink(missing_ok=True)
    tree_of(path).unlink(missing_ok=True)


def hash_file(file: FileIO, size: int, tick: Tick) -> Target:
    """Return the target that the first ``size`` bytes of ``file`` make."""
    leaves = list(_leaves(file, Target(size, b""), tick))
    return Target(size, Tree.of(leaves).top)


def _existing(path: Path, target: Target, tick: Tick) -> Store:
    refusal = f"{path} exists and is another file; --force replaces it"
    if not path.is_file() or path.stat().st_size != target.size:
        raise CliError(refusal)
    store = share(path, tick)
    if store.target != target:
        store.close()
        raise CliError(refusal)
    return store


def _open_regular(path: Path) -> FileIO:
    if not stat.S_ISREG(path.stat().st_mode):  # before opening, which would wait at a pipe
        raise CliError(f"{path} is not a file")
    return FileIO(path)


def _open_both_ways(path: Path) -> FileIO:
    """Open ``path`` to read and write, and make it if it is not there. Follows no link: the name is predictable."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return FileIO(os.open(path, flags, 0o666), "r+")


def _lock(state: FileIO, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CliError(f"another process is fetching {path}") from None


def _read_tree(state: FileIO, path: Path, target: Target, *, force: bool) -> Tree:
    """Return what an earlier fetch left; an empty tree where it is not of this file. It is as bad as the disk."""
    empty = Tree(target.count, target.top)
    head = bytearray(TREE_HEADER)
    if _fill(state, memoryview(head)) < TREE_HEADER or not head.startswith(TREE_MAGIC):
        return empty
    if head != _tree_header(target):
        if not force:
            raise CliError(f"{part_of(path)} is part of another file; --force replaces it")
        return empty
    nodes = bytearray(len(empty.nodes))
    _fill(state, memoryview(nodes))
    return Tree(target.count, target.top, nodes)


def _write_tree(state: FileIO, target: Target, tree: Tree) -> None:
    """Replace what ``state`` holds, in an order that leaves no chunk forgotten that was there before."""
    _write(state, 0, _tree_header(target))
    _write(state, TREE_HEADER, tree.nodes)
    state.truncate(TREE_HEADER + len(tree.nodes))


def _tree_header(target: Target) -> bytes:
    return TREE_MAGIC + target.size.to_bytes(8, "big") + target.top


def _allocate(file: FileIO, size: int) -> None:
    """Make ``file`` ``size`` bytes long, and take the space now, where the system can, rather than miss it later."""
    file.truncate(size)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


def _leaves(file: FileIO, target: Target, tick: Tick) -> Iterator[bytes]:
    """Yield the hash of each chunk of ``file``; fewer than there should be where it ends early."""
    buffer, done = memoryview(bytearray(min(target.chunk, target.size))), 0
    file.seek(0)
    for index in range(target.count):
        chunk = buffer[: target.length(index)]
        if _fill(file, chunk) != len(chunk):
            return
        yield leaf_hash(chunk)
        done += len(chunk)
        tick(done)


def _fill(file: FileIO, buffer: memoryview) -> int:
    """Read into ``buffer`` until it is full or ``file`` ends; return how much was read."""
    done = 0
    while done < len(buffer):
        got = file.readinto(buffer[done:])
        if not got:
            break
        done += got
    return done


def _write(file: FileIO, at: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data``; the system may take a part at a time."""
    rest = memoryview(data)
    file.seek(at)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an ``OSError`` that names no file the name of the one it is about."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _stamp(file: FileIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _sync_directory(directory: Path) -> None:
    """Make a rename in ``directory`` last; not every system lets a directory be opened."""
    with suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
