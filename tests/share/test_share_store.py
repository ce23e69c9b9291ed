"""The file on disk: resuming trusts nothing, an unfinished file never has the final name, a full disk is reported."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pea2pea.share import files
from pea2pea.share.errors import FileChangedError, ProofError, ShareError, explain
from pea2pea.share.partial import TREE_HEADER, discard, part_of, resume, tree_of
from pea2pea.share.store import Store, open_whole
from pea2pea.share.tree import HASH_SIZE, MIN_CHUNK, Target, leaf_hash
from support.share import Stores, copy_chunk, make_file, tickless, tidy


@pytest.fixture
def stores() -> Iterator[Stores]:
    with Stores() as stack:
        yield stack


@pytest.fixture
def source(tmp_path: Path, stores: Stores) -> Store:
    return stores.share(make_file(tmp_path / "source", 5.5))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "file"


def fetch(stores: Stores, source: Store, out: Path, *indexes: int) -> None:
    """Fetch some chunks and stop."""
    chunks = stores.resume(out, source.target)
    for index in indexes:
        copy_chunk(source, chunks, index)
    chunks.close()


@pytest.mark.parametrize("chunks", [0, 1e-5, 0.5, 1, 2, 5.5])
@tidy
def test_a_file_goes_from_store_to_store(stores: Stores, tmp_path: Path, out: Path, chunks: float) -> None:
    source = stores.share(make_file(tmp_path / "source", chunks))
    assert source.complete
    assert source.held == source.target.size
    partial = stores.resume(out, source.target)
    for index in reversed(range(source.target.count)):
        assert not partial.has(index)
        copy_chunk(source, partial, index)
        assert partial.has(index)
        assert not out.exists()
    assert partial.held == source.target.size
    partial.verify(tickless)
    partial.publish()
    assert out.read_bytes() == source.path.read_bytes()
    assert sorted(out.parent.iterdir()) == [out]
    if source.target.count:
        assert partial.read(0) == source.read(0), "it can still be served"
        with pytest.raises(ValueError, match="complete"):
            copy_chunk(source, partial, 0)


@tidy
def test_resuming_continues_from_the_chunks_on_disk(stores: Stores, source: Store, out: Path) -> None:
    fetch(stores, source, out, 0, 3, 5)
    ticks: list[int] = []
    chunks = resume(out, source.target, ticks.append)
    stores.closed(chunks)
    assert [index for index in range(6) if chunks.has(index)] == [0, 3, 5]
    assert chunks.held == 2 * MIN_CHUNK + source.target.length(5)
    assert chunks.tree.proof(3) == source.tree.proof(3)
    assert ticks[-1] == source.target.size


@tidy
def test_a_spoilt_chunk_is_fetched_again_and_the_others_are_not(stores: Stores, source: Store, out: Path) -> None:
    fetch(stores, source, out, 0, 3, 5)
    with part_of(out).open("r+b") as file:
        file.seek(3 * MIN_CHUNK + 17)
        file.write(b"spoilt")
    chunks = stores.resume(out, source.target)
    assert [index for index in range(6) if chunks.has(index)] == [0, 5]


@pytest.mark.parametrize("at", ["head", "node", "short", "gone"])
@tidy
def test_a_spoilt_tree_costs_chunks_and_nothing_else(stores: Stores, source: Store, out: Path, at: str) -> None:
    fetch(stores, source, out, 0, 1, 2, 3, 4)
    state = bytearray(tree_of(out).read_bytes())
    match at:
        case "head":
            state[0] ^= 1
        case "node":
            state[TREE_HEADER + HASH_SIZE] ^= 1  # the leaf of chunk 1, which chunk 0 is proven by, too
        case "short":
            del state[TREE_HEADER + 2 * HASH_SIZE :]
        case "gone":
            state.clear()
    tree_of(out).write_bytes(state)
    chunks = stores.resume(out, source.target)
    assert chunks.have.bit_count() < 5
    for index in range(6):
        if not chunks.has(index):
            copy_chunk(source, chunks, index)
    chunks.verify(tickless)
    chunks.publish()
    assert out.read_bytes() == source.path.read_bytes()


@tidy
def test_wrong_data_is_not_kept(stores: Stores, source: Store, out: Path) -> None:
    chunks = stores.resume(out, source.target)
    data, proof = source.read(0), tuple(source.tree.proof(0))
    lie = bytes(len(data))
    with pytest.raises(ProofError):
        chunks.put(0, lie, leaf_hash(lie), proof)
    with pytest.raises(ProofError):
        chunks.put(0, data[:-1], leaf_hash(data), proof)
    assert (chunks.have, chunks.held) == (0, 0)
    assert part_of(out).read_bytes() == bytes(source.target.size)


@tidy
def test_a_file_damaged_on_disk_is_not_published(stores: Stores, source: Store, out: Path) -> None:
    chunks = stores.resume(out, source.target)
    for index in range(6):
        copy_chunk(source, chunks, index)
    with part_of(out).open("r+b") as file:
        file.write(b"spoilt")
    with pytest.raises(ShareError, match="run again"):
        chunks.verify(tickless)
    part_of(out).write_bytes(b"short")
    with pytest.raises(ShareError, match="run again"):
        chunks.verify(tickless)
    assert not out.exists()


@tidy
def test_an_existing_file_is_recognised_or_refused(stores: Stores, source: Store, out: Path) -> None:
    out.write_bytes(source.path.read_bytes())
    assert stores.closed(resume(out, source.target, tickless)).complete
    out.write_bytes(bytes(source.target.size))
    for other in (bytes(source.target.size), b"other"):
        out.write_bytes(other)
        with pytest.raises(ShareError, match="--force"):
            resume(out, source.target, tickless)
        assert out.read_bytes() == other
    chunks = stores.resume(out, source.target, force=True)
    for index in range(6):
        copy_chunk(source, chunks, index)
    assert out.read_bytes() == b"other", "until the new one is whole"
    chunks.publish(force=True)
    assert out.read_bytes() == source.path.read_bytes()


def test_a_directory_is_not_replaced(source: Store, out: Path) -> None:
    out.mkdir()
    with pytest.raises(ShareError, match="exists"):
        resume(out, source.target, tickless)


@tidy
def test_a_file_that_appears_meanwhile_is_not_replaced(stores: Stores, source: Store, out: Path) -> None:
    chunks = stores.resume(out, source.target)
    for index in range(6):
        copy_chunk(source, chunks, index)
    out.write_bytes(b"mine")
    with pytest.raises(ShareError, match="created meanwhile"):
        chunks.publish()
    assert out.read_bytes() == b"mine"
    assert part_of(out).read_bytes() == source.path.read_bytes()


@tidy
def test_part_of_another_file(stores: Stores, source: Store, tmp_path: Path, out: Path) -> None:
    fetch(stores, source, out, 0)
    other = stores.share(make_file(tmp_path / "other", 2, seed=2))
    with pytest.raises(ShareError, match="part of another file"):
        resume(out, other.target, tickless)
    chunks = stores.resume(out, other.target, force=True)
    assert chunks.have == 0
    assert part_of(out).stat().st_size == other.target.size


@tidy
def test_two_at_once(stores: Stores, source: Store, out: Path) -> None:
    stores.resume(out, source.target)
    with pytest.raises(ShareError, match="another process"):
        resume(out, source.target, tickless)
    assert part_of(out).exists()


@tidy
def test_without_locks_two_at_once_are_not_seen(
    stores: Stores, source: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    stores.resume(out, source.target)
    assert stores.resume(out, source.target).have == 0
    assert part_of(out).stat().st_size == source.target.size


def test_a_link_is_not_followed(source: Store, tmp_path: Path, out: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    part_of(out).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        resume(out, source.target, tickless)
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_directory_that_is_not_there(source: Store, tmp_path: Path) -> None:
    with pytest.raises(ShareError, match="no such directory"):
        resume(tmp_path / "nowhere" / "file", source.target, tickless)


def test_paths_that_cannot_be_shared(tmp_path: Path) -> None:
    with pytest.raises(ShareError, match="is a directory"):
        open_whole(tmp_path, tickless)
    with pytest.raises(FileNotFoundError):
        open_whole(tmp_path / "nowhere", tickless)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ShareError, match="not a regular file"):
        open_whole(tmp_path / "pipe", tickless)


@tidy
def test_a_shared_file_that_changes_is_not_served(stores: Stores, source: Store) -> None:
    with source.path.open("r+b") as file:
        file.write(b"changed")
    os.utime(source.path, ns=(1, 1))
    with pytest.raises(FileChangedError, match="changed"):
        source.read(0)


def test_a_shared_file_that_becomes_shorter_is_not_served(source: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the file system's clock is too coarse to tell."""
    monkeypatch.setattr(source, "check_unchanged", lambda: None)
    os.truncate(source.path, MIN_CHUNK + 1)
    assert len(source.read(0)) == MIN_CHUNK
    with pytest.raises(FileChangedError, match="shorter"):
        source.read(1)


@pytest.mark.parametrize("size", [0, MIN_CHUNK, 9 * MIN_CHUNK])
def test_a_file_that_changes_while_it_is_hashed(tmp_path: Path, size: int) -> None:
    path = make_file(tmp_path / "file", 3)

    def spoil(done: int) -> None:
        os.truncate(path, size)

    with pytest.raises(FileChangedError, match="being read"):
        open_whole(path, spoil)


@tidy
def test_a_tick_can_end_it(tmp_path: Path, stores: Stores, source: Store, out: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_whole(source.path, stop)
    fetch(stores, source, out, 2)
    with pytest.raises(KeyboardInterrupt):
        resume(out, source.target, stop)
    assert stores.resume(out, source.target).has(2), "what was there is not forgotten"


def test_a_full_disk_is_found_before_anything_is_fetched(
    source: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError) as caught:
        resume(out, source.target, tickless)
    assert explain(caught.value) == f"the disk is full: {part_of(out)}"
    assert list(out.parent.iterdir()) == [], "nothing is left of a fetch that never began"


@tidy
def test_a_full_disk_keeps_what_was_there(
    stores: Stores, source: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(stores, source, out, 1)
    before = part_of(out).read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIN_CHUNK, old[1]))
    try:
        with pytest.raises(OSError) as caught:
            resume(out, source.target, tickless)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert explain(caught.value) == f"the disk is full: {part_of(out)}"
    assert part_of(out).read_bytes() == before
    assert stores.resume(out, source.target).has(1)


@tidy
def test_a_disk_that_fills_up_while_fetching(stores: Stores, source: Store, out: Path) -> None:
    chunks = stores.resume(out, source.target)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIN_CHUNK, old[1]))
    try:
        with pytest.raises(OSError) as caught:
            copy_chunk(source, chunks, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert explain(caught.value) == f"the disk is full: {part_of(out)}"
    assert not chunks.has(4)


@tidy
def test_discard_takes_both(stores: Stores, source: Store, out: Path) -> None:
    fetch(stores, source, out, 0)
    discard(out)
    discard(out)
    assert list(out.parent.iterdir()) == []


@tidy
def test_a_huge_file_has_larger_chunks(stores: Stores, tmp_path: Path) -> None:
    """Its chunks are as long as the tree says; a sparse file stands for it."""
    target = Target(100 << 30, b"t" * 32)
    assert target.chunk == 1 << 20
    assert [target.length(0), target.length(target.count - 1)] == [1 << 20, 1 << 20]
