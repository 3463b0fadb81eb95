"""The counts of a batch are what counting its pairings would give, whatever happened to them."""

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from service.domain.errors import LeaseLost, NotRetryable
from service.domain.events import CancelRequested, PairingCanceled, PairingStarted
from service.domain.ids import BatchId, OperationId
from service.domain.pairing import Pairing, PairingState
from service.store.batches import Batches
from service.store.cancels import Cancels
from service.store.database import Database
from service.store.folds import folded, parameters
from service.store.journal import Journal
from service.store.retries import Retries
from service.store.statements import statement
from tests.integration.store.bulk import mesh
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    claim,
    failed,
    journal_on,
    real_now,
    started,
    step,
    way_to_success,
)
from tests.integration.store.watching import until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


async def both(sql: "Connection", database: Database) -> tuple[dict[UUID, object], ...]:
    """Of each batch, the states and last end by counting, and by its tallies."""
    counted = await sql.fetch(
        "select b.id, count(p.id) filter (where state = 'QUEUED') as queued,"
        " count(p.id) filter (where state = 'RUNNING') as running,"
        " count(p.id) filter (where state = 'SUCCEEDED') as succeeded,"
        " count(p.id) filter (where state = 'FAILED') as failed,"
        " count(p.id) filter (where state = 'CANCELED') as canceled,"
        " max(end_time) as last_end"
        " from batch b left join pairing p on p.batch = b.id group by b.id"
    )
    by_counting: dict[UUID, object] = {}
    by_tallies: dict[UUID, object] = {}
    for row in counted:
        batch = await Batches(database).get(BatchId(row["id"]))
        counts = batch.counts
        is_over = row["queued"] + row["running"] == 0
        by_counting[row["id"]] = (*[row[name] for name in NAMES], is_over and row["last_end"])
        by_tallies[row["id"]] = (
            *[getattr(counts, name) for name in NAMES],
            batch.is_over and batch.end_time,
        )
    return by_counting, by_tallies


NAMES = [state.lower() for state in PairingState]


async def same(sql: "Connection", database: Database) -> None:
    by_counting, by_tallies = await both(sql, database)
    assert by_counting == by_tallies
    assert by_counting


async def test_a_way_to_success_step_by_step(database: Database, sql: "Connection") -> None:
    await mesh(database, "a", "b", "c")
    async with journal_on(database) as journal:
        for assignment in await claim(database, 3):
            for change in way_to_success(assignment.pairing):
                await journal.append(change)
                await same(sql, database)


async def test_a_whole_way_in_one_group(database: Database, sql: "Connection") -> None:
    await mesh(database, "a", "b")
    [assignment] = await claim(database)
    async with journal_on(database) as journal:
        way = way_to_success(assignment.pairing)
        await asyncio.gather(*[journal.append(change) for change in way])
    await same(sql, database)


async def test_the_last_end_is_not_that_of_who_was_written_last(
    database: Database, sql: "Connection"
) -> None:
    """Workers have clocks of their own."""
    await mesh(database, "a", "b", "c")
    one, other, last = [each.pairing for each in await claim(database, 3)]
    early = failed(one)
    while (late := failed(other)).pairing.end_time == early.pairing.end_time:
        pass
    async with journal_on(database) as journal:
        await journal.append(failed(last))
        await journal.append(late)
        await journal.append(early)
    await same(sql, database)


async def test_what_is_refused_or_sent_again_counts_once(
    database: Database, sql: "Connection"
) -> None:
    await mesh(database, "a", "b", "c")
    one, other, _ = [each.pairing for each in await claim(database, 3)]
    stale = replace(other, epoch=other.epoch - 1)
    folds, _ = folded([started(one), started(stale)])
    for granted in (1, 0):
        rows = await database.run(statement("journal"), parameters(folds))
        assert len(rows) == granted
        await same(sql, database)


async def test_pairings_by_themselves_are_in_nobody_s_tally(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    [assignment] = await claim(database)
    async with journal_on(database) as journal:
        await journal.append(failed(assignment.pairing))
    assert await sql.fetchval("select count(*) from batch_tally") == 0


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens(database: Database, sql: "Connection", seed: int) -> None:
    """Two workers' journals and a caller's, on two batches at once, at random."""
    rng = random.Random(seed)  # noqa: S311 - a seed has to replay
    await mesh(database, "a", "b", "c", "d")
    await mesh(database, "e", "f", "g", "h")
    async with journal_on(database) as one, journal_on(database) as other:
        play = Play(database, rng, [one, other])
        for _ in range(25):
            await asyncio.gather(*[play.act() for _ in range(rng.randint(1, 4))])
            await same(sql, database)
        assert play.refused


class Play:
    """What may happen to pairings of batches."""

    def __init__(self, database: Database, rng: random.Random, journals: list[Journal]) -> None:
        self._database = database
        self._rng = rng
        self._journals = journals
        self._held: dict[UUID, Pairing] = {}
        self._over: list[Pairing] = []
        self._stale: list[Pairing] = []
        self.refused = 0

    async def act(self) -> None:
        """Something happens."""
        kind = self._rng.random()
        if kind < 0.25 or not self._held:
            for each in await claim(self._database, self._rng.randint(1, 4)):
                self._held[each.pairing.id] = each.pairing
                self._stale.append(each.pairing)
        elif kind < 0.4 and self._over:
            await self._retry(self._over.pop())
        elif kind < 0.5:
            await self._write(self._rng.choice(self._stale))
        else:
            await self._write(self._held.pop(self._rng.choice(list(self._held))))

    async def _write(self, pairing: Pairing) -> None:
        begun = started(pairing)
        ends = [
            [begun, failed(begun.pairing)],
            [step(pairing, PairingStarted("w", 1), release=True)],
            way_to_success(pairing),
            [
                step(
                    pairing,
                    PairingStarted("w", 1),
                    CancelRequested("eve", OperationId("x")),
                    PairingCanceled(),
                )
            ],
        ]
        changes = self._rng.choice(ends)
        journal = self._rng.choice(self._journals)
        written = await asyncio.gather(
            *[journal.append(change) for change in changes], return_exceptions=True
        )
        assert all(each is None or isinstance(each, LeaseLost) for each in written)
        if LeaseLost in {type(each) for each in written}:
            self.refused += 1
        elif changes[-1].pairing.is_over:
            self._over.append(changes[-1].pairing)

    async def _retry(self, pairing: Pairing) -> None:
        retries = Retries(self._database, self._rng.choice(self._journals), real_now)
        with suppress(NotRetryable):
            await retries.retry(pairing.id, AUTHOR)


async def test_canceling_goes_through_a_batch_in_pieces(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.cancels.AT_ONCE", 2)
    batch = await mesh(database, "a", "b", "c", "d")
    await accepted(database, ("x", "y"))
    held = [each.pairing for each in await claim(database, 2)]
    async with journal_on(database) as journal:
        await journal.append(failed(held[0]))
    await sql.execute(
        "update pairing set waits_for = 'a', deadline = start_time + 1 where id = "
        "(select id from pairing where batch is not null order by id desc limit 1)"
    )
    for _ in range(2):
        await Cancels(database).request_batch(batch, AUTHOR)
        rows = await sql.fetch(
            "select count(*) filter (where cancel_user = 'tester') as wished, count(*) as all,"
            " count(waits_for) as waiting from pairing where batch = $1",
            batch,
        )
        assert tuple(rows[0]) == (5, 6, 0)
    assert await sql.fetchval("select count(cancel_user) from pairing where batch is null") == 0


async def test_what_ends_while_its_batch_is_canceled_is_not_to_be_canceled(
    database: Database, sql: "Connection"
) -> None:
    batch = await mesh(database, "a", "b", "c")
    first, second = (each.pairing for each in await claim(database, 2))
    async with journal_on(database) as journal, asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute("select from pairing where id = $1 for update", first.id)
        tasks.create_task(Cancels(database).request_batch(batch, AUTHOR))
        await until_blocked(sql)
        await journal.append(failed(second))
    wished = "select array_agg(id) from pairing where cancel_user is not null"
    assert second.id not in await sql.fetchval(wished)
    assert len(await sql.fetchval(wished)) == 2
