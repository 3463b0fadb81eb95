"""How a worker proves that it lives, and how the others notice that one does not.

Each worker has a row, which it beats. The database's clock alone decides. The arguments are with
the statements: `beat`, `bury`, `leave`, `free`, `unpark`, and `claim`, which lets nobody own
anything without a row.
"""

from uuid import UUID

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from service.domain.errors import DeclaredDead
from service.domain.ids import WorkerId
from service.observe.events import WorkersBuried
from service.observe.logging import emit
from service.store.database import Database
from service.store.statements import statement
from service.store.tables import worker

NOBODY = WorkerId(UUID(int=0))
"""In whose row there is what the last worker to leave knew of the database (`leave.sql`)."""


class Heartbeat:
    """The heart of one worker, which lives once: a new life has a new id."""

    def __init__(self, database: Database, worker_id: WorkerId) -> None:
        self._database = database
        self._worker = worker_id
        self._named = {"worker": worker_id, "nobody": NOBODY}

    async def join(self, lease_s: float) -> None:
        """Begin to live; again, if it is not known whether it did. Raises StoreUnavailable."""
        now = func.clock_timestamp()
        begun = insert(worker).values(
            id=self._worker, lease_ms=round(lease_s * 1000), seen=now, steady_since=now
        )
        again = begun.on_conflict_do_update(
            index_elements=["id"], set_={"seen": now, "steady_since": now}
        )
        await self._database.run(again)

    async def beat(self) -> int:
        """Still alive; how many workers are, with this one. Raises DeclaredDead when others no
        longer thought so, StoreUnavailable."""
        rows = await self._database.run(statement("beat"), self._named, is_urgent=True)
        if not rows:
            raise DeclaredDead
        living: int = rows[0].living
        return living

    async def bury(self) -> float | None:
        """Declare those dead whose last beat is older than their lease, and make their pairings
        due, under a raised epoch; and those that were set aside and need not be.

        Returns in how many seconds the next lease of another worker ends, unless that one beats;
        None if there is no other. Raises StoreUnavailable.
        """
        async with self._database.transaction() as connection:
            found = (await connection.execute(statement("bury"), self._named)).one()
            freed: int = (await connection.execute(statement("free"))).one().freed
        if found.dead or freed:
            emit(WorkersBuried(tuple([f"worker-{id_}" for id_ in found.dead]), freed))
        await self._database.run(statement("unpark"))
        next_s: float | None = found.next_s
        return next_s

    async def leave(self) -> None:
        """Live no more; whatever is still owned becomes due. Raises StoreUnavailable."""
        async with self._database.transaction() as connection:
            await connection.execute(statement("leave"), self._named)
            await connection.execute(statement("free"))
