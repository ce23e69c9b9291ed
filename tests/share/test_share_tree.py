"""The SHA-256 tree: RFC 6962's shape, proofs that hold for what they prove and for nothing else."""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pea2pea.share import tree
from pea2pea.share.errors import ProofError, ShareError
from pea2pea.share.tree import Target, Tree, chunk_count, chunk_size, leaf_hash, node_hash, shape

# The inputs and roots of the tests of Google's certificate-transparency, which RFC 6962 came from.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

chunks = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


def whole(data: list[bytes]) -> Tree:
    return Tree.of([leaf_hash(chunk) for chunk in data])


def by_the_book(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(by_the_book(leaves[:split]), by_the_book(leaves[split:]))


@pytest.mark.parametrize("count", range(9))
def test_the_published_roots(count: int) -> None:
    assert whole([bytes.fromhex(text) for text in INPUTS[:count]]).top.hex() == ROOTS[count]


@given(chunks)
def test_the_top_is_that_of_the_rfc(data: list[bytes]) -> None:
    assert whole(data).top == by_the_book([leaf_hash(chunk) for chunk in data])


@given(chunks, st.randoms(use_true_random=False))
def test_every_chunk_proves_in_any_order(data: list[bytes], random: object) -> None:
    full = whole(data)
    partial = Tree(full.count, full.top)
    order = list(range(full.count))
    random.shuffle(order)  # type: ignore[attr-defined]
    for index in order:
        partial.learn(index, leaf_hash(data[index]), full.proof(index))
        assert partial.proof(index) == full.proof(index), "what was learned can be handed on"
    assert partial.nodes == full.nodes


@given(chunks, st.data())
def test_nothing_else_proves(data: list[bytes], draw: st.DataObject) -> None:
    full = whole(data)
    index = draw.draw(st.integers(0, full.count - 1))
    known = draw.draw(st.sets(st.integers(0, full.count - 1)))
    partial = Tree(full.count, full.top)
    for other in known - {index}:
        partial.learn(other, leaf_hash(data[other]), full.proof(other))
    before = bytes(partial.nodes)
    wrong = leaf_hash(data[index] + b"!")
    proof = draw.draw(st.sampled_from([full.proof(index), [], full.proof(index)[:-1]]))
    with pytest.raises(ProofError):
        partial.learn(index, wrong, proof)
    assert partial.nodes == before, "nothing of it is kept"


@given(chunks.filter(lambda data: len(data) > 1), st.data())
def test_a_wrong_proof_does_not_pass(data: list[bytes], draw: st.DataObject) -> None:
    full = whole(data)
    index = draw.draw(st.integers(0, full.count - 1))
    proof = full.proof(index)
    spoilt = draw.draw(st.integers(0, len(proof) - 1))
    proof[spoilt] = sha256(proof[spoilt]).digest()
    with pytest.raises(ProofError):
        Tree(full.count, full.top).learn(index, leaf_hash(data[index]), proof)


def test_a_leaf_is_not_accepted_as_an_inner_node() -> None:
    """The children of a node, taken for a chunk, do not hash to it."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize("index", [-1, 3, 1000])
def test_a_chunk_that_is_not_there(index: int) -> None:
    full = whole([b"a", b"b", b"c"])
    with pytest.raises(ProofError, match="no chunk"):
        full.proof(index)
    with pytest.raises(ProofError, match="no chunk"):
        full.learn(index, leaf_hash(b"a"), [])


def test_a_proof_that_is_not_known() -> None:
    full = whole([b"a", b"b", b"c"])
    with pytest.raises(ProofError, match="not known"):
        Tree(3, full.top).proof(0)


def test_learning_a_chunk_again_adds_nothing() -> None:
    full = whole([b"a", b"b", b"c"])
    partial = Tree(3, full.top)
    assert sorted(partial.learn(0, leaf_hash(b"a"), full.proof(0))) == [0, 1, 3, 4]
    assert partial.learn(0, leaf_hash(b"a"), full.proof(0)) == []
    assert partial.learn(2, leaf_hash(b"c"), full.proof(2)) == [2]


@given(st.integers(1, 300))
def test_the_shape_matches_the_tree(count: int) -> None:
    levels = shape(count)
    assert levels[0] == (0, count)
    assert levels[-1][1] == 1
    for (start, width), (above, narrower) in itertools.pairwise(levels):
        assert above == start + width
        assert narrower == (width + 1) // 2


@given(st.integers(0, tree.MAX_SIZE))
def test_chunks_cover_the_file_and_are_not_too_many(size: int) -> None:
    target = Target(size, b"")
    assert tree.MIN_CHUNK <= target.chunk <= tree.MAX_CHUNK
    assert target.count <= tree.MAX_CHUNKS
    if size:
        assert 0 < target.length(target.count - 1) <= target.chunk
        assert (target.count - 1) * target.chunk + target.length(target.count - 1) == size
    if target.chunk < tree.MAX_CHUNK:
        assert target.count <= tree.MANY_CHUNKS


def test_the_sizes_in_the_description() -> None:
    assert chunk_size(1 << 30) == 256 * 1024
    assert chunk_count(0) == 0
    assert chunk_size(2 << 40) == 16 << 20
    assert chunk_count(2 << 40) == 1 << 17
    assert chunk_count(16 << 40) == 1 << 20


@pytest.mark.parametrize("size", [-1, tree.MAX_SIZE + 1])
def test_a_file_that_is_too_large(size: int) -> None:
    with pytest.raises(ShareError, match="16 TiB"):
        chunk_size(size)


def test_the_root_binds_the_size() -> None:
    assert Target(5, b"t" * 32).root != Target(6, b"t" * 32).root
    assert Target(5, b"t" * 32).root != Target(5, b"u" * 32).root
