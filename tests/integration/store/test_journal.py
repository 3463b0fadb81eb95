"""The journal: groups, order, epochs, and what a fault leaves behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
from msgspec.structs import replace

from service.domain.advance import Change
from service.domain.appliance import read_sent
from service.domain.errors import LeaseLost, SitepairError, StoreUnavailable
from service.domain.events import PairingHandedBack, PairRequested, PeerFound, TaskAccepted
from service.domain.ids import TaskId
from service.domain.pairing import Pairing, PairingState, SideState
from service.store.database import Database
from service.store.journal import Journal
from service.store.pairings import Pairings
from tests.integration.store.values import (
    as_stored,
    claim,
    claimed,
    claims_on,
    failed,
    journal_on,
    name,
    started,
    step,
    way_to_success,
)
from tests.integration.store.watching import connections, transactions, until_blocked
from tests.support.chain import first_misfit

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

COUPLES = [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]


async def outcome(journal: Journal, change: Change) -> Exception | None:
    """What the caller of `append` is told."""
    try:
        await journal.append(change)
    except (SitepairError, asyncpg.PostgresError) as error:
        return error
    return None


@asynccontextmanager
async def as_one_group(
    journal: Journal, sql: "Connection", held: Pairing, changes: Sequence[Change]
) -> AsyncIterator[list["asyncio.Task[Exception | None]"]]:
    """Hand over `changes` while the commit before waits for the row of `held`."""
    async with asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from pairing where id = $1 for update", held.id)
            tasks.create_task(outcome(journal, started(held)))
            await until_blocked(sql)
            waiting = [tasks.create_task(outcome(journal, change)) for change in changes]
            await asyncio.sleep(0)
        yield waiting


async def test_changes_that_gather_during_a_commit_are_one_transaction(
    database: Database, sql: "Connection"
) -> None:
    held, *others = await claimed(database, *COUPLES)
    before = await transactions(sql)
    async with journal_on(database) as journal:
        changes = [started(pairing) for pairing in others]
        async with as_one_group(journal, sql, held, changes) as waiting:
            assert [await task for task in waiting] == [None] * 3
    assert await transactions(sql) == before + 2
    for change in changes:
        assert await Pairings(database).get(change.pairing.id) == change.pairing


async def test_several_changes_of_one_pairing_in_one_group_leave_its_last_state_and_all_events(
    database: Database, sql: "Connection"
) -> None:
    held, pairing = await claimed(database, *COUPLES[:2])
    way = way_to_success(pairing)
    before = await transactions(sql)
    async with journal_on(database) as journal, as_one_group(journal, sql, held, way) as waiting:
        assert [await task for task in waiting] == [None] * len(way)
    assert await transactions(sql) == before + 2
    assert await Pairings(database).get(pairing.id) == as_stored(way[-1].pairing)
    chain = await Pairings(database).events(pairing.id)
    assert [entry for change in way for entry in change.entries] == list(chain[1:])
    assert first_misfit(chain) is None


async def test_a_refused_epoch_leaves_no_trace_and_harms_nobody_else_in_the_group(
    database: Database, sql: "Connection"
) -> None:
    held, fenced, good, over = await claimed(database, *COUPLES)
    await sql.execute("update pairing set epoch = epoch + 1 where id = $1", fenced.id)
    changes = [started(good), started(fenced), started(over)]
    async with journal_on(database) as journal, as_one_group(journal, sql, held, changes) as group:
        answers = [await task for task in group]
    assert answers[::2] == [None, None]
    assert isinstance(answers[1], LeaseLost)
    assert answers[1].pairing_id == fenced.id
    stored = await Pairings(database).get(fenced.id)
    assert stored == replace(fenced, epoch=fenced.epoch + 1)
    assert len(await Pairings(database).events(fenced.id)) == 1
    assert await Pairings(database).get(good.id) == changes[0].pairing


async def test_of_two_epochs_in_one_group_only_the_one_in_force_is_written(
    database: Database, sql: "Connection"
) -> None:
    held, old = await claimed(database, *COUPLES[:2])
    await sql.execute("update pairing set epoch = epoch + 1 where id = $1", old.id)
    new = replace(old, epoch=old.epoch + 1)
    began = started(new)
    requested = step(began.pairing, PairRequested(name("a"), 1))
    changes = [started(old), began, requested]
    async with journal_on(database) as journal, as_one_group(journal, sql, held, changes) as group:
        answers = [await task for task in group]
    assert [type(answer) for answer in answers] == [LeaseLost, type(None), type(None)]
    assert await Pairings(database).get(old.id) == requested.pairing
    assert first_misfit(await Pairings(database).events(old.id)) is None


async def test_a_pairing_that_was_removed_is_lost(database: Database, sql: "Connection") -> None:
    [pairing] = await claimed(database, COUPLES[0])
    await sql.execute("delete from pairing")
    async with journal_on(database) as journal:
        assert isinstance(await outcome(journal, started(pairing)), LeaseLost)


async def test_a_change_that_does_not_follow_on_the_stored_chain_is_refused(
    database: Database,
) -> None:
    [pairing] = await claimed(database, COUPLES[0])
    missing = started(pairing)
    after = step(missing.pairing, PairRequested(name("a"), 1))
    async with journal_on(database) as journal:
        assert isinstance(await outcome(journal, after), LeaseLost)
        assert await outcome(journal, missing) is None
        assert await outcome(journal, after) is None
    assert first_misfit(await Pairings(database).events(pairing.id)) is None


async def test_a_gap_within_a_group_stops_the_change_after_it_but_not_the_one_before(
    database: Database, sql: "Connection"
) -> None:
    held, pairing = await claimed(database, *COUPLES[:2])
    first, _, third, *_ = way_to_success(pairing)
    both = [first, third]
    async with journal_on(database) as journal, as_one_group(journal, sql, held, both) as group:
        answers = [await task for task in group]
    assert answers[0] is None
    assert isinstance(answers[1], LeaseLost)
    assert await Pairings(database).get(pairing.id) == first.pairing


async def test_only_the_sides_that_moved_are_written(database: Database, sql: "Connection") -> None:
    [pairing] = await claimed(database, COUPLES[0])
    versions = "select ordinal, xmin::text from side order by ordinal"
    untouched = await sql.fetch(versions)
    began = started(pairing)
    async with journal_on(database) as journal:
        await journal.append(began)
        assert await sql.fetch(versions) == untouched
        await journal.append(step(began.pairing, PairRequested(name("b"), 1)))
    moved = await sql.fetch(versions)
    assert moved[0] == untouched[0]
    assert moved[1] != untouched[1]


async def test_a_released_pairing_can_be_claimed_at_once_and_keeps_its_state(
    database: Database,
) -> None:
    [pairing] = await claimed(database, COUPLES[0])
    began = started(pairing)
    back = step(began.pairing, PairingHandedBack("worker-test"), release=True)
    other = await claims_on(database)
    async with journal_on(database) as journal:
        await journal.append(began)
        assert (await other.claim(1)).assignments == []
        await journal.append(back)
    [assignment] = (await other.claim(1)).assignments
    assert assignment.pairing == replace(back.pairing, epoch=pairing.epoch + 1)


async def test_a_pairing_that_is_over_belongs_to_nobody(
    database: Database, sql: "Connection"
) -> None:
    [pairing] = await claimed(database, COUPLES[0])
    async with journal_on(database) as journal:
        await journal.append(failed(pairing))
    assert await sql.fetchval("select worker from pairing") is None
    assert await claim(database, 1) == []
    assert (await Pairings(database).get(pairing.id)).state is PairingState.FAILED


async def test_whatever_an_appliance_says_is_stored_and_still_fits_its_hash(
    database: Database,
) -> None:
    said = {
        "id": "peer",
        "nul": "a\0b",
        "big": 10**40,
        "small": 1.1e-300,
        "deep": [[[{"ünïcode": "✓", "": None}]]],
        "peerTunnelCert": "-----BEGIN…",
    }
    [pairing] = await claimed(database, COUPLES[0])
    began = started(pairing)
    sent = json.dumps(said, ensure_ascii=False).encode()
    found = step(began.pairing, PeerFound(name("a"), sent))
    requested = step(found.pairing, PairRequested(name("b"), 1))
    task = step(requested.pairing, TaskAccepted(name("b"), TaskId("a\0b\ud83d")))
    async with journal_on(database) as journal:
        for change in (began, found, requested, task):
            assert await outcome(journal, change) is None
    stored = await Pairings(database).get(pairing.id)
    assert read_sent(stored.side(name("a")).result or b"") == said
    assert stored.side(name("b")).task_id == "a\ufffdb?"
    chain = await Pairings(database).events(pairing.id)
    assert first_misfit(chain) is None
    assert json.loads(chain[-1].detail)["taskId"] == "a\0b\ud83d"


async def test_what_the_tables_refuse_fails_alone(database: Database, sql: "Connection") -> None:
    held, bad, good = await claimed(database, *COUPLES[:3])
    began = started(bad)
    one, other = began.pairing.sides
    nonsense = replace(one, state=SideState.SUCCEEDED, start_time=5, end_time=4)
    broken = replace(began.pairing, sides=(nonsense, other))
    entry = replace(began.entries[0], appliance=one.appliance)
    changes = [Change(broken, (entry,)), started(good)]
    async with journal_on(database) as journal, asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from pairing where id = $1 for update", held.id)
            first = tasks.create_task(outcome(journal, started(held)))
            await until_blocked(sql)
            appends = [journal.append(change) for change in changes]
            waiting = tasks.create_task(gathered(appends))
            await asyncio.sleep(0)
        answers = await waiting
        assert await first is None
    assert "ck_side_times" in str(answers[0])
    assert answers[1] is None
    assert await Pairings(database).get(bad.id) == bad
    assert await Pairings(database).get(good.id) == changes[1].pairing


async def gathered(appends: Sequence[object]) -> list[object]:
    """All their outcomes, exceptions of every kind included."""
    return list(await asyncio.gather(*appends, return_exceptions=True))  # type: ignore[call-overload]


async def test_two_hundred_callers_cancelled_in_the_middle_of_a_commit_leak_nothing(
    database: Database, sql: "Connection"
) -> None:
    names = [f"n{i}" for i in range(21)]
    couples = [(one, other) for one in names for other in names if one < other][:201]
    held, *others = await claimed(database, *couples)
    async with journal_on(database) as journal:
        assert await outcome(journal, started(held)) is None
        before = await connections(sql)
        async with sql.transaction():
            await sql.execute("select from pairing where id = $1 for update", others[0].id)
            callers = [asyncio.ensure_future(journal.append(started(each))) for each in others]
            await until_blocked(sql)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
            assert all(caller.cancelled() for caller in callers)
        # Through, because groups are committed one after another.
        pairing = await Pairings(database).get(held.id)
        assert await outcome(journal, step(pairing, PairRequested(name("n0"), 1))) is None
        assert await connections(sql) == before
    running = await sql.fetchval("select count(*) from pairing where state = 'RUNNING'")
    assert running == len(couples)


async def test_the_connection_is_gone_when_the_journal_has_stopped(
    database: Database, sql: "Connection"
) -> None:
    [pairing] = await claimed(database, COUPLES[0])
    before = await connections(sql)
    async with journal_on(database) as journal:
        await journal.append(started(pairing))
    while await connections(sql) != before:
        await sql.execute("select pg_stat_clear_snapshot()")


async def test_a_journal_that_is_cancelled_in_the_middle_of_a_commit_leaves_no_connection(
    database: Database, sql: "Connection"
) -> None:
    [pairing] = await claimed(database, COUPLES[0])
    before = await connections(sql)
    journal = Journal(database.lane())
    async with sql.transaction():
        await sql.execute("select from pairing for update")
        running = asyncio.ensure_future(journal.run())
        caller = asyncio.ensure_future(outcome(journal, started(pairing)))
        await until_blocked(sql)
        running.cancel()
        await asyncio.wait([running, caller])
        assert isinstance(caller.result(), StoreUnavailable)
        assert running.cancelled()
    while await connections(sql) != before:
        await sql.execute("select pg_stat_clear_snapshot()")
    assert await Pairings(database).get(pairing.id) == pairing
