"""The months of the audit trail: each is a partition of `event`, made before it begins."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import StoreUnavailable
from service.observe.events import StoreTroubled
from service.observe.logging import emit
from service.store.database import Database

DAY_S = 86_400.0

_AHEAD = 2
_LOCK = 7_268_340_152
_NAMED = re.compile(r"event_(\d{4})_(\d{2})")

# Not to_regclass: that may remember from before the lock that there is none.
_PARTS = text(
    "select relname from pg_inherits join pg_class on pg_class.oid = inhrelid"
    " where inhparent = cast('event' as regclass) order by relname"
)
_STRAYS = text("select exists (select from event_default where at >= :start and at < :end)")


@dataclass(frozen=True, slots=True)
class Month:
    """A month that has a partition: `name`, which is over at `end`."""

    name: str
    end: datetime


async def keep_partitions(
    database: Database,
    *,
    every_s: float = DAY_S,
    now: Callable[[], datetime | None] = lambda: None,
) -> None:
    """Make the months to come for as long as it runs, at once and then daily. `now` as in
    `make_partitions`; a database that cannot be asked is asked again the next time."""
    while True:
        try:
            async with database.transaction() as connection:
                await make_partitions(connection, now())
        except StoreUnavailable as trouble:
            emit(StoreTroubled(doing="making partitions", error=str(trouble)))
        await asyncio.sleep(every_s)


async def make_partitions(connection: AsyncConnection, now: datetime | None = None) -> list[str]:
    """Make those of the month of `now` (None: the database's clock) and of the two that follow.

    Returns the names of what was made. A month that already has events in the default partition
    stays there. Called at every upgrade, at every start of a worker and then once a day: nothing
    to do costs one look-up each.
    """
    if now is None:
        now = (await connection.execute(text("select now()"))).scalar_one()
    month = start_of_month(now)
    made = []
    for _ in range(_AHEAD + 1):
        following = _following(month)
        if await _make(connection, month, following):
            made.append(_name(month))
        month = following
    return made


async def months(connection: AsyncConnection) -> Sequence[Month]:
    """Those that there are, oldest first."""
    names = await _parts(connection)
    named = [found for name in names if (found := _NAMED.fullmatch(name)) is not None]
    return [Month(each[0], _end(int(each[1]), int(each[2]))) for each in named]


async def lock_months(connection: AsyncConnection) -> None:
    """Whoever makes or drops months does it alone, until the transaction is over."""
    await connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def start_of_month(moment: datetime) -> datetime:
    """The month, as UTC has it, that `moment` is in."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


async def _make(connection: AsyncConnection, start: datetime, end: datetime) -> bool:
    name = _name(start)
    if name in await _parts(connection):
        return False
    # Workers start together: the second one waits here, and then finds it made.
    await lock_months(connection)
    if name in await _parts(connection):
        return False
    if (await connection.execute(_STRAYS, {"start": start, "end": end})).scalar_one():
        return False
    await connection.execute(text("set local lock_timeout = '5s'"))
    bounds = f"from ('{start.isoformat()}') to ('{end.isoformat()}')"
    try:
        # Made first and attached then, which does not lock the whole table as PARTITION OF would.
        async with connection.begin_nested():
            await connection.execute(text(f"create table {name} (like event including all)"))
            await connection.execute(
                text(f"alter table event attach partition {name} for values {bounds}")
            )
    except IntegrityError:
        return False  # The month had events that were not committed yet when we looked.
    return True


async def _parts(connection: AsyncConnection) -> Sequence[str]:
    return (await connection.execute(_PARTS)).scalars().all()


def _end(year: int, month: int) -> datetime:
    return _following(datetime(year, month, 1, tzinfo=UTC))


def _following(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _name(month: datetime) -> str:
    return f"event_{month:%Y_%m}"
