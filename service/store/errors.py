"""What the database's errors mean to us. The one place that knows SQLSTATEs."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from service.domain.errors import StoreUnavailable

UNIQUE_VIOLATION = "23505"
LOCK_NOT_AVAILABLE = "55P03"
_ROLLED_BACK = ("40001", "40P01")
_UNAVAILABLE = (
    "08",  # no connection, or a broken one
    "25006",  # read-only: a replica, in the middle of a failover
    "28",  # it does not let us in
    "3D",  # there is no such database
    "3F",  # or it is empty: a failover to what is not ours
    "42P01",
    "42P07",  # or what is there is not ours
    "42501",  # or it was restored for somebody else
    "40",  # a deadlock; or it is not known whether it was committed
    "53",  # out of connections, memory, disk
    "55000",  # closed to all for its maintenance
    LOCK_NOT_AVAILABLE,
    "57",  # shut down, starting up, or the statement ran out of time
    "58",  # an error of its operating system
    "XX",  # an error of its own
)
_NEVER_ANSWERED = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    # The tables were changed since the statement was prepared; on a new connection it is anew.
    asyncpg.InvalidCachedStatementError,
)


class RolledBack(StoreUnavailable):
    """The database chose to undo all of it, to help another transaction: it may be asked again.

    `in_doubt` if what was asked before it, to the same end, may have taken effect.
    """

    in_doubt = False


class Locked(RolledBack):
    """What others hold was not to be had in the time that was given for it: asked again at once it
    would hardly be."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Within, a database that cannot be asked raises StoreUnavailable.

    What the database refuses because of what it was asked stays as it is: it is a defect, or the
    caller's to interpret.
    """
    try:
        yield
    except (DBAPIError, PoolExhausted, asyncpg.PostgresError, *_NEVER_ANSWERED) as error:
        if not is_unavailability(error):
            raise
        raise _kind(error)(f"{doing}: {_cause(error)}") from error


@contextmanager
def following(*, in_doubt: bool) -> Iterator[None]:
    """Within, what is undone follows on something that may have taken effect, if `in_doubt`."""
    try:
        yield
    except RolledBack as undone:
        undone.in_doubt |= in_doubt
        raise


def _kind(error: BaseException) -> type[StoreUnavailable]:
    state = sqlstate(error)
    if state == LOCK_NOT_AVAILABLE:
        return Locked
    return RolledBack if state in _ROLLED_BACK else StoreUnavailable


def is_unavailability(error: BaseException) -> bool:
    """Whether `error` is about the database's state, not about what it was asked."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(driver_error(error), _NEVER_ANSWERED):
            return True
        return (sqlstate(error) or "").startswith(_UNAVAILABLE)
    if isinstance(error, (PoolExhausted, *_NEVER_ANSWERED)):
        return True
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_UNAVAILABLE)


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE that the database gave, if it was the database that spoke."""
    spoken = error.orig if isinstance(error, DBAPIError) else error
    return getattr(spoken, "sqlstate", None)


def violated_constraint(error: IntegrityError) -> str | None:
    """The name of the constraint that `error` is about."""
    return getattr(driver_error(error), "constraint_name", None)


def driver_error(error: DBAPIError) -> BaseException | None:
    """What asyncpg raised, if it was that which did."""
    return error.orig.__cause__ if error.orig is not None else None


def _cause(error: Exception) -> str:
    if isinstance(error, PoolExhausted):  # It would name settings that nobody has.
        return "all connections of this process have been in use for too long"
    cause = driver_error(error) if isinstance(error, DBAPIError) else error
    if isinstance(cause, TimeoutError):  # It has no words of its own.
        return str(cause) or "no answer in time"
    return str(cause) or type(cause).__name__
