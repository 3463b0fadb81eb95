"""Canceling and retrying: what a caller may say about a pairing after it was accepted."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace

from service.domain.advance import Change
from service.domain.author import Author
from service.domain.errors import (
    NotRetryable,
    PairingActive,
    PairingOver,
    SitepairError,
    Superseded,
    UnknownAppliance,
    UnknownPairing,
    Unwanted,
)
from service.domain.events import (
    CancelRequested,
    PairingCanceled,
    PairingFailed,
    PairingStarted,
    PairRequested,
    RollbackFailed,
    RollbackStarted,
    SideFailed,
    SideRolledBack,
)
from service.domain.ids import OperationId, PairingId
from service.domain.pairing import Pairing, PairingState, SideState
from service.store.cancels import Cancels
from service.store.database import Database
from service.store.pairings import Pairings
from service.store.retries import Retries
from service.store.statements import statement
from tests.integration.store.proxy import Loss, proxy_to
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    claim,
    claimed,
    claims_on,
    failed,
    intake_on,
    journal_on,
    name,
    now,
    registry,
    request,
    started,
    step,
    way_to_success,
)
from tests.integration.store.watching import until_blocked
from tests.support.chain import first_misfit
from tests.unit.domain.values import ERROR

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CALLER = Author("caller", OperationId("second-1"))


async def test_a_wish_to_cancel_reaches_whoever_claims_and_whoever_drives(
    database: Database,
) -> None:
    waiting, driven = await accepted(database, ("a", "b"), ("c", "d"))
    claims = await claims_on(database)
    taken = {each.pairing.id for each in (await claims.claim(1)).assignments}
    assert taken == {waiting.id}
    for pairing in (waiting, driven):
        await Cancels(database).request(pairing.id, CALLER)

    wish = Author("caller", OperationId("second-1"))
    assert await claims.wishes() == {waiting.id: wish}
    assert (await claim(database))[0].cancel == wish


async def test_asking_again_changes_nothing(database: Database, sql: "Connection") -> None:
    pairing, *_ = await accepted(database, ("a", "b"))
    await Cancels(database).request(pairing.id, CALLER)
    await Cancels(database).request(pairing.id, AUTHOR)
    assert await sql.fetchval("select cancel_user from pairing") == "caller"


async def test_of_two_who_ask_at_once_the_first_one_counts(
    database: Database, sql: "Connection"
) -> None:
    pairing, *_ = await accepted(database, ("a", "b"))
    async with asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute("select from pairing for update")
        for number, author in enumerate((CALLER, AUTHOR), 1):
            tasks.create_task(Cancels(database).request(pairing.id, author))
            await until_blocked(sql, number)
    assert await sql.fetchval("select cancel_user from pairing") == "caller"


async def test_what_comes_to_its_end_while_it_is_waited_for_is_not_canceled(
    database: Database, sql: "Connection"
) -> None:
    over, other = await accepted(database, ("a", "b"), ("c", "d"))
    ids = sorted((over.id, other.id))
    async with asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute(
            "update pairing set state = 'CANCELED', end_time = last_updated where id = $1", over.id
        )
        wish = {"ids": ids, "user": CALLER.user, "operation_id": CALLER.operation_id}
        tasks.create_task(database.run(statement("cancel"), wish))
        await until_blocked(sql)
    rows = await sql.fetch("select id from pairing where cancel_user is not null")
    assert [row["id"] for row in rows] == [other.id]


async def test_who_was_told_that_it_will_be_canceled_meets_no_other_end(database: Database) -> None:
    first, other = await claimed(database, ("a", "b"), ("c", "d"))
    *way, end = way_to_success(first)
    async with journal_on(database) as journal:
        for change in way:
            await journal.append(change)
        await Cancels(database).request(first.id, CALLER)
        with pytest.raises(Unwanted):
            await journal.append(end)
        await journal.append(started(other))  # Nobody else suffers.
        wanted = await Pairings(database).get(first.id)
        assert (wanted.state, wanted.is_being_canceled) == (PairingState.RUNNING, True)

        heeded = step(way[-1].pairing, CancelRequested(CALLER.user, CALLER.operation_id))
        await journal.append(heeded)
        undone = step(heeded.pairing, RollbackStarted(ERROR, 60))
        for side in first.sides:
            await journal.append(undone)
            undone = step(undone.pairing, SideRolledBack(side.appliance))
        await journal.append(undone)
        await journal.append(step(undone.pairing, PairingCanceled()))
    assert (await Pairings(database).get(first.id)).state is PairingState.CANCELED


async def test_what_is_over_cannot_be_canceled(database: Database, sql: "Connection") -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal:
        for change in way_to_success(pairing):
            await journal.append(change)
    with pytest.raises(PairingOver):
        await Cancels(database).request(pairing.id, CALLER)
    assert await sql.fetchval("select cancel_user from pairing") is None
    with pytest.raises(UnknownPairing):
        await Cancels(database).request(now_id(), CALLER)


def now_id() -> PairingId:
    """An id that nothing has."""
    return PairingId(uuid4())


async def test_a_failed_pairing_begins_anew_under_the_same_id(
    database: Database, sql: "Connection"
) -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal:
        begun = started(pairing)
        await journal.append(begun)
        await journal.append(failed(begun.pairing))
        retried = await Retries(database, journal, now).retry(pairing.id, CALLER)
    stored = await Pairings(database).get(pairing.id)

    assert stored == retried
    assert (stored.state, stored.error, stored.end_time) == (PairingState.QUEUED, None, None)
    assert {side.state for side in stored.sides} == {SideState.PENDING}
    events = await Pairings(database).events(pairing.id)
    assert [event.type for event in events][-3:] == [
        "PairingRetried",
        "SideReopened",
        "SideReopened",
    ]
    assert events[-3].operation_id == "second-1"
    assert first_misfit(events) is None
    again, *_ = await claim(database)
    assert again.pairing.id == pairing.id
    assert again.pairing.epoch == pairing.epoch + 1


def leaving_something(pairing: Pairing) -> Change:
    """The whole of a pairing whose rollback could not be completed."""
    one, other = pairing.sides
    return step(
        pairing,
        PairingStarted("w", 1),
        PairRequested(one.appliance, 1),
        SideFailed(one.appliance, ERROR),
        SideFailed(other.appliance, ERROR),
        RollbackStarted(ERROR, 300),
        RollbackFailed(one.appliance, ERROR),
        PairingFailed(ERROR),
    )


async def test_what_is_left_of_a_rollback_is_resumed_and_nothing_reopened(
    database: Database,
) -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    one, _ = pairing.sides
    async with journal_on(database) as journal:
        await journal.append(leaving_something(pairing))
        retried = await Retries(database, journal, now).retry(pairing.id, CALLER)
    assert retried.state is PairingState.QUEUED
    assert retried.error == ERROR
    assert retried.side(one.appliance).state is SideState.ROLLBACK_FAILED


async def test_what_was_left_stays_when_another_pairing_succeeds_while_a_retry_is_written(
    database: Database, sql: "Connection"
) -> None:
    [left] = await claimed(database, ("a", "b"))
    async with (
        journal_on(database) as journal,
        journal_on(database) as another_journal,
        intake_on(database) as intake,
        asyncio.TaskGroup() as tasks,
    ):
        await journal.append(leaving_something(left))
        await intake.accept(request("a", "b"), AUTHOR)
        [later] = await claim(database)
        *way, success = way_to_success(later.pairing)
        for change in way:
            await journal.append(change)
        async with sql.transaction():
            await sql.execute("select from pairing where id = $1 for update", left.id)
            retrying = tasks.create_task(
                refused(Retries(database, another_journal, now).retry(left.id, CALLER))
            )
            await until_blocked(sql)
            await journal.append(success)
        refusal = await retrying
    assert isinstance(refusal, Superseded)
    assert refusal.by == later.pairing.id
    assert await claim(database) == []


async def test_what_was_left_stays_when_another_pairing_succeeded_by_a_clock_that_is_behind(
    database: Database,
) -> None:
    """By the clocks of those who wrote it the other one succeeded a minute before."""
    [left] = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal, intake_on(database) as intake:
        by_a_fast_clock = replace(left, last_updated=int(time.time() * 1000) + 60_000)
        await journal.append(leaving_something(by_a_fast_clock))
        await intake.accept(request("a", "b"), AUTHOR)
        [later] = await claim(database)
        for change in way_to_success(later.pairing):
            await journal.append(change)
        refusal = await refused(Retries(database, journal, now).retry(left.id, CALLER))
    assert isinstance(refusal, Superseded)
    assert refusal.by == later.pairing.id


async def test_what_was_left_is_resumed_when_another_pairing_succeeded_only_before(
    database: Database,
) -> None:
    [before] = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal, intake_on(database) as intake:
        for change in way_to_success(before):
            await journal.append(change)
        await intake.accept(request("a", "b"), AUTHOR)
        [later] = await claim(database)
        ended = await Pairings(database).get(before.id)
        by_one_clock = replace(later.pairing, last_updated=(ended.end_time or 0) + 1)
        await journal.append(leaving_something(by_one_clock))
        assert (
            await refused(Retries(database, journal, now).retry(later.pairing.id, CALLER)) is None
        )


async def refused(retrying: Awaitable[Pairing]) -> SitepairError | None:
    """Why there is no retry."""
    try:
        await retrying
    except SitepairError as refusal:
        return refusal
    return None


async def test_a_retry_of_what_was_left_is_written_again_when_that_was_cut_off(
    database: Database, database_url: str
) -> None:
    [left] = await claimed(database, ("a", "b"))
    with tempfile.TemporaryDirectory(prefix="proxy-") as directory:
        async with (
            journal_on(database) as journal,
            proxy_to(database_url, Path(directory)) as (proxy, url),
            Database.connect(url) as cut_off,
        ):
            await journal.append(leaving_something(left))
            proxy.lose(Loss.ANSWER)
            retried = await Retries(cut_off, journal, now).retry(left.id, CALLER)
            assert proxy.lost.is_set()
    assert await Pairings(database).get(left.id) == retried


async def test_of_two_who_retry_at_once_one_does(
    database: Database, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal:
        begun = started(pairing)
        await journal.append(begun)
        await journal.append(failed(begun.pairing))
        retries = Retries(database, journal, now)
        async with sql.transaction():
            # Both have seen that it is over before either goes on.
            await sql.execute("lock table appliance in access exclusive mode")
            both = [
                asyncio.ensure_future(retries.retry(pairing.id, caller))
                for caller in (CALLER, AUTHOR)
            ]
            await until_blocked(sql, len(both))
        ends = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NotRetryable", "Pairing"]
    entries = await Pairings(database).events(pairing.id)
    assert [each.type for each in entries].count("PairingRetried") == 1


async def test_a_pairing_that_is_under_way_or_succeeded_cannot_be_retried(
    database: Database,
) -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal:
        retries = Retries(database, journal, now)
        with pytest.raises(NotRetryable, match="QUEUED"):
            await retries.retry(pairing.id, CALLER)
        for change in way_to_success(pairing):
            await journal.append(change)
        with pytest.raises(NotRetryable, match="SUCCEEDED"):
            await retries.retry(pairing.id, CALLER)


async def test_another_active_pairing_of_the_two_is_in_the_way(database: Database) -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal, intake_on(database) as intake:
        begun = started(pairing)
        await journal.append(begun)
        await journal.append(failed(begun.pairing))
        rival = await intake.accept(request("b", "a"), AUTHOR)
        with pytest.raises(PairingActive) as caught:
            await Retries(database, journal, now).retry(pairing.id, CALLER)
    assert caught.value.pairing_id == rival.pairing.id


async def test_an_appliance_that_was_removed_is_in_the_way(database: Database) -> None:
    pairing, *_ = await claimed(database, ("a", "b"))
    async with journal_on(database) as journal:
        begun = started(pairing)
        await journal.append(begun)
        await journal.append(failed(begun.pairing))
        await registry(database).delete(name("b"), AUTHOR)
        with pytest.raises(UnknownAppliance, match="'b'"):
            await Retries(database, journal, now).retry(pairing.id, CALLER)
