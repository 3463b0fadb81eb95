"""Wishes to cancel. A wish is noted beside a pairing; who drives it takes it into the chain."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from service.domain.author import Author
from service.domain.batch import Batch
from service.domain.errors import PairingOver
from service.domain.ids import BatchId, PairingId
from service.domain.pairing import Pairing, PairingState
from service.store.batches import Batches
from service.store.database import Database
from service.store.errors import following
from service.store.pairings import Pairings
from service.store.patience import CALLERS_S, Patience
from service.store.statements import statement
from service.store.tables import pairing

AT_ONCE = 1000
"""Bounds how long a transaction holds the rows, and so how long their workers wait."""


class Cancels:
    """Takes them. Asking again changes nothing, but for what was retried since."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pairings = Pairings(database)
        self._batches = Batches(database)

    async def request(self, pairing_id: PairingId, author: Author) -> Pairing:
        """Have the pairing canceled, as soon as may be; the pairing as it stands.

        Raises UnknownPairing, PairingOver if it succeeded or failed, StoreUnavailable.
        """
        await self._note([pairing_id], author)
        found = await self._pairings.get(pairing_id)
        if found.state in {PairingState.SUCCEEDED, PairingState.FAILED}:
            raise PairingOver(pairing_id, found.state.value)
        return found

    async def request_batch(self, batch_id: BatchId, author: Author) -> Batch:
        """Have all pairings of the batch canceled that are not over; the batch as it stands.

        What the database undoes to help others is asked again. Raises UnknownBatch,
        StoreUnavailable; then some may be canceled and others not.
        """
        [row] = await self._database.run(unwanted(batch_id))
        ids = row.ids or []
        patience = Patience("canceling a batch", CALLERS_S)
        for first in range(0, len(ids), AT_ONCE):
            piece = ids[first : first + AT_ONCE]
            with following(in_doubt=first > 0):
                await patience.see_through(partial(self._note, piece, author))
        return await self._batches.get(batch_id)

    async def _note(self, ids: Sequence[PairingId], author: Author) -> None:
        wish = {"ids": ids, "user": author.user, "operation_id": author.operation_id}
        await self._database.run(statement("cancel"), wish)


def unwanted(batch_id: BatchId) -> Select[Any]:
    """The statement that finds what of a batch is to be canceled, all at once. Read piece by piece,
    what is left would be read and sorted for each as long as nobody has counted a new batch's
    rows."""
    ids = func.array_agg(aggregate_order_by(pairing.c.id, pairing.c.id))
    is_wanted = (pairing.c.end_time.is_(None), pairing.c.cancel_user.is_(None))
    return select(ids.label("ids")).where(pairing.c.batch == batch_id, *is_wanted)
