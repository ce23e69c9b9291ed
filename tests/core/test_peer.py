"""A peer by itself; how a node fills it is in the tests of the node."""

from __future__ import annotations

import asyncio

import pytest

from pea2pea import Addr, NotConnectedError, Peer, Stats
from pea2pea.lifecycle import Cause, ConnectionState, DisconnectReason

ADDR = Addr("127.0.0.1", 4000)


def make_peer(addr: Addr = ADDR, *, inbound: bool = False) -> Peer:
    return Peer(addr, inbound=inbound)


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
    assert (peer.session, peer.opened_at, peer.reason, peer.transport) == (None, None, None, None)
    assert peer.state is ConnectionState.CONNECTING
    assert (peer.read_queue_size, peer.write_queue_size) == (0, 0)
    assert peer.get_extra_info("peername", "unknown") == "unknown"


def test_a_new_peer_cannot_be_sent_to() -> None:
    with pytest.raises(NotConnectedError, match="not connected yet") as error:
        make_peer().outbox.put(b"message", None)
    assert error.value.reason is None


def test_attributes_that_a_peer_does_not_have_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        make_peer().nickname = "bob"  # type: ignore[attr-defined]


def test_a_peer_tells_its_direction_and_its_state() -> None:
    peer = make_peer()
    assert repr(peer) == f"<Peer {peer.id} to 127.0.0.1:4000, connecting>"
    peer.state = ConnectionState.OPEN
    assert repr(peer) == f"<Peer {peer.id} to 127.0.0.1:4000, open>"
    assert " from 127.0.0.1:4000" in repr(make_peer(inbound=True))


async def test_everyone_who_waits_for_its_end_gets_the_reason_and_one_who_stops_waiting_disturbs_nobody() -> None:
    peer = make_peer()
    waiting = [asyncio.ensure_future(peer.closed()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    peer.state, peer.reason = ConnectionState.CLOSED, DisconnectReason(Cause.IDLE)
    peer.wake_waiters()
    assert [await waiting[0], await waiting[2], await peer.closed()] == [peer.reason] * 3
    assert waiting[1].cancelled()
