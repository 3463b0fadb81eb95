"""What is old goes, whatever has to stay stays, and every chain that is left is whole."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from service.domain.errors import StoreUnavailable, UnknownPairing
from service.domain.ids import ApplianceName, PairingId
from service.store import partitions, pruning
from service.store.appliances import Appliances
from service.store.audit import Audit, AuditFilter, Recorded
from service.store.bulk import Item, Unacceptable
from service.store.chains import Chains
from service.store.database import Database
from service.store.intake import IdempotencyKey
from service.store.pairings import PairingFilter, Pairings
from service.store.partitions import months
from service.store.pruning import Pruned, Pruner
from service.store.vault import Vault
from tests.integration.store.bulk import mesh, taken_in
from tests.integration.store.history import begun, make_months, ms, over
from tests.integration.store.values import AUTHOR, KEY, intake_on, register, request, spec
from tests.integration.store.watching import until_blocked, until_unblocked
from tests.support.trail import record

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

JANUARY, FEBRUARY, MARCH = ms(2020, 1, 10), ms(2020, 2, 10), ms(2020, 3, 10)
OLD = IdempotencyKey("old", b"one")


@pytest.fixture(autouse=True)
async def months_of_long_ago(database: Database) -> None:
    """January to March 2020, and the appliances a, b and c, which nobody registered in them."""
    await make_months(database, 2020, 1)
    await register(database, "a", "b", "c")


async def prune(database: Database, cut_off: int) -> Pruned:
    """All of it at once."""
    return sum([step async for step in Pruner(database).prune(cut_off)], Pruned())


async def chains(database: Database) -> dict[UUID, int]:
    """The chains there are, all of them sound, and how many events each has."""
    verdicts = [verdict async for verdict in Chains(database).verify()]
    assert [verdict for verdict in verdicts if verdict.misfit is not None] == []
    return {verdict.chain: verdict.events for verdict in verdicts}


async def trail(database: Database) -> Sequence[Recorded]:
    """The audit trail."""
    return await Audit(database).page(AuditFilter(), 1000)


async def ids(database: Database) -> list[PairingId]:
    """The pairings there are, newest first."""
    return [each.id for each in await Pairings(database).page(PairingFilter(), 100)]


async def tables(sql: "Connection") -> set[str]:
    """The months of 2020 that are there."""
    rows = await sql.fetch("select relname from pg_class where relname ~ '^event_2020_..$'")
    return {row["relname"] for row in rows}


async def test_what_was_over_before_the_cut_off_goes_with_all_that_is_its_own(
    database: Database, sql: "Connection"
) -> None:
    gone = await over(database, ("a", "b"), JANUARY, key=OLD)
    kept = await over(database, ("a", "c"), MARCH, key=IdempotencyKey("new", b"other"))

    assert await prune(database, FEBRUARY) == Pruned(
        pairings=1, events=3, keys=1, months=("event_2020_01",)
    )

    assert await ids(database) == [kept.id]
    with pytest.raises(UnknownPairing):
        await Pairings(database).events(gone.id)
    assert await sql.fetchval("select count(*) from side") == 2
    assert await sql.fetchval("select array_agg(key) from idempotency") == ["new"]
    assert {each.entry.chain for each in await trail(database)} & {gone.id, kept.id} == {kept.id}
    left = await chains(database)
    assert (gone.id in left, left[kept.id]) == (False, 3)


async def test_what_is_not_over_or_was_over_later_stays_however_old_it_is(
    database: Database,
) -> None:
    active = await begun(database, ("a", "b"), JANUARY)
    late = await over(database, ("a", "c"), JANUARY, ended=MARCH)

    pruned = await prune(database, FEBRUARY)

    assert (pruned.pairings, pruned.months) == (0, ("event_2020_01",))
    assert set(await ids(database)) == {active.id, late.id}
    left = await chains(database)
    assert (left[active.id], left[late.id]) == (1, 3)
    # It goes whole, from where it was moved to and from its own month.
    assert (await prune(database, ms(2020, 3, 20))).events == 3
    assert late.id not in await chains(database)


async def test_a_pairing_that_ended_at_the_cut_off_stays(database: Database) -> None:
    pairing = await over(database, ("a", "b"), JANUARY)
    assert (await prune(database, JANUARY)).pairings == 0
    assert (await prune(database, JANUARY + 1)).pairings == 1
    assert pairing.id not in await chains(database)


async def test_the_month_of_the_cut_off_stays(database: Database, sql: "Connection") -> None:
    await over(database, ("a", "b"), FEBRUARY - 1)
    pruned = await prune(database, FEBRUARY)
    assert (pruned.pairings, pruned.months) == (1, ("event_2020_01",))
    assert await tables(sql) == {"event_2020_02", "event_2020_03"}
    assert (await prune(database, ms(2020, 3))).months == ("event_2020_02",)


def appliances_at(database: Database, at: int) -> Appliances:
    return Appliances(database, Vault([KEY]), lambda: at)


async def test_an_appliance_keeps_its_chain_through_all_months_that_go(
    database: Database, sql: "Connection"
) -> None:
    registration, _ = await appliances_at(database, JANUARY).put(spec("d"), AUTHOR)
    await appliances_at(database, MARCH).put(spec("d", description="moved"), AUTHOR)
    before = await trail(database)

    assert len((await prune(database, ms(2021, 1))).months) == 3

    assert await tables(sql) == set()
    assert (await chains(database))[registration.id] == 2
    # Each in its place: who follows the trail sees nothing twice, and nothing anew.
    assert await trail(database) == before


async def test_the_chain_of_an_appliance_goes_when_its_removal_is_as_old(
    database: Database,
) -> None:
    await appliances_at(database, JANUARY).put(spec("d"), AUTHOR)
    await appliances_at(database, FEBRUARY).delete(ApplianceName("d"), AUTHOR)
    # Known under its name again, and with a chain of its own.
    again, _ = await appliances_at(database, FEBRUARY).put(spec("d"), AUTHOR)

    assert (await prune(database, FEBRUARY + 1)).registrations == 0
    assert len(await chains(database)) == 5
    pruned = await prune(database, MARCH)

    assert (pruned.registrations, pruned.events) == (1, 2)
    left = await chains(database)
    assert (len(left), left[again.id]) == (4, 1)


async def test_it_goes_in_steps_and_can_be_stopped_after_any(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "STEP", 2)
    for number in range(5):
        await over(database, ("a", "b"), JANUARY + number)
    steps = Pruner(database).prune(FEBRUARY)

    assert await anext(steps) == Pruned(pairings=2, events=6)
    await steps.aclose()

    assert len(await ids(database)) == 3
    assert len(await chains(database)) == 6
    rest = [step async for step in Pruner(database).prune(FEBRUARY)]
    assert [step.pairings for step in rest] == [2, 1, 0, 0]
    assert await ids(database) == []


async def test_two_at_once_remove_everything_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "STEP", 3)
    for number in range(20):
        await over(database, ("a", "b"), JANUARY + number, ended=FEBRUARY if number % 2 else None)

    one, other = await asyncio.gather(prune(database, MARCH), prune(database, MARCH))

    both = one + other
    assert (both.pairings, both.events) == (20, 60)
    assert sorted(both.months) == ["event_2020_01", "event_2020_02"]
    assert (await prune(database, MARCH)) == Pruned()
    assert len(await chains(database)) == 3


async def test_a_month_that_somebody_else_drops_at_this_moment_is_theirs(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_LOCK_S", 60.0)
    async with database.transaction() as connection:
        january, *_ = await months(connection)
    async with sql.transaction():
        await sql.execute("select pg_advisory_xact_lock($1)", partitions._LOCK)
        await sql.execute(f"drop table {january.name}")
        dropping = asyncio.create_task(Pruner(database)._drop(january))
        await until_blocked(sql)
    assert await dropping == Pruned()


async def test_one_that_somebody_changes_is_left_to_them(
    database: Database, sql: "Connection"
) -> None:
    held, free = [await over(database, couple, JANUARY) for couple in (("a", "b"), ("a", "c"))]
    async with sql.transaction():
        await sql.execute("select from pairing where id = $1 for update", held.id)
        assert (await prune(database, FEBRUARY)).pairings == 1
    assert await ids(database) == [held.id]
    assert (await chains(database))[held.id] == 3
    assert (await prune(database, FEBRUARY)).pairings == 1
    assert free.id not in await chains(database)


async def test_a_month_that_is_being_read_is_kept_until_the_next_time(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PATIENCE_S", 0)
    await over(database, ("a", "b"), JANUARY)
    async with sql.transaction():
        await sql.execute("select from event limit 1")
        pruned = await prune(database, MARCH)
    assert (pruned.pairings, pruned.months) == (1, ())
    (kept,) = pruned.kept
    assert kept.startswith("event_2020_01: ")
    assert len(await tables(sql)) == 3
    assert (await prune(database, FEBRUARY)).months == ("event_2020_01",)


@pytest.mark.parametrize("outlasts_a_try", [False, True])
async def test_a_month_is_dropped_as_soon_as_nobody_reads_it(
    database: Database, sql: "Connection", *, outlasts_a_try: bool
) -> None:
    async with sql.transaction():
        await sql.execute("select from event limit 1")
        pruning_now = asyncio.create_task(prune(database, FEBRUARY))
        await until_blocked(sql)
        if outlasts_a_try:
            await until_unblocked(sql)
    assert (await pruning_now).months == ("event_2020_01",)


async def test_chains_are_followed_undisturbed_while_a_month_should_go(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PATIENCE_S", 0)
    await appliances_at(database, JANUARY).put(spec("d"), AUTHOR)
    verdicts = Chains(database).verify()
    seen = [await anext(verdicts)]

    assert (await prune(database, FEBRUARY)).months == ()
    seen += [verdict async for verdict in verdicts]

    assert [verdict.misfit for verdict in seen] == [None] * 4
    assert (await prune(database, FEBRUARY)).months == ("event_2020_01",)


async def test_no_month_is_dropped_behind_the_back_of_who_follows_chains(
    database: Database, sql: "Connection"
) -> None:
    await appliances_at(database, JANUARY).put(spec("d"), AUTHOR)
    async with database.transaction() as connection:
        january, *_ = await months(connection)
    async with sql.transaction():
        await sql.execute("lock table appliance in access exclusive mode")
        # It has its snapshot, but no event yet.
        following = asyncio.create_task(chains(database))
        await until_blocked(sql)
        with pytest.raises(StoreUnavailable):
            await Pruner(database)._drop(january)
    assert len(await following) == 4
    assert await Pruner(database)._drop(january) == Pruned(months=("event_2020_01",))


async def test_what_is_written_late_while_its_month_should_go_stays(
    database: Database, sql: "Connection"
) -> None:
    registration, _ = await appliances_at(database, JANUARY).put(spec("d"), AUTHOR)
    async with sql.transaction():
        await record(sql, chain=registration.id, seq=2, kind="ApplianceRegistered", appliance="d")
        await sql.execute("update event set at = '2020-01-20' where seq = 2")
        pruning_now = asyncio.create_task(prune(database, FEBRUARY))
        await until_blocked(sql)
    assert (await pruning_now).months == ("event_2020_01",)
    theirs = "select count(*) from event where chain = $1"
    assert await sql.fetchval(theirs, registration.id) == 2


async def test_the_chain_of_an_appliance_that_is_there_stays_whatever_is_in_it(
    database: Database, sql: "Connection"
) -> None:
    registration, _ = await appliances_at(database, JANUARY).put(spec("d"), AUTHOR)
    await record(sql, chain=registration.id, seq=2, kind="ApplianceRemoved", appliance="d")
    await sql.execute("update event set at = '2020-01-20' where seq = 2")

    assert (await prune(database, FEBRUARY)).registrations == 0

    (verdict,) = [each async for each in Chains(database).verify(registration.id)]
    assert (verdict.events, verdict.misfit is None) == (2, False)


async def test_a_month_of_which_much_has_to_stay_is_kept(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "SURVIVORS", 1)
    one, other = [await begun(database, couple, JANUARY) for couple in (("a", "b"), ("a", "c"))]

    pruned = await prune(database, FEBRUARY)

    assert pruned.kept == ("event_2020_01: more than 1 events have to stay",)
    assert "event_2020_01" in await tables(sql)
    assert {one.id, other.id} <= set(await chains(database))


async def test_what_will_go_is_told_beforehand(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "STEP", 1)
    for number in range(11):
        await over(database, ("a", "b"), JANUARY + number, key=None if number else OLD)
    await over(database, ("a", "b"), MARCH)

    foretold = await Pruner(database).foretell(FEBRUARY)

    assert foretold == Pruned(pairings=11, events=33, keys=1, months=("event_2020_01",))
    assert await prune(database, FEBRUARY) == foretold


async def test_who_remembers_a_place_that_was_pruned_goes_on_behind_it(database: Database) -> None:
    gone = [await over(database, couple, JANUARY) for couple in (("a", "b"), ("a", "c"))]
    kept = await over(database, ("b", "c"), MARCH)
    places = {each.entry.chain: each.place for each in await trail(database)}
    newer = await over(database, ("a", "b"), MARCH + 1)

    await prune(database, FEBRUARY)

    behind = await Audit(database).page(AuditFilter(), 100, places[gone[0].id])
    assert [each.entry.chain for each in behind] == [kept.id] * 3 + [newer.id] * 3
    older = await Pairings(database).page(PairingFilter(), 100, before=kept.id)
    assert older == await Pairings(database).page(PairingFilter(), 100, before=gone[0].id) == []


async def test_a_key_whose_pairing_is_pruned_while_it_is_asked_for_is_new(
    database: Database, sql: "Connection"
) -> None:
    first = await over(database, ("a", "b"), JANUARY, key=OLD)
    async with intake_on(database) as intake, asyncio.TaskGroup() as tasks, sql.transaction():
        # The key is found, the answer of then not yet.
        await sql.execute("lock table event_2020_01 in access exclusive mode")
        asked = tasks.create_task(intake.accept(request(), AUTHOR, OLD))
        await until_blocked(sql)
        await sql.execute("delete from event where chain = $1", first.id)
        await sql.execute("delete from pairing where id = $1", first.id)
    acceptance = asked.result()
    assert not acceptance.replayed
    assert await ids(database) == [acceptance.pairing.id]


async def test_a_batch_goes_when_it_is_old_and_none_of_its_pairings_is_left(
    database: Database, sql: "Connection"
) -> None:
    empty, kept, young = [await mesh(database, *couple) for couple in ("ab", "ac", "bc")]
    nothing: list[Item] = [Unacceptable("Nope", "No." * 100)] * 2000
    keyed = (await taken_in(database, nothing, key=OLD)).id
    assert await sql.fetchval("select count(*) from batch_rejection") > 0
    await sql.execute("update batch set start_time = 1 where id <> $1", young)
    gone = [row["id"] for row in await sql.fetch("select id from pairing where batch <> $1", kept)]
    await sql.execute("delete from side where pairing_id = any($1)", gone)
    await sql.execute("delete from pairing where id = any($1)", gone)

    pruned = await prune(database, FEBRUARY)
    assert (pruned.batches, pruned.keys) == (2, 1)

    left = {row["id"] for row in await sql.fetch("select id from batch")}
    assert left == {kept, young}
    tallied = "select count(*) from batch_tally where batch = any($1)"
    assert await sql.fetchval(tallied, [empty, keyed]) == 0
    assert await sql.fetchval("select count(*) from batch_rejection") == 0
