"""Which chunk to request from which peer: a state machine of random peers, and single cases. The clock is a number."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pea2pea.share.plan import MAX_ASKED, Plan, bits_of

COUNT = 12
WINDOW = 4
PATIENCE = 10.0


def plan_of(*holdings: int, count: int = COUNT, **options: float) -> Plan:
    plan = Plan(count, window=WINDOW, patience=PATIENCE, random=Random(1), **options)  # type: ignore[arg-type]
    for peer, bits in enumerate(holdings):
        plan.join(peer)
        plan.offer(peer, bits)
    return plan


class Download(RuleBasedStateMachine):
    """Whatever peers do, the bookkeeping stays consistent, and every chunk that some peer has is fetched in the end."""

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.plan = plan_of()
        self.has: dict[int, int] = {}
        self.asked: dict[int, set[int]] = {}
        self.done: set[int] = set()
        self.now = 0.0

    @rule(target=peers, bits=st.integers(0, (1 << COUNT) - 1))
    def join(self, bits: int) -> int:
        peer = len(self.asked)
        self.plan.join(peer)
        self.plan.offer(peer, bits)
        self.has[peer], self.asked[peer] = bits, set()
        return peer

    @rule(peer=consumes(peers))
    def leave(self, peer: int) -> None:
        self.plan.leave(peer)
        del self.has[peer]
        self.asked[peer] = set()

    @rule(peer=peers, indexes=st.lists(st.integers(0, COUNT - 1), max_size=4))
    def announce(self, peer: int, indexes: list[int]) -> None:
        self.plan.announce(peer, indexes)
        for index in indexes:
            self.has[peer] |= 1 << index

    @rule(peer=peers)
    def take(self, peer: int) -> None:
        taken = self.plan.take(peer, self.now)
        assert not set(taken) & (self.asked[peer] | self.done)
        assert all(self.has[peer] >> index & 1 for index in taken)
        self.asked[peer] |= set(taken)

    @rule(peer=peers, data=st.data())
    def deliver(self, peer: int, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, COUNT - 1))
        assert self.plan.arrived(peer, index, self.now) == (index in self.asked[peer])
        if index in self.asked[peer]:
            self.asked[peer].discard(index)
            if index not in self.done:
                self.plan.done(index)
                self.done.add(index)

    @rule(peer=peers, index=st.integers(0, COUNT - 1))
    def refuse(self, peer: int, index: int) -> None:
        if self.plan.refused(peer, index):
            assert index in self.asked[peer]
            self.asked[peer].discard(index)
            self.has[peer] &= ~(1 << index)
        else:
            assert index not in self.asked[peer]

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_books_balance(self) -> None:
        missing = [index for index in range(COUNT) if index not in self.done]
        assert list(bits_of(self.plan.missing)) == missing
        for index in range(COUNT):
            askers = sum(index in asked for asked in self.asked.values())
            assert askers <= MAX_ASKED
            assert (self.plan._unasked >> index & 1) == (index in missing and not askers)
            rarity = sum(bits >> index & 1 for bits in self.has.values() if bits != self.plan.everything)
            assert self.plan._spread[index] == rarity
        assert all(len(asked) <= WINDOW for asked in self.asked.values())

    def teardown(self) -> None:
        """What somebody has is got."""
        for _ in range(COUNT + 1):
            self.now += 100
            for peer in self.has:
                self.take(peer)
                for index in self.asked[peer]:
                    assert self.plan.arrived(peer, index, self.now)
                    self.plan.done(index)
                self.asked[peer] = set()
        reachable = 0
        for bits in self.has.values():
            reachable |= bits
        assert not self.plan.missing & reachable


TestDownload = Download.TestCase
TestDownload.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_rare_chunks_are_requested_first() -> None:
    """Of two chunks one is everywhere; over many plans the other is asked for first far more often."""
    firsts = []
    for seed in range(40):
        plan = Plan(8, window=1, random=Random(seed))
        for peer, bits in enumerate([0b11111111, 0b01111111, 0b01111111, 0b01111111]):
            plan.join(peer)
            plan.offer(peer, bits)
        firsts += plan.take(0, 0.0)
    assert firsts.count(7) > 10, "by chance alone it would be 5 of 40"


def test_no_more_than_the_window_waits() -> None:
    plan = plan_of((1 << COUNT) - 1)
    assert len(plan.take(0, 0.0)) == WINDOW
    assert plan.take(0, 0.0) == []


def test_a_peer_that_stalls_is_overdue_and_one_that_delivers_is_not() -> None:
    plan = plan_of((1 << COUNT) - 1, (1 << COUNT) - 1, 0)
    slow, fast = plan.take(0, 0.0), plan.take(1, 0.0)
    assert slow and plan.arrived(1, fast[0], 9.0)
    assert plan.overdue(9.9) == []
    assert plan.overdue(10.0) == [0]
    assert plan.overdue(19.0) == [0, 1]


def test_a_new_request_restarts_the_clock_of_an_idle_peer_only() -> None:
    plan = plan_of(0b11)
    first, second = plan.take(0, 0.0)
    plan.arrived(0, first, 1.0)
    plan.done(first)
    plan.arrived(0, second, 1.0)
    plan.done(second)
    plan.offer(0, 0b111)
    assert plan.take(0, 500.0) == [2]
    assert plan.overdue(501.0) == []


def test_a_late_chunk_is_requested_from_one_more_peer_near_the_end() -> None:
    plan = plan_of(0b1, 0b1, 0b1)
    assert plan.take(0, 0.0) == [0]
    assert plan.take(1, 0.5) == []
    assert plan.take(1, 1.0) == [0]
    assert plan.take(2, 9.0) == [], "two at once are enough"
    assert plan.arrived(1, 0, 9.0)
    plan.done(0)
    assert plan.arrived(0, 0, 9.0), "the slow one was asked, too"
    assert plan.take(2, 99.0) == []


def test_requests_to_a_peer_that_left_go_to_others() -> None:
    plan = plan_of(0b11, 0b11)
    assert sorted(plan.take(0, 0.0)) == [0, 1]
    assert plan.take(1, 0.0) == []
    plan.leave(0)
    plan.leave(0)
    assert sorted(plan.take(1, 0.0)) == [0, 1]


def test_needs() -> None:
    plan = plan_of(0b01)
    assert not plan.needs(0, 0)
    assert plan.needs(0, 1)
    assert not plan.needs(7, 1), "who is not there needs nothing"


def test_bits() -> None:
    assert list(bits_of(0)) == []
    assert list(bits_of(1 << 300 | 0b1011)) == [0, 1, 3, 300]
