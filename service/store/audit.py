"""Reads the audit trail of all pairings and registrations in one order.

That order is (transaction, chain, number). Numbers and times alone would not do: what was written
first is not always committed first, so whoever reads on from the last event that was seen would
miss those of a slow transaction. Only transactions older than any that is still open are shown:

1. An event carries the number of the transaction that wrote it (`event.xid`).
2. `pg_snapshot_xmin` is the oldest number that is still open: below it, all are through.
3. Numbers are given out rising, so nothing can appear below it any more: what was read up to some
   place is complete, and what comes later stands behind it.

A transaction that is left open, in any database of the server, therefore holds the trail back; it
shows what it held back once that is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, literal, select, tuple_

from service.domain.chain import REGISTRATION_TYPES
from service.domain.events import Entry
from service.domain.ids import ApplianceName, OperationId, PairingId
from service.store.columns import Xid8
from service.store.database import Database
from service.store.rows import entry_from
from service.store.tables import event

_HORIZON = func.pg_snapshot_xmin(func.pg_current_snapshot(), type_=Xid8)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands in the trail."""

    xid: int
    chain: UUID
    seq: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event and its place."""

    place: Place
    entry: Entry


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the trail is narrowed to; None means any. `appliance`: what happened on it."""

    operation_id: OperationId | None = None
    pairing: PairingId | None = None
    appliance: ApplianceName | None = None


class Audit:
    """The audit trail, oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, narrowed: AuditFilter, limit: int, after: Place | None = None
    ) -> Sequence[Recorded]:
        """Up to `limit`, from the one after `after` on. Raises StoreUnavailable."""
        rows = await self._database.run(page(narrowed, limit, after))
        return [Recorded(Place(row.xid, row.chain, row.seq), entry_from(row)) for row in rows]

    async def now(self) -> Place:
        """A place that everything shown so far stands before, and nothing that is not yet.

        Raises StoreUnavailable.
        """
        (row,) = await self._database.run(select(_HORIZON.label("xid")))
        return Place(row.xid, UUID(int=0), 0)


def page(narrowed: AuditFilter, limit: int, after: Place | None) -> Select[Any]:
    """The statement behind `Audit.page`."""
    query = select(event).where(event.c.xid < _HORIZON)
    if narrowed.operation_id is not None:
        query = query.where(event.c.operation_id == narrowed.operation_id)
    if narrowed.appliance is not None:
        query = query.where(event.c.appliance == narrowed.appliance)
    if narrowed.pairing is not None:
        of_pairings = [event.c.type != kind for kind in sorted(REGISTRATION_TYPES)]
        query = query.where(event.c.chain == narrowed.pairing, *of_pairings)
    place = (event.c.xid, event.c.chain, event.c.seq)
    if after is not None:
        stands_at = tuple_(literal(after.xid, Xid8), literal(after.chain), literal(after.seq))
        query = query.where(tuple_(*place) > stands_at)
    return query.order_by(*place).limit(limit)
