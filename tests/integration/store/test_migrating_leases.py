"""The migrations to leases and rollback, on tables with rows."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy.exc import IntegrityError

from service.store.installation import Account, programs
from service.store.migrate import SchemaState, Standing, current_state, downgrade, upgrade
from tests.integration.store.test_migrations import catalogue, offline_sql, written_down
from tests.support.database import database_like

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FIRST = "2026_11_24_first_tables"
LEASES = "2026_11_24_leases_and_rollback"
VALIDATED = "2026_11_24_leases_validated"
INDEXED = "2026_11_24_leases_indexed"

CHANGES: dict[str, Callable[[str, str], Coroutine[None, None, SchemaState]]] = {
    "upgrade": upgrade,
    "downgrade": downgrade,
}

ALL_ARE_VALID = "select bool_and(indisvalid and indisready) from pg_index"

INSERT = """
    insert into pairing (id, operation, state, phase, couple_low, couple_high, operation_id,
      user_name, description, priority, timeout_s, start_time, last_updated, end_time, error, epoch,
      seq, head)
    values ($1, 'pair', $2, $3, $4, $5, 'x', '', '', 0, 1, 1, 1, $6, $7, 1, 1,
      decode(repeat('00', 32), 'hex'))
"""
INSERT_SIDE = """
    insert into side (pairing_id, ordinal, appliance, peer, state, attempts, start_time, end_time,
      error, task_id)
    values ($1, $2, $3, $4, $5, $6, 1, $7, $8, 't')
"""


async def furnish(sql: "Connection") -> None:
    """Pairings as the first release wrote them: one under way, one that failed."""
    for state, low in (("RUNNING", "a"), ("FAILED", "c")):
        pairing_id, is_over = uuid4(), state == "FAILED"
        phase = None if is_over else "PAIRING"
        end, error = (2, "{}") if is_over else (None, None)
        await sql.execute(INSERT, pairing_id, state, phase, low, "z", end, error)
        await sql.execute(INSERT_SIDE, pairing_id, 0, low, "z", "SUCCEEDED", 1, 2, None)
        await sql.execute(INSERT_SIDE, pairing_id, 1, "z", low, "FAILED", 0, 2, "{}")


async def test_what_is_under_way_gets_to_know_the_calls_that_it_made(
    empty_database_url: str,
) -> None:
    await upgrade(empty_database_url, FIRST)
    sql = await asyncpg.connect(empty_database_url)
    await furnish(sql)
    await sql.close(timeout=10)
    assert (await upgrade(empty_database_url)).standing is Standing.CURRENT
    sql = await asyncpg.connect(empty_database_url)
    rows = await sql.fetch("select appliance, call, losses from side order by appliance, peer")
    pairings = await sql.fetch("select on_failure, warnings, is_canceling, deadline from pairing")
    await sql.close(timeout=10)
    assert [tuple(row) for row in rows] == [
        ("a", "pair", 0),
        ("c", None, 0),
        ("z", None, 0),
        ("z", None, 0),
    ]
    assert {tuple(row) for row in pairings} == {("rollback", "[]", False, None)}


async def test_there_is_a_way_down_for_what_the_older_tables_have_words_for(
    empty_database_url: str,
) -> None:
    await upgrade(empty_database_url, FIRST)
    sql = await asyncpg.connect(empty_database_url)
    await furnish(sql)
    before = await catalogue(sql)
    await upgrade(empty_database_url)
    await downgrade(empty_database_url, FIRST)
    assert await catalogue(sql) == before
    assert await sql.fetchval("select count(*) from side") == 4
    await sql.close(timeout=10)


@pytest.mark.parametrize(
    "change",
    [
        "update pairing set operation = 'unpair'",
        "update pairing set phase = 'ROLLING_BACK' where state = 'RUNNING'",
        "update side set state = 'ROLLED_BACK' where state = 'SUCCEEDED'",
        "update side set state = 'ROLLBACK_FAILED' where state = 'FAILED'",
    ],
)
async def test_there_is_none_for_what_they_cannot_say_and_nothing_is_lost(
    empty_database_url: str, change: str
) -> None:
    await upgrade(empty_database_url, FIRST)
    sql = await asyncpg.connect(empty_database_url)
    await furnish(sql)
    await upgrade(empty_database_url)
    await sql.execute(change)
    before = await sql.fetch("select * from side order by pairing_id, ordinal")
    with pytest.raises(IntegrityError):
        await downgrade(empty_database_url, FIRST)
    assert (await current_state(empty_database_url)).found == LEASES
    assert (await upgrade(empty_database_url)).standing is Standing.CURRENT
    assert await sql.fetch("select * from side order by pairing_id, ordinal") == before
    await sql.close(timeout=10)


async def test_indexes_whose_making_was_interrupted_are_made_anew(
    empty_database_url: str, database_url: str, sql: "Connection"
) -> None:
    await upgrade(empty_database_url)
    await downgrade(empty_database_url, VALIDATED)
    half = await asyncpg.connect(empty_database_url)
    await half.execute("create index ix_pairing_held on pairing (id)")
    await half.execute("create index ix_pairing_due_next on pairing (id)")
    await half.execute("create index ix_event_xid_chain_seq on only event (xid, chain, seq)")
    await half.execute("create index event_default_xid_chain_seq_idx on event_default (seq)")
    await half.execute(
        "create index event_default_appliance_xid_chain_seq_idx on event_default (at)"
    )
    assert (await upgrade(empty_database_url)).standing is Standing.CURRENT
    assert await catalogue(half) == await catalogue(sql)
    assert await half.fetchval(ALL_ARE_VALID) is True
    await half.close(timeout=10)


async def pieces(connection: "Connection") -> dict[str, frozenset[str]]:
    """By the part of the trail, the names of its indexes without the part's own."""
    rows = await connection.fetch(
        "select part.relname, array_agg(substr(index.relname, length(part.relname) + 1)) as names"
        " from pg_class as part join pg_index on indrelid = part.oid"
        " join pg_class as index on index.oid = indexrelid"
        " where part.relispartition and part.relkind = 'r' group by part.relname"
    )
    return {row["relname"]: frozenset(row["names"]) for row in rows}


OF_A_PART = frozenset(
    {
        "_pkey",
        "_xid_chain_seq_idx",
        "_operation_id_xid_chain_seq_idx",
        "_appliance_xid_chain_seq_idx",
    }
)
FORMERLY_OF_A_PART = frozenset({"_pkey", "_operation_id_at_idx", "_appliance_at_idx"})


@pytest.mark.parametrize("is_written_down", [False, True], ids=["run", "written down"])
async def test_each_month_of_the_trail_has_the_same_indexes_up_and_down_and_up_again(
    empty_database_url: str, is_written_down: bool, tmp_path: Path
) -> None:
    await upgrade(empty_database_url)
    sql = await asyncpg.connect(empty_database_url)
    # One was built by the migration, three by PostgreSQL when their month was made.
    above = await pieces(sql)
    assert len(above) == 4
    assert set(above.values()) == {OF_A_PART}
    for change, start, end, names in (
        ("downgrade", INDEXED, VALIDATED, FORMERLY_OF_A_PART),
        ("upgrade", VALIDATED, INDEXED, OF_A_PART),
    ):
        if is_written_down:
            written = written_down(getattr(command, change), f"{start}:{end}")
            await carry_out(written, empty_database_url, tmp_path)
        else:
            await CHANGES[change](empty_database_url, end)
        assert await pieces(sql) == dict.fromkeys(above, names)
        assert await sql.fetchval(ALL_ARE_VALID) is True
    await sql.close(timeout=10)


@pytest.mark.parametrize(
    ("change", "start", "end", "new"),
    [
        ("upgrade", VALIDATED, INDEXED, {"xid_chain_seq", "operation_id_xid", "appliance_xid"}),
        ("downgrade", INDEXED, VALIDATED, {"operation_id_at", "appliance_at"}),
    ],
    ids=["up", "down"],
)
async def test_an_index_of_the_trail_goes_when_those_that_replace_it_stand(
    empty_database_url: str, change: str, start: str, end: str, new: set[str]
) -> None:
    """A reader of the trail holds up the going, and not the building."""
    await upgrade(empty_database_url, start)
    reader, sql = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    old = set(await trail_indexes(sql))
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("select from event")
    async with asyncio.TaskGroup() as tasks:
        changing = tasks.create_task(CHANGES[change](empty_database_url, end))
        while not await sql.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and query ilike '%drop index if exists ix_event%' and wait_event_type = 'Lock'"
        ):
            await sql.execute("select pg_stat_clear_snapshot()")
            assert not changing.done()
        both = await trail_indexes(sql)
        await transaction.rollback()
    assert both == dict.fromkeys(old | {f"ix_event_{name}" for name in new}, True)
    assert (await changing).found == end
    assert set(await trail_indexes(sql)) == both.keys() - (old - {"pk_event"})
    for connection in (reader, sql):
        await connection.close(timeout=10)


async def trail_indexes(connection: "Connection") -> dict[str, bool]:
    """Those of the whole trail, and whether each is valid: no part of it is without."""
    rows = await connection.fetch(
        "select indexrelid::regclass::text as name, indisvalid from pg_index"
        " where indrelid = 'event'::regclass"
    )
    return {row["name"]: row["indisvalid"] for row in rows}


async def test_while_they_are_made_pairings_go_on(empty_database_url: str) -> None:
    """An old transaction holds it up, and nobody else."""
    await upgrade(empty_database_url, VALIDATED)
    old, young = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    await furnish(young)
    transaction = old.transaction()
    await transaction.start()
    await old.execute("update pairing set priority = 1 where couple_low = 'a'")
    async with asyncio.TaskGroup() as tasks:
        upgrading = tasks.create_task(upgrade(empty_database_url))
        while not await young.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and query ilike 'create index concurrently%' and wait_event_type = 'Lock'"
        ):
            await young.execute("select pg_stat_clear_snapshot()")
        await young.execute("update pairing set priority = 2 where couple_low = 'c'")
        assert not upgrading.done()
        await transaction.commit()
        assert (await upgrading).standing is Standing.CURRENT
    for connection in (old, young):
        await connection.close(timeout=10)


async def test_the_sql_that_is_written_down_makes_the_same_tables(
    server_url: str, sql: "Connection", tmp_path: Path
) -> None:
    async with database_like(server_url, "template0") as url:
        await carry_out(offline_sql(), url, tmp_path)
        made = await asyncpg.connect(url)
        assert await catalogue(made) == await catalogue(sql)
        await made.close(timeout=10)


async def carry_out(written: str, url: str, tmp_path: Path) -> None:
    """As whoever upgrades by hand does."""
    psql = programs(Account.of(os.geteuid()), tmp_path) / "psql"
    process = await asyncio.create_subprocess_exec(
        psql, url, "-v", "ON_ERROR_STOP=1", "-q", stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, complaints = await process.communicate(written.encode())
    assert process.returncode == 0, complaints.decode()
