"""Reading batches."""

from typing import Any

from sqlalchemy import Row, Select, func, select

from service.domain.batch import Batch, Counts
from service.domain.errors import UnknownBatch
from service.domain.ids import BatchId
from service.domain.pairing import PairingState
from service.store.database import Database
from service.store.tables import batch, batch_tally

_SUMS = [
    func.coalesce(func.sum(batch_tally.c[state.lower()]), 0).label(state.lower())
    for state in PairingState
]


class Batches:
    """Batches as they are stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, batch_id: BatchId) -> Batch:
        """Raises UnknownBatch, StoreUnavailable."""
        rows = await self._database.run(one(batch_id))
        if not rows:
            raise UnknownBatch
        return batch_from(rows[0])


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
