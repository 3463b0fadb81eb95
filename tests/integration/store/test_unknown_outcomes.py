"""A commit whose outcome is not known is looked up, not assumed."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.domain.advance import Change, advance
from service.domain.errors import LeaseLost, StoreUnavailable
from service.domain.events import PairingHandedBack, PairingStarted, PairRequested
from service.domain.pairing import Pairing
from service.observe.events import JournalUnsure, LogEvent
from service.observe.logging import listening
from service.store import intake as intake_module
from service.store.database import Database
from service.store.intake import IdempotencyKey, Intake
from service.store.journal import Journal
from service.store.pairings import PairingFilter, Pairings
from tests.integration.store.proxy import Loss, Proxy, proxy_to
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    as_stored,
    claim,
    claimed,
    claims_on,
    failed,
    intake_on,
    name,
    now,
    register,
    request,
    running,
    started,
    step,
    way_to_success,
)
from tests.integration.store.watching import until, until_blocked
from tests.support.chain import first_misfit

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

BLOCKED = (
    "from pg_stat_activity where datname = current_database()"
    " and application_name = 'sitepair' and wait_event_type = 'Lock'"
)


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[tuple[Proxy, Journal]]:
    """A journal at work whose connections go through a proxy."""
    with tempfile.TemporaryDirectory(prefix="proxy-") as directory:
        async with (
            proxy_to(database_url, Path(directory)) as (proxy, url),
            Database.connect(url) as database,
        ):
            journal = Journal(database.lane())
            async with running(journal):
                yield proxy, journal


@pytest.fixture
async def entrance(database_url: str) -> AsyncIterator[tuple[Proxy, Intake]]:
    """An intake at work whose connections go through a proxy."""
    with tempfile.TemporaryDirectory(prefix="proxy-") as directory:
        async with (
            proxy_to(database_url, Path(directory)) as (proxy, url),
            Database.connect(url) as database,
        ):
            intake = Intake(database, now)
            async with running(intake):
                yield proxy, intake


@dataclass
class Doubts:
    """What a journal says of commits of which it does not know what became."""

    told: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, event: LogEvent) -> None:
        if isinstance(event, JournalUnsure):
            self.told.append(event.error)
            self.begun.set()


@asynccontextmanager
async def hearing_doubts() -> AsyncIterator[Doubts]:
    """Those that are told within."""
    doubts = Doubts()
    with listening(doubts.see):
        yield doubts


async def written_once(database: Database, pairing: Pairing) -> None:
    """`pairing` is what is stored, and its chain is whole."""
    assert await Pairings(database).get(pairing.id) == as_stored(pairing)
    chain = await Pairings(database).events(pairing.id)
    assert len(chain) == pairing.position.seq
    assert first_misfit(chain) is None


async def test_what_was_committed_is_not_written_again_when_the_answer_is_lost(
    database: Database, way: tuple[Proxy, Journal]
) -> None:
    proxy, journal = way
    [pairing] = await claimed(database, ("a", "b"))
    changes = way_to_success(pairing)
    for change in changes:
        proxy.lose(Loss.ANSWER)
        await journal.append(change)
        assert proxy.lost.is_set()
        await written_once(database, change.pairing)


async def test_what_never_arrived_is_written_again(
    database: Database, way: tuple[Proxy, Journal]
) -> None:
    proxy, journal = way
    [pairing] = await claimed(database, ("a", "b"))
    for change in way_to_success(pairing):
        proxy.lose(Loss.QUESTION)
        await journal.append(change)
        assert proxy.lost.is_set()
        await written_once(database, change.pairing)


async def test_what_arrives_late_finds_that_it_was_written_already(
    database: Database, way: tuple[Proxy, Journal]
) -> None:
    proxy, journal = way
    [pairing] = await claimed(database, ("a", "b"))
    change = started(pairing)
    proxy.lose(Loss.BOTH_FOR_A_WHILE)
    await journal.append(change)
    await proxy.deliver()
    await written_once(database, change.pairing)
    after = step(change.pairing, PairRequested(name("a"), 1))
    await journal.append(after)
    await written_once(database, after.pairing)


async def test_a_release_is_known_to_be_through_even_if_another_worker_went_on_from_there(
    database: Database, way: tuple[Proxy, Journal], sql: "Connection"
) -> None:
    proxy, journal = way
    [pairing] = await claimed(database, ("a", "b"))
    began = started(pairing)
    await journal.append(began)
    back = step(began.pairing, PairingHandedBack("worker-test"), release=True)
    async with asyncio.TaskGroup() as tasks, way_of(database) as theirs:
        proxy.lose(Loss.ANSWER)
        proxy.is_shut = True
        giving_up = tasks.create_task(journal.append(back))
        await until(sql, "select worker is null from pairing")
        [assignment] = await claim(database)
        await theirs.append(started(assignment.pairing))
        proxy.is_shut = False
        await giving_up


@asynccontextmanager
async def way_of(database: Database) -> AsyncIterator[Journal]:
    """Another worker's journal."""
    journal = Journal(database.lane())
    async with running(journal):
        yield journal


async def test_who_was_fenced_off_in_the_meantime_is_told_so_whatever_was_written(
    database: Database, way: tuple[Proxy, Journal], sql: "Connection"
) -> None:
    proxy, journal = way
    written, lost = await claimed(database, ("a", "b"), ("a", "c"))
    for loss, pairing in ((Loss.ANSWER, written), (Loss.QUESTION, lost)):
        proxy.lose(loss)
        proxy.is_shut = True
        async with asyncio.TaskGroup() as tasks:
            appending = tasks.create_task(outcome(journal, pairing))
            await proxy.lost.wait()
            await sql.execute("update pairing set epoch = epoch + 1 where id = $1", pairing.id)
            proxy.is_shut = False
            assert isinstance(await appending, LeaseLost)


async def test_of_many_whose_answer_was_lost_each_is_told_what_became_of_its_own(
    database: Database, way: tuple[Proxy, Journal], sql: "Connection"
) -> None:
    proxy, journal = way
    pairings = await claimed(database, ("a", "b"), ("a", "c"), ("b", "c"))
    await sql.execute("update pairing set epoch = epoch + 1 where id <> $1", pairings[1].id)
    proxy.lose(Loss.ANSWER)
    told = await asyncio.gather(*(outcome(journal, each) for each in pairings))
    assert proxy.lost.is_set()
    assert [type(each) for each in told] == [LeaseLost, type(None), LeaseLost]


async def test_of_two_different_changes_at_the_same_place_and_moment_one_is_lost(
    database: Database,
) -> None:
    [pairing] = await claimed(database, ("a", "b"))
    event, at = PairingStarted("w", pairing.epoch), pairing.last_updated
    first, second = [advance(pairing, event, at=at, actor=actor) for actor in ("w", "v")]
    async with way_of(database) as journal:
        await journal.append(Change(first[0], (first[1],)))
        await journal.append(Change(first[0], (first[1],)))
        with pytest.raises(LeaseLost):
            await journal.append(Change(second[0], (second[1],)))
    await written_once(database, first[0])


async def outcome(journal: Journal, pairing: Pairing) -> Exception | None:
    """What whoever begins to drive `pairing` is told."""
    try:
        await journal.append(started(pairing))
    except (LeaseLost, StoreUnavailable) as error:
        return error
    return None


async def test_a_connection_cut_in_the_middle_of_a_statement_is_not_heard_of(
    database: Database, sql: "Connection"
) -> None:
    held, *others = await claimed(database, ("a", "b"), ("a", "c"), ("b", "c"))
    async with (
        hearing_doubts() as doubts,
        way_of(database) as journal,
        asyncio.TaskGroup() as tasks,
    ):
        async with sql.transaction():
            await sql.execute("select from pairing where id = $1 for update", held.id)
            cut = tasks.create_task(outcome(journal, held))
            await until_blocked(sql)
            waiting = [tasks.create_task(outcome(journal, each)) for each in others]
            for _ in range(3):
                pid = await sql.fetchval(f"select pid {BLOCKED}")
                await sql.execute("select pg_terminate_backend($1)", pid)
                await until(sql, f"select exists (select {BLOCKED} and pid <> {pid})")
            assert doubts.told
        assert [await each for each in (cut, *waiting)] == [None] * 3
    for pairing in (held, *others):
        stored = await Pairings(database).get(pairing.id)
        assert stored.position.seq == 2
        await written_once(database, stored)


async def test_patience_has_an_end_and_the_next_change_goes_through(
    database: Database, sql: "Connection"
) -> None:
    held, other = await claimed(database, ("a", "b"), ("a", "c"))
    journal = Journal(database.lane(), patience_s=0)
    async with hearing_doubts() as doubts, running(journal), asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from pairing where id = $1 for update", held.id)
            cut = tasks.create_task(outcome(journal, held))
            await until_blocked(sql)
            await sql.execute(f"select pg_terminate_backend(pid) {BLOCKED}")
            assert isinstance(await cut, StoreUnavailable)
            assert len(doubts.told) == 1
        assert await outcome(journal, other) is None
        assert len(doubts.told) == 1
        assert await outcome(journal, held) is None


@pytest.mark.parametrize("key", [None, IdempotencyKey("key", b"print")], ids=["bare", "key"])
@pytest.mark.parametrize("loss", Loss)
async def test_a_request_is_accepted_once_whatever_is_lost(
    database: Database, entrance: tuple[Proxy, Intake], loss: Loss, key: IdempotencyKey | None
) -> None:
    proxy, intake = entrance
    await register(database, "a", "b")
    proxy.lose(loss)
    answer = await intake.accept(request(), AUTHOR, key)
    assert proxy.lost.is_set()
    if loss is Loss.BOTH_FOR_A_WHILE:
        await proxy.deliver()
    assert not answer.replayed
    assert [each.id for each in await Pairings(database).page(PairingFilter(), 10)] == [
        answer.pairing.id
    ]
    await written_once(database, answer.pairing)


async def test_a_request_whose_pairing_was_over_before_its_answer_came_is_still_answered(
    database: Database, entrance: tuple[Proxy, Intake]
) -> None:
    proxy, intake = entrance
    await register(database, "a", "b")
    async with asyncio.TaskGroup() as tasks, way_of(database) as journal:
        proxy.lose(Loss.ANSWER)
        proxy.is_shut = True
        asking = tasks.create_task(intake.accept(request(), AUTHOR))
        await proxy.lost.wait()
        [assignment] = await claim(database)
        await journal.append(failed(assignment.pairing))
        proxy.is_shut = False
        answer = await asking
    assert (answer.pairing.id, answer.replayed) == (assignment.pairing.id, False)


async def test_a_request_that_is_under_way_still_is_met_by_its_repetition(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first statement is held up in the middle, its connection gone for its sender only."""
    # However long the repetition takes to come, the first one is to be there still.
    monkeypatch.setattr(intake_module, "LOCK_S", 20.0)
    await register(database, "a", "b")
    async with intake_on(database) as intake, asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from appliance where name = 'b' for update")
            asking = tasks.create_task(intake.accept(request(), AUTHOR))
            await until_blocked(sql)
            lane = intake._lane
            connection = lane._connection
            assert connection is not None
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            assert driver is not None
            driver._transport.abort()
            await until_blocked(sql, 2)
        answer = await asking
    assert not answer.replayed
    await written_once(database, answer.pairing)


async def test_a_replica_in_the_middle_of_a_failover_is_waited_out(
    database: Database, sql: "Connection"
) -> None:
    [pairing] = await claimed(database, ("a", "b"))
    read_only = f"alter database {await sql.fetchval('select current_database()')}"
    await sql.execute(f"{read_only} set default_transaction_read_only = on")
    async with (
        hearing_doubts() as doubts,
        way_of(database) as journal,
        asyncio.TaskGroup() as tasks,
    ):
        appending = tasks.create_task(outcome(journal, pairing))
        await doubts.begun.wait()
        assert "read-only" in doubts.told[0]
        await sql.execute("set default_transaction_read_only = off")
        await sql.execute(f"{read_only} reset default_transaction_read_only")
        assert await appending is None


async def test_a_change_of_the_tables_under_a_prepared_statement_is_overcome(
    database: Database, sql: "Connection"
) -> None:
    """It answers with all columns, and so it cannot be what it was."""
    await accepted(database, ("a", "b"))
    claims = await claims_on(database)
    assert len((await claims.claim(1)).assignments) == 1
    await claims.disown([])
    await sql.execute("alter table pairing add column extra text")
    with pytest.raises(StoreUnavailable):
        await claims.claim(1)
    assert len((await claims.claim(1)).assignments) == 1
