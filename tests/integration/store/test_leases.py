"""Heartbeats: who lives, who buries whom, and what becomes of what the dead held."""

import asyncio
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.domain.errors import DeclaredDead, LeaseLost
from service.domain.ids import WorkerId
from service.domain.pairing import Pairing
from service.observe.events import LogEvent, WorkersBuried
from service.observe.logging import listening
from service.store.claims import Claims
from service.store.database import Database
from service.store.errors import Locked
from service.store.leases import NOBODY, Heartbeat
from service.store.notify import Listener
from service.store.pairings import Pairings
from tests.integration.store.values import (
    accepted,
    claim,
    journal_on,
    started,
    worker,
)
from tests.integration.store.watching import until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

LEASE_S = 20.0
AGE = "update worker set seen = seen - make_interval(secs => $2) where id = $1"
SETTLE = "update worker set steady_since = steady_since - make_interval(secs => $2) where id = $1"


async def born(database: Database) -> tuple[WorkerId, Heartbeat]:
    """A worker that has just begun to live."""
    worker_id = worker()
    heart = Heartbeat(database, worker_id)
    await heart.join(LEASE_S)
    return worker_id, heart


async def judge(database: Database, sql: "Connection") -> Heartbeat:
    """A worker that has beaten for long enough to judge others."""
    worker_id, heart = await born(database)
    await sql.execute(SETTLE, worker_id, LEASE_S + 1)
    return heart


async def owned(database: Database, sql: "Connection") -> tuple[WorkerId, Heartbeat, Pairing]:
    """A worker that has not beaten for longer than its lease, and what it holds."""
    worker_id, heart = await born(database)
    await accepted(database, ("a", "b"))
    [assignment] = (await Claims(database, worker_id).claim(1)).assignments
    await sql.execute(AGE, worker_id, LEASE_S + 1)
    return worker_id, heart, assignment.pairing


async def living(sql: "Connection") -> set[WorkerId]:
    """Who has a row."""
    return {row["id"] for row in await sql.fetch("select id from worker")}


async def test_who_beats_lives_and_who_never_joined_does_not(database: Database) -> None:
    _, heart = await born(database)
    await heart.beat()
    await heart.beat()
    with pytest.raises(DeclaredDead):
        await Heartbeat(database, worker()).beat()


async def test_a_beat_tells_how_many_live(database: Database, sql: "Connection") -> None:
    _, heart = await born(database)
    assert await heart.beat() == 1
    other, its_heart = await born(database)
    assert (await heart.beat(), await its_heart.beat()) == (2, 2)
    await sql.execute(AGE, other, LEASE_S + 1)
    assert await heart.beat() == 1


async def test_joining_again_when_the_answer_was_lost_is_the_same_life(
    database: Database, sql: "Connection"
) -> None:
    worker_id, heart = await born(database)
    await heart.join(LEASE_S)
    await heart.beat()
    assert await living(sql) == {worker_id}


async def test_what_the_dead_held_is_due_at_once_under_another_epoch(
    database: Database, sql: "Connection"
) -> None:
    dead, its_heart, pairing = await owned(database, sql)
    heart = await judge(database, sql)
    await heart.bury()
    assert dead not in await living(sql)
    assert (await Pairings(database).get(pairing.id)).epoch == pairing.epoch + 1
    with pytest.raises(DeclaredDead):
        await its_heart.beat()
    async with journal_on(database) as journal:
        with pytest.raises(LeaseLost):
            await journal.append(started(pairing))
    assert (await Claims(database, dead).claim(1)).assignments == []
    [again] = await claim(database)
    assert again.pairing.epoch == pairing.epoch + 2


async def test_a_burial_wakes_the_workers(
    database: Database, database_url: str, sql: "Connection"
) -> None:
    await owned(database, sql)
    heart = await judge(database, sql)
    listener = Listener(database_url)
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        listening = tasks.create_task(listener.run(ready))
        await ready.wait()
        await listener.due.wait(60)
        await heart.bury()
        began = time.monotonic()
        await listener.due.wait(60)
        assert time.monotonic() - began < 10
        listening.cancel()


async def test_a_lease_that_is_not_over_protects(database: Database, sql: "Connection") -> None:
    other, _ = await born(database)
    await sql.execute(AGE, other, LEASE_S - 5)
    heart = await judge(database, sql)
    await heart.bury()
    assert other in await living(sql)
    await sql.execute(AGE, other, 6.0)
    await heart.bury()
    assert other not in await living(sql)


async def test_a_burial_tells_when_the_next_one_may_be_due(
    database: Database, sql: "Connection"
) -> None:
    heart = await judge(database, sql)
    assert await heart.bury() is None
    for age_s in (3.0, 5.0, LEASE_S + 5):
        other, _ = await born(database)
        await sql.execute(AGE, other, age_s)
    next_s = await heart.bury()
    assert next_s is not None
    assert LEASE_S - 10 < next_s <= LEASE_S - 5


async def test_who_has_not_lived_for_a_lease_judges_nobody(
    database: Database, sql: "Connection"
) -> None:
    dead, _, _ = await owned(database, sql)
    young, heart = await born(database)
    await sql.execute(SETTLE, young, LEASE_S - 5)
    await heart.bury()
    assert dead in await living(sql)


@pytest.mark.parametrize("gap_s", [LEASE_S / 2 + 1, LEASE_S * 2, -3600.0])
async def test_after_a_gap_one_judges_nobody_until_a_lease_later(
    database: Database, sql: "Connection", gap_s: float
) -> None:
    """The database was away, or its clock went back: everybody's row says nothing."""
    dead, _, _ = await owned(database, sql)
    mine, heart = await born(database)
    await sql.execute(SETTLE, mine, LEASE_S * 10)
    await heart.beat()
    await sql.execute(AGE, mine, gap_s)
    await heart.beat()
    await heart.bury()
    assert dead in await living(sql)
    await sql.execute(SETTLE, mine, LEASE_S + 1)
    await heart.beat()
    await heart.bury()
    assert dead not in await living(sql)


@pytest.mark.parametrize("gap_s", [LEASE_S / 2 + 1, LEASE_S * 2, -3600.0])
async def test_after_a_gap_since_its_own_beat_one_judges_nobody(
    database: Database, sql: "Connection", gap_s: float
) -> None:
    """The database was away, or its clock was set, between a beat and the burial after it."""
    other, _ = await born(database)
    heart = await judge(database, sql)
    for each in await living(sql):
        await sql.execute(AGE, each, gap_s)
        await sql.execute(SETTLE, each, gap_s)
    await heart.bury()
    assert other in await living(sql)


async def test_a_short_pause_between_beats_is_no_gap(database: Database, sql: "Connection") -> None:
    dead, _, _ = await owned(database, sql)
    mine, heart = await born(database)
    await sql.execute(SETTLE, mine, LEASE_S + 1)
    await sql.execute(AGE, mine, LEASE_S / 3)
    await heart.beat()
    await heart.bury()
    assert dead not in await living(sql)


async def test_a_young_worker_judges_when_another_one_has_seen_a_steady_database(
    database: Database, sql: "Connection"
) -> None:
    """Even one that died meanwhile: else workers that die often would keep all from burying."""
    dead, _, _ = await owned(database, sql)
    witness, _ = await born(database)
    await sql.execute(SETTLE, witness, LEASE_S + 1)
    await sql.execute(AGE, witness, LEASE_S / 3)
    _, heart = await born(database)
    await heart.beat()
    await heart.bury()
    assert await living(sql) & {dead, witness} == {witness}


@pytest.mark.parametrize("gap_s", [LEASE_S / 2 + 1, LEASE_S - 1, -5.0])
async def test_whoever_has_not_beaten_lately_is_no_witness(
    database: Database, sql: "Connection", gap_s: float
) -> None:
    dead, _, _ = await owned(database, sql)
    witness, _ = await born(database)
    await sql.execute(SETTLE, witness, LEASE_S * 5)
    await sql.execute(AGE, witness, gap_s)
    _, heart = await born(database)
    await heart.beat()
    await heart.bury()
    assert dead in await living(sql)


async def test_who_beat_in_the_future_is_dead_once_the_clock_has_settled(
    database: Database, sql: "Connection"
) -> None:
    ahead, _ = await born(database)
    await sql.execute(AGE, ahead, -3600.0)
    heart = await judge(database, sql)
    await heart.bury()
    assert ahead not in await living(sql)


async def test_nobody_buries_itself(database: Database, sql: "Connection") -> None:
    mine, heart = await born(database)
    await sql.execute(SETTLE, mine, LEASE_S * 3)
    await sql.execute(AGE, mine, LEASE_S * 2)
    await heart.bury()
    await heart.beat()


async def test_a_beat_that_meets_the_burial_saves_its_worker(
    database: Database, sql: "Connection"
) -> None:
    late, _, pairing = await owned(database, sql)
    heart = await judge(database, sql)
    async with sql.transaction():
        await sql.execute("update worker set seen = clock_timestamp() where id = $1", late)
        await heart.bury()
    await heart.bury()
    assert late in await living(sql)
    assert (await Pairings(database).get(pairing.id)).epoch == pairing.epoch


async def test_a_burial_that_comes_first_is_the_end_of_the_beat_that_waits(
    database: Database, sql: "Connection"
) -> None:
    late, its_heart, _ = await owned(database, sql)
    async with asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("delete from worker where id = $1", late)
            beating = tasks.create_task(outcome(its_heart))
            await until_blocked(sql)
        assert isinstance(await beating, DeclaredDead)


async def outcome(heart: Heartbeat) -> Exception | None:
    """What a beat comes to."""
    try:
        await heart.beat()
    except DeclaredDead as dead:
        return dead
    return None


async def test_what_is_claimed_while_one_is_buried_is_freed_by_the_next_burial(
    database: Database, sql: "Connection"
) -> None:
    late, _ = await born(database)
    await accepted(database, ("a", "b"))
    await sql.execute(AGE, late, LEASE_S + 1)
    heart = await judge(database, sql)
    async with sql.transaction():
        # What a claim does, not committed yet.
        await sql.execute("select from worker where id = $1 for key share", late)
        await sql.execute("update pairing set worker = $1, epoch = epoch + 1", late)
        await heart.bury()
        assert late in await living(sql)
    await heart.bury()
    assert late not in await living(sql)
    assert len(await claim(database)) == 1


async def test_what_is_locked_while_one_is_buried_is_freed_by_the_next_burial(
    database: Database, sql: "Connection"
) -> None:
    """Whoever buries has to beat, too: it does not wait."""
    late, _ = await born(database)
    locked, free = await accepted(database, ("a", "b"), ("c", "d"))
    await Claims(database, late).claim(2)
    await sql.execute(AGE, late, LEASE_S + 1)
    heart = await judge(database, sql)
    held = "select id from pairing where worker is not null"
    async with sql.transaction():
        await sql.execute("select from pairing where id = $1 for update", locked.id)
        async with asyncio.timeout(LEASE_S / 2):
            await heart.bury()
        assert late not in await living(sql)
        assert [row["id"] for row in await sql.fetch(held)] == [locked.id]
        assert [each.pairing.id for each in await claim(database, 2)] == [free.id]
    await heart.bury()
    assert [each.pairing.id for each in await claim(database, 2)] == [locked.id]
    assert (await Pairings(database).get(locked.id)).epoch == locked.epoch + 3


async def test_who_gives_up_what_is_locked_does_not_keep_itself_from_beating(
    database: Database, sql: "Connection"
) -> None:
    mine, heart = await born(database)
    await accepted(database, ("a", "b"))
    claims = Claims(database, mine)
    await claims.claim(1)
    async with sql.transaction():
        await sql.execute("select from pairing for update")
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(LEASE_S / 2):
            giving_up = tasks.create_task(told_off(claims))
            await until_blocked(sql)
            await heart.beat()
            await giving_up
    await claims.disown([])
    assert await sql.fetchval("select worker from pairing") is None


async def told_off(claims: Claims) -> None:
    """What is locked is not to be had, and the caller is told."""
    with pytest.raises(Locked):
        await claims.disown([])


async def test_many_who_bury_at_once_free_once(database: Database, sql: "Connection") -> None:
    _, _, pairing = await owned(database, sql)
    hearts = [await judge(database, sql) for _ in range(8)]
    await asyncio.gather(*[heart.bury() for heart in hearts])
    assert (await Pairings(database).get(pairing.id)).epoch == pairing.epoch + 1


async def test_who_leaves_tells_who_comes_since_when_the_database_was_steady(
    database: Database, sql: "Connection"
) -> None:
    """Else workers that are restarted often would keep each other from burying who is dead."""
    dead, _, _ = await owned(database, sql)
    old, its_heart = await born(database)
    await sql.execute(SETTLE, old, LEASE_S + 1)
    await its_heart.leave()
    for _ in range(3):
        _, heart = await born(database)
        await heart.leave()
    _, heart = await born(database)
    assert await heart.beat() == 1
    await heart.bury()
    assert dead not in await living(sql)


async def test_what_who_has_left_knew_is_soon_out_of_date(
    database: Database, sql: "Connection"
) -> None:
    dead, _, _ = await owned(database, sql)
    old, its_heart = await born(database)
    await sql.execute(SETTLE, old, LEASE_S * 5)
    await its_heart.leave()
    await sql.execute(AGE, NOBODY, LEASE_S / 2 + 1)
    young, heart = await born(database)
    await heart.beat()
    await heart.bury()
    assert dead in await living(sql)
    await heart.leave()
    assert young not in await living(sql)


async def test_who_has_long_not_beaten_leaves_no_witness(
    database: Database, sql: "Connection"
) -> None:
    mine, heart = await born(database)
    await sql.execute(SETTLE, mine, LEASE_S * 5)
    await sql.execute(AGE, mine, LEASE_S / 2 + 1)
    await heart.leave()
    assert await living(sql) == set()


async def test_nobodys_row_goes_without_being_told(database: Database, sql: "Connection") -> None:
    _, its_heart = await born(database)
    await its_heart.leave()
    assert await living(sql) == {NOBODY}
    await sql.execute(AGE, NOBODY, LEASE_S + 1)
    heart = await judge(database, sql)
    news: list[LogEvent] = []
    with listening(news.append):
        await heart.bury()
    assert NOBODY not in await living(sql)
    assert not news


async def test_who_leaves_hands_back_what_is_left(database: Database, sql: "Connection") -> None:
    worker_id, heart, pairing = await owned(database, sql)
    await heart.leave()
    await heart.leave()
    assert worker_id not in await living(sql)
    assert (await Pairings(database).get(pairing.id)).epoch == pairing.epoch + 1
    assert len(await claim(database)) == 1


async def test_a_leave_waits_for_a_claim_of_its_own_and_frees_what_that_brought(
    database: Database, sql: "Connection"
) -> None:
    mine, heart = await born(database)
    await accepted(database, ("a", "b"))
    async with asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from worker where id = $1 for key share", mine)
            await sql.execute("update pairing set worker = $1, epoch = epoch + 1", mine)
            leaving = tasks.create_task(heart.leave())
            await until_blocked(sql)
        await leaving
    assert await sql.fetchval("select worker from pairing") is None


async def test_what_is_held_in_nobodys_name_is_freed_even_by_the_young_and_told(
    database: Database, sql: "Connection"
) -> None:
    worker_id, _, pairing = await owned(database, sql)
    await sql.execute("delete from worker where id = $1", worker_id)
    _, heart = await born(database)
    news: list[LogEvent] = []
    with listening(news.append):
        await heart.bury()
    assert news == [WorkersBuried((), 1)]
    stored = await Pairings(database).get(pairing.id)
    assert stored.epoch == pairing.epoch + 1
    assert await sql.fetchval("select worker from pairing") is None


async def test_what_the_living_hold_stays_theirs(database: Database, sql: "Connection") -> None:
    names = [f"n{number}" for number in range(10)]
    couples = [(one, other) for one in names for other in names if one < other][:30]
    await accepted(database, *couples)
    holders = [await born(database) for _ in range(3)]
    for worker_id, _ in holders:
        await Claims(database, worker_id).claim(10)
    (dead, _), *_ = holders
    await sql.execute(AGE, dead, LEASE_S + 1)
    heart = await judge(database, sql)
    await heart.bury()
    held = await sql.fetch("select worker, count(*) as n, max(epoch) as e from pairing group by 1")
    wanted = {(None, 10, 2)} | {(worker_id, 10, 1) for worker_id, _ in holders[1:]}
    assert {(row["worker"], row["n"], row["e"]) for row in held} == wanted
