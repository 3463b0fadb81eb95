"""A batch's own row: how it is opened, found again, and closed."""

from dataclasses import dataclass

from sqlalchemy import Text, cast, func, or_, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.author import Author
from service.domain.errors import IdempotencyKeyReused
from service.domain.ids import BatchId
from service.store.intake import IdempotencyKey
from service.store.tables import batch

_NONE = b"[]"
"""What is in the row, if what was rejected is stored in pieces."""
_JUDGED = text(
    """
    update batch set accepted = :accepted,
      rejected = cast(convert_from(cast(:rejected as bytea), 'UTF8') as json)
    where id = :batch
    """
)
_COUNTED = text(
    """
    insert into batch_tally (
      batch, slot, queued, running, succeeded, failed, canceled, last_end
    )
    values (:batch, mod(pg_backend_pid(), 64), :queued, 0, 0, 0, 0, 0)
    """
)
_TOLD = text("select pg_notify('sitepair_due', '')")


@dataclass(frozen=True, slots=True)
class BatchAcceptance:
    """What became of a batch; `replayed` when that was for an earlier request. `rejected` is the
    others as a JSON array; None if that is long: then `BulkIntake.rejected` has it in pieces."""

    id: BatchId
    total: int
    accepted: int
    rejected: bytes | None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Opening:
    """What makes a batch the one that it is, however often it has to be written."""

    id: BatchId
    total: int
    author: Author
    now: int
    key: IdempotencyKey | None


async def opened(connection: AsyncConnection, opening: Opening) -> bool:
    """Whether the batch is ours to write: nobody has, and until the end nobody else can."""
    key = opening.key
    row = {
        "id": opening.id,
        "operation_id": opening.author.operation_id,
        "user_name": opening.author.user,
        "total": opening.total,
        "accepted": 0,
        "rejected": [],
        "start_time": opening.now,
        "key": key.key if key is not None else None,
        "fingerprint": key.fingerprint if key is not None else None,
    }
    made = postgresql.insert(batch).values(row).on_conflict_do_nothing().returning(batch.c.id)
    return (await connection.execute(made)).one_or_none() is not None


async def standing(connection: AsyncConnection, opening: Opening) -> BatchAcceptance:
    """What was there: this very batch, whose commit we had not heard of, or that of the key."""
    key = opening.key
    wanted = batch.c.id == opening.id
    if key is not None:
        of_key = (batch.c.user_name == opening.author.user) & (batch.c.key == key.key)
        wanted = or_(wanted, of_key)
    rejected = func.convert_to(cast(batch.c.rejected, Text), "UTF8").label("rejected")
    columns = (batch.c.id, batch.c.total, batch.c.accepted, batch.c.fingerprint, rejected)
    row = (await connection.execute(select(*columns).where(wanted))).one()
    if key is not None and row.fingerprint != key.fingerprint:
        raise IdempotencyKeyReused
    is_elsewhere = row.accepted < row.total and row.rejected == _NONE
    return BatchAcceptance(
        BatchId(row.id),
        row.total,
        row.accepted,
        None if is_elsewhere else row.rejected,
        replayed=row.id != opening.id,
    )


async def close(
    connection: AsyncConnection, batch_id: BatchId, accepted: int, rejected: bytes | None
) -> None:
    """What became of it, and that there is something to do; to be committed next."""
    told = {"batch": batch_id, "accepted": accepted, "rejected": rejected or _NONE}
    await connection.execute(_JUDGED, told)
    if accepted:
        await connection.execute(_COUNTED, {"batch": batch_id, "queued": accepted})
        await connection.execute(_TOLD)
