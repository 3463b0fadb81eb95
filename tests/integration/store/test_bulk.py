"""Batches come in: as single pairings do, but all at once."""

import asyncio
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from service.domain.errors import BatchRejected, IdempotencyKeyReused
from service.domain.ids import PairingId
from service.domain.pairing import OnFailure, Operation
from service.observe.events import BatchAccepted, LogEvent
from service.observe.logging import listening
from service.store import bulk
from service.store.batches import Batches
from service.store.bulk import BatchRequest, BulkIntake, Item, Unacceptable
from service.store.chains import Chains
from service.store.database import Database
from service.store.errors import RolledBack
from service.store.intake import IdempotencyKey
from service.store.pairings import Pairings
from tests.integration.store.bulk import rejected, taken_in
from tests.integration.store.values import AUTHOR, intake_on, now, register, request
from tests.integration.store.watching import insert_rival, until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

WORDS = 'He said "ž\\" \ud800 \0 \U0001f600'


async def row_of(sql: "Connection", couple: tuple[str, str]) -> list[dict[str, Any]]:
    """All that is stored of the pairing of this couple, but for what is its own."""
    own = {"id", "head", "hash", "pairing_id", "chain", "xid", "batch", "line", "at"}
    pairing = "select id from pairing where couple_low = $1 and couple_high = $2"
    id_ = await sql.fetchval(pairing, *couple)
    queries = (
        "select * from pairing where id = $1",
        "select * from side where pairing_id = $1 order by ordinal",
        "select * from event where chain = $1",
    )
    rows = [row for query in queries for row in await sql.fetch(query, id_)]
    assert len(rows) == 4
    return [{name: value for name, value in row.items() if name not in own} for row in rows]


async def test_an_item_is_stored_like_a_single_pairing(
    database: Database, sql: "Connection"
) -> None:
    """Down to the last column, and with a chain that holds."""
    await register(database, "a", "b", "c", "d")
    asked_for: dict[str, Any] = {
        "operation": Operation.REPAIR,
        "description": WORDS,
        "timeout_s": 77,
        "priority": -5,
        "on_failure": OnFailure.KEEP,
    }
    async with intake_on(database) as intake:
        await intake.accept(request("b", "a", **asked_for), AUTHOR)
    batch = await taken_in(database, [request("d", "c", **asked_for)])
    single, of_batch = await row_of(sql, ("a", "b")), await row_of(sql, ("c", "d"))
    told = [each.pop("detail", "") for each in (*single, *of_batch)]
    names = {"a": "c", "b": "d"}
    assert [
        {key: names.get(str(value), value) for key, value in row.items()} for row in single
    ] == [{**row, "couple_low": "c", "couple_high": "d"} if "couple_low" in row else row
          for row in of_batch]  # fmt: skip
    assert f'"batch":"{batch.id}"' in told[7]
    lines = await sql.fetch("select line from pairing order by couple_low")
    assert [row["line"] for row in lines] == ["-005:tester", f"-005:{batch.id}"]
    verdicts = [verdict async for verdict in Chains(database).verify()]
    assert len(verdicts) == 6
    assert not [verdict for verdict in verdicts if verdict.misfit is not None]


async def test_order_holds_across_chunks_and_so_does_what_is_rejected(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 3)
    names = [f"n{number}" for number in range(6)]
    await register(database, *names)
    couples = list(combinations(names, 2))
    items: list[Item] = [request(*couple) for couple in couples]
    items.insert(4, Unacceptable("InvalidBody", "no"))
    items.append(request(*reversed(couples[0])))
    items += [request("n0", "nobody")] * 7
    batch = await taken_in(database, items)
    assert (batch.total, batch.accepted) == (24, 15)
    codes = {each.index: each.code for each in rejected(batch)}
    assert list(codes) == [4, *range(16, 24)]
    assert codes[4] == "InvalidBody"
    assert codes[16] == "DuplicateInBatch"
    assert {codes[index] for index in range(17, 24)} == {"UnknownAppliance"}
    found = [(await Batches(database).get(batch.id)).counts.queued]
    assert found == [15]


async def test_nothing_is_seen_of_a_batch_before_all_of_it(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    await register(database, "a", "b", "c")
    seen: list[asyncio.Task[int]] = []

    def items() -> Iterator[Item]:
        yield request("a", "b")
        seen.append(asyncio.ensure_future(sql.fetchval("select count(*) from pairing")))
        yield request("a", "c")
        raise ValueError("it broke off")

    wanted = BatchRequest(items, 3)
    with pytest.raises(ValueError, match="it broke off"):
        await BulkIntake(database, now).accept(wanted, AUTHOR)
    assert [await each for each in seen] == [0]
    for table in ("pairing", "side", "batch", "batch_tally"):
        assert await sql.fetchval(f"select count(*) from {table}") == 0  # noqa: S608


async def test_a_couple_that_is_taken_meanwhile_is_rejected(
    database: Database, sql: "Connection"
) -> None:
    """Whoever has it is not committed yet when we look, and is when we write."""
    await register(database, "a", "b", "c")
    transaction = sql.transaction()
    await transaction.start()
    rival = await insert_rival(sql, "a", "b")
    batch = asyncio.create_task(taken_in(database, [request("a", "c"), request("b", "a")]))
    await until_blocked(sql)
    await transaction.commit()
    answer = await batch
    assert (answer.accepted, [each.code for each in rejected(answer)]) == (1, ["PairingActive"])
    assert str(rival) in rejected(answer)[0].detail
    assert (await Batches(database).get(answer.id)).counts.queued == 1


async def test_a_rejection_says_the_same_wherever_in_its_chunk_the_item_is(
    database: Database, sql: "Connection"
) -> None:
    """Of two that want a couple which somebody has, neither is the other's duplicate."""
    await register(database, "a", "b", "c")
    rival = await insert_rival(sql, "a", "b")
    couples = ["bc", "ab", "ax", "ba", "cb"]
    batch = await taken_in(database, [request(*couple) for couple in couples])
    told = [(each.index, each.code) for each in rejected(batch)]
    assert told == [
        (1, "PairingActive"),
        (2, "UnknownAppliance"),
        (3, "PairingActive"),
        (4, "DuplicateInBatch"),
    ]
    assert str(rival) in rejected(batch)[0].detail
    [made] = await sql.fetch("select id from pairing where batch is not null")
    assert batch.accepted == 1
    assert await sql.fetchval("select count(*) from side where pairing_id = $1", made["id"]) == 2
    assert await sql.fetchval("select count(*) from event where chain = $1", made["id"]) == 1


async def test_the_log_tells_of_a_batch_once_it_is_durable_and_not_again(
    database: Database,
) -> None:
    await register(database, "a", "b")
    key = IdempotencyKey("k", b"one")
    told: list[BatchAccepted] = []

    def hear(event: LogEvent) -> None:
        if isinstance(event, BatchAccepted):
            told.append(event)

    with listening(hear):
        with pytest.raises(BatchRejected):
            await taken_in(database, [request("a", "x")], is_atomic=True)
        assert told == []
        items = [request("a", "b"), request("a", "x"), request("b", "a")]
        batch = await taken_in(database, items, key=key)
        await taken_in(database, items, key=key)
    [event] = told
    assert event == BatchAccepted(str(batch.id), 3, 1, 2, event.seconds)
    assert 0 < event.seconds < 60


async def test_two_batches_that_want_the_same_are_both_answered(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lock the couples in opposite orders, so slowly that they would meet time and again."""
    monkeypatch.setattr(bulk, "CHUNK", 1)
    mine = await sql.fetchval("select quote_ident(current_database())")
    await sql.execute(f"alter database {mine} set deadlock_timeout = '10ms'")
    names = [f"n{number}" for number in range(24)]
    await register(database, *names)
    couples = list(combinations(names, 2))
    one, other = await asyncio.gather(
        taken_in(database, [request(*couple) for couple in couples]),
        taken_in(database, [request(*couple) for couple in reversed(couples)]),
    )
    assert one.accepted + other.accepted == len(couples)
    for batch in (one, other):
        assert batch.accepted + len(rejected(batch)) == len(couples)
        assert {each.code for each in rejected(batch)} <= {"PairingActive"}


async def test_a_batch_whose_commit_was_not_heard_of_is_looked_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(database, "a", "b")
    accept, calls = bulk._accept, []

    async def deaf(*given: Any) -> Any:
        calls.append(given)
        return await accept(*given)

    intake = BulkIntake(database, now, patience_s=15)
    attempt = intake._attempt

    async def cut_off(*given: Any) -> Any:
        answer = await attempt(*given)
        if len(calls) == 1:
            raise RolledBack("cut off")
        return answer

    monkeypatch.setattr(bulk, "_accept", deaf)
    monkeypatch.setattr(intake, "_attempt", cut_off)
    wanted = BatchRequest(lambda: iter([request("a", "b"), request("a", "x")]), 2)
    answer = await intake.accept(wanted, AUTHOR)
    assert len(calls) == 2
    assert (answer.accepted, answer.replayed) == (1, False)
    assert [each.code for each in rejected(answer)] == ["UnknownAppliance"]
    assert (await Batches(database).get(answer.id)).counts.queued == 1


async def test_a_key_counts_within_its_user(database: Database) -> None:
    await register(database, "a", "b", "c")
    key = IdempotencyKey("k", b"one")
    first = await taken_in(database, [request("a", "b")], key=key)
    again = await taken_in(database, [request("a", "b")], key=key)
    assert (again.id, again.replayed, again.accepted) == (first.id, True, 1)
    with pytest.raises(IdempotencyKeyReused):
        await taken_in(database, [request("a", "b")], key=IdempotencyKey("k", b"other"))
    somebody = type(AUTHOR)("somebody", AUTHOR.operation_id)
    other = await taken_in(database, [request("a", "c")], key=key, author=somebody)
    assert (other.replayed, other.accepted) == (False, 1)


async def test_what_was_rejected_is_told_again_as_it_was(database: Database) -> None:
    key = IdempotencyKey("k", b"same")
    words = 'ž "\0" \u2026'
    items: list[Item] = [Unacceptable("InvalidBody", words), request("x", "y")]
    first = await taken_in(database, items, key=key)
    again = await taken_in(database, items, key=key)
    assert (again.replayed, again.rejected) == (True, first.rejected)
    assert [(each.index, each.detail) for each in rejected(first)] == [
        (0, words),
        (1, "No appliance is registered as 'x' or 'y'."),
    ]


async def test_all_or_nothing(database: Database, sql: "Connection") -> None:
    await register(database, "a", "b")
    items = [request("a", "b"), request("b", "x")]
    with pytest.raises(BatchRejected) as refusal:
        await taken_in(database, items, is_atomic=True)
    assert [each.index for each in refusal.value.rejected] == [1]
    assert await sql.fetchval("select count(*) from batch") == 0
    assert (await taken_in(database, items[:1], is_atomic=True)).accepted == 1


async def test_of_a_batch_that_is_lost_the_rest_is_judged_and_not_written(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 2)
    await register(database, "a", "b", "c", "d", "e")
    await insert_rival(sql, "a", "b")
    await sql.execute(
        """
        create function forbid() returns trigger language plpgsql as $$
          begin raise 'a row for which there is no need'; end
        $$;
        create trigger forbidden before insert on pairing execute function forbid();
        """
    )
    couples = ["ac", "ba", "ca", "ad", "ab", "da", "ax", "bc"]
    with pytest.raises(BatchRejected, match="6 of 9 items") as refusal:
        await taken_in(
            database,
            [Unacceptable("InvalidBody", "no"), *[request(*couple) for couple in couples]],
            is_atomic=True,
        )
    assert [(each.index, each.code) for each in refusal.value.rejected] == [
        (0, "InvalidBody"),
        (2, "PairingActive"),
        (3, "DuplicateInBatch"),
        (5, "PairingActive"),
        (6, "DuplicateInBatch"),
        (7, "UnknownAppliance"),
    ]


async def test_what_is_in_the_batch_before_it_is_lost_has_its_duplicates(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 1)
    await register(database, "a", "b", "c")
    couples = ["ab", "ax", "ba", "bc", "cb"]
    with pytest.raises(BatchRejected) as refusal:
        await taken_in(database, [request(*couple) for couple in couples], is_atomic=True)
    assert [(each.index, each.code) for each in refusal.value.rejected] == [
        (1, "UnknownAppliance"),
        (2, "DuplicateInBatch"),
        (4, "DuplicateInBatch"),
    ]


async def test_everybody_else_gets_a_turn_after_each_item_that_is_refused(
    database: Database,
) -> None:
    turns: list[int] = []

    async def count() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    def items() -> Iterator[Item]:
        for _ in range(40):
            before = len(turns)
            yield Unacceptable("InvalidBody", "no")
            between.append(len(turns) - before)

    between: list[int] = []
    counting = asyncio.create_task(count())
    try:
        wanted = BatchRequest(items, 40, is_atomic=False)
        await BulkIntake(database, now).accept(wanted, AUTHOR, None)
    finally:
        counting.cancel()
    assert min(between) > 0


async def test_workers_are_told(database: Database, sql: "Connection") -> None:
    await register(database, "a", "b")
    told = asyncio.Event()
    await sql.add_listener("sitepair_due", lambda *_: told.set())
    batch = await taken_in(database, [request("a", "b")])
    async with asyncio.timeout(10):
        await told.wait()
    [row] = await sql.fetch("select id from pairing")
    assert (await Pairings(database).get(PairingId(row["id"]))).batch == batch.id
