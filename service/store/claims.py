"""Where a worker's pairings come from. Writes who owns a pairing, never its state."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, text

from service.domain.appliance import Endpoint
from service.domain.author import Author
from service.domain.ids import OperationId, PairingId, WorkerId
from service.domain.pairing import Assignment, Claimed, Side
from service.domain.thumbprint import Thumbprint
from service.store.database import Database
from service.store.rows import pairing_from
from service.store.statements import statement
from service.store.tables import TO_CANCEL, pairing, worker

LINES = 64
"""How many lines one claim serves at most."""

_LOCK_S = 1.0
"""How long it is waited for a row that is to be given up. The worker cannot beat meanwhile."""


class Claims:
    """The claims of one worker."""

    def __init__(self, database: Database, worker_id: WorkerId) -> None:
        self._database = database
        self._worker = worker_id
        self._since = ""

    async def claim(self, limit: int) -> Claimed:
        """Own up to `limit` due pairings, each with a raised epoch: from each line its share, the
        oldest first. Those that wait for a closed appliance are set aside. Nothing is claimed in
        the name of a worker that was declared dead.

        Raises StoreUnavailable; what was claimed then, if anything was, is given up by `disown`.
        """
        began_at = self._since
        rows = await self._serve(limit)
        if began_at and not _brought(rows):
            rows = await self._serve(limit)  # From the first line again.
        told = rows[0]
        # Who brings nothing waits, even if lines are left: others are about to serve those.
        is_more = _brought(rows) and (began_at != "" or told.last_line is not None)
        assignments = [_assignment(row) for row in rows if row.id is not None]
        return Claimed(assignments, has_more=told.is_more_behind or is_more)

    async def _serve(self, limit: int) -> Sequence[Row[Any]]:
        parameters = {"worker": self._worker, "limit": limit, "since": self._since, "most": LINES}
        rows = await self._database.run(statement("claim"), parameters, is_urgent=True)
        last_line: str | None = rows[0].last_line
        # Sorts right behind that line, and before any other.
        self._since = last_line + "\x01" if last_line is not None else ""
        return rows

    async def disown(self, driven: Collection[PairingId]) -> None:
        """Give up whatever this worker owns besides `driven`. Raises StoreUnavailable."""
        mine = select(worker.c.id).where(worker.c.id == self._worker).with_for_update()
        async with self._database.transaction(lock_timeout_s=_LOCK_S) as connection:
            await connection.execute(mine)
            await connection.execute(
                statement("disown"), {"worker": self._worker, "driven": list(driven)}
            )

    async def wishes(self) -> Mapping[PairingId, Author]:
        """Which of the pairings that this worker owns are to be canceled, and who wants it. Raises
        StoreUnavailable."""
        rows = await self._database.run(to_cancel(self._worker))
        return {PairingId(row.id): _wish(row) for row in rows}


def _brought(rows: Sequence[Row[Any]]) -> bool:
    return rows[0].set_aside > 0 or rows[0].id is not None


def to_cancel(worker_id: WorkerId) -> Select[Any]:
    """The statement behind `Claims.wishes`."""
    columns = pairing.c.id, pairing.c.cancel_user, pairing.c.cancel_operation_id
    return select(*columns).where(pairing.c.worker == worker_id, text(TO_CANCEL))


def _assignment(row: Row[Any]) -> Assignment:
    pairing = pairing_from(row)
    one, other = pairing.sides
    fields = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    is_to_be_canceled = row.cancel_user is not None and not pairing.is_canceling
    return Assignment(
        pairing,
        (_endpoint(one, fields, "a_"), _endpoint(other, fields, "b_")),
        float(row.remaining_s),
        _wish(row) if is_to_be_canceled else None,
    )


def _wish(row: Row[Any]) -> Author:
    return Author(row.cancel_user, OperationId(row.cancel_operation_id))


def _endpoint(side: Side, fields: Mapping[Any, Any], prefix: str) -> Endpoint:
    # Without a registration: an endpoint that leads nowhere, at which the engine ends the pairing.
    registration: UUID | None = fields[prefix + "registration"]
    return _one_and_the_same(
        Endpoint(
            side.appliance,
            fields[prefix + "api_url"] or "",
            Thumbprint(fields[prefix + "api_thumbprint"] or ""),
            fields[prefix + "version"] or 0,
            registration,
            tuple(fields[prefix + "former_api_urls"] or ()),
        )
    )


@lru_cache(maxsize=4096)
def _one_and_the_same(endpoint: Endpoint) -> Endpoint:
    """`endpoint`, or an equal one that is kept already: thousands of pairings share a few."""
    return endpoint
