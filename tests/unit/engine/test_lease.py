"""A worker calls only while nobody can have declared it dead, and until the call is over."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from service.domain.errors import DeclaredDead, LeaseTooShort, StoreUnavailable
from service.engine.lease import Lease
from service.engine.policy import Policy
from service.observe.events import HeartbeatLate, LogEvent
from service.observe.logging import listening
from tests.support.virtual_time import now, run

POLICY = Policy(lease_s=20.0, beat_s=3.0, call_s=12.0, jitter=lambda: 0.0)


class Row:
    """A row that is beaten, in a database that takes `latency_s` to answer, or is out of reach."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.is_down = False
        self.is_dead = False
        self.living = 1
        self.seen: list[float] = []
        self.burials: list[float] = []
        self.next_s: list[float] = []
        self.tried = asyncio.Event()

    async def join(self, lease_s: float) -> None:
        assert lease_s == POLICY.lease_s
        await self.beat()

    async def beat(self) -> int:
        await asyncio.sleep(self.latency_s)
        self.tried.set()
        if self.is_down:
            raise StoreUnavailable("down")
        if self.is_dead:
            raise DeclaredDead
        self.seen.append(now())
        return self.living

    async def bury(self) -> float | None:
        self.burials.append(now())
        return self.next_s.pop(0) if self.next_s else None

    async def leave(self) -> None:
        self.seen.clear()


def is_permitted(lease: Lease) -> bool:
    try:
        lease.permit()
    except LeaseTooShort:
        return False
    return True


def kept(row: Row, lease: Lease, story: Coroutine[Any, Any, None]) -> None:
    """Run `story` while the lease is kept."""

    async def scene() -> None:
        await lease.begin()
        keeping = asyncio.create_task(lease.keep())
        try:
            await story
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    run(scene())


def test_nothing_is_permitted_before_it_lives() -> None:
    async def story() -> None:
        assert not is_permitted(Lease(Row(), POLICY))

    run(story())


def test_as_long_as_it_beats_calls_are_permitted() -> None:
    row = Row()
    lease = Lease(row, POLICY)

    async def story() -> None:
        for _ in range(100):
            await asyncio.sleep(1.0)
            assert is_permitted(lease)

    kept(row, lease, story())
    assert len(row.seen) >= 33
    assert len(row.burials) >= 33


def test_a_burial_that_is_due_before_the_next_beat_does_not_wait_for_it() -> None:
    row = Row()
    row.next_s = [1.0, 0.5, 20.0]

    async def story() -> None:
        await asyncio.sleep(10.0)

    kept(row, Lease(row, POLICY), story())
    assert row.burials[:4] == pytest.approx([0.0, 1.0, 1.5, 1.5 + POLICY.beat_s], abs=0.1)


def test_without_beats_no_call_is_sent_that_could_outlive_the_lease() -> None:
    row = Row()
    lease = Lease(row, POLICY)

    async def story() -> None:
        await asyncio.sleep(0.5)
        row.is_down = True
        last = row.seen[-1]
        while now() < last + 60:
            await asyncio.sleep(0.25)
            could_end = now() + POLICY.call_s
            assert is_permitted(lease) == (could_end <= last + POLICY.lease_s)
        row.is_down = False
        await asyncio.sleep(POLICY.beat_s)
        assert is_permitted(lease)

    kept(row, lease, story())


def test_the_lease_counts_from_before_the_beat_was_sent() -> None:
    """The database noted it later: were it counted from the answer, it would outlast the row."""
    row = Row(latency_s=2.0)
    lease = Lease(row, POLICY)

    async def story() -> None:
        assert row.seen == [2.0]
        assert lease.left_s == pytest.approx(POLICY.lease_s - 2.0)

    kept(row, lease, story())


async def until(row: Row, condition: Callable[[], bool]) -> None:
    """Return after the first try to beat, from now on, that finds it hold."""
    while True:
        row.tried.clear()
        await row.tried.wait()
        if condition():
            return


async def more_beats(row: Row, count: int) -> None:
    """Return when so many more have got through."""
    so_far = len(row.seen)
    await until(row, lambda: len(row.seen) == so_far + count)


def test_a_late_beat_is_told_and_of_many_in_a_row_the_first() -> None:
    row = Row()
    lease = Lease(row, POLICY)
    told: list[HeartbeatLate] = []

    async def story() -> None:
        row.latency_s = 4.0  # Slow, but more than half of the lease is left.
        await more_beats(row, 3)
        assert told == []
        row.latency_s = 8.0
        await more_beats(row, 4)
        assert len(told) == 1
        row.latency_s = 0.0
        await more_beats(row, 2)
        row.is_down = True
        await until(row, lambda: lease.left_s < POLICY.lease_s / 2)
        assert len(told) == 2, "also of beats that do not get through"
        row.is_down = False
        await more_beats(row, 2)
        assert len(told) == 2

    with listening(lambda event: told.append(event) if isinstance(event, HeartbeatLate) else None):
        kept(row, lease, story())
    for each in told:
        assert each.left_s <= POLICY.lease_s / 2
        assert each.late_s == pytest.approx(POLICY.lease_s - each.left_s - POLICY.beat_s)


def test_a_beat_that_is_not_answered_is_told_when_half_of_the_lease_is_gone() -> None:
    row = Row()
    lease = Lease(row, POLICY)
    told: list[float] = []

    async def story() -> None:
        await more_beats(row, 2)
        row.latency_s = 120.0
        last = row.seen[-1]
        await more_beats(row, 1)
        assert told == [last + POLICY.lease_s / 2]
        row.latency_s = 0.0
        await more_beats(row, 5)
        assert len(told) == 1

    with listening(lambda event: told.append(now()) if isinstance(event, HeartbeatLate) else None):
        kept(row, lease, story())


def test_who_does_not_keep_the_lease_any_more_is_not_late() -> None:
    told: list[LogEvent] = []

    async def scene() -> None:
        row = Row()
        lease = Lease(row, POLICY)
        await lease.begin()
        keeping = asyncio.create_task(lease.keep())
        await more_beats(row, 2)
        keeping.cancel()
        await asyncio.sleep(POLICY.lease_s)

    with listening(told.append):
        run(scene())
    assert told == []


def test_a_worker_that_was_declared_dead_is_told_so() -> None:
    async def story() -> None:
        row = Row()
        lease = Lease(row, POLICY)
        await lease.begin()
        row.is_dead = True
        with pytest.raises(DeclaredDead):
            await lease.keep()

    run(story())


def test_beginning_outlasts_a_database_that_is_not_there_yet() -> None:
    async def story() -> None:
        row = Row()
        row.is_down = True
        lease = Lease(row, POLICY)
        beginning = asyncio.create_task(lease.begin())
        await asyncio.sleep(100.0)
        row.is_down = False
        await beginning
        assert now() <= 100.0 + POLICY.beat_s
        assert is_permitted(lease)

    run(story())


def test_the_end_permits_nothing_more() -> None:
    async def story() -> None:
        lease = Lease(Row(), POLICY)
        await lease.begin()
        await lease.end()
        assert not is_permitted(lease)

    run(story())


def test_a_lease_that_a_missed_beat_would_end_is_refused() -> None:
    with pytest.raises(ValueError, match="outlast"):
        Policy(lease_s=10.0, beat_s=3.0, call_s=6.0)


def test_each_beat_tells_how_many_live() -> None:
    row, told, is_told = Row(), list[int](), asyncio.Event()

    def hear(living: int) -> None:
        told.append(living)
        row.living = 3
        if len(told) == 2:
            is_told.set()

    async def story() -> None:
        await is_told.wait()

    kept(row, Lease(row, POLICY, hear), story())
    assert told == [1, 3]
