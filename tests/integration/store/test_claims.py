"""Claiming: who gets what, in which order, under which epoch."""

import asyncio
import time
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.store.claims import Claims
from service.store.database import Database
from service.store.pairings import Pairings
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    intake_on,
    journal_on,
    name,
    register,
    registry,
    request,
    spec,
    started,
    thumbprint,
    way_to_success,
    worker,
)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

MANY = [(f"n{one}", f"n{other}") for one, other in combinations(range(10), 2)][:40]


async def test_two_claimers_at_once_share_the_work_and_no_pairing_twice(
    database: Database,
) -> None:
    pairings = await accepted(database, *MANY)
    claimers = [Claims(database, worker()) for _ in range(4)]
    taken = await asyncio.gather(*[claimer.claim(10) for claimer in claimers])
    ids = [assignment.pairing.id for each in taken for assignment in each]
    assert sorted(ids) == sorted(pairing.id for pairing in pairings)


async def test_what_another_claimer_is_about_to_take_is_skipped_without_waiting(
    database: Database, sql: "Connection"
) -> None:
    first, second = await accepted(database, ("a", "b"), ("a", "c"))
    async with sql.transaction():
        await sql.execute("select from pairing where id = $1 for update", first.id)
        [assignment] = await Claims(database, worker()).claim(10)
    assert assignment.pairing.id == second.id


async def test_the_highest_priority_comes_first_and_then_the_oldest(database: Database) -> None:
    await register(database, *"abcdef")
    wanted = []
    async with intake_on(database) as intake:
        for other, priority in zip("bcdef", (0, 5, 0, 9, 5), strict=True):
            answer = await intake.accept(request("a", other, priority=priority), AUTHOR)
            wanted.append(answer.pairing)
    ordered = sorted(wanted, key=lambda pairing: (-pairing.priority, pairing.id))
    claims = Claims(database, worker())
    taken = [each for limit in (2, 2, 2) for each in await claims.claim(limit)]
    assert [each.pairing.id for each in taken] == [pairing.id for pairing in ordered]


async def test_never_more_than_asked_for(database: Database) -> None:
    await accepted(database, *MANY)
    assert len(await Claims(database, worker()).claim(7)) == 7


async def test_each_claim_raises_the_epoch_and_changes_nothing_else(database: Database) -> None:
    [pairing] = await accepted(database, ("a", "b"))
    claims = Claims(database, worker())
    for epoch in (1, 2, 3):
        [assignment] = await claims.claim(1)
        assert assignment.pairing == replace(pairing, epoch=epoch)
        await claims.release([pairing.id])


async def test_what_somebody_owns_is_not_due(database: Database) -> None:
    await accepted(database, ("a", "b"))
    assert len(await Claims(database, worker()).claim(1)) == 1
    assert await Claims(database, worker()).claim(1) == []


async def test_a_running_pairing_comes_back_with_its_state_and_its_sides_in_order(
    database: Database,
) -> None:
    await accepted(database, ("b", "a"))
    first = Claims(database, worker())
    [assignment] = await first.claim(1)
    way = way_to_success(assignment.pairing)[:6]
    async with journal_on(database) as journal:
        for change in way:
            await journal.append(change)
    await first.release([assignment.pairing.id])
    [again] = await Claims(database, worker()).claim(1)
    assert again.pairing == replace(way[-1].pairing, epoch=2)
    assert [side.appliance for side in again.pairing.sides] == ["b", "a"]
    assert [endpoint.name for endpoint in again.endpoints] == ["b", "a"]


async def test_endpoints_are_those_registered_at_the_moment_of_the_claim(
    database: Database,
) -> None:
    await accepted(database, ("a", "b"))
    changed = spec("b", api_url="https://elsewhere.example", api_thumbprint=thumbprint(0xCD))
    await registry(database).put(changed, AUTHOR)
    [assignment] = await Claims(database, worker()).claim(1)
    one, other = assignment.endpoints
    assert (one.name, one.version) == ("a", 1)
    assert (other.api_url, other.api_thumbprint) == ("https://elsewhere.example", thumbprint(0xCD))
    assert other.version == 2


async def test_only_what_the_worker_itself_owns_is_released(database: Database) -> None:
    mine, theirs, nobodys = await accepted(database, ("a", "b"), ("a", "c"), ("b", "c"))
    me, them = Claims(database, worker()), Claims(database, worker())
    assert [each.pairing.id for each in await me.claim(1)] == [mine.id]
    assert [each.pairing.id for each in await them.claim(1)] == [theirs.id]
    await me.release([mine.id, theirs.id, nobodys.id])
    due = await Claims(database, worker()).claim(10)
    assert {each.pairing.id for each in due} == {mine.id, nobodys.id}


async def test_a_write_under_the_epoch_before_the_release_is_still_fenced_off(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    old = Claims(database, worker())
    [assignment] = await old.claim(1)
    await old.release([assignment.pairing.id])
    [fresh] = await Claims(database, worker()).claim(1)
    async with journal_on(database) as journal:
        refused = await asyncio.gather(
            journal.append(started(assignment.pairing)), return_exceptions=True
        )
        await journal.append(started(fresh.pairing))
    assert [type(each).__name__ for each in refused] == ["LeaseLost"]


async def test_the_time_left_is_by_the_databases_clock(database: Database) -> None:
    await register(database, "a", "b")
    asked = int(time.time() * 1000) - 100_000
    async with intake_on(database, clock=lambda: asked) as intake:
        await intake.accept(request(timeout_s=160), AUTHOR)
    [assignment] = await Claims(database, worker()).claim(1)
    assert assignment.remaining_s == pytest.approx(60, abs=20)


async def test_a_pairing_whose_appliance_vanished_does_not_take_the_others_with_it(
    database: Database, sql: "Connection"
) -> None:
    """It cannot happen through the registry; by hand it can."""
    await accepted(database, ("a", "b"), ("c", "d"))
    await sql.execute("delete from appliance where name = 'b'")
    lame, good = await Claims(database, worker()).claim(10)
    assert [endpoint.api_url for endpoint in good.endpoints] == [
        "https://c.example:8048",
        "https://d.example:8048",
    ]
    assert [(each.name, each.api_url, each.version) for each in lame.endpoints] == [
        ("a", "https://a.example:8048", 1),
        ("b", "", 0),
    ]


async def test_a_claim_writes_ownership_and_no_event(database: Database, sql: "Connection") -> None:
    [pairing] = await accepted(database, ("a", "b"))
    owner = worker()
    await Claims(database, owner).claim(1)
    assert await sql.fetchval("select worker from pairing") == owner
    assert len(await Pairings(database).events(pairing.id)) == 1
    assert (await Pairings(database).get(pairing.id)).side(name("a")).attempts == 0
