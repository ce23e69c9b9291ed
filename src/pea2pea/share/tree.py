"""The SHA-256 tree over a file's chunks, by which each chunk is verified when it arrives. Pure.

The tree is that of RFC 6962, section 2.1: leaves and inner nodes are hashed with different
prefixes, so that neither can be passed off as the other, and on a level with an odd number of nodes
the last one moves up unchanged. The root hash in a link covers the file's size and the top of that tree.
The size alone determines the chunk size, and so the shape of the tree and the length of every chunk.

A tree takes 64 bytes per chunk. Chunks have 256 KiB, and up to 16 MiB for large files, so that a file of
2 TiB still has no more than 2^17 chunks (8 MiB of tree). A file of 16 TiB, the largest that can be shared,
has 2^20 (64 MiB of tree).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from .errors import ProofError, ShareError

HASH_SIZE = 32
MIN_CHUNK = 256 * 1024
#: The largest chunk. It bounds the size of a frame, several of which are in memory at a time.
MAX_CHUNK = 16 * 1024 * 1024
#: The chunk size is doubled until there are no more chunks than this, or until it is ``MAX_CHUNK``.
MANY_CHUNKS = 1 << 17
#: The most chunks of a file. It bounds the memory of the tree.
MAX_CHUNKS = 1 << 20
MAX_SIZE = MAX_CHUNKS * MAX_CHUNK
#: The longest proof: one hash for each level below the top.
MAX_PROOF = MAX_CHUNKS.bit_length() - 1

UNKNOWN = bytes(HASH_SIZE)


@dataclass(frozen=True, slots=True)
class Target:
    """A file, by its ``size`` in bytes and ``top``, the hash at the top of its tree."""

    size: int
    top: bytes

    @property
    def root(self) -> bytes:
        """The root hash, which a link contains: the hash of the size and the top together."""
        return sha256(b"\x02" + self.size.to_bytes(8, "big") + self.top).digest()

    @property
    def chunk(self) -> int:
        """The size of every chunk but the last."""
        return chunk_size(self.size)

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return chunk_count(self.size)

    def length(self, index: int) -> int:
        """Return the size of chunk ``index``."""
        return min(self.chunk, self.size - index * self.chunk)


def chunk_size(size: int) -> int:
    """Return the chunk size of a file of ``size`` bytes. Raises :class:`ShareError` beyond 16 TiB."""
    if not 0 <= size <= MAX_SIZE:
        raise ShareError(f"at most {MAX_SIZE >> 40} TiB can be shared, got {size} bytes")
    chunk = MIN_CHUNK
    while chunk < MAX_CHUNK and size > chunk * MANY_CHUNKS:
        chunk *= 2
    return chunk


def chunk_count(size: int) -> int:
    """Return how many chunks a file of ``size`` bytes has."""
    return -(-size // chunk_size(size))


def leaf_hash(chunk: bytes | bytearray | memoryview) -> bytes:
    """Return the hash of a chunk. Releases the GIL meanwhile."""
    digest = sha256(b"\x00")
    digest.update(chunk)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others."""
    return sha256(b"\x01" + left + right).digest()


def shape(count: int) -> list[tuple[int, int]]:
    """Return where each level of a tree of ``count`` leaves begins and how many nodes it has, leaves first."""
    levels, start, width = [(0, count)], 0, count
    while width > 1:
        start, width = start + width, (width + 1) // 2
        levels.append((start, width))
    return levels


class Tree:
    """The known part of a tree. All of it is proven by the top, because nothing else is kept."""

    __slots__ = ("_levels", "count", "nodes", "top")

    def __init__(self, count: int, top: bytes, nodes: bytearray | None = None) -> None:
        self.count: int = count
        self.top: bytes = top
        self._levels = shape(count)
        self.nodes: bytearray = nodes if nodes is not None else bytearray(self.node_count * HASH_SIZE)
        if count:
            self._put(self.node_count - 1, top)

    @classmethod
    def of(cls, leaves: Sequence[bytes]) -> Tree:
        """Return the complete tree over ``leaves``."""
        nodes, level = list(leaves), list(leaves)
        while len(level) > 1:
            pairs = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(pairs) * 2 :]
            nodes += level
        return cls(len(leaves), level[0] if level else sha256().digest(), bytearray(b"".join(nodes)))

    @property
    def node_count(self) -> int:
        """How many hashes the complete tree has."""
        start, width = self._levels[-1]
        return start + width

    def leaf(self, index: int) -> bytes | None:
        """Return the hash of chunk ``index``, or ``None`` if it is unknown."""
        return self.node(index)

    def node(self, position: int) -> bytes | None:
        """Return the hash at ``position``, or ``None`` if it is unknown."""
        digest = bytes(self.nodes[position * HASH_SIZE : (position + 1) * HASH_SIZE])
        return None if digest == UNKNOWN else digest

    def proof(self, index: int) -> list[bytes]:
        """Return the hashes that prove chunk ``index``, from the leaf's sibling upwards.

        Raises :class:`ProofError` if one of them is unknown.
        """
        found = [self.node(sibling) for _, sibling, _ in self._path(index) if sibling is not None]
        hashes = [digest for digest in found if digest is not None]
        if len(hashes) != len(found):
            raise ProofError(f"the proof of chunk {index} is not known")
        return hashes

    def learn(self, index: int, leaf: bytes, proof: Sequence[bytes]) -> list[int]:
        """Verify ``leaf``, the hash of chunk ``index``, by ``proof``, and keep the hashes that it proves.

        Returns the positions of the new hashes. Raises :class:`ProofError`, and keeps nothing, if the proof
        does not lead to a hash that is known already.
        """
        fresh: dict[int, bytes] = {}
        digest, rest = leaf, iter(proof)
        for position, sibling, is_right in self._path(index):
            known = self.node(position)
            if known is not None:
                break  # always reached, because the top is known from the start
            fresh[position] = digest
            if sibling is not None:
                fresh[sibling] = other = next(rest, UNKNOWN)
                digest = node_hash(other, digest) if is_right else node_hash(digest, other)
        if known != digest:
            raise ProofError(f"chunk {index} is not part of the file")
        for position, value in fresh.items():
            self._put(position, value)
        return list(fresh)

    def _put(self, position: int, digest: bytes) -> None:
        self.nodes[position * HASH_SIZE : (position + 1) * HASH_SIZE] = digest

    def _path(self, index: int) -> Iterator[tuple[int, int | None, bool]]:
        """Yield the nodes from leaf to top: position, position of the sibling if any, whether it is a right child."""
        if not 0 <= index < self.count:
            raise ProofError(f"there is no chunk {index} of {self.count}")
        for start, width in self._levels:
            sibling = index ^ 1
            yield start + index, start + sibling if sibling < width else None, bool(index & 1)
            index //= 2
