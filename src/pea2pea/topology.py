"""Shapes of networks: which node dials which. Imports pure modules only; nodes come as arguments."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import chain, combinations
from typing import TYPE_CHECKING, TypeAlias, TypedDict, Unpack

from .addr import Addr
from .errors import ConfigError, UsageError
from .settings import check_count

if TYPE_CHECKING:
    from .node import Node

#: The dialling and the dialled node, as indices into the sequence of nodes.
Edge: TypeAlias = tuple[int, int]

# Swaps tried per chord of a random graph. More than about ten no longer change the average result.
_SWAPS_PER_CHORD = 10


class Options(TypedDict, total=False):
    """Options of some shapes: ``width`` and ``height`` of a grid, ``degree`` and ``seed`` of a random graph."""

    width: int | None
    height: int | None
    degree: int | None
    seed: int | None


_TAKEN_BY = {"width": "grid", "height": "grid", "degree": "random", "seed": "random"}


class Topology(Enum):
    """How nodes are connected to each other."""

    LINE = "line"  # each with the next
    RING = "ring"  # a line whose ends meet
    MESH = "mesh"  # each with every other
    STAR = "star"  # all with the first
    GRID = "grid"  # each with its neighbours in rows of ``width`` and columns of ``height``
    TREE = "tree"  # a binary tree, the first at its root, filled level by level
    RANDOM = "random"  # a connected graph in which each has ``degree`` connections

    def edges(self, count: int, **options: Unpack[Options]) -> list[Edge]:
        """Return which of ``count`` nodes dials which: no pair twice, in either direction, and no node itself.

        A grid needs its ``width`` and ``height``, which make up ``count``. A random graph needs a
        ``degree`` from 2 to ``count - 1`` (or 1 between two nodes); if ``degree * count`` is odd, one node
        has one connection more, because every connection has two ends. The same ``seed`` gives the
        same graph. Raises :class:`ConfigError` for fewer than two nodes (three in a ring), for
        dimensions that do not fit, and for an option of another topology.
        """
        _check(self, count, options)
        match self:
            case Topology.LINE:
                return [(i, i + 1) for i in range(count - 1)]
            case Topology.RING:
                return [(i, (i + 1) % count) for i in range(count)]
            case Topology.MESH:
                return list(combinations(range(count), 2))
            case Topology.STAR:
                return [(i, 0) for i in range(1, count)]
            case Topology.TREE:
                return [(i, (i - 1) // 2) for i in range(1, count)]
            case Topology.GRID:
                return list(_grid(options.get("width") or count, count))
        return _random(count, options.get("degree") or 1, random.Random(options.get("seed")))


async def connect_nodes(nodes: Sequence[Node], topology: Topology, **options: Unpack[Options]) -> list[int]:
    """Connect ``nodes`` in the shape of ``topology`` and return how many connections each gets from it.

    The options are those of :meth:`Topology.edges`. Raises as it does, and :class:`UsageError` if a node that would be
    dialled is not listening, both before anything is dialled. Then dials one connection after the other. An error of
    :meth:`Node.connect` ends that; connections made before it stay.
    """
    plan = topology.edges(len(nodes), **options)
    addrs = {dialled: _listening_addr(nodes[dialled]) for _, dialled in plan}
    for dialler, dialled in plan:
        await nodes[dialler].connect(addrs[dialled])
    counts = Counter(chain.from_iterable(plan))
    return [counts[index] for index in range(len(nodes))]


def _listening_addr(node: Node) -> Addr:
    if node.listening_addr is None:
        raise UsageError(f"node {node.name} would be dialled, but is not listening: call start_listening() first")
    return node.listening_addr


def _check(topology: Topology, count: int, options: Options) -> None:
    least = 3 if topology is Topology.RING else 2
    if count < least:
        raise ConfigError("nodes", f"a {topology.value} takes {least} or more, not {count}")
    for option, shape in _TAKEN_BY.items():
        value = options.get(option)
        if shape == topology.value and option != "seed":
            check_count(option, value)
        elif shape != topology.value and value is not None:
            raise ConfigError(option, f"a {topology.value} has none")
    width, height, degree = options.get("width"), options.get("height"), options.get("degree")
    if width and height and width * height != count:
        raise ConfigError("width", f"a grid of {width} x {height} takes {width * height} nodes, not {count}")
    if degree and not min(2, count - 1) <= degree < count:
        raise ConfigError("degree", f"{count} nodes are connected by a degree of {min(2, count - 1)} to {count - 1}")


def _grid(width: int, count: int) -> Iterator[Edge]:
    for i in range(count):
        if (i + 1) % width:
            yield i, i + 1
        if i + width < count:
            yield i, i + width


def _random(count: int, degree: int, rng: random.Random) -> list[Edge]:
    """Return a ring through all nodes in random order, and chords: evenly spread, then shuffled.

    The ring is never changed, so the graph stays connected.
    """
    order = rng.sample(range(count), count)
    ring = [(i, (i + 1) % count) for i in range(count)] if degree > 1 else []
    chords = _shuffled(_chords(count, degree), set(map(frozenset, ring)), rng)
    return [(order[a], order[b]) for a, b in ring + chords]


def _chords(count: int, degree: int) -> list[Edge]:
    """Return what must be added to a ring of ``count`` nodes to give each ``degree`` neighbours.

    The construction of Harary (1962): connect each node with those 2, 3, ... ``degree // 2`` steps further on, and for
    an odd degree with the one opposite.
    """
    chords = [(i, (i + step) % count) for step in range(2, degree // 2 + 1) for i in range(count)]
    if degree % 2:
        chords += [(i, (i + count // 2) % count) for i in range((count + 1) // 2)]
    return chords


def _shuffled(chords: list[Edge], ring: set[frozenset[int]], rng: random.Random) -> list[Edge]:
    """Swap the ends of random pairs of chords, if that makes no loop and no duplicate edge."""
    taken = ring | set(map(frozenset, chords))
    for _ in range(_SWAPS_PER_CHORD * len(chords)):
        i, j = rng.randrange(len(chords)), rng.randrange(len(chords))
        (a, b), (c, d) = chords[i], chords[j]
        new = frozenset((a, d)), frozenset((c, b))
        if len({a, b, c, d}) < 4 or taken.intersection(new):
            continue
        taken -= {frozenset((a, b)), frozenset((c, d))}
        taken.update(new)
        # In a random direction, so that the dialling node does not depend on where the chord began.
        chords[i], chords[j] = (a, d) if rng.random() < 0.5 else (d, a), (c, b)
    return chords
