"""The tables of states: what leads where, that it always ends, and how a reason reads."""

from __future__ import annotations

import itertools

import pytest

from pea2pea.lifecycle import ConnectionState, DisconnectReason, NodeState, Origin, move

CONNECTION = {
    ("connecting", "open"),
    ("connecting", "closed"),
    ("open", "closing"),
    ("closing", "closed"),
}
NODE = {
    ("new", "running"),
    ("new", "closed"),
    ("running", "closing"),
    ("closing", "closed"),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(ConnectionState, repeat=2)))
def test_a_connection_moves_along_its_table_only(old: ConnectionState, new: ConnectionState) -> None:
    if (old.value, new.value) in CONNECTION:
        assert move(old, new) is new
    else:
        with pytest.raises(AssertionError, match="no way leads"):
            move(old, new)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(NodeState, repeat=2)))
def test_a_node_moves_along_its_table_only(old: NodeState, new: NodeState) -> None:
    if (old.value, new.value) in NODE:
        assert move(old, new) is new
    else:
        with pytest.raises(AssertionError, match="no way leads"):
            move(old, new)


def test_a_reason_reads_as_its_origin_and_what_was_raised() -> None:
    assert str(DisconnectReason(Origin.USER)) == "user"
    assert str(DisconnectReason(Origin.READING, ValueError("bad"))) == "reading: ValueError: bad"
