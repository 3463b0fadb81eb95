"""What of a batch is rejected and is too long to be held."""

from typing import TYPE_CHECKING

import asyncpg
import msgspec
import pytest

from service.domain.batch import Rejection
from service.domain.errors import LISTED_REJECTIONS, BatchRejected, StoreUnavailable
from service.store.batchrecord import BatchAcceptance
from service.store.bulk import CHUNK, BulkIntake, Item, Unacceptable
from service.store.database import Database
from service.store.intake import IdempotencyKey
from tests.integration.store.bulk import taken_in
from tests.integration.store.values import now, register, request
from tests.integration.store.watching import until

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

UNFIT = [Unacceptable("InvalidBody", f"{number} " * 50) for number in range(3 * CHUNK)]


async def told(database: Database, batch: BatchAcceptance) -> list[Rejection]:
    """What is stored in pieces."""
    pieces = [piece async for piece in BulkIntake(database, now).rejected(batch.id)]
    return [each for piece in pieces for each in msgspec.json.decode(piece, type=list[Rejection])]


async def test_what_was_rejected_and_is_long_is_told_in_pieces_and_told_again(
    database: Database,
) -> None:
    await register(database, "a", "b")
    key = IdempotencyKey("k", b"same")
    items: list[Item] = [*UNFIT[:CHUNK], request("a", "b"), *UNFIT[CHUNK:]]
    first = await taken_in(database, items, key=key)
    again = await taken_in(database, items, key=key)
    assert (first.accepted, first.rejected, again.rejected) == (1, None, None)
    assert again.replayed
    expected = [
        Rejection(index, each.code, each.detail)
        for index, each in enumerate(items)
        if isinstance(each, Unacceptable)
    ]
    assert await told(database, first) == await told(database, again) == expected


async def test_what_is_left_of_a_batch_that_is_removed_meanwhile_is_not_told_as_the_whole(
    database: Database, sql: "Connection"
) -> None:
    batch = await taken_in(database, UNFIT)
    pieces = BulkIntake(database, now).rejected(batch.id)
    await anext(pieces)
    await sql.execute("delete from batch")
    with pytest.raises(StoreUnavailable):
        await anext(pieces)


async def test_of_a_batch_that_is_to_be_whole_nothing_is_written_however_much_is_rejected(
    database: Database, sql: "Connection"
) -> None:
    with pytest.raises(BatchRejected) as refusal:
        await taken_in(database, UNFIT, is_atomic=True)
    assert len(refusal.value.rejected) == LISTED_REJECTIONS
    assert str(3 * CHUNK) in str(refusal.value)
    # What was undone is counted, too.
    await until(sql, "select n_tup_ins > 0 from pg_stat_user_tables where relname = 'batch'")
    inserted = "select n_tup_ins from pg_stat_user_tables where relname = 'batch_rejection'"
    assert await sql.fetchval(inserted) == 0
