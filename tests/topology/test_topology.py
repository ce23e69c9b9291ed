"""Shapes of networks: the plan by property, and the dialling against real nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea import Node, OnConnect, Peer, Settings
from pea2pea.errors import ConfigError, LimitError, UsageError
from pea2pea.network import Network
from pea2pea.topology import Edge, Options, Topology, connect_nodes
from support import Recorder

SHAPES = [shape for shape in Topology if shape not in (Topology.GRID, Topology.RANDOM)]


def degrees(plan: list[Edge], count: int) -> list[int]:
    ends = Counter(end for edge in plan for end in edge)
    return [ends[i] for i in range(count)]


def is_connected(plan: list[Edge], count: int) -> bool:
    neighbours: dict[int, set[int]] = {i: set() for i in range(count)}
    for a, b in plan:
        neighbours[a].add(b)
        neighbours[b].add(a)
    seen, frontier = {0}, [0]
    while frontier:
        new = neighbours[frontier.pop()] - seen
        seen |= new
        frontier.extend(new)
    return len(seen) == count


def check_plan(plan: list[Edge], count: int) -> None:
    assert all(0 <= a < count and 0 <= b < count and a != b for a, b in plan)
    assert len({frozenset(edge) for edge in plan}) == len(plan), "a pair is connected twice"
    assert is_connected(plan, count)


@given(shape=st.sampled_from(SHAPES), count=st.integers(3, 40))
def test_every_shape_connects_all_and_no_pair_twice(shape: Topology, count: int) -> None:
    check_plan(shape.edges(count), count)


@given(count=st.integers(3, 40))
def test_degrees_of_the_plain_shapes(count: int) -> None:
    assert degrees(Topology.LINE.edges(count), count) == [1] + [2] * (count - 2) + [1]
    assert degrees(Topology.RING.edges(count), count) == [2] * count
    assert degrees(Topology.MESH.edges(count), count) == [count - 1] * count
    assert degrees(Topology.STAR.edges(count), count) == [count - 1] + [1] * (count - 1)


@given(count=st.integers(2, 40))
def test_a_tree_is_binary_and_its_children_dial(count: int) -> None:
    plan = Topology.TREE.edges(count)
    assert [dialler for dialler, _ in plan] == list(range(1, count))
    assert max(Counter(parent for _, parent in plan).values()) <= 2
    assert all(parent < child for child, parent in plan)


def test_the_nodes_of_a_star_dial_its_centre() -> None:
    assert Topology.STAR.edges(4) == [(1, 0), (2, 0), (3, 0)]


@given(width=st.integers(1, 8), height=st.integers(1, 8))
def test_a_grid_connects_exactly_the_neighbours(width: int, height: int) -> None:
    count = width * height
    if count < 2:
        with pytest.raises(ConfigError):
            Topology.GRID.edges(count, width=width, height=height)
        return
    plan = Topology.GRID.edges(count, width=width, height=height)
    check_plan(plan, count)
    assert len(plan) == (width - 1) * height + width * (height - 1)
    for a, b in plan:
        assert abs(a // width - b // width) + abs(a % width - b % width) == 1


@given(data=st.data(), count=st.integers(2, 30), seed=st.integers())
def test_a_random_graph_has_the_degree_asked_for(data: st.DataObject, count: int, seed: int) -> None:
    degree = data.draw(st.integers(min(2, count - 1), count - 1))
    plan = Topology.RANDOM.edges(count, degree=degree, seed=seed)
    check_plan(plan, count)
    odd = [degree] * (count - 1) + [degree + 1]
    assert sorted(degrees(plan, count)) == (odd if degree * count % 2 else [degree] * count)


def test_the_seed_decides_the_random_graph() -> None:
    def plan(seed: int) -> list[Edge]:
        return Topology.RANDOM.edges(20, degree=4, seed=seed)

    assert plan(1) == plan(1)
    assert len({frozenset(map(frozenset, plan(seed))) for seed in range(20)}) == 20


def test_chords_of_a_random_graph_are_random() -> None:
    """Shuffling the order alone would leave every graph of one size and degree of the same structure."""

    def triangles(seed: int) -> int:
        pairs = {frozenset(edge) for edge in Topology.RANDOM.edges(12, degree=4, seed=seed)}
        return sum({frozenset((a, c)), frozenset((b, c))} <= pairs for a, b in pairs for c in range(12))

    assert len({triangles(seed) for seed in range(10)}) > 1


@pytest.mark.parametrize("shape", list(Topology))
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_nodes_are_refused(shape: Topology, count: int) -> None:
    with pytest.raises(ConfigError) as error:
        shape.edges(count)
    assert error.value.field == "nodes"


def test_a_ring_of_two_is_refused() -> None:
    with pytest.raises(ConfigError, match="a ring takes 3 or more, not 2"):
        Topology.RING.edges(2)


@pytest.mark.parametrize(
    ("shape", "options", "field"),
    [
        (Topology.GRID, {}, "width"),
        (Topology.GRID, {"width": 3}, "height"),
        (Topology.GRID, {"width": 0, "height": 2}, "width"),
        (Topology.GRID, {"width": 2, "height": -3}, "height"),
        (Topology.GRID, {"width": 2, "height": 2}, "width"),
        (Topology.GRID, {"width": 2, "height": 3, "degree": 2}, "degree"),
        (Topology.RANDOM, {}, "degree"),
        (Topology.RANDOM, {"degree": 0}, "degree"),
        (Topology.RANDOM, {"degree": 1}, "degree"),
        (Topology.RANDOM, {"degree": 6}, "degree"),
        (Topology.RANDOM, {"degree": 2, "width": 3}, "width"),
        (Topology.LINE, {"width": 6}, "width"),
        (Topology.MESH, {"seed": 0}, "seed"),
    ],
)
def test_wrong_dimensions_are_refused_by_name(shape: Topology, options: Options, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        shape.edges(6, **options)
    assert error.value.field == field


def test_two_nodes_can_be_a_random_graph_of_degree_one() -> None:
    assert degrees(Topology.RANDOM.edges(2, degree=1), 2) == [1, 1]


# With nodes


class Member(Node, OnConnect):
    def __init__(self, config: Settings, network: Network) -> None:
        super().__init__(**config, network=network)
        self.met: Recorder[Peer] = Recorder()

    async def on_connect(self, peer: Peer) -> None:
        self.met.add(peer)


@asynccontextmanager
async def members(net: Network, count: int) -> AsyncIterator[list[Member]]:
    config = Settings(listen="127.0.0.1:0", max_connections_per_ip=100)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Member(config, net)) for _ in range(count)]


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        (Topology.LINE, {}, [1, 2, 2, 2, 2, 1]),
        (Topology.RING, {}, [2] * 6),
        (Topology.MESH, {}, [5] * 6),
        (Topology.STAR, {}, [5, 1, 1, 1, 1, 1]),
        (Topology.GRID, {"width": 3, "height": 2}, [2, 3, 2, 2, 3, 2]),
        (Topology.TREE, {}, [2, 3, 2, 1, 1, 1]),
        (Topology.RANDOM, {"degree": 3, "seed": 7}, [3] * 6),
    ],
)
async def test_nodes_get_the_connections_that_were_told(
    net: Network, shape: Topology, options: Options, expected: list[int]
) -> None:
    async with members(net, 6) as nodes:
        assert await connect_nodes(nodes, shape, **options) == expected
        for node, count in zip(nodes, expected, strict=True):
            await node.met.count(count)
            assert node.num_connected == count


async def test_what_is_wrong_is_refused_before_anything_is_dialled(net: Network) -> None:
    async with members(net, 4) as nodes:
        with pytest.raises(ConfigError):
            await connect_nodes(nodes, Topology.GRID, width=3, height=2)
        await nodes[3].stop_listening()
        with pytest.raises(UsageError, match="is not listening"):
            await connect_nodes(nodes, Topology.LINE)
        assert not any(node.num_connected or node.num_connecting or node.met.items for node in nodes)


async def test_who_is_not_dialled_need_not_listen(net: Network) -> None:
    async with members(net, 3) as nodes:
        for leaf in nodes[1:]:
            await leaf.stop_listening()
        assert await connect_nodes(nodes, Topology.STAR) == [2, 1, 1]


async def test_a_dial_that_fails_ends_it_and_leaves_what_is_connected(net: Network) -> None:
    alone = Settings(listen="127.0.0.1:0", max_connections=1)
    async with members(net, 3) as (first, second, third), Member(alone, net) as full:
        await connect_nodes([third, full], Topology.LINE)
        with pytest.raises(LimitError):
            await connect_nodes([first, second, full, third], Topology.LINE)
        assert first.num_connected == 1
