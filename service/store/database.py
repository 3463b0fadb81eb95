"""Connections: a pool for short questions, and connections of their own for who writes a lot."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, Executable, Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.store.errors import translated
from service.store.sessions import connections, is_end_of_connection, part
from service.store.urls import DatabaseUrl

ANSWER_TIMEOUT_S = 25.0
"""Connecting included. Callers hardly wait longer than 30 s, so they are told before that."""

URGENT_S = 10.0
"""For what is asked again when no answer came: after a host that is gone without a word, only a new
connection leads to the one that has taken its place. A database that is slow would be cut off each
time, so it is for connections that were there before."""

_ASKED_BEFORE = "asked before"

Parameters = Mapping[str, object]
Rows = Sequence[Row[Any]]

_SET = text("""
select set_config(name, value, cast(:is_for_now as boolean))
from unnest(cast(:names as text[]), cast(:values as text[])) as given (name, value)
""")
_KEEPING_PLANS = {"enable_seqscan": "off", "plan_cache_mode": "auto"}
"""For who changes many rows: nothing is planned for each of them, foreign keys included. What is
planned once goes by the indexes, whatever the tables look like."""

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
        self,
        *,
        takes_long: bool = False,
        changes_many: bool = False,
        lock_timeout_s: float | None = None,
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed when the block ends well; cut off if it lasts longer than an
        answer may take, for a host that is gone tells nobody, unless it `takes_long` by its nature.
        One that `changes_many` rows goes by the indexes alone, and plans its checks once.
        Raises StoreUnavailable; Locked when it has waited so long for a lock."""
        within_s = None if takes_long else ANSWER_TIMEOUT_S
        with translated("a transaction"):
            async with asyncio.timeout(within_s), self._pooled.begin() as connection:
                settings = dict(_KEEPING_PLANS) if changes_many else {}
                if lock_timeout_s is not None:
                    settings["lock_timeout"] = f"{lock_timeout_s}s"
                if settings:
                    await connection.execute(_SET, _listed(settings) | _FOR_NOW)
                yield connection

    @asynccontextmanager
    async def filling(self, within_s: float) -> AsyncIterator["Filling"]:
        """A transaction that writes so many rows that what PostgreSQL knows of the tables is wrong
        before it is over; cut off `within_s` after it began, or was last said to get on. Raises
        StoreUnavailable.

        A plan is kept as long as its connection, those of foreign keys included, and what read a
        table that was nearly empty from end to end would go on to do so. So the connection is a new
        one, and its plans go by the indexes whatever the tables look like.
        """
        with translated("a transaction"):
            async with asyncio.timeout(within_s) as limit, self._single.begin() as connection:
                await connection.execute(_SET, _listed(_KEEPING_PLANS) | _FOR_NOW)
                yield Filling(connection, limit, within_s)

    async def run(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        is_urgent: bool = False,
    ) -> Rows:
        """One statement as a transaction of its own; its rows. Raises StoreUnavailable, sooner if
        it `is_urgent` and the connection may be one that leads nowhere."""
        with translated("a statement"):
            async with (
                asyncio.timeout(ANSWER_TIMEOUT_S) as limit,
                self._pooled_alone.connect() as connection,
            ):
                if is_urgent and connection.info.get(_ASKED_BEFORE):
                    limit.reschedule(asyncio.get_running_loop().time() + URGENT_S)
                connection.info[_ASKED_BEFORE] = True
                return await _execute(connection, statement, parameters, self.url)

    def lane(self, lock_timeout_s: float | None = None) -> "Lane":
        """A connection of its own, outside the pool. Its statements raise Locked when they have
        waited so long for a lock."""
        settings = dict(_KEEPING_PLANS)
        if lock_timeout_s is not None:
            settings["lock_timeout"] = f"{lock_timeout_s}s"
        return Lane(self._single_alone, self.url, settings)


@dataclass(frozen=True, slots=True)
class Filling:
    """A transaction that may take long, as long as it gets on."""

    connection: AsyncConnection
    _limit: asyncio.Timeout
    _within_s: float

    def gets_on(self) -> None:
        """The database has answered: from now on the next answer is waited for."""
        self._limit.reschedule(asyncio.get_running_loop().time() + self._within_s)


class Lane:
    """One connection, opened when first needed and opened anew after trouble.

    For one caller at a time, who asks again what was not answered. Each statement is a transaction:
    one round trip, and more behind a PgBouncer.

    A lane writes a lot, row by row in an order that all keep to. A plan that reads a whole table
    would take its locks in whatever order the rows lie there, so its `settings` have it go by the
    indexes alone.
    """

    def __init__(self, engine: AsyncEngine, url: DatabaseUrl, settings: Mapping[str, str]) -> None:
        self._engine = engine
        self._url = url
        self._settings = _listed(settings)
        self._connection: AsyncConnection | None = None

    async def run(self, statement: Executable, parameters: Parameters | None = None) -> Rows:
        """The rows of `statement`. Raises StoreUnavailable; then its effect is not known."""
        with translated("a statement"):
            # One that was just opened has answered: what takes its time gets it there.
            within_s = URGENT_S if self._connection is not None else ANSWER_TIMEOUT_S
            try:
                async with asyncio.timeout(within_s):
                    if self._connection is None:
                        self._connection = await self._engine.connect()
                        await self._set_for_good(self._connection)
                    return await _execute(
                        self._connection, statement, parameters, self._url, self._settings
                    )
            except BaseException as error:
                if not isinstance(error, DBAPIError) or is_end_of_connection(error):
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


def _listed(settings: Mapping[str, str]) -> dict[str, object]:
    return {"names": [*settings], "values": [*settings.values()]}


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
    if url.pgbouncer:
        async with connection.begin():
            if settings is not None:
                await connection.execute(_SET, {**settings, **_FOR_NOW})
            return _rows(await connection.execute(statement, parameters))
    return _rows(await connection.execute(statement, parameters))


def _rows(result: CursorResult[Any]) -> Rows:
    return result.all() if result.returns_rows else ()
