"""The months of the audit trail."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from service.app import running
from service.observe.events import StoreTroubled
from service.observe.logging import listening
from service.store.database import Database
from service.store.pairings import Pairings
from service.store.partitions import keep_partitions, make_partitions
from tests.integration.store.values import AUTHOR, accepted, intake_on, register, request
from tests.integration.store.watching import until, until_blocked
from tests.support.service import settings_for

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

YEARS_END = datetime(2031, 11, 30, 23, 59, tzinfo=UTC)


async def months(sql: "Connection") -> dict[str, str]:
    """The partitions and their bounds."""
    rows = await sql.fetch(
        "select relname, pg_get_expr(relpartbound, oid) as bounds from pg_class"
        " where relispartition and relkind = 'r'"
    )
    return {row["relname"]: row["bounds"] for row in rows}


async def make(database: Database, now: datetime | None = None) -> list[str]:
    """Make them in a transaction of their own."""
    async with database.transaction() as connection:
        return await make_partitions(connection, now)


async def test_an_upgrade_has_made_this_month_and_the_next_two(
    database: Database, sql: "Connection"
) -> None:
    assert len(await months(sql)) == 4
    assert await make(database) == []
    now = await sql.fetchval("select to_char(now() at time zone 'utc', '\"event\"_YYYY_MM')")
    assert now in await months(sql)


async def test_months_go_on_over_the_end_of_a_year_without_a_gap(
    database: Database, sql: "Connection"
) -> None:
    await sql.execute("set timezone to 'UTC'")
    assert await make(database, YEARS_END) == ["event_2031_11", "event_2031_12", "event_2032_01"]
    bounds = await months(sql)
    assert bounds["event_2031_12"] == (
        "FOR VALUES FROM ('2031-12-01 00:00:00+00') TO ('2032-01-01 00:00:00+00')"
    )
    assert await make(database, YEARS_END) == []


async def test_an_event_lands_in_its_month(database: Database, sql: "Connection") -> None:
    await make(database, YEARS_END)
    await register(database, "a", "b")
    at = int(datetime(2031, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC).timestamp() * 1000)
    async with intake_on(database, clock=lambda: at) as intake:
        await intake.accept(request(), AUTHOR)
    assert await sql.fetchval("select count(*) from event_2031_12") == 1


async def test_an_event_that_no_month_was_made_for_is_kept_and_found(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b")
    at = int(YEARS_END.timestamp() * 1000)
    async with intake_on(database, clock=lambda: at) as intake:
        pairing = (await intake.accept(request(), AUTHOR)).pairing
    assert await sql.fetchval("select count(*) from event_default") == 1
    assert [entry.at for entry in await Pairings(database).events(pairing.id)] == [at]
    # Too late for this month, in time for the next.
    assert await make(database, YEARS_END) == ["event_2031_12", "event_2032_01"]


async def test_a_month_that_gets_an_event_while_it_is_made_is_left_out(
    database: Database, sql: "Connection"
) -> None:
    async with asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute(
            "insert into event (chain, seq, at, type, actor, operation_id, detail, hash)"
            " values (gen_random_uuid(), 1, $1, 'Stray', 'a', 'o', '{}', $2)",
            YEARS_END,
            bytes(32),
        )
        making = tasks.create_task(make(database, YEARS_END))
        await until_blocked(sql)
    assert await making == ["event_2031_12", "event_2032_01"]
    assert await sql.fetchval("select count(*) from event_default") == 1


async def test_many_workers_that_start_at_once_make_each_month_once(
    database: Database, sql: "Connection"
) -> None:
    made = await asyncio.gather(*[make(database, YEARS_END) for _ in range(5)])
    assert sorted(name for each in made for name in each) == [
        "event_2031_11",
        "event_2031_12",
        "event_2032_01",
    ]


async def test_a_month_has_the_checks_and_indexes_of_the_whole(
    database: Database, sql: "Connection"
) -> None:
    await make(database, YEARS_END)
    counted = (
        "select count(*) from pg_index where indrelid = $1::regclass and indisvalid"
        " union all select count(*) from pg_constraint where conrelid = $1::regclass"
    )
    whole = [row[0] for row in await sql.fetch(counted, "event")]
    assert [row[0] for row in await sql.fetch(counted, "event_2031_12")] == whole


async def test_writing_goes_on_while_a_month_is_made(database: Database, sql: "Connection") -> None:
    async with database.transaction() as connection:
        await make_partitions(connection, YEARS_END)
        await accepted(database, ("a", "b"))


async def test_months_are_made_for_as_long_as_a_worker_runs(
    database: Database, sql: "Connection"
) -> None:
    today = YEARS_END
    keeping = asyncio.create_task(keep_partitions(database, every_s=0, now=lambda: today))
    made = "select to_regclass('event_{}') is not null"
    await until(sql, made.format("2032_01"))
    today = datetime(2032, 2, 1, tzinfo=UTC)
    await until(sql, made.format("2032_04"))
    keeping.cancel()
    await asyncio.wait([keeping])
    assert keeping.cancelled()


async def test_a_service_makes_what_is_missing_as_it_starts(
    database_url: str, tmp_path: Path, sql: "Connection"
) -> None:
    *_, newest, _ = sorted(await months(sql))  # The last one is for all others.
    await sql.execute(f"drop table {newest}")
    async with running(settings_for(database_url, tmp_path)):
        await until(sql, f"select to_regclass('{newest}') is not null")


async def test_a_month_that_could_not_be_made_is_made_the_next_time(
    database: Database, sql: "Connection"
) -> None:
    await sql.execute("alter table event rename to elsewhere")
    troubled = asyncio.Event()
    with listening(lambda event: troubled.set() if isinstance(event, StoreTroubled) else None):
        keeping = asyncio.create_task(keep_partitions(database, every_s=0, now=lambda: YEARS_END))
        await troubled.wait()
    await sql.execute("alter table elsewhere rename to event")
    await until(sql, "select to_regclass('event_2032_01') is not null")
    keeping.cancel()
    await asyncio.wait([keeping])
