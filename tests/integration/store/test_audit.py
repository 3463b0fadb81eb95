"""The audit trail is read in one order that nothing is added to afterwards."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from service.domain.ids import OperationId, PairingId
from service.store.audit import Audit, AuditFilter, Place, Recorded
from service.store.database import Database
from tests.integration.store.values import accepted, name, register
from tests.support.trail import record

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

ALL = AuditFilter()
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


async def trail(
    database: Database, narrowed: AuditFilter = ALL, limit: int = 1000, after: Place | None = None
) -> list[Recorded]:
    """All pages, one after the other."""
    audit, read = Audit(database), list[Recorded]()
    while found := await audit.page(narrowed, limit, after):
        assert len(found) <= limit
        read += found
        after = found[-1].place
    return read


async def shown(
    database: Database, count: int, narrowed: AuditFilter = ALL, after: Place | None = None
) -> list[Recorded]:
    """The trail, once it has so many events: somebody else's transaction may hold it back."""
    while len(found := await trail(database, narrowed, after=after)) < count:
        pass
    assert len(found) == count
    return found


def chains(found: Sequence[Recorded]) -> list[object]:
    """Whose events they are."""
    return [each.entry.chain for each in found]


@asynccontextmanager
async def another(url: str) -> AsyncIterator["Connection"]:
    """One more bare connection."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


async def test_pages_of_any_size_give_every_event_once_in_one_order(
    database: Database, sql: "Connection"
) -> None:
    async with sql.transaction():
        for _ in range(5):
            chain = await record(sql)
            await record(sql, chain=chain, seq=2)
    await accepted(database, ("a", "b"), ("b", "c"))
    whole = await shown(database, 10 + 3 + 2)

    assert [each.place for each in whole] == sorted({each.place for each in whole})
    for limit in (1, 2, 7, 15, 16):
        assert await trail(database, limit=limit) == whole


async def test_nothing_is_shown_that_an_older_transaction_could_still_come_before(
    database: Database, sql: "Connection", database_url: str
) -> None:
    before = await record(sql)
    (first,) = await shown(database, 1)
    async with another(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        late = await record(slow)
        quick = await record(sql)

        assert chains(await trail(database)) == [before]

        await transaction.commit()

    assert chains(await shown(database, 2, after=first.place)) == [late, quick]


async def test_a_transaction_that_is_rolled_back_holds_nothing_back_any_more(
    database: Database, sql: "Connection", database_url: str
) -> None:
    async with another(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await record(slow)
        quick = await record(sql)
        assert await trail(database) == []
        await transaction.rollback()

    assert chains(await shown(database, 1)) == [quick]


async def test_now_is_behind_what_is_shown_and_before_what_is_not(
    database: Database, sql: "Connection", database_url: str
) -> None:
    await record(sql)
    (first,) = await shown(database, 1)
    async with another(database_url) as slow:
        transaction = slow.transaction()
        await transaction.start()
        late = await record(slow)
        quick = await record(sql)
        now = await Audit(database).now()
        await transaction.commit()

    assert first.place < now
    assert chains(await shown(database, 2, after=now)) == [late, quick]


async def test_filters_choose_together(database: Database, sql: "Connection") -> None:
    pairing, _ = await accepted(database, ("a", "b"), ("b", "c"))
    await record(sql, appliance="a", operation_id="op-1", chain=pairing.id, seq=2)
    await record(sql, appliance="a", operation_id="op-2", chain=pairing.id, seq=3)
    (registration,) = await register(database, "d")
    await shown(database, 3 + 2 + 2 + 1)
    only = PairingId(pairing.id)

    async def found(**narrowed: object) -> list[tuple[str, str]]:
        chosen = await trail(database, AuditFilter(**narrowed))  # type: ignore[arg-type]
        return [(each.entry.type, each.entry.operation_id) for each in chosen]

    assert await found(appliance=name("a")) == [
        ("ApplianceRegistered", "test-1"),
        ("PairingStarted", "op-1"),
        ("PairingStarted", "op-2"),
    ]
    assert await found(pairing=only) == [
        ("PairingAccepted", "test-1"),
        ("PairingStarted", "op-1"),
        ("PairingStarted", "op-2"),
    ]
    assert await found(pairing=only, appliance=name("a"), operation_id=OperationId("op-2")) == [
        ("PairingStarted", "op-2")
    ]
    assert await found(operation_id=OperationId("op-1"), appliance=name("b")) == []
    assert await found(pairing=PairingId(registration.id)) == []


async def test_whoever_reads_on_while_many_write_gets_every_event_once_and_in_order(
    database: Database, database_url: str
) -> None:
    """The transactions of each round overlap, and are committed in the opposite order."""
    writers, rounds = 100, 3
    connections = [await asyncpg.connect(database_url) for _ in range(writers)]
    read: list[Recorded] = []

    async def write() -> None:
        for _ in range(rounds):
            transactions = [connection.transaction() for connection in connections]
            for connection, transaction in zip(connections, transactions, strict=True):
                await transaction.start()
                await record(connection)
            for transaction in reversed(transactions):
                await transaction.commit()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while len(read) < writers * rounds:
            after = read[-1].place if read else None
            read += await trail(database, limit=17, after=after)
    for connection in connections:
        await connection.close(timeout=10)

    assert read == await trail(database)
    assert len({each.entry.chain for each in read}) == writers * rounds


async def test_events_of_a_restored_dump_are_shown_once_the_operator_did_as_told(
    database: Database, sql: "Connection"
) -> None:
    """The statement is the one of docs/operations.md."""
    told = re.findall(r"```sql\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    (statement,) = [each for each in told if "update event" in each]
    restored = [await record(sql), await record(sql)]
    await sql.execute("update event set xid = (xid::text::bigint + 1000000000)::text::xid8")
    new = await record(sql)
    assert chains(await shown(database, 1)) == [new]

    await sql.execute(statement)

    found = await shown(database, 3)
    assert chains(found) == [*sorted(restored), new]
    assert found[-1].place < await Audit(database).now()
