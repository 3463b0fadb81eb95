"""The months of the audit trail: each is a partition of `event`, made before it begins."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_AHEAD = 2
_LOCK = 7_268_340_152

# Not to_regclass: that may remember from before the lock that there is none.
_EXISTS = text(
    "select exists (select from pg_inherits join pg_class on pg_class.oid = inhrelid"
    " where inhparent = cast('event' as regclass) and relname = :name)"
)
_STRAYS = text("select exists (select from event_default where at >= :start and at < :end)")


async def make_partitions(connection: AsyncConnection, now: datetime | None = None) -> list[str]:
    """Make those of the month of `now` (null: the database's clock) and of the two that follow.

    Returns the names of what was made. A month that already has events in the default partition
    stays there. Called at every upgrade and at every start of a worker: nothing to do costs one
    look-up each.
    """
    if now is None:
        now = (await connection.execute(text("select now()"))).scalar_one()
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    made = []
    for _ in range(_AHEAD + 1):
        following = _following(month)
        if await _make(connection, month, following):
            made.append(_name(month))
        month = following
    return made


async def _make(connection: AsyncConnection, start: datetime, end: datetime) -> bool:
    name = _name(start)
    if (await connection.execute(_EXISTS, {"name": name})).scalar_one():
        return False
    # Workers start together: the second one waits here, and then finds it made.
    await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if (await connection.execute(_EXISTS, {"name": name})).scalar_one():
        return False
    if (await connection.execute(_STRAYS, {"start": start, "end": end})).scalar_one():
        return False
    # Made first and attached then, which does not lock the whole table as PARTITION OF would.
    await connection.execute(text("set local lock_timeout = '5s'"))
    await connection.execute(text(f"create table {name} (like event including all)"))
    bounds = f"from ('{start.isoformat()}') to ('{end.isoformat()}')"
    await connection.execute(text(f"alter table event attach partition {name} for values {bounds}"))
    return True


def _following(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _name(month: datetime) -> str:
    return f"event_{month:%Y_%m}"
