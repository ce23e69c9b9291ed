"""The tables of states: their transitions, that every life ends, and how a reason reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from enum import Enum

import pytest

from pea2pea.lifecycle import Cause, ConnectionState, DisconnectReason, NodeState, Origin, Party, move

CONNECTION = {
    ("connecting", "handshaking"),
    ("connecting", "open"),
    ("connecting", "closed"),
    ("handshaking", "open"),
    ("handshaking", "closed"),
    ("open", "draining"),
    ("open", "closing"),
    ("draining", "closing"),
    ("closing", "closed"),
}
NODE = {
    ("new", "running"),
    ("new", "closed"),
    ("running", "draining"),
    ("running", "closing"),
    ("draining", "closing"),
    ("closing", "closed"),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(ConnectionState, repeat=2)))
def test_a_connection_moves_along_its_table_only(old: ConnectionState, new: ConnectionState) -> None:
    if (old.value, new.value) in CONNECTION:
        assert move(old, new) is new
    else:
        with pytest.raises(AssertionError, match="no transition"):
            move(old, new)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(NodeState, repeat=2)))
def test_a_node_moves_along_its_table_only(old: NodeState, new: NodeState) -> None:
    if (old.value, new.value) in NODE:
        assert move(old, new) is new
    else:
        with pytest.raises(AssertionError, match="no transition"):
            move(old, new)


@pytest.mark.parametrize(("states", "table"), [(ConnectionState, CONNECTION), (NodeState, NODE)])
def test_every_state_but_the_first_is_reached_and_only_the_last_is_final(
    states: Iterable[Enum], table: set[tuple[str, str]]
) -> None:
    first, *_, last = names = [state.value for state in states]
    assert {new for _, new in table} == set(names) - {first}
    assert {old for old, _ in table} == set(names) - {last}
    # The states are declared in the order in which they are passed: no transition goes back.
    assert all(names.index(old) < names.index(new) for old, new in table)


def test_a_reason_reads_as_a_sentence_and_the_exception() -> None:
    assert str(DisconnectReason(Cause.DISCONNECTED)) == "disconnect() was called"
    bad = DisconnectReason(Cause.BAD_DATA, ValueError("bad"))
    assert str(bad) == "the peer sent data that cannot be decoded: ValueError: bad"
    assert str(DisconnectReason(Cause.READ_FAILED, EOFError())) == "the connection was lost: EOFError"


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_sentence_of_its_own_and_an_origin(cause: Cause) -> None:
    reason = DisconnectReason(cause)
    assert [other for other in Cause if other.sentence == cause.sentence] == [cause]
    assert str(reason) == cause.sentence
    assert (reason.origin, reason.party) == (cause.origin, cause.party)
    assert isinstance(reason.origin, Origin)
    # Both are told by the cause alone.
    assert (cause.origin in (Origin.USER, Origin.SHUTDOWN)) == (cause.party is Party.LOCAL)


def test_an_end_is_orderly_if_nothing_broke_and_no_rule_was_broken() -> None:
    orderly = {cause for cause in Cause if DisconnectReason(cause).is_orderly}
    assert orderly == {Cause.DISCONNECTED, Cause.SHUTDOWN, Cause.PEER_CLOSED, Cause.REPLACED}
    assert not DisconnectReason(Cause.PEER_CLOSED, ConnectionResetError()).is_orderly
