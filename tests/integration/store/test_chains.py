"""Every chain is followed in the database, and whatever was done to one is named."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import pytest
from msgspec import structs

from service.domain import chain
from service.domain.chain import Verdict, Wrong
from service.domain.events import Entry
from service.domain.pairing import Pairing
from service.store import chains
from service.store.chains import NO_TIME, Chains
from service.store.database import Database
from service.store.pairings import Pairings
from service.store.rows import to_time
from tests.integration.store.values import (
    AUTHOR,
    claimed,
    journal_on,
    name,
    register,
    registry,
    spec,
    way_to_success,
)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

EVENTS = 12
"""How many a pairing that went well has, the acceptance included."""


async def paired(database: Database, *couples: tuple[str, str]) -> list[Pairing]:
    """Pairings of these couples that went well."""
    begun = await claimed(database, *couples)
    async with journal_on(database) as journal:
        for pairing in begun:
            for change in way_to_success(pairing):
                await journal.append(change)
    return begun


async def verdicts(database: Database, only: UUID | None = None) -> list[Verdict]:
    """All that is found."""
    return [verdict async for verdict in Chains(database).verify(only)]


async def found(database: Database) -> Verdict:
    """The one broken chain."""
    (broken,) = [verdict for verdict in await verdicts(database) if verdict.misfit is not None]
    return broken


async def found_at(database: Database) -> tuple[UUID, Wrong, int | None]:
    """The one broken chain, what is wrong, and at which event."""
    broken = await found(database)
    assert broken.misfit is not None
    entry = broken.misfit.entry
    return broken.chain, broken.misfit.wrong, entry.seq if entry is not None else None


async def test_sound_chains_of_pairings_and_registrations_are_counted(database: Database) -> None:
    one, other = await paired(database, ("a", "b"), ("b", "c"))
    await registry(database).put(replace(spec("a"), description="moved"), AUTHOR)

    all_of_them = await verdicts(database)

    assert all(verdict.misfit is None for verdict in all_of_them)
    assert {v.chain: v.events for v in all_of_them if v.appliance is None} == {
        one.id: EVENTS,
        other.id: EVENTS,
    }
    assert {v.appliance: v.events for v in all_of_them if v.appliance is not None} == {
        "a": 2,
        "b": 1,
        "c": 1,
    }


async def test_an_empty_database_is_sound(database: Database) -> None:
    assert await verdicts(database) == []


async def test_a_removed_appliance_leaves_a_sound_chain(database: Database) -> None:
    await register(database, "a", "b")
    await registry(database).delete(name("a"), AUTHOR)

    assert sorted((v.appliance or "", v.events, v.misfit) for v in await verdicts(database)) == [
        ("a", 2, None),
        ("b", 1, None),
    ]


CHANGES = {
    "detail": 'detail = \'{"side": "somebody else"}\'',
    "detail that is no object": "detail = '[1]'",
    "detail that cannot be read": "detail = ('{\"n\": ' || repeat('9', 5000) || '}')::json",
    "detail that nobody can read": "detail = (repeat('[', 3000) || repeat(']', 3000))::json",
    "time": "at = at + interval '1 hour'",
    "time by a microsecond": "at = at + interval '1 microsecond'",
    "time to the end of days": "at = 'infinity'",
    "time before Python's": "at = '4712-01-01 BC'",
    "type": "type = 'PairingFailed'",
    "actor": "actor = 'mallory'",
    "appliance": "appliance = 'z'",
    "operation": "operation_id = 'other'",
    "hash": "hash = sha256(hash)",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("seq", [1, 4, EVENTS])
async def test_a_changed_event_is_named(
    database: Database, sql: "Connection", change: str, seq: int
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute(
        f"update event set {change} where chain = $1 and seq = $2",  # noqa: S608 - of this file
        victim.id,
        seq,
    )

    assert await found_at(database) == (victim.id, Wrong.CHANGED, seq)


@pytest.mark.parametrize("seq", [1, 4, EVENTS])
async def test_an_event_that_the_trail_is_kept_from_showing_is_named(
    database: Database, sql: "Connection", seq: int
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute(
        "update event set xid = '9223372036854775807' where chain = $1 and seq = $2", victim.id, seq
    )

    assert await found_at(database) == (victim.id, Wrong.NOT_SHOWN, seq)


async def test_a_time_that_is_none_of_ours_is_shown_as_such(
    database: Database, sql: "Connection"
) -> None:
    (victim,) = await paired(database, ("a", "b"))
    await sql.execute("update event set at = 'infinity' where chain = $1 and seq = 3", victim.id)

    broken = await found(database)

    assert broken.misfit is not None
    assert broken.misfit.entry is not None
    assert broken.misfit.entry.at == NO_TIME


async def test_behind_a_removed_event_the_next_one_is_named(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute("delete from event where chain = $1 and seq in (4, 5)", victim.id)

    assert await found_at(database) == (victim.id, Wrong.MISSING_BEFORE, 6)


async def test_a_removed_event_is_missed_even_if_the_others_are_numbered_anew(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute("delete from event where chain = $1 and seq = 4", victim.id)
    await renumber(sql, victim.id, {seq: seq - 1 for seq in range(5, EVENTS + 1)})

    assert await found_at(database) == (victim.id, Wrong.CHANGED, 4)


@pytest.mark.parametrize("left", [1, 4, EVENTS - 1])
async def test_of_a_chain_that_was_cut_off_the_last_event_left_is_named(
    database: Database, sql: "Connection", left: int
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute("delete from event where chain = $1 and seq > $2", victim.id, left)

    assert await found_at(database) == (victim.id, Wrong.MISSING_AFTER, left)


async def test_a_pairing_without_events_is_named(database: Database, sql: "Connection") -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute("delete from event where chain = $1", victim.id)

    assert await found_at(database) == (victim.id, Wrong.NO_EVENTS, None)
    assert (await found(database)).appliance is None


async def test_an_inserted_event_is_named(database: Database, sql: "Connection") -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await renumber(sql, victim.id, {seq: seq + 1 for seq in range(5, EVENTS + 1)})
    await sql.execute(
        "insert into event (chain, seq, at, type, actor, operation_id, detail, hash)"
        " select chain, 5, at, 'PairingHandedBack', actor, operation_id, detail, hash"
        " from event where chain = $1 and seq = 4",
        victim.id,
    )

    assert await found_at(database) == (victim.id, Wrong.CHANGED, 5)


@pytest.mark.parametrize("later", [True, False])
async def test_an_event_that_comes_twice_is_named(
    database: Database, sql: "Connection", later: bool
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute(
        "insert into event (chain, seq, at, type, actor, operation_id, detail, hash)"
        " select chain, seq, at + $2, type, actor, operation_id, detail, hash"
        " from event where chain = $1 and seq = 4",
        victim.id,
        timedelta(seconds=1 if later else -1),
    )

    assert await found_at(database) == (victim.id, Wrong.CHANGED, 4)


async def test_an_event_appended_behind_the_head_is_named(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    (*_, last) = await Pairings(database).events(victim.id)
    await write(
        sql, rehashed(structs.replace(last, seq=EVENTS + 1, type="PairingRetried"), last.hash)
    )

    assert await found_at(database) == (victim.id, Wrong.HEAD_DIFFERS, EVENTS + 1)


async def test_of_two_events_that_changed_places_the_first_is_named(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await renumber(sql, victim.id, {3: 7, 7: 3})

    assert await found_at(database) == (victim.id, Wrong.CHANGED, 3)


async def test_a_forgery_that_was_hashed_anew_no_longer_fits_its_successor(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    entries = await Pairings(database).events(victim.id)
    forgery = rehashed(structs.replace(entries[3], actor="mallory"), entries[2].hash)
    await sql.execute("delete from event where chain = $1 and seq = 4", victim.id)
    await write(sql, forgery)

    assert await found_at(database) == (victim.id, Wrong.CHANGED, 5)


async def test_a_tail_that_was_forged_as_a_whole_does_not_end_at_the_head(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    entries = await Pairings(database).events(victim.id)
    await sql.execute("delete from event where chain = $1 and seq > 4", victim.id)
    before = entries[3].hash
    for entry in entries[4:]:
        forgery = rehashed(structs.replace(entry, actor="mallory"), before)
        await write(sql, forgery)
        before = forgery.hash

    assert await found_at(database) == (victim.id, Wrong.HEAD_DIFFERS, EVENTS)


async def test_a_chain_whose_pairing_was_deleted_is_named(
    database: Database, sql: "Connection"
) -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute("delete from pairing where id = $1", victim.id)

    assert await found_at(database) == (victim.id, Wrong.NO_HEAD, EVENTS)


async def test_a_registration_is_followed_like_a_pairing(
    database: Database, sql: "Connection"
) -> None:
    one, other, third = await register(database, "a", "b", "c")
    await registry(database).put(replace(spec("a"), description="moved"), AUTHOR)
    await registry(database).delete(name("b"), AUTHOR)
    await sql.execute("delete from event where chain = $1 and seq = 2", one.id)
    await sql.execute("delete from event where chain = $1 and seq = 2", other.id)
    await sql.execute("delete from event where chain = $1", third.id)

    broken = {v.appliance: v.misfit for v in await verdicts(database)}

    assert {name: misfit.wrong for name, misfit in broken.items() if misfit is not None} == {
        "a": Wrong.MISSING_AFTER,
        "b": Wrong.NO_HEAD,
        "c": Wrong.NO_EVENTS,
    }


async def test_one_pairing_alone_is_followed(database: Database, sql: "Connection") -> None:
    victim, other = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute("update event set actor = 'mallory' where chain = $1 and seq = 2", victim.id)

    (sound,) = await verdicts(database, other.id)
    (broken,) = await verdicts(database, victim.id)

    assert (sound.chain, sound.events, sound.misfit) == (other.id, EVENTS, None)
    assert (broken.chain, broken.misfit is not None) == (victim.id, True)
    assert await verdicts(database, uuid4()) == []


@pytest.mark.parametrize(("stretch", "page"), [(1, 1), (2, 3), (3, EVENTS), (1000, 7)])
async def test_stretches_and_pages_of_any_size_find_the_same(
    database: Database,
    sql: "Connection",
    monkeypatch: pytest.MonkeyPatch,
    stretch: int,
    page: int,
) -> None:
    couples = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]
    pairings = await paired(database, *couples)
    await registry(database).delete(name("d"), AUTHOR)
    await sql.execute("delete from event where chain = $1", pairings[0].id)
    await sql.execute("delete from event where chain = $1 and seq = 3", pairings[1].id)
    await sql.execute("delete from pairing where id = $1", pairings[3].id)
    whole = {verdict.chain: verdict for verdict in await verdicts(database)}

    monkeypatch.setattr(chains, "CHAINS", stretch)
    monkeypatch.setattr(chains, "PAGE", page)
    in_parts = await verdicts(database)

    assert len(in_parts) == len(whole) == 8
    assert {verdict.chain: verdict for verdict in in_parts} == whole


async def test_chains_that_are_being_written_do_not_look_broken(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page an event: each chain grows while it is read."""
    monkeypatch.setattr(chains, "PAGE", 1)
    begun = await claimed(database, ("a", "b"), ("b", "c"), ("a", "c"))
    begun_together = asyncio.Barrier(len(begun) + 1)
    broken: list[Verdict] = []
    rounds = 0

    async def write_on(pairing: Pairing) -> None:
        await begun_together.wait()
        for change in way_to_success(pairing):
            await journal.append(change)

    async with journal_on(database) as journal, asyncio.TaskGroup() as group:
        writers = [group.create_task(write_on(pairing)) for pairing in begun]
        await begun_together.wait()
        while not all(writer.done() for writer in writers) or rounds == 0:
            broken += [v for v in await verdicts(database) if v.misfit is not None]
            rounds += 1

    assert broken == []
    assert sum(verdict.events for verdict in await verdicts(database)) == 3 * EVENTS + 3


async def renumber(sql: "Connection", chain_id: UUID, numbers: dict[int, int]) -> None:
    """Give events of a chain other numbers."""
    update = "update event set seq = $3 where chain = $1 and seq = $2"
    # By way of numbers that nobody has: the key is unique after each row.
    for before, after in numbers.items():
        await sql.execute(update, chain_id, before, 1000 + after)
    for after in numbers.values():
        await sql.execute(update, chain_id, 1000 + after, after)


def rehashed(entry: Entry, before: bytes) -> Entry:
    """`entry` with the hash that fits behind `before`."""
    return structs.replace(entry, hash=chain.entry_hash(entry, before))


async def write(sql: "Connection", entry: Entry) -> None:
    """Insert an event behind the journal's back."""
    await sql.execute(
        "insert into event (chain, seq, at, type, appliance, actor, operation_id, detail, hash)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        entry.chain,
        entry.seq,
        to_time(entry.at),
        entry.type,
        entry.appliance,
        entry.actor,
        entry.operation_id,
        entry.detail,
        entry.hash,
    )


async def test_the_spelling_of_an_older_release_fits(database: Database, sql: "Connection") -> None:
    await paired(database, ("a", "b"))
    for row in await sql.fetch("select chain, seq, detail::text as detail from event"):
        backwards = dict(reversed(json.loads(row["detail"]).items()))
        await sql.execute(
            "update event set detail = $3 where chain = $1 and seq = $2",
            row["chain"],
            row["seq"],
            json.dumps(backwards, indent=1),
        )
    assert [each.misfit for each in await verdicts(database) if each.misfit is not None] == []


async def test_a_key_that_comes_twice_is_a_change(database: Database, sql: "Connection") -> None:
    victim, _ = await paired(database, ("a", "b"), ("b", "c"))
    await sql.execute(
        'update event set detail = (\'{"worker":"mallory",\' || substr(detail::text, 2))::json'
        " where chain = $1 and type = 'PairingStarted'",
        victim.id,
    )
    found = await found_at(database)
    assert found is not None
    assert found[:2] == (victim.id, Wrong.CHANGED)
