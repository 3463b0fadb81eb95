"""Migrations: up, down, with rows in the tables, many at once, and true to the tables in code."""

import asyncio
import io
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import JSON
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from service.domain.errors import NotOurs, StoreUnavailable
from service.resources import resource
from service.store.database import Database
from service.store.migrate import (
    SchemaState,
    Standing,
    configuration,
    current_state,
    downgrade,
    upgrade,
)
from service.store.tables import metadata
from tests.integration.store.proxy import proxy_to
from tests.integration.store.values import accepted
from tests.support.database import database_like

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

SCRIPTS = ScriptDirectory.from_config(configuration())
HEAD = SCRIPTS.get_current_head()


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator["Connection"]:
    """A connection to a database with nothing in it."""
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close(timeout=10)


async def test_an_empty_database_is_behind_and_an_upgraded_one_is_current(
    empty_database_url: str,
) -> None:
    behind = await current_state(empty_database_url)
    assert behind == SchemaState(Standing.BEHIND, None, str(HEAD))
    upgraded = await upgrade(empty_database_url)
    assert upgraded == await current_state(empty_database_url)
    assert upgraded == SchemaState(Standing.CURRENT, HEAD, str(HEAD))


async def test_looking_changes_nothing(empty_database_url: str, empty: "Connection") -> None:
    await current_state(empty_database_url)
    assert await relations(empty) == set()


async def test_behind_a_pgbouncer_looking_gives_its_statements_no_names(
    database_url: str, tmp_path: Path
) -> None:
    """The driver's own names are the same in every process, and may be taken on that server."""
    async with proxy_to(database_url, tmp_path) as (proxy, url):
        await current_state(f"{url}&pgbouncer=true")
    assert len(proxy.prepared) > 1
    assert not any(proxy.prepared)


async def test_a_revision_that_this_release_does_not_know_is_ahead_and_left_alone(
    database_url: str, sql: "Connection"
) -> None:
    await sql.execute("update alembic_version set version_num = '2099_01_01_from_the_future'")
    ahead = await upgrade(database_url)
    assert ahead.standing is Standing.AHEAD
    assert ahead.found == "2099_01_01_from_the_future"
    assert await current_state(database_url) == ahead


@pytest.mark.parametrize("revisions", [["4f2a91c0de77"], ["4f2a91c0de77", "9b1d0c55aa10"]])
async def test_a_revision_of_another_application_is_told_from_a_newer_one(
    empty_database_url: str, empty: "Connection", revisions: list[str]
) -> None:
    await empty.execute("create table alembic_version (version_num text); create table event ()")
    await empty.executemany(
        "insert into alembic_version values ($1)", [(each,) for each in revisions]
    )
    before = await relations(empty)
    for look in (current_state, upgrade):
        with pytest.raises(NotOurs, match="another application's: its schema is at 4f2a91c0de77"):
            await look(empty_database_url)
    assert await relations(empty) == before


async def test_tables_that_we_did_not_make_are_named_and_left_alone(
    empty_database_url: str, empty: "Connection"
) -> None:
    await empty.execute("create table pairing (); create table batch (); create table theirs ()")
    before = await relations(empty)
    with pytest.raises(NotOurs, match="sitepair did not make: batch, pairing"):
        await upgrade(empty_database_url)
    assert await relations(empty) == before


async def test_what_else_has_the_name_of_a_table_of_ours_is_told(
    empty_database_url: str, empty: "Connection"
) -> None:
    await empty.execute("create view pairing as select 1")
    with pytest.raises(StoreUnavailable, match='relation "pairing" already exists'):
        await upgrade(empty_database_url)


async def test_the_scripts_are_read_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await current_state(database_url)
    monkeypatch.delattr(ScriptDirectory, "from_config")
    assert await current_state(database_url) == before


async def test_many_who_upgrade_at_once_upgrade_once(empty_database_url: str) -> None:
    states = await asyncio.gather(*[upgrade(empty_database_url) for _ in range(5)])
    assert {state.standing for state in states} == {Standing.CURRENT}


async def test_who_finds_nothing_to_do_does_not_wait_for_who_is_upgrading(
    database_url: str, sql: "Connection"
) -> None:
    await sql.execute("select pg_advisory_lock(7268340151)")
    assert (await upgrade(database_url)).standing is Standing.CURRENT


async def test_a_downgrade_leaves_nothing_and_the_way_up_is_open_again(
    empty_database_url: str, empty: "Connection"
) -> None:
    await upgrade(empty_database_url)
    state = await downgrade(empty_database_url, "base")
    assert (state.standing, state.found) == (Standing.BEHIND, None)
    assert await relations(empty) == {"alembic_version", "alembic_version_pkc"}
    assert (await upgrade(empty_database_url)).standing is Standing.CURRENT


async def test_up_and_down_again_one_by_one_with_rows_in_the_tables(
    empty_database_url: str,
) -> None:
    await upgrade(empty_database_url)
    async with Database.connect(empty_database_url) as database:
        await accepted(database, ("a", "b"), ("a", "c"))
    revisions = [script.revision for script in SCRIPTS.walk_revisions()]
    for revision in [*revisions[1:], "base"]:
        await downgrade(empty_database_url, revision)
    for revision in reversed(revisions):
        await upgrade(empty_database_url, revision)
    assert (await current_state(empty_database_url)).standing is Standing.CURRENT


async def test_an_unreachable_database_is_unavailable(database_url: str) -> None:
    nowhere = database_url.replace("port=5432", "port=5433")
    with pytest.raises(StoreUnavailable):
        await current_state(nowhere)
    with pytest.raises(StoreUnavailable):
        await upgrade(nowhere)


async def test_alembic_sees_no_difference_between_tables_and_migrations(
    database_url: str,
) -> None:
    assert await in_alembic(database_url, _differences) == []


def _differences(connection: SyncConnection) -> list[Any]:
    def is_ours(_thing: object, name: str | None, kind: str, *_: object) -> bool:
        return not (kind == "table" and str(name).startswith("event_"))

    def differs(_context: object, _there: object, column: Any, *_: object) -> bool | None:
        # PostgreSQL cannot compare two JSON values; the catalogue's words are compared below.
        return False if isinstance(column.type, JSON) else None

    options = {"compare_type": True, "compare_server_default": differs, "include_object": is_ours}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, metadata))


async def test_the_catalogue_sees_none_either(
    server_url: str, database_url: str, sql: "Connection"
) -> None:
    """Alembic compares neither checks nor collations nor storage."""
    async with database_like(server_url, "template0") as url:
        await in_alembic(url, _create_all)
        made = await asyncpg.connect(url)
        try:
            assert await catalogue(sql) == await catalogue(made)
        finally:
            await made.close(timeout=10)


def _create_all(connection: SyncConnection) -> None:
    metadata.create_all(connection)
    connection.commit()


async def catalogue(connection: "Connection") -> set[tuple[Any, ...]]:
    """Columns, constraints, indexes and storage of our tables, as PostgreSQL spells them."""
    described = await connection.fetch(
        """
        with ours as (
          select oid, relname, relkind, reloptions from pg_class
          where relname in ('appliance', 'pairing', 'side', 'event', 'idempotency',
            'appliance_health', 'worker', 'batch', 'batch_tally', 'batch_rejection')
            and relnamespace = 'public'::regnamespace
        )
        select relname, 'is', relkind::text, reloptions::text from ours
        union all
        select relname, attname, format_type(atttypid, atttypmod) || attnotnull::text,
          concat(attcollation, pg_get_expr(adbin, adrelid))
        from ours join pg_attribute a on attrelid = oid and attnum > 0 and not attisdropped
        left join pg_attrdef on adrelid = a.attrelid and adnum = a.attnum
        union all
        select relname, conname, pg_get_constraintdef(c.oid), contype::text
        from ours join pg_constraint c on conrelid = ours.oid
        union all
        select relname, indexrelid::regclass::text, pg_get_indexdef(indexrelid), ''
        from ours join pg_index on indrelid = oid
        """
    )
    return {tuple(row) for row in described}


async def test_migrating_leaves_logging_as_it_is(empty_database_url: str) -> None:
    root, ours = logging.getLogger(), logging.getLogger("sitepair")
    before = (root.level, list(root.handlers), ours.disabled, ours.level)
    await upgrade(empty_database_url)
    assert (root.level, list(root.handlers), ours.disabled, ours.level) == before


def test_there_is_one_head_and_files_are_named_by_date_and_revision() -> None:
    assert len(SCRIPTS.get_heads()) == 1
    for script in SCRIPTS.walk_revisions():
        assert Path(script.path).stem == script.revision
        assert re.fullmatch(r"20\d\d_\d\d_\d\d_[a-z_]+", script.revision)
        assert len(script.revision) <= 32  # What alembic's own table has room for.


def test_each_new_migration_carries_the_rules() -> None:
    template = (resource("migrations") / "script.py.mako").read_text()
    assert "Rules:" in template
    assert "CONCURRENTLY" in template


def test_every_migration_runs_under_guard_rails_in_a_transaction_of_its_own() -> None:
    written = offline_sql()
    for guard_rail in ("SET lock_timeout", "SET statement_timeout"):
        assert written.index(guard_rail) < written.index("BEGIN")
    for script in SCRIPTS.walk_revisions():
        assert offline_sql(script).count("BEGIN;") >= 1


@pytest.mark.parametrize("script", list(SCRIPTS.walk_revisions()), ids=lambda each: each.revision)
def test_squawk_finds_nothing_in_the_sql_of_a_migration(script: Script) -> None:
    squawk = shutil.which("squawk", path=str(Path(sys.executable).parent))
    assert squawk is not None
    ours = re.sub(
        r"CREATE TABLE alembic_version \(.*?\);", "", offline_sql(script), flags=re.DOTALL
    )
    lint = subprocess.run(
        [squawk, "--pg-version", "15", "--stdin-filepath", "migrations.sql"],
        input=ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout


def offline_sql(script: Script | None = None) -> str:
    """What `upgrade --sql` writes, for one migration or for all."""
    of_one = script and f"{script.down_revision or 'base'}:{script.revision}"
    return written_down(command.upgrade, of_one or "head")


def written_down(change: Callable[..., None], span: str) -> str:
    """The SQL of alembic's command `change` from one revision to another: `from:to`."""
    config = configuration()
    config.output_buffer = io.StringIO()
    change(config, span, sql=True)
    return config.output_buffer.getvalue()


async def in_alembic(url: str, work: Any) -> Any:
    """Run `work` with a connection of the kind that alembic wants."""
    engine = create_async_engine(
        "postgresql+asyncpg://", connect_args={"dsn": url}, poolclass=NullPool
    )
    async with engine.connect() as connection:
        return await connection.run_sync(work)


async def relations(connection: "Connection") -> set[str]:
    """Whatever there is in the schema."""
    rows = await connection.fetch(
        "select relname from pg_class where relnamespace = 'public'::regnamespace"
    )
    return {row["relname"] for row in rows}
