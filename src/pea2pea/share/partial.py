"""A file that is being downloaded, in a form from which the download can be resumed. No asyncio.

During the download of ``FILE`` there are two files beside it: ``FILE.part``, which has the full size and
into which chunks are written as they arrive, and ``FILE.part.tree``, which holds the known part of the
hash tree. A chunk counts as present if the tree has its leaf, and data is written before its leaf.
Resuming trusts neither file: every chunk is hashed again, and a chunk that the tree does not prove is
fetched again, so a crash at any moment can lose chunks but cannot damage the result. ``FILE`` itself
appears by a rename, after all of ``FILE.part`` has been synced, read back and verified.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from .errors import FileChangedError, ProofError, ShareError
from .files import Tick, allocate, fill, hash_file, lock, naming, open_to_update, stamp, sync_directory, write_at
from .store import Store, open_whole
from .tree import HASH_SIZE, Target, Tree, leaf_hash

TREE_MAGIC = b"pea2tree"
TREE_HEADER = len(TREE_MAGIC) + 8 + HASH_SIZE


class PartialStore(Store):
    """A file that is being downloaded. Made by :func:`resume`."""

    def __init__(self, file: FileIO, state: FileIO, path: Path, target: Target) -> None:
        super().__init__(file, path, target, Tree(target.count, target.top), 0)
        self._state: FileIO | None = state

    def put(self, index: int, data: bytes | bytearray | memoryview, leaf: bytes, proof: tuple[bytes, ...]) -> None:
        """Verify chunk ``index`` and write it.

        Raises :class:`ProofError` if it is not part of the file, and ``OSError`` if it cannot be written.
        """
        if self._state is None:
            raise ValueError(f"{self.path} is complete")
        if len(data) != self.target.length(index):
            raise ProofError(f"chunk {index} has {len(data)} bytes instead of {self.target.length(index)}")
        fresh = self.tree.learn(index, leaf, proof)
        with naming(part_of(self.path)):
            write_at(self._file, index * self.target.chunk, data)
            self.have |= 1 << index
            for position in fresh:
                node = memoryview(self.tree.nodes)[position * HASH_SIZE : (position + 1) * HASH_SIZE]
                write_at(self._state, TREE_HEADER + position * HASH_SIZE, node)

    def recover(self, old: Tree, tick: Tick) -> None:
        """Take over the chunks that are on disk according to ``old``, which is not trusted, and that verify."""
        done = 0
        for index in range(self.target.count):
            leaf = old.leaf(index)
            if leaf is not None:
                with suppress(ProofError, FileChangedError):
                    data = self.read(index)
                    self.put(index, data, leaf_hash(data), tuple(old.proof(index)))
            done += self.target.length(index)
            tick(done)

    def verify(self, tick: Tick) -> None:
        """Sync the file to disk, read it back and hash it. Raises :class:`ShareError` if the hash is wrong."""
        os.fsync(self._file.fileno())
        with FileIO(part_of(self.path)) as file:
            if hash_file(file, self.target.size, tick) != self.target:
                raise ShareError(f"{part_of(self.path)} differs from what was written to it; run again to repair it")

    def publish(self, *, force: bool = False) -> None:
        """Rename the verified file to its final name.

        Raises :class:`ShareError` if that name exists, unless ``force`` is set. Chunks can still be read
        afterwards, but no longer be put.
        """
        if not force and os.path.lexists(self.path):
            raise ShareError(f"{self.path} was created meanwhile; the downloaded file is {part_of(self.path)}")
        self.close()
        part_of(self.path).replace(self.path)
        sync_directory(self.path.parent)
        tree_of(self.path).unlink(missing_ok=True)
        self._file = FileIO(self.path)
        self._stamp = stamp(self._file)

    def check_unchanged(self) -> None:
        """As in :class:`Store`, once the file is complete; until then, this process itself modifies it."""
        if self._state is None:
            super().check_unchanged()

    def close(self) -> None:
        """Close the files. What has been downloaded stays, for :func:`resume`."""
        super().close()
        if self._state is not None:
            self._state.close()
            self._state = None


def part_of(path: Path) -> Path:
    """Return the file that holds the data of an unfinished ``path``."""
    return path.with_name(path.name + ".part")


def tree_of(path: Path) -> Path:
    """Return the file that holds the hash tree of an unfinished ``path``."""
    return path.with_name(path.name + ".part.tree")


def resume(path: Path, target: Target, tick: Tick, *, force: bool = False) -> Store:
    """Open what exists of ``path``: all of it, a part, or nothing yet.

    Raises :class:`ShareError` if ``path`` exists and is another file (unless ``force`` is set, which
    replaces it) or if another process downloads it, and ``OSError`` if the files cannot be written.
    """
    if os.path.lexists(path) and not force:
        return _existing(path, target, tick)
    if not path.parent.is_dir():
        raise ShareError(f"no such directory: {path.parent}")
    state, file, is_new = open_to_update(tree_of(path)), None, not part_of(path).exists()
    try:
        lock(state, path)
        old = _read_tree(state, path, target, force=force)
        file = open_to_update(part_of(path))
        with naming(part_of(path)):
            allocate(file, target.size)
        store = PartialStore(file, state, path, target)
        store.recover(old, tick)
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
    """Remove the files of an unfinished ``path``."""
    part_of(path).unlink(missing_ok=True)
    tree_of(path).unlink(missing_ok=True)


def _existing(path: Path, target: Target, tick: Tick) -> Store:
    refusal = f"{path} exists and is another file; --force replaces it"
    if not path.is_file() or path.stat().st_size != target.size:
        raise ShareError(refusal)
    store = open_whole(path, tick)
    if store.target != target:
        store.close()
        raise ShareError(refusal)
    return store


def _read_tree(state: FileIO, path: Path, target: Target, *, force: bool) -> Tree:
    """Return the tree that an earlier download left, unverified; an empty one if there is none for this file."""
    empty = Tree(target.count, target.top)
    head = bytearray(TREE_HEADER)
    if fill(state, memoryview(head)) < TREE_HEADER or not head.startswith(TREE_MAGIC):
        return empty
    if head != _tree_header(target):
        if not force:
            raise ShareError(f"{part_of(path)} is part of another file; --force replaces it")
        return empty
    nodes = bytearray(len(empty.nodes))
    fill(state, memoryview(nodes))
    return Tree(target.count, target.top, nodes)


def _write_tree(state: FileIO, target: Target, tree: Tree) -> None:
    """Replace the content of ``state``, in an order in which a crash forgets no chunk that it listed before."""
    write_at(state, 0, _tree_header(target))
    write_at(state, TREE_HEADER, tree.nodes)
    state.truncate(TREE_HEADER + len(tree.nodes))


def _tree_header(target: Target) -> bytes:
    return TREE_MAGIC + target.size.to_bytes(8, "big") + target.top
