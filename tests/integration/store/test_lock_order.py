"""Whoever locks many pairings does so in the order of their ids, wherever the rows lie."""

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
from msgspec.structs import replace

from service.domain.advance import Change, advance
from service.domain.events import PairingStarted
from service.domain.ids import BatchId, PairingId
from service.domain.pairing import ChainPosition, PairingState
from service.store.cancels import Cancels
from service.store.database import Database
from service.store.journal import Journal
from tests.integration.store.values import AUTHOR, running
from tests.integration.store.watching import until_blocked
from tests.unit.domain.values import a_pairing

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FIRST, MIDDLE, LAST = (UUID(int=number) for number in (1, 2, 3))
OTHERS = [UUID(int=number) for number in range(1000, 3000)]
"""So many, but few enough for the whole table to be read at once."""
IN_THE_HEAP = [LAST, MIDDLE, FIRST, *OTHERS]
CHANGED = IN_THE_HEAP[:100]

FILL_BATCH = """
    insert into batch (id, operation_id, user_name, total, accepted, rejected, start_time)
    values ($1, 'op', 'u', 1, 1, '[]', 1)
"""
FILL = """
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, epoch, seq, head, batch, worker)
    select id, 'pair', 'QUEUED', 'a' || n, 'b' || n, 'op', 'u', '', 0, 900, 1, 1, 1, 1,
      decode(repeat('00', 32), 'hex'), $2, $3
    from unnest($1::uuid[]) with ordinality as x (id, n)
"""
FILL_SIDES = """
    insert into side (pairing_id, ordinal, appliance, peer, state, attempts)
    select id, ordinal, 'a', 'b', 'PENDING', 0 from pairing, generate_series(0, 1) as ordinal
"""


def begun(pairing_id: UUID) -> Change:
    """A change of the pairing with this id."""
    pairing = replace(
        a_pairing(state=PairingState.QUEUED),
        id=PairingId(pairing_id),
        epoch=1,
        position=ChainPosition(1, bytes(32)),
    )
    after, entry = advance(pairing, PairingStarted(worker="w", epoch=1), at=5, actor="w")
    return Change(after, (entry,))


async def test_the_journal_and_a_cancel_of_its_batch_do_not_wait_for_each_other(
    database: Database, sql: "Connection"
) -> None:
    batch = uuid4()
    await sql.execute(FILL_BATCH, batch)
    await sql.execute(FILL, IN_THE_HEAP, batch, uuid4())
    await sql.execute(FILL_SIDES)
    await sql.execute("vacuum analyze")
    journal = Journal(database.lane())
    async with running(journal), asyncio.TaskGroup() as tasks, sql.transaction():
        # Both have come as far as this one before either goes on.
        await sql.execute("select from pairing where id = $1 for update", MIDDLE)
        for pairing_id in CHANGED:
            tasks.create_task(journal.append(begun(pairing_id)))
        await until_blocked(sql)
        tasks.create_task(Cancels(database).request_batch(BatchId(batch), AUTHOR))
        await until_blocked(sql, 2)
    assert journal.figures.repeats == 0


async def test_a_cancel_that_the_database_undid_for_somebody_else_is_asked_again(
    database: Database, sql: "Connection"
) -> None:
    batch = uuid4()
    await sql.execute(FILL_BATCH, batch)
    await sql.execute(FILL, [FIRST, LAST], batch, uuid4())
    await sql.execute(FILL_SIDES)
    await sql.execute("set deadlock_timeout = '1min'")  # So that it is not this one who is undone.
    lock = "select from pairing where id = $1 for update"
    async with asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute(lock, LAST)
        tasks.create_task(Cancels(database).request_batch(BatchId(batch), AUTHOR))
        await until_blocked(sql)
        await sql.execute(lock, FIRST)
    assert await sql.fetchval("select count(*) from pairing where cancel_user is not null") == 2
