"""Sessions: how they are opened and left, and what each of them is told at its beginning."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from service.store.errors import driver_error, is_unavailability
from service.store.urls import DatabaseUrl

if TYPE_CHECKING:
    Session = asyncpg.Connection[asyncpg.Record]  # Generic in the stubs only.

APPLICATION_NAME = "sitepair"
STATEMENT_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
GOOD_BYE_S = 1.0
"""Whoever hears no answer to it leaves all the same."""

_NAMED = {"application_name": APPLICATION_NAME}

_SETTINGS = {
    **_NAMED,
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "jit": "off",
    # What somebody has set for all of the role is not for statements that rely on these.
    "default_transaction_isolation": "read committed",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    # Our arrays come as text, in which `null` is nothing and no word.
    "array_nulls": "on",
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    # A kept plan is of the day on which it was made: of a database that was nearly empty, it goes
    # on to read whole tables when they have grown, until PostgreSQL comes to count their rows. What
    # has no parameters it keeps all the same, so that has to go by the indexes from the beginning.
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "off",
}

_SETTLE = """
select
  case when current_setting('synchronous_commit') = 'off' then
    set_config('synchronous_commit', 'on', false)
  end,
  case when current_setting('transaction_timeout', true) is not null then
    set_config('transaction_timeout', '0', false)
  end
"""
"""What depends on the server. What was promised has to outlive a crash of it, whatever is faster;
how far beyond its own disk it waits is the operator's choice. Not all versions can limit
transactions, of which some take long by their nature."""

_OF_THE_STATEMENT = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)

_OF_THE_HOST = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""Another one may fare better."""


async def open_session(url: DatabaseUrl) -> "Session":
    """One for a caller who speaks asyncpg. Raises what that does."""
    return await _settled(url, server_settings=_SETTINGS)


async def _connected(url: DatabaseUrl, **arguments: Any) -> "Session":
    """With the first of the hosts that will do. Each has its share of the time."""
    *others, last = addresses = url.of_each_host
    share_s = CONNECT_TIMEOUT_S / len(addresses)
    for each in others:
        with suppress(*_OF_THE_HOST):
            return cast("Session", await asyncpg.connect(each, timeout=share_s, **arguments))
    return cast("Session", await asyncpg.connect(last, timeout=share_s, **arguments))


async def _settled(url: DatabaseUrl, **arguments: Any) -> "Session":
    session = await _connected(url, **arguments)
    try:
        await session.execute(_SETTLE, timeout=CONNECT_TIMEOUT_S)
    except BaseException:
        session.terminate()
        raise
    return session


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
    arguments: dict[str, object] = {}
    if url.pgbouncer:
        # The next transaction may meet another server: a statement that had a name would stay at
        # this one, where nobody could close it, and fill its memory.
        arguments["statement_cache_size"] = 0
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = str
        arguments["server_settings"] = _NAMED
        arguments["async_creator_fn"] = partial(_connected, url)
    else:
        arguments["server_settings"] = _SETTINGS
        arguments["async_creator_fn"] = partial(_settled, url)
    pool: dict[str, Any] = (
        {"poolclass": NullPool}
        if pool_size is None
        else {
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": CONNECT_TIMEOUT_S,
            # The one that was used last has its statements parsed.
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


def is_end_of_connection(error: DBAPIError) -> bool:
    """Whether another connection may fare better: this one may lead to a server that was shut down,
    is or was a replica, or is not ours any more. What befell a statement alone (it was refused,
    undone to help others, or took too long) leaves the connection as it was."""
    return is_unavailability(error) and not isinstance(driver_error(error), _OF_THE_STATEMENT)


def _give_up_connection(context: ExceptionContext) -> None:
    """SQLAlchemy asks whether it is open, and would keep one that is of no use for ever. One that
    was refused is the same to us, whatever for: a setting that the URL asks for and the server does
    not have, too."""
    error = context.sqlalchemy_exception
    if context.connection is None or (
        isinstance(error, DBAPIError) and is_end_of_connection(error)
    ):
        context.is_disconnect = True
