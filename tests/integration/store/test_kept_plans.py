"""What was asked of a database that was nearly empty costs no more when it has grown, though plans
are kept as long as their connections, and nobody has counted the rows since."""

from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.domain.errors import LeaseLost
from service.domain.pairing import Pairing
from service.store.claims import Claims
from service.store.database import Database
from service.store.folds import folded, standing_parameters
from service.store.folds import parameters as journal_parameters
from service.store.intake import IdempotencyKey, Intake
from service.store.intake import _candidate as candidate
from service.store.intake import _parameters as accept_parameters
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.pairings import PairingFilter, Pairings
from service.store.sessions import open_session
from service.store.statements import statement
from service.store.urls import DatabaseUrl
from tests.integration.store.test_plans import FILL, FILL_EVENTS, FILL_SIDES, positional
from tests.integration.store.values import (
    AUTHOR,
    NOW,
    accepted,
    claims_on,
    intake_on,
    journal_on,
    name,
    register,
    request,
    started,
    way_to_success,
    worker,
)
from tests.integration.store.watching import until_gone

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

OFTEN = 6
"""From then on PostgreSQL keeps a plan, if it has the choice."""

HISTORY = 50_000
ROWS_READ = """
select
  (select sum(seq_tup_read) from pg_stat_user_tables)
  + (select sum(idx_tup_read) from pg_stat_user_indexes)
"""
ROWS_OF_TRANSACTION = """
select sum(seq_tup_read + idx_tup_fetch) from pg_stat_xact_user_tables
"""


async def grow(sql: "Connection") -> None:
    """A long history, of which PostgreSQL is told nothing."""
    for fill in (FILL, FILL_SIDES + "on conflict do nothing", FILL_EVENTS):
        await sql.execute(fill, timeout=60)


async def written(intake: Intake, claims: Claims, journal: Journal, number: int) -> None:
    """One pairing, from its acceptance, told twice, to its end, each step by itself; and one that
    comes too late."""
    key = IdempotencyKey(f"key-{number}", bytes(32))
    for is_replayed in (False, True):
        accepted = await intake.accept(request("a", "b"), AUTHOR, key)
        assert accepted.replayed is is_replayed
    (assignment,) = (await claims.claim(10)).assignments
    for change in way_to_success(assignment.pairing):
        await journal.append(change)
    with pytest.raises(LeaseLost):
        await journal.append(started(assignment.pairing))


async def looked_through(heartbeat: Heartbeat, claims: Claims, pairings: Pairings) -> None:
    """What is asked for again and again whether anything happens or not, and by users."""
    await heartbeat.beat()
    await heartbeat.bury()
    await claims.wishes()
    for narrowed in (PairingFilter(), PairingFilter(appliance=name("a"))):
        page = await pairings.page(narrowed, OFTEN)
        await pairings.events(page[0].id)


async def test_a_database_that_has_grown_is_read_as_little_as_a_small_one(
    database_url: str, sql: "Connection"
) -> None:
    async with Database.connect(database_url) as database:
        await register(database, "a", "b")
        worker_id = worker()
        claims, heartbeat = await claims_on(database, worker_id), Heartbeat(database, worker_id)
        async with intake_on(database) as intake, journal_on(database) as journal:
            for number in range(OFTEN):
                await written(intake, claims, journal, number)
                await looked_through(heartbeat, claims, Pairings(database))
            await grow(sql)
            await sql.execute("select pg_stat_force_next_flush()")
            before = await sql.fetchval(ROWS_READ)
            await written(intake, claims, journal, OFTEN)
            await looked_through(heartbeat, claims, Pairings(database))
    await until_gone(sql)
    read = await sql.fetchval(ROWS_READ) - before
    assert 100 < read < HISTORY / 10, read


def of_those_who_keep_plans(pairing: Pairing) -> list[tuple[str, list[object]]]:
    """Their statements, about this pairing or one like it."""
    way = folded(way_to_success(pairing))[0]
    another = [candidate(request("a", "c"), AUTHOR, None, NOW)]
    return [
        positional(statement("journal"), journal_parameters(way)),
        positional(statement("journal_standing"), standing_parameters(way)),
        positional(statement("accept"), accept_parameters(another)),
        positional(statement("remove"), {"ids": [pairing.id]}),
    ]


async def test_a_plan_that_has_to_do_for_ever_goes_by_the_keys(
    database: Database, database_url: str, sql: "Connection"
) -> None:
    (pairing,) = await accepted(database, ("a", "b"))
    session = await open_session(DatabaseUrl.parse(database_url))
    await session.execute("set plan_cache_mode = force_generic_plan")
    asked = of_those_who_keep_plans(pairing)
    kept = [(await session.prepare(query), values) for query, values in asked]
    for is_grown in (False, True):
        if is_grown:
            await grow(sql)
        for prepared, values in kept:
            transaction = session.transaction()
            await transaction.start()
            await prepared.fetch(*values)
            assert await session.fetchval(ROWS_OF_TRANSACTION) <= 20, prepared.get_query()
            await transaction.rollback()
            # What was not passed on yet would be counted for the next one too.
            await session.execute("select pg_stat_force_next_flush()")
    await session.close(timeout=10)
