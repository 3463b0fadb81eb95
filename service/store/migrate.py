"""Brings a database's schema to what this release expects."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.domain.errors import NotOurs, StoreUnavailable
from service.resources import resource
from service.store.database import ANSWER_TIMEOUT_S
from service.store.errors import translated
from service.store.partitions import make_partitions
from service.store.sessions import connections, open_session, part
from service.store.tables import metadata
from service.store.urls import DatabaseUrl

_LOCK = 7_268_340_151
"""Any number, as long as nobody else locks it in the same database."""

_OURS = frozenset({"appliance", "pairing", "side", "event"})
"""What each release has, those to come included."""

_IS_READ_ONLY = text("select cast(current_setting('transaction_read_only') as boolean)")
_PATIENCE_S = 600
_ASK_AGAIN_S = 0.2


class Standing(StrEnum):
    """How a database's schema compares with what this release expects."""

    BEHIND = "BEHIND"
    CURRENT = "CURRENT"
    AHEAD = "AHEAD"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """`found` is the database's revision, None before the first; `expected` is this release's. If
    it `is_read_only`, as a replica is, nothing can be accepted or claimed whatever its schema."""

    standing: Standing
    found: str | None
    expected: str
    is_read_only: bool = False


async def current_state(url: str) -> SchemaState:
    """Where the schema stands. A revision this release has never heard of is AHEAD of it if our
    tables are there.

    Raises StoreUnavailable; NotOurs if they are not.
    """
    with translated("looking at the schema"):
        async with (
            asyncio.timeout(ANSWER_TIMEOUT_S),
            connections(DatabaseUrl.parse(url)) as engine,
            engine.connect() as connection,
        ):
            state = await connection.run_sync(_state)
            is_read_only = (await connection.execute(_IS_READ_ONLY)).scalar_one()
            return replace(state, is_read_only=is_read_only)


async def upgrade(url: str, revision: str = "head") -> SchemaState:
    """Upgrade to `revision` if the schema is behind it, and make the partitions of the months to
    come. Returns where the schema stands then: a schema that is AHEAD is left as it is.

    Of many who start at once, one upgrades and the others wait; whoever finds nothing to do does
    not wait. Needs a connection of its own to the server, not one through PgBouncer. Raises
    StoreUnavailable; NotOurs, before anything is changed, if the database is somebody else's.
    """
    with translated("upgrading the schema"):
        async with connections(DatabaseUrl.parse(url)) as engine:
            async with engine.connect() as connection:
                state = await connection.run_sync(_state)
            if state.standing is Standing.BEHIND:
                async with _alone(url):
                    state = await _upgrade(engine, revision)
            if state.standing is Standing.CURRENT:
                async with engine.begin() as connection:
                    await make_partitions(connection)
            return state


async def downgrade(url: str, revision: str) -> SchemaState:
    """Downgrade to `revision`, or to "base": nothing. Raises StoreUnavailable."""
    with translated("downgrading the schema"):
        async with (
            connections(DatabaseUrl.parse(url)) as engine,
            _alone(url),
            engine.connect() as connection,
        ):
            await connection.run_sync(_migrate, "downgrade", revision)
            return await connection.run_sync(_state)


def configuration() -> Config:
    """Alembic's, without a file."""
    config = Config()
    config.set_main_option("script_location", str(resource("migrations")))
    config.set_main_option("path_separator", "os")
    return config


async def _upgrade(engine: AsyncEngine, revision: str) -> SchemaState:
    async with engine.connect() as connection:
        state = await connection.run_sync(_state)
        if state.standing is not Standing.BEHIND:
            return state
        if state.found is None:
            await connection.run_sync(_refuse_namesakes)
        await connection.rollback()
        await connection.run_sync(_migrate, "upgrade", revision)
        return await connection.run_sync(_state)


@cache
def _revisions() -> Sequence[str]:
    """This release's, the newest first: its scripts are read, which takes a while, only once."""
    scripts = ScriptDirectory.from_config(configuration())
    return [script.revision for script in scripts.walk_revisions()]


def _state(connection: Connection) -> SchemaState:
    expected = _revisions()[0]
    # Ours is one at a time; others may have several.
    found = ", ".join(MigrationContext.configure(connection).get_current_heads()) or None
    if found == expected:
        return SchemaState(Standing.CURRENT, found, expected)
    if found is None or found in _revisions():
        return SchemaState(Standing.BEHIND, found, expected)
    if not _OURS.issubset(inspect(connection).get_table_names()):
        raise NotOurs(
            f"The database is another application's: its schema is at {found}, and the tables of "
            "sitepair are not there. Name a database of its own."
        )
    return SchemaState(Standing.AHEAD, found, expected)


def _refuse_namesakes(connection: Connection) -> None:
    """Nothing of ours was made yet, so what has our names was made by somebody else."""
    if taken := sorted(metadata.tables.keys() & inspect(connection).get_table_names()):
        raise NotOurs(
            f"The database has tables that sitepair did not make: {', '.join(taken)}. Name a "
            "database of its own."
        )


def _migrate(connection: Connection, direction: str, revision: str) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    {"upgrade": command.upgrade, "downgrade": command.downgrade}[direction](config, revision)


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[None]:
    """Hold the lock of whoever changes the schema: of the session, not of a transaction, which
    CREATE INDEX CONCURRENTLY would have to leave."""
    holder = await open_session(DatabaseUrl.parse(url))
    try:
        # Asked for again and again: CREATE INDEX CONCURRENTLY waits for every statement that began
        # before it, also for one that waits for the lock.
        until = asyncio.get_running_loop().time() + _PATIENCE_S
        while not await holder.fetchval("select pg_try_advisory_lock($1)", _LOCK):
            if asyncio.get_running_loop().time() > until:
                raise StoreUnavailable(
                    f"another process has been changing the schema for {_PATIENCE_S} s"
                )
            await asyncio.sleep(_ASK_AGAIN_S)
        yield
    finally:
        await part(holder)
