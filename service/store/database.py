"""Connections: a pool for short questions, and connections of their own for who writes a lot."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from weakref import WeakSet

import asyncpg
from sqlalchemy import CursorResult, Executable, Row, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from service.store.errors import is_unavailability, translated
from service.store.urls import DatabaseUrl

APPLICATION_NAME = "sitepair"
STATEMENT_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
GOOD_BYE_S = 1.0
"""Whoever hears no answer to it leaves all the same."""

ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + 5
"""Ours is longer than the server's, which tells what it was."""

Parameters = Mapping[str, object]
Rows = Sequence[Row[Any]]

_OF_THE_STATEMENT = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)

_SET = text("""
select set_config(name, value, cast(:is_for_now as boolean))
from unnest(cast(:names as text[]), cast(:values as text[])) as given (name, value)
""")
_FOR_GOOD = {"is_for_now": False}
_FOR_NOW = {"is_for_now": True}
"""Until the transaction ends."""


class Database:
    """One database, as this process reaches it."""

    def __init__(self, url: DatabaseUrl, pooled: AsyncEngine, single: AsyncEngine) -> None:
        self.url = url
        self._pooled = pooled
        self._single = single
        self._pooled_alone = _alone_on(pooled, url)
        self._single_alone = _alone_on(single, url)

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, pool_size: int = 10) -> AsyncIterator["Database"]:
        """Connections are opened when needed, at most `pool_size`, and closed on exit.

        Raises ValueError when `url` is none.
        """
        parsed = DatabaseUrl.parse(url)
        async with connections(parsed, pool_size) as pooled, connections(parsed) as single:
            yield cls(parsed, pooled, single)

    @asynccontextmanager
    async def transaction(
        self, *, takes_long: bool = False, lock_timeout_s: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed when the block ends well; cut off if it lasts longer than a
        statement may, for a host that is gone tells nobody, unless it `takes_long` by its nature.
        Raises StoreUnavailable; Locked when it has waited so long for a lock."""
        within_s = None if takes_long else ANSWER_TIMEOUT_S
        with translated("a transaction"):
            async with asyncio.timeout(within_s), self._pooled.begin() as connection:
                if lock_timeout_s is not None:
                    limit = {"names": ["lock_timeout"], "values": [f"{lock_timeout_s}s"]}
                    await connection.execute(_SET, limit | _FOR_NOW)
                yield connection

    @asynccontextmanager
    async def filling(self, within_s: float) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes so many rows that what PostgreSQL knows of the tables is wrong
        before it is over; cut off if it is not committed by then. Raises StoreUnavailable.

        A plan is kept as long as its connection, those of foreign keys included, and what read a
        table that was nearly empty from end to end would go on to do so. So the connection is a new
        one, and its plans go by the indexes whatever the tables look like.
        """
        with translated("a transaction"):
            async with asyncio.timeout(within_s), self._single.begin() as connection:
                await connection.execute(text("set local enable_seqscan = off"))
                yield connection

    async def run(self, statement: Executable, parameters: Parameters | None = None) -> Rows:
        """One statement as a transaction of its own; its rows. Raises StoreUnavailable."""
        with translated("a statement"):
            async with self._pooled_alone.connect() as connection:
                return await _execute(connection, statement, parameters, self.url)

    def lane(self, lock_timeout_s: float | None = None) -> "Lane":
        """A connection of its own, outside the pool. Its statements raise Locked when they have
        waited so long for a lock."""
        settings = {"enable_seqscan": "off"}
        if lock_timeout_s is not None:
            settings["lock_timeout"] = f"{lock_timeout_s}s"
        return Lane(self._single_alone, self.url, settings)


class Lane:
    """One connection, opened when first needed and opened anew after trouble.

    For one caller at a time. Each statement is a transaction: one round trip, and more
    behind a PgBouncer.

    A lane writes a lot, row by row in an order that all keep to. A plan that reads a whole table
    would take its locks in whatever order the rows lie there, so its `settings` have it go by the
    indexes alone.
    """

    def __init__(self, engine: AsyncEngine, url: DatabaseUrl, settings: Mapping[str, str]) -> None:
        self._engine = engine
        self._url = url
        self._settings = {"names": [*settings], "values": [*settings.values()]}
        self._connection: AsyncConnection | None = None

    async def run(self, statement: Executable, parameters: Parameters | None = None) -> Rows:
        """The rows of `statement`. Raises StoreUnavailable; then its effect is not known."""
        with translated("a statement"):
            try:
                if self._connection is None:
                    self._connection = await self._engine.connect()
                    await self._set_for_good(self._connection)
                return await _execute(
                    self._connection, statement, parameters, self._url, self._settings
                )
            except BaseException as error:
                if not isinstance(error, DBAPIError) or _is_end_of_connection(error):
                    await self.close()
                raise

    async def _set_for_good(self, connection: AsyncConnection) -> None:
        if not self._url.pgbouncer:
            await _execute(connection, _SET, {**self._settings, **_FOR_GOOD}, self._url)

    async def close(self) -> None:
        """Close the connection, if it is open, whether the database answers that or not."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not connection.invalidated:
            await part((await connection.get_raw_connection()).driver_connection)
        await connection.close()


def _is_end_of_connection(error: DBAPIError) -> bool:
    """Whether another connection may fare better: this one may lead to a server that was shut down,
    is or was a replica, or is not ours any more. What befell a statement alone (it was refused,
    undone to help others, or took too long) leaves the connection as it was."""
    cause = error.orig.__cause__ if error.orig is not None else None
    return is_unavailability(error) and not isinstance(cause, _OF_THE_STATEMENT)


def _give_up_connection(context: ExceptionContext) -> None:
    """SQLAlchemy asks whether it is open, and would keep one that is of no use for ever. One that
    was refused is the same to us, whatever for: a setting that the URL asks for and the server does
    not have, too."""
    error = context.sqlalchemy_exception
    if context.connection is None or (
        isinstance(error, DBAPIError) and _is_end_of_connection(error)
    ):
        context.is_disconnect = True


def _alone_on(engine: AsyncEngine, url: DatabaseUrl) -> AsyncEngine:
    """`engine`, each of its statements a transaction of its own without BEGIN and COMMIT.

    Not behind a PgBouncer: preparing and executing must reach the same server, which only a
    transaction sees to.
    """
    return engine if url.pgbouncer else engine.execution_options(isolation_level="AUTOCOMMIT")


async def _execute(
    connection: AsyncConnection,
    statement: Executable,
    parameters: Parameters | None,
    url: DatabaseUrl,
    settings: Parameters | None = None,
) -> Rows:
    """Behind a PgBouncer `settings` are set for the transaction, for the next one may be on another
    server; elsewhere the connection has them."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        if url.pgbouncer:
            async with connection.begin():
                if settings is not None:
                    await connection.execute(_SET, {**settings, **_FOR_NOW})
                return _rows(await connection.execute(statement, parameters))
        return _rows(await connection.execute(statement, parameters))


def _rows(result: CursorResult[Any]) -> Rows:
    return result.all() if result.returns_rows else ()


@asynccontextmanager
async def connections(url: DatabaseUrl, pool_size: int | None = None) -> AsyncIterator[AsyncEngine]:
    """As `url` says they have to be: from a pool of `pool_size`, or each a new one."""
    engine = _engine(url, pool_size)
    opened: WeakSet[Any] = WeakSet()
    event.listen(engine.sync_engine, "connect", lambda made, _: opened.add(made.driver_connection))
    try:
        yield engine
    finally:
        async with asyncio.TaskGroup() as leaving:
            for each in opened:
                leaving.create_task(part(each))
        await engine.dispose()


async def part(driver: Any) -> None:
    """Close a connection of asyncpg's, cut off if no answer comes in time: through SQLAlchemy a
    server that hangs would be waited for. Raises nothing of the connection's."""
    with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with asyncio.timeout(GOOD_BYE_S):
            await driver.close()


def _engine(url: DatabaseUrl, pool_size: int | None) -> AsyncEngine:
    arguments: dict[str, object] = {"dsn": url.dsn, "timeout": CONNECT_TIMEOUT_S}
    if url.pgbouncer:
        # The next transaction may meet another server: a statement that had a name would stay at
        # this one, where nobody could close it, and fill its memory.
        arguments["statement_cache_size"] = 0
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = str
        arguments["server_settings"] = {"application_name": APPLICATION_NAME}
    else:
        arguments["server_settings"] = {
            "application_name": APPLICATION_NAME,
            "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
            "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
            "jit": "off",
            # What somebody has set for all of the role is not for statements that rely on these.
            "default_transaction_isolation": "read committed",
            "lock_timeout": "0",
            "idle_session_timeout": "0",
        }
    pool: dict[str, Any] = (
        {"poolclass": NullPool}
        if pool_size is None
        else {
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": CONNECT_TIMEOUT_S,
            # The one that was used last has its plans.
            "pool_use_lifo": True,
        }
    )
    engine = create_async_engine(
        "postgresql+asyncpg://", connect_args=arguments, hide_parameters=True, **pool
    )
    event.listen(engine.sync_engine, "handle_error", _give_up_connection)
    event.listen(engine.sync_engine, "checkout", _refuse_ended)
    return engine


def _refuse_ended(connection: DBAPIConnection, entry: ConnectionPoolEntry, _: object) -> None:
    """One that ended while it lay in the pool is not for the next caller: SQLAlchemy then opens
    another one, which is taken as it is, for it would call a second refusal a misuse. It costs no
    question, and does not find out the ones that TCP has not told of."""
    remembered = cast("dict[str, bool]", entry.record_info)
    was_refused = remembered.pop("was_refused", False)
    if connection.driver_connection.is_closed() and not was_refused:
        remembered["was_refused"] = True
        raise DisconnectionError
