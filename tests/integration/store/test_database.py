"""Connections: what is set on them, what a fault makes of them, what a cancellation leaves."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from service.domain.errors import StoreUnavailable
from service.store.database import Database
from service.store.errors import Locked, RolledBack
from service.store.sessions import open_session, part
from service.store.urls import DatabaseUrl
from tests.integration.store.watching import connections, until, until_blocked
from tests.support.database import closed_to_all

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ONE = text("select 1")
CUT = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where application_name = 'sitepair' and datname = current_database()"
)


@pytest.fixture
async def locked(database: Database, sql: "Connection") -> AsyncIterator["Connection"]:
    """A table `thing` that is locked: whoever reads it waits."""
    await sql.execute("create table thing (number bigint)")
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("lock table thing in access exclusive mode")
    yield sql
    await transaction.rollback()


async def test_a_database_that_answers_passes_the_check(database: Database) -> None:
    await database.run(text("select 1"))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
async def test_every_spelling_of_an_address_connects(database_url: str, scheme: str) -> None:
    url = database_url.replace("postgresql", scheme, 1)
    async with Database.connect(url) as database:
        await database.run(text("select 1"))


async def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="postgresql://"):
        async with Database.connect("mysql://somewhere/else"):
            pass


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("port=5432", "port=5433"),
        ("//sitepair:", "//sitepair:wrong"),
        ("//sitepair:", "//nobody:"),
        ("/test_", "/no_such_database_"),
        ("port=5432", "port=5432&options=-c%20nonsense%3D1"),
        ("port=5432", "port=5432&options=-c%20work_mem%3Dmuch"),
        ("port=5432", "port=5432&options=-c%20role%3Dnobody"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_unavailable(
    database_url: str, before: str, after: str
) -> None:
    async with Database.connect(database_url.replace(before, after)) as database:
        with pytest.raises(StoreUnavailable) as trouble:
            await database.run(text("select 1"))
        with pytest.raises(StoreUnavailable):
            async with database.transaction() as connection:
                await connection.execute(ONE)
        with pytest.raises(StoreUnavailable):
            await database.lane().run(ONE)
    password = database_url.partition(":")[2].partition(":")[2].partition("@")[0]
    assert password not in str(trouble.value)


async def test_connections_are_named_and_cannot_hang_for_ever(
    database: Database,
) -> None:
    for setting, value in {
        "application_name": "sitepair",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "30s",
    }.items():
        show, asked = text("select current_setting(:setting)"), {"setting": setting}
        lane = database.lane()
        assert (await database.run(show, asked))[0][0] == value
        assert (await lane.run(show, asked))[0][0] == value
        await lane.close()


MEDDLED = {
    "default_transaction_isolation": ("serializable", "read committed"),
    "lock_timeout": ("10ms", "0"),
    "idle_session_timeout": ("1h", "0"),
    "transaction_timeout": ("1s", "0"),
    "synchronous_commit": ("off", "on"),
    "array_nulls": ("off", "on"),
    "transform_null_equals": ("on", "off"),
    "standard_conforming_strings": ("off", "on"),
    "quote_all_identifiers": ("on", "off"),
}
"""What somebody may have set for all of a role or a database, and what our sessions have."""


async def test_what_is_set_for_a_role_does_not_change_what_statements_rely_on(
    database_url: str, sql: "Connection"
) -> None:
    mine = str(await sql.fetchval("select quote_ident(current_database())"))
    for setting, (value, _) in MEDDLED.items():
        await sql.execute(f"alter database {mine} set {setting} = '{value}'")
    show = "select current_setting($1)"
    session = await open_session(DatabaseUrl.parse(database_url))
    async with Database.connect(database_url) as database:
        lane = database.lane()
        for setting, (_, value) in MEDDLED.items():
            asked, parameters = text("select current_setting(:name)"), {"name": setting}
            assert await database.run(asked, parameters) == [(value,)], setting
            assert await lane.run(asked, parameters) == [(value,)], setting
            assert await session.fetchval(show, setting) == value
        await lane.close()
    await part(session)


async def test_how_far_a_commit_waits_for_replicas_is_the_operators_choice(
    database_url: str, sql: "Connection"
) -> None:
    mine = str(await sql.fetchval("select quote_ident(current_database())"))
    await sql.execute(f"alter database {mine} set synchronous_commit = 'remote_apply'")
    async with Database.connect(database_url) as database:
        shown = await database.run(text("select current_setting('synchronous_commit')"))
        assert shown == [("remote_apply",)]


async def test_a_connection_that_ended_while_nobody_used_it_is_not_for_the_next_caller(
    database: Database, sql: "Connection"
) -> None:
    await cut_unused(database, sql)
    await database.run(ONE)
    async with database.transaction() as connection:
        await connection.execute(ONE)


async def test_a_server_that_ends_each_connection_at_once_is_unavailable(
    database: Database, sql: "Connection"
) -> None:
    await cut_unused(database, sql)
    event.listen(
        database._pooled.sync_engine, "connect", lambda made, _: made.driver_connection.terminate()
    )
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await database.run(ONE)


async def cut_unused(database: Database, sql: "Connection") -> None:
    """End the one connection in the pool; return when that has been heard."""
    ended = asyncio.Event()
    async with database.transaction() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        driver.add_termination_listener(lambda _: ended.set())
    await sql.execute(CUT)
    await ended.wait()


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("create table thing ()"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await database.run(text("select to_regclass('thing')")))[0][0] is None


async def test_what_the_database_refuses_is_not_called_unavailable(database: Database) -> None:
    lane = database.lane()
    with pytest.raises(DBAPIError):
        await database.run(text("select 1 / 0"))
    with pytest.raises(DBAPIError):
        await lane.run(text("select 1 / 0"))
    await lane.close()


async def test_errors_do_not_show_what_was_sent(database: Database) -> None:
    with pytest.raises(DBAPIError) as refusal:
        await database.run(text("select 1 / 0, cast(:secret as text)"), {"secret": "hunter2"})
    assert "division by zero" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


async def test_a_deadlock_is_told_as_what_may_be_tried_again(
    database: Database, sql: "Connection"
) -> None:
    await sql.execute("create table thing as select number from generate_series(1, 2) as number")
    lock = text("select from thing where number = :number for update")

    first_has, second_has = asyncio.Event(), asyncio.Event()

    async def cross(mine: int, theirs: int, has: asyncio.Event, other_has: asyncio.Event) -> str:
        try:
            async with database.transaction() as connection:
                await connection.execute(lock, {"number": mine})
                has.set()
                await other_has.wait()
                await connection.execute(lock, {"number": theirs})
        except RolledBack:
            return "rolled back"
        return "committed"

    ends = await asyncio.gather(
        cross(1, 2, first_has, second_has), cross(2, 1, second_has, first_has)
    )
    assert sorted(ends) == ["committed", "rolled back"]


async def test_a_statement_that_takes_too_long_is_unavailability(database: Database) -> None:
    async def dawdle() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("set local statement_timeout = '20ms'"))
            await connection.execute(text("select pg_sleep(20)"))

    with pytest.raises(StoreUnavailable, match="statement timeout"):
        await dawdle()


async def test_a_database_that_is_closed_to_all_or_to_us_is_unavailability(
    server_url: str, database_url: str
) -> None:
    async with Database.connect(database_url) as database:
        lane = database.lane()
        async with closed_to_all(server_url, database_url):
            with pytest.raises(StoreUnavailable, match="not currently accepting connections"):
                await database.run(text("select 1"))
        await database.run(text("select 1"))
        await lane.run(text("set role pg_monitor"))
        with pytest.raises(StoreUnavailable, match="permission denied"):
            await lane.run(text("select from pairing"))
        await lane.run(text("select from pairing"))  # On a new connection, by the old role.
        await lane.close()


async def test_after_a_restart_one_call_of_a_lane_fails_and_the_next_connects_anew(
    database: Database, sql: "Connection"
) -> None:
    lane = database.lane()
    await lane.run(ONE)
    await sql.execute(CUT)
    await until(sql, CUT.replace("pg_terminate_backend(pid)", "count(*) = 0"))
    with pytest.raises(StoreUnavailable):
        await lane.run(ONE)
    await lane.run(ONE)
    await lane.close()


async def test_who_was_led_to_a_replica_is_led_elsewhere_the_next_time(
    database: Database, sql: "Connection"
) -> None:
    """A session that was begun on one stays read-only, whatever becomes of the server."""
    await sql.execute("create table thing (number bigint)")
    lane, write = database.lane(), text("insert into thing values (1)")
    mine = await sql.fetchval("select quote_ident(current_database())")
    await sql.execute(f"alter database {mine} set default_transaction_read_only = on")
    await asyncio.gather(*[database.run(text("select 1")) for _ in range(3)])
    for run in (database.run, lane.run):
        with pytest.raises(StoreUnavailable, match="read-only"):
            await run(write)
    await sql.execute(f"alter database {mine} reset default_transaction_read_only")
    for run in (database.run, lane.run):
        await run(write)
    await lane.close()


@pytest.mark.usefixtures("locked")
async def test_a_statement_that_could_not_wait_leaves_the_connection_to_the_next(
    database: Database,
) -> None:
    who = text("select pg_backend_pid()")
    before = await database.run(who)
    with pytest.raises(Locked):
        async with database.transaction(lock_timeout_s=0.05) as connection:
            await connection.execute(text("select from thing"))
    assert await database.run(who) == before


@pytest.mark.parametrize("option", ["", "&pgbouncer=true"])
async def test_more_callers_than_connections_take_turns(
    database_url: str, option: str, sql: "Connection"
) -> None:
    async with Database.connect(f"{database_url}{option}", pool_size=2) as database:
        await asyncio.gather(*[database.run(text("select 1")) for _ in range(50)])
        assert sum((await connections(sql)).values()) == 2


async def test_readers_cancelled_in_the_middle_leave_no_connection_behind(
    database: Database, locked: "Connection"
) -> None:
    read = text("select from thing")
    for _ in range(5):
        readers = [asyncio.ensure_future(database.run(read)) for _ in range(200)]
        await until_blocked(locked, 10)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert all(reader.cancelled() for reader in readers)
    await until(
        locked,
        "select count(*) = 0 from pg_stat_activity where application_name = 'sitepair'"
        " and datname = current_database() and state <> 'idle'",
    )
    await asyncio.gather(*[database.run(text("select 1")) for _ in range(50)])
    assert sum((await connections(locked)).values()) <= 10


async def test_transactions_cancelled_in_the_middle_are_rolled_back(
    database: Database, locked: "Connection"
) -> None:
    async def write() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("create table half ()"))
            await connection.execute(text("select from thing"))

    writers = [asyncio.ensure_future(write()) for _ in range(10)]
    await until_blocked(locked, 10)
    for writer in writers:
        writer.cancel()
    await asyncio.wait(writers)
    await until(
        locked,
        "select count(*) = 0 from pg_stat_activity where application_name = 'sitepair'"
        " and datname = current_database() and state <> 'idle'",
    )
    assert await locked.fetchval("select to_regclass('half')") is None


async def test_behind_a_pgbouncer_no_statement_stays_on_the_server(database_url: str) -> None:
    """There is none here; what it needs can be seen from the server all the same. Nobody could
    close a statement there: the next transaction may meet another server."""
    async with Database.connect(f"{database_url}&pgbouncer=true") as database:
        lane = database.lane()
        count = text("select count(*), cast(:number as bigint) from pg_prepared_statements")
        for number in range(5):
            [row] = await lane.run(count, {"number": number})
            assert tuple(row) == (0, number)
            [row] = await database.run(count, {"number": number})
            assert tuple(row) == (0, number)
        await lane.close()


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("option", ["", "&pgbouncer=true"])
async def test_a_lane_goes_by_indexes_waits_for_locks_only_so_long_and_keeps_its_connection(
    database_url: str, option: str
) -> None:
    async with Database.connect(f"{database_url}{option}") as database:
        lane, who = database.lane(0.05), text("select pg_backend_pid()")
        before = await lane.run(who)
        with pytest.raises(Locked):
            await lane.run(text("select from thing"))
        assert await lane.run(who) == before
        assert await lane.run(text("select current_setting('enable_seqscan')")) == [("off",)]
        await lane.close()


async def test_behind_a_pgbouncer_a_lane_leaves_its_settings_to_nobody(
    database_url: str,
) -> None:
    async with Database.connect(f"{database_url}&pgbouncer=true") as database:
        lane = database.lane(0.05)
        await lane.run(ONE)
        assert lane._connection is not None
        settings = "select current_setting('lock_timeout'), current_setting('enable_seqscan')"
        async with lane._connection.begin():
            assert (await lane._connection.execute(text(settings))).all() == [("0", "on")]
        await lane.close()
