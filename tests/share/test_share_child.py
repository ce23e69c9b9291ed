"""One node of a crowd, run in this process: its orders and its reports."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pea2pea.share.child import Orders, run_node
from pea2pea.share.exchange import end
from pea2pea.share.security import Security
from support import Recorder
from support.share import listing, make_file, same

pytestmark = pytest.mark.loop("tcp")

Event = dict[str, Any]


class Node:
    """A node, its orders and its events."""

    def __init__(self, *, file: Path | None = None, out: Path | None = None) -> None:
        orders, self._orders = os.pipe()
        self._descriptors = [orders, self._orders]
        self.told: Recorder[Event] = Recorder()
        self.task = asyncio.create_task(run_node(orders, self.told.add))
        what = {"file": str(file)} if file is not None else {"out": str(out)}
        self.order({**what, "rate": None, "security": Security().to_dict()})

    def order(self, order: Event) -> None:
        os.write(self._orders, json.dumps(order).encode() + b"\n")

    async def event(self, kind: str) -> Event:
        """Return the first event of that kind, as soon as there is one."""
        events = await self.told.when(lambda told: any(event["event"] == kind for event in told))
        return next(event for event in events if event["event"] == kind)

    def close_orders(self) -> None:
        os.close(self._descriptors.pop())

    async def end(self) -> int:
        self.close_orders()
        try:
            return await self.task
        finally:
            os.close(self._descriptors.pop())


@asynccontextmanager
async def node(**what: Path) -> AsyncIterator[Node]:
    one = Node(**what)
    yield one
    assert await one.end() == 0


async def test_a_file_goes_from_node_to_node(tmp_path: Path) -> None:
    file = make_file(tmp_path / "file", 5)
    async with node(file=file) as sharer, node(out=tmp_path / "copy") as other:
        offer = await sharer.event("listening")
        sharer.order({"dial": []})
        other.order({"size": offer["size"], "top": offer["top"]})
        await other.event("listening")
        other.order({"dial": [offer["addr"]]})
        roots = [(await one.event("verified"))["root"] for one in (sharer, other)]
        assert roots[0] == roots[1]
        report = [event for event in other.told.items if event["event"] == "at"][-1]
        assert (report["held"], report["fetched"], report["served"]) == (offer["size"],) * 2 + (0,)
        (peer,) = report["peers"]
        assert (peer["addr"], peer["inbound"], peer["delivered"]) == (offer["addr"], False, offer["size"])
        theirs = [event for event in sharer.told.items if event["event"] == "at"][-1]["peers"]
        assert [(one["addr"], one["inbound"]) for one in theirs] in ([], [(peer["local"], True)])
    assert same(tmp_path / "copy", file)


async def test_it_ends_when_there_are_no_more_orders(tmp_path: Path) -> None:
    async with node(out=tmp_path / "copy"):
        pass
    assert listing(tmp_path) == set()


async def test_a_failure_is_reported(tmp_path: Path) -> None:
    one = Node(file=tmp_path / "nowhere")
    assert await one.event("failed") == {
        "event": "failed",
        "error": f"no such file or directory: {tmp_path / 'nowhere'}",
    }
    assert await one.end() == 1


async def test_cancelled_it_is_cancelled(tmp_path: Path) -> None:
    one = Node(file=make_file(tmp_path / "file", 1))
    await one.event("listening")
    await end([one.task])
    assert one.task.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await one.end()


async def test_orders_may_arrive_in_pieces() -> None:
    reader, writer = os.pipe()
    ended = asyncio.Event()
    orders = Orders(reader, ended.set)
    for piece in (b'{"a"', b": 1}\n{", b'"b": 2}\n{"c'):
        os.write(writer, piece)
    assert [await orders.next(), await orders.next()] == [{"a": 1}, {"b": 2}]
    os.close(writer)
    await ended.wait()
    os.close(reader)
