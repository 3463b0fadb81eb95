"""Batches for the tests of the store."""

from collections.abc import Iterable
from itertools import combinations

import msgspec

from service.domain.author import Author
from service.domain.batch import Rejection
from service.domain.ids import BatchId
from service.store.batchrecord import BatchAcceptance
from service.store.bulk import BatchRequest, BulkIntake, Item
from service.store.database import Database
from service.store.intake import IdempotencyKey
from tests.integration.store.values import AUTHOR, now, register, request


async def taken_in(
    database: Database,
    items: Iterable[Item],
    *,
    is_atomic: bool = False,
    author: Author = AUTHOR,
    key: IdempotencyKey | None = None,
) -> BatchAcceptance:
    """A batch of these items, accepted."""
    listed = list(items)
    wanted = BatchRequest(lambda: iter(listed), len(listed), is_atomic)
    return await BulkIntake(database, now, patience_s=15).accept(wanted, author, key)


def rejected(acceptance: BatchAcceptance) -> list[Rejection]:
    """What was not accepted, if that is little."""
    assert acceptance.rejected is not None
    return msgspec.json.decode(acceptance.rejected, type=list[Rejection])


async def mesh(database: Database, *names: str) -> BatchId:
    """A batch that pairs each of these with each other; they are registered for it."""
    await register(database, *names)
    items = [request(one, other) for one, other in combinations(names, 2)]
    return (await taken_in(database, items)).id
