"""Removes what is old: pairings that were over before a cut-off, with all that is theirs, and the
months of the audit trail in which nothing is left that has to stay.

It goes in small steps, each a transaction of its own, in the order of the pairings' ids, which is
that of their acceptance; so it can be interrupted at any place, run again, and run twice at once.
After each step every chain that is left is whole.

*A month is dropped, not emptied.* The events of pairings that stay, and those of appliances, whose
chains live as long as they do, move to the default partition first, in the same transaction:

1. The month is locked against writing, which nobody does who is not late by a month. What is left
   in it is read, however long that takes; whoever reads the trail goes on.
2. Then the month is dropped, which locks the whole trail, if that is to be had within `_LOCK_S`,
   and what was read is put back. An event keeps its place in the trail: that is (transaction,
   chain, number), and all three are copied.
3. If the lock is not to be had, nothing has happened, and it is tried again for `PATIENCE_S`.

DETACH CONCURRENTLY would not need that lock; PostgreSQL refuses it where there is a default
partition.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.errors import StoreUnavailable
from service.store.database import Database
from service.store.errors import Locked
from service.store.partitions import Month, lock_months, months, start_of_month
from service.store.patience import Patience
from service.store.rows import to_time
from service.store.statements import statement
from service.store.tables import event, idempotency, pairing

STEP = 500
"""How many pairings go in one transaction: some thousand rows, for some tenths of a second."""
SURVIVORS = 10_000
"""With more events that have to stay, a month is kept: to move them would take too long a lock."""
PATIENCE_S = 15.0
"""How long a month's lock is tried for, before the months are kept until the next time."""

_LOCK_S = 0.2
"""For so long everybody who writes waits behind us, if somebody who reads is slow."""
_SLACK_MS = 3_600_000
"""An id says when its pairing was accepted, by the clock of who accepted it; others may differ."""

_FIRST = UUID(int=0)
_COLUMNS = ", ".join(column.name for column in event.c)
_PUT_BACK = f"insert into event ({_COLUMNS}) select * from staying"  # noqa: S608 - names of ours


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went. `kept` says of months that should have gone why they did not."""

    pairings: int = 0
    events: int = 0
    keys: int = 0
    batches: int = 0
    registrations: int = 0
    months: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(
            self.pairings + other.pairings,
            self.events + other.events,
            self.keys + other.keys,
            self.batches + other.batches,
            self.registrations + other.registrations,
            self.months + other.months,
            self.kept + other.kept,
        )


class Pruner:
    """Prunes one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cut_off(self, age: timedelta) -> int:
        """So long ago in ms, by the database's clock. Raises StoreUnavailable."""
        (row,) = await self._database.run(select(func.now().label("now")))
        return max(0, int((row.now.timestamp() - age.total_seconds()) * 1000))

    async def prune(self, cut_off: int) -> AsyncGenerator[Pruned, None]:
        """Remove what was over before `cut_off` (ms); what each step removed, when it is durable.

        Raises StoreUnavailable; what was told before that is gone for good.
        """
        after = _FIRST
        while True:
            step, last = await self._remove(cut_off, after)
            if last is None:
                break
            after = last
            yield step
        if (step := await self._remove_batches(cut_off)).batches:
            yield step
        over = await self._months_over(cut_off)
        if over:
            yield await self._remove_registrations(cut_off)
        for month in over:
            try:
                patience = Patience(f"dropping {month.name}", PATIENCE_S)
                yield await patience.see_through(partial(self._drop, month))
            except StoreUnavailable as trouble:
                # Whoever reads one month's events for so long is likely to be in all.
                yield Pruned(kept=(f"{month.name}: {trouble}",))
                break

    async def foretell(self, cut_off: int) -> Pruned:
        """What `prune` would remove now, but for batches and the chains of removed appliances.
        Raises StoreUnavailable."""
        found, after = Pruned(), _FIRST
        while rows := await self._database.run(old(cut_off, after, STEP * 10)):
            after = rows[-1].id
            events = sum(row.seq for row in rows)
            found += Pruned(len(rows), events, sum(row.keys for row in rows))
        over = await self._months_over(cut_off)
        return found + Pruned(months=tuple([month.name for month in over]))

    async def _remove(self, cut_off: int, after: UUID) -> tuple[Pruned, UUID | None]:
        within = self._database.transaction(takes_long=True, changes_many=True)
        async with within as connection:
            # Whatever somebody else changes at this moment, or removes, is left to them.
            ours = old(cut_off, after, STEP).with_for_update(of=pairing, skip_locked=True)
            ids: list[UUID] = list((await connection.execute(ours)).scalars())
            if not ids:
                return Pruned(), None
            row = (await connection.execute(statement("remove"), {"ids": ids})).one()
        return Pruned(row.pairings, row.events, row.keys), ids[-1]

    async def _remove_batches(self, cut_off: int) -> Pruned:
        (row,) = await self._database.run(statement("remove_batches"), {"cut_off": cut_off})
        return Pruned(batches=row.batches, keys=row.keys)

    async def _remove_registrations(self, cut_off: int) -> Pruned:
        before = start_of_month(to_time(cut_off))
        async with self._database.transaction(takes_long=True) as connection:
            await _take_time(connection)
            gone = statement("remove_registrations")
            row = (await connection.execute(gone, {"before": before})).one()
        return Pruned(events=row.events, registrations=row.chains)

    async def _months_over(self, cut_off: int) -> Sequence[Month]:
        async with self._database.transaction() as connection:
            return [each for each in await months(connection) if each.end <= to_time(cut_off)]

    async def _drop(self, month: Month) -> Pruned:
        try:
            return await self._dropped(month)
        except Locked as locked:
            # Patience gives up on a lock at once, but who reads here may be through in a moment.
            raise StoreUnavailable(str(locked)) from locked

    async def _dropped(self, month: Month) -> Pruned:
        within = self._database.transaction(takes_long=True, lock_timeout_s=_LOCK_S)
        async with within as connection:
            await lock_months(connection)
            if month not in await months(connection):
                return Pruned()  # Somebody else was quicker.
            await connection.execute(text(f"lock table only {month.name} in share mode"))
            staying = await _set_aside(connection, month)
            if staying > SURVIVORS:
                return Pruned(kept=(f"{month.name}: more than {SURVIVORS} events have to stay",))
            # Which locks the trail first; the other months need no lock of their own.
            await connection.execute(text(f"drop table {month.name}"))
            await connection.execute(text(_PUT_BACK))
        return Pruned(months=(month.name,))


def old(cut_off: int, after: UUID, limit: int) -> Select[Any]:
    """The statement that finds pairings that were over before `cut_off`, in the order of their ids,
    from the one after `after` on.

    It reads the primary key up to the ids of the cut-off, and passes over the few that were
    accepted before it and over later: no index on the end has to be kept up by those that work.
    """
    keys = select(func.count()).where(idempotency.c.pairing_id == pairing.c.id).scalar_subquery()
    accepted_until = UUID(int=min(cut_off + _SLACK_MS, 2**48 - 1) << 80)
    return (
        select(pairing.c.id, pairing.c.seq, keys.label("keys"))
        .where(pairing.c.id > after, pairing.c.id < accepted_until, pairing.c.end_time < cut_off)
        .order_by(pairing.c.id)
        .limit(limit)
    )


async def _set_aside(connection: AsyncConnection, month: Month) -> int:
    """Copy what is left of `month`; how much that is, up to one more than may stay."""
    await _take_time(connection)
    kept = f"select {_COLUMNS} from {month.name} limit {SURVIVORS + 1}"  # noqa: S608 - a name of ours
    await connection.execute(text(f"create temporary table staying on commit drop as {kept}"))
    counted = await connection.execute(text("select count(*) from staying"))
    return int(counted.scalar_one())


async def _take_time(connection: AsyncConnection) -> None:
    """A walk through months may take longer than what somebody waits for."""
    await connection.execute(text("set local statement_timeout = '1h'"))
