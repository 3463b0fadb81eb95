"""Batches as they are stored, and how they are canceled."""

from functools import partial
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from service.domain.author import Author
from service.domain.batch import Batch, Counts
from service.domain.errors import UnknownBatch
from service.domain.ids import BatchId
from service.domain.pairing import PairingState
from service.store.database import Database
from service.store.errors import following
from service.store.intake import PATIENCE_S
from service.store.patience import Patience
from service.store.statements import statement
from service.store.tables import batch, batch_tally, pairing

CANCELED_AT_ONCE = 1000
"""Bounds how long a transaction holds the rows, and so how long their workers wait."""

_SUMS = [
    func.coalesce(func.sum(batch_tally.c[state.lower()]), 0).label(state.lower())
    for state in PairingState
]


class Batches:
    """Reads them, and notes what callers want of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, batch_id: BatchId) -> Batch:
        """Raises UnknownBatch, StoreUnavailable."""
        rows = await self._database.run(one(batch_id))
        if not rows:
            raise UnknownBatch
        return batch_from(rows[0])

    async def cancel(self, batch_id: BatchId, author: Author) -> Batch:
        """Have all of its pairings canceled that are not over; the batch as it stands.

        Asking again changes nothing but for those that were retried since, so that what the
        database undoes to help others is asked again. Raises UnknownBatch, StoreUnavailable; then
        some may be canceled and others not.
        """
        await self.get(batch_id)
        [row] = await self._database.run(unwanted(batch_id))
        ids = row.ids or []
        wish = {"user": author.user, "operation_id": author.operation_id}
        patience = Patience("canceling a batch", PATIENCE_S)
        for first in range(0, len(ids), CANCELED_AT_ONCE):
            piece = wish | {"ids": ids[first : first + CANCELED_AT_ONCE]}
            with following(in_doubt=first > 0):
                await patience.see_through(
                    partial(self._database.run, statement("cancel_batch"), piece)
                )
        return await self.get(batch_id)


def unwanted(batch_id: BatchId) -> Select[Any]:
    """The statement that finds what is to be canceled, all at once. Read piece by piece, what is
    left would be read and sorted for each as long as nobody has counted a new batch's rows."""
    ids = func.array_agg(aggregate_order_by(pairing.c.id, pairing.c.id))
    is_wanted = (pairing.c.end_time.is_(None), pairing.c.cancel_user.is_(None))
    return select(ids.label("ids")).where(pairing.c.batch == batch_id, *is_wanted)


def one(batch_id: BatchId) -> Select[Any]:
    """The statement behind `Batches.get`. It reads a row for each slot, however large the batch."""
    columns = (
        batch.c.id,
        batch.c.operation_id,
        batch.c.user_name,
        batch.c.total,
        batch.c.accepted,
        batch.c.start_time,
    )
    last_end = func.coalesce(func.max(batch_tally.c.last_end), 0).label("last_end")
    return (
        select(*columns, *_SUMS, last_end)
        .outerjoin(batch_tally, batch_tally.c.batch == batch.c.id)
        .where(batch.c.id == batch_id)
        .group_by(batch.c.id)
    )


def batch_from(row: Row[Any]) -> Batch:
    """A row with the columns of `batch` and the sums over its tallies."""
    return Batch(
        id=BatchId(row.id),
        operation_id=row.operation_id,
        user=row.user_name,
        total=row.total,
        accepted=row.accepted,
        counts=Counts(
            **{state.lower(): int(getattr(row, state.lower())) for state in PairingState}
        ),
        start_time=row.start_time,
        last_end=row.last_end,
    )
