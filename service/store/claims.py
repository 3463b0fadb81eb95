"""Where a worker's pairings come from. Writes who owns a pairing, never its state."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from service.domain.appliance import Endpoint
from service.domain.ids import PairingId, WorkerId
from service.domain.pairing import Assignment, Side
from service.domain.thumbprint import Thumbprint
from service.store.database import Database
from service.store.rows import pairing_from
from service.store.statements import statement


class Claims:
    """The claims of one worker."""

    def __init__(self, database: Database, worker: WorkerId) -> None:
        self._database = database
        self._worker = worker

    async def claim(self, limit: int) -> Sequence[Assignment]:
        """Own up to `limit` due pairings, oldest of the highest priority first; each with a raised
        epoch. Raises StoreUnavailable; whatever was claimed then belongs to this worker, and only
        `release` or its end gives it up."""
        rows = await self._database.run(
            statement("claim"), {"worker": self._worker, "limit": limit}
        )
        return [_assignment(row) for row in rows]

    async def release(self, pairing_ids: Sequence[PairingId]) -> None:
        """Give up what this worker owns of these, so that any worker may claim them at once.

        Raises StoreUnavailable.
        """
        await self._database.run(
            statement("release"), {"worker": self._worker, "ids": list(pairing_ids)}
        )


def _assignment(row: Row[Any]) -> Assignment:
    pairing = pairing_from(row)
    one, other = pairing.sides
    return Assignment(
        pairing,
        (
            _endpoint(one, row.a_registration, row.a_api_url, row.a_api_thumbprint, row.a_version),
            _endpoint(
                other, row.b_registration, row.b_api_url, row.b_api_thumbprint, row.b_version
            ),
        ),
        float(row.remaining_s),
    )


def _endpoint(
    side: Side,
    registration: UUID | None,
    api_url: str | None,
    api_thumbprint: str | None,
    version: int | None,
) -> Endpoint:
    # Without a registration: an endpoint that leads nowhere, at which the engine ends the pairing.
    thumbprint = Thumbprint(api_thumbprint or "")
    return Endpoint(side.appliance, api_url or "", thumbprint, version or 0, registration)
