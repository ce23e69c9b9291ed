"""A peer by itself, and the registry; how nodes fill them is in the tests of the node."""

from __future__ import annotations

import pytest

from pea2pea import Addr, Config, ConfigError, Peer, Stats
from pea2pea.admission import Admission
from pea2pea.lifecycle import ConnectionState
from pea2pea.peer import Registry

ADDR = Addr("127.0.0.1", 4000)


def make_peer(addr: Addr = ADDR, *, inbound: bool = False) -> Peer:
    return Peer(addr, inbound=inbound, slot=Admission(Config(), on_room=lambda: None).reserve(addr.host))


def test_ids_grow_and_never_come_again() -> None:
    ids = [make_peer().id for _ in range(5)]
    assert ids == sorted(set(ids))


def test_a_peer_is_itself_and_no_other_at_its_address() -> None:
    one, other = make_peer(), make_peer()
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2


def test_a_new_peer_knows_what_is_known() -> None:
    peer = make_peer(inbound=True)
    assert (peer.addr, peer.inbound, peer.stats) == (ADDR, True, Stats())
    assert (peer.session, peer.opened_at) == (None, None)


def test_attributes_that_a_peer_does_not_have_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        make_peer().nickname = "bob"  # type: ignore[attr-defined]


def test_a_peer_tells_its_direction_and_its_state() -> None:
    peer = make_peer()
    assert repr(peer) == f"<Peer {peer.id} to 127.0.0.1:4000, connecting>"
    peer._move(ConnectionState.OPEN)
    assert repr(peer) == f"<Peer {peer.id} to 127.0.0.1:4000, open>"
    assert " from 127.0.0.1:4000" in repr(make_peer(inbound=True))


def test_a_peer_moves_along_the_table_only() -> None:
    peer = make_peer()
    with pytest.raises(AssertionError):
        peer._move(ConnectionState.CLOSING)
    assert peer._state is ConnectionState.CONNECTING


def test_the_registry_tells_those_connecting_from_those_connected() -> None:
    registry = Registry()
    connecting, connected = make_peer(Addr("10.0.0.1", 1)), make_peer(Addr("10.0.0.2", 2))
    registry._connecting[connecting.addr] = connecting
    registry._peers[connected.addr] = connected
    assert registry.peers == [connected]
    assert (registry.num_connecting, registry.num_connected) == (1, 1)
    assert (registry.is_connecting("10.0.0.1:1"), registry.is_connected("10.0.0.1:1")) == (True, False)
    assert (registry.is_connecting("10.0.0.2:2"), registry.is_connected("10.0.0.2:2")) == (False, True)
    assert registry.peer("10.0.0.1:1") is None
    assert registry.peer(("10.0.0.2", 2)) is connected
    with pytest.raises(ConfigError):
        registry.peer("10.0.0.2")
