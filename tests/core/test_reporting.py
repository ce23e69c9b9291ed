"""Log records: their fields, and how many of them strangers can cause."""

from __future__ import annotations

import logging

import pytest

from pea2pea import Addr, Peer
from pea2pea.memory import MemoryNetwork
from pea2pea.reporting import RECORDS_AT_ONCE, RECORDS_PER_SECOND, Report
from support import StreamEndpoint
from support.link import facing
from support.node import OPEN, Polite, Witness, logged, settled

ADDR = Addr("10.0.0.1", 4000)


def test_records_about_a_peer_have_its_node_its_id_and_its_address() -> None:
    peer = Peer(ADDR, inbound=True)
    with logged() as lines:
        Report("alice", lambda: 0.0).about(peer, logging.WARNING, "%d things", 3)
    (record,) = lines.items
    assert record.getMessage() == "[alice] 10.0.0.1:4000: 3 things"
    assert (record.node, record.peer, record.address) == ("alice", peer.id, "10.0.0.1:4000")  # type: ignore[attr-defined]


def test_what_strangers_cause_is_limited_and_what_is_left_out_is_counted() -> None:
    now = 100.0
    report = Report("alice", lambda: now)
    with logged() as lines:
        for _ in range(1000):
            report.stranger(logging.INFO, ADDR, "knocked")
        assert len(lines.items) == RECORDS_AT_ONCE
        for _ in range(40):  # five seconds, in steps that binary fractions have
            now += 0.125
            report.stranger(logging.INFO, ADDR, "knocked")
        assert len(lines.items) == RECORDS_AT_ONCE + 5 * RECORDS_PER_SECOND
    texts = [record.getMessage() for record in lines.items]
    assert texts[0] == "[alice] 10.0.0.1:4000: knocked"
    left_out = [text for text in texts if "left out" in text]
    assert left_out[0].endswith("(981 similar records left out)")
    assert {(record.node, record.address) for record in lines.items} == {("alice", "10.0.0.1:4000")}  # type: ignore[attr-defined]


def test_a_record_below_the_level_costs_nothing_of_the_allowance() -> None:
    report = Report("alice", lambda: 0.0)
    logger = logging.getLogger("pea2pea")
    with logged() as lines:
        logger.setLevel(logging.WARNING)
        for _ in range(100):
            report.stranger(logging.DEBUG, ADDR, "unseen")
        report.stranger(logging.WARNING, ADDR, "seen")
    assert [record.getMessage() for record in lines.items] == ["[alice] 10.0.0.1:4000: seen"]


async def test_opened_closed_and_listening_are_records(memory: MemoryNetwork) -> None:
    node = Witness(OPEN, memory)
    with logged() as lines:
        async with facing("listener", memory, node) as (peer, _):
            await node.disconnect(peer)
    texts = [record.getMessage().partition("] ")[2] for record in lines.items]
    assert texts[0].startswith("listening on 127.0.0.1:")
    assert f"{peer.addr}: connected (inbound)" in texts
    assert f"{peer.addr}: disconnected: disconnect() was called (0 messages received, 0 sent)" in texts
    assert {record.levelname for record in lines.items} == {"INFO"}


@pytest.mark.parametrize("count", [10, 500])
async def test_bare_probes_write_one_line_each_without_traceback_and_no_more_than_the_limit(
    memory: MemoryNetwork, count: int
) -> None:
    async with Polite(OPEN, memory) as node:
        with logged() as lines:
            for _ in range(count):
                probe = StreamEndpoint()
                await memory.dial(node.address, probe)
                await probe.aclose()
            await settled(node)
        assert len(lines.items) == min(count, RECORDS_AT_ONCE)
        assert not any(record.exc_info for record in lines.items)
        assert all(record.levelno == logging.INFO and "\n" not in record.getMessage() for record in lines.items)
