"""The chunks of one file on disk. No asyncio.

Reading a chunk blocks the caller, for less time than a round trip to another thread takes. Hashing a
whole file would block an event loop for too long and belongs in a thread; functions that do it take a
``tick`` callback, which is called with the bytes done so far and may raise to stop the work.
"""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from .errors import FileChangedError
from .files import Tick, fill, leaves, open_regular, stamp
from .tree import Target, Tree


class Store:
    """The chunks of one file that are on disk: all of them here, some of them in a subclass."""

    def __init__(self, file: FileIO, path: Path, target: Target, tree: Tree, have: int) -> None:
        self.target = target
        self.path = path
        self.tree = tree
        #: The chunks that are here, as the bits of a number.
        self.have = have
        self._file = file
        self._stamp = stamp(file)

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return self.have == (1 << self.target.count) - 1

    @property
    def held(self) -> int:
        """How many bytes of the file are here."""
        whole, last = self.have.bit_count() * self.target.chunk, self.target.count - 1
        return whole - self.target.chunk + self.target.length(last) if self.has(last) else whole

    def has(self, index: int) -> bool:
        """Return whether chunk ``index`` is here."""
        return index >= 0 and bool(self.have >> index & 1)

    def read(self, index: int, memory: bytearray | None = None) -> memoryview:
        """Return chunk ``index``, read into ``memory`` (at least one chunk long) or into new memory.

        Raises :class:`FileChangedError` if the file was modified since it was hashed.
        """
        self.check_unchanged()
        size = self.target.length(index)
        data = memoryview(bytearray(size) if memory is None else memory)[:size]
        self._file.seek(index * self.target.chunk)
        if fill(self._file, data) != size:
            raise FileChangedError(f"{self.path} became shorter while it was being shared")
        return data

    def check_unchanged(self) -> None:
        """Raise :class:`FileChangedError` if the file was modified since it was hashed."""
        if stamp(self._file) != self._stamp:
            raise FileChangedError(f"{self.path} changed while it was being shared; share it again")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_whole(path: Path, tick: Tick) -> Store:
    """Open a complete file and hash it. Raises :class:`ShareError`, or ``OSError`` if it cannot be read."""
    file = open_regular(path)
    try:
        before = stamp(file)
        target = Target(before[0], b"")
        hashes = list(leaves(file, target, tick))
        if len(hashes) != target.count or stamp(file) != before:
            raise FileChangedError(f"{path} changed while it was being read")
    except BaseException:
        file.close()
        raise
    tree = Tree.of(hashes)
    return Store(file, path, Target(target.size, tree.top), tree, (1 << target.count) - 1)
