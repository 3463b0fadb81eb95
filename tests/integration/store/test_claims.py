"""Claiming: who gets what, in which order, under which epoch."""

import asyncio
import time
from collections import Counter
from itertools import combinations, islice
from typing import TYPE_CHECKING

import asyncpg
import pytest
from msgspec.structs import replace

from service.domain.author import Author
from service.domain.ids import OperationId
from service.domain.pairing import Claimed
from service.store.claims import Claims
from service.store.database import Database
from service.store.leases import Heartbeat
from service.store.notify import Listener
from service.store.pairings import Pairings
from tests.integration.store.values import (
    AUTHOR,
    accepted,
    claim,
    claims_on,
    failed,
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
from tests.integration.store.watching import until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

MANY = [(f"n{one}", f"n{other}") for one, other in combinations(range(10), 2)][:40]
NOTHING = Claimed([], has_more=False)


async def test_two_claimers_at_once_share_the_work_and_no_pairing_twice(
    database: Database,
) -> None:
    pairings = await accepted(database, *MANY)
    claimers = [await claims_on(database) for _ in range(4)]
    taken = await asyncio.gather(*[claimer.claim(10) for claimer in claimers])
    ids = [assignment.pairing.id for each in taken for assignment in each.assignments]
    assert sorted(ids) == sorted(pairing.id for pairing in pairings)


async def test_what_another_claimer_is_about_to_take_is_skipped_without_waiting(
    database: Database, sql: "Connection"
) -> None:
    first, second = await accepted(database, ("a", "b"), ("a", "c"))
    async with sql.transaction():
        await sql.execute("select from pairing where id = $1 for update", first.id)
        [assignment] = await claim(database, 10)
    assert assignment.pairing.id == second.id


async def waiting(
    database: Database, *wanted: tuple[str, int], each: int, besides: int = 0
) -> None:
    """So many pairings of each user and priority, all of one before all of the next, when there
    are others already."""
    names = [f"n{number:02}" for number in range(20)]
    couples = islice(combinations(names, 2), besides, None)
    await register(database, *names)
    async with intake_on(database) as intake:
        for user, priority in wanted:
            for one, other in islice(couples, each):
                author = Author(user, OperationId("op"))
                await intake.accept(request(one, other, priority=priority), author)


async def served(claims: Claims, *limits: int) -> list[tuple[str, int]]:
    """Whose pairings each of so many claims brought, and of which priority."""
    found = []
    for limit in limits:
        assignments = (await claims.claim(limit)).assignments
        assert len(assignments) <= limit
        found += [(each.pairing.user, each.pairing.priority) for each in assignments]
    return found


async def test_who_wants_little_does_not_wait_for_who_wants_much(database: Database) -> None:
    await waiting(database, ("much", 0), each=60)
    claims = await claims_on(database)
    await served(claims, 10)
    await waiting(database, ("little", 0), each=3, besides=60)
    assert Counter(await served(claims, 8)) == {("much", 0): 4, ("little", 0): 3}


async def test_ten_more_of_priority_double_the_share_and_nobody_starves(
    database: Database,
) -> None:
    await waiting(database, ("a", 0), ("a", 10), ("a", 100), ("a", -100), each=40)
    claims = await claims_on(database)
    first = Counter(await served(claims, 40))
    assert first["a", 100] > 30
    assert min(first["a", priority] for priority in (0, 10, -100)) == 1
    await served(claims, 40)
    third = Counter(await served(claims, 33))
    assert third["a", -100] == 1
    assert third["a", 10] == pytest.approx(2 * third["a", 0], abs=1)


async def test_the_oldest_of_a_line_goes_first(database: Database) -> None:
    accepted_first = await accepted(database, *MANY)
    claims = await claims_on(database)
    taken = [each.pairing.id for n in (7, 9) for each in (await claims.claim(n)).assignments]
    assert taken == [pairing.id for pairing in accepted_first[:16]]


async def test_more_lines_than_a_claim_serves_take_turns(database: Database) -> None:
    users = [(f"user-{number:03}", 0) for number in range(9)]
    await waiting(database, *users, each=2)
    claims = await claims_on(database)
    turns = await served(claims, 4, 4, 4, 4, 4, 4, 4)
    assert turns[:9] == users
    assert sorted(turns) == sorted(users * 2)


async def test_never_more_than_asked_for_and_it_tells_whether_there_may_be_more(
    database: Database,
) -> None:
    await accepted(database, *MANY)
    claims = await claims_on(database)
    first, rest, none = [await claims.claim(limit) for limit in (7, 40, 1)]
    assert (len(first.assignments), first.has_more) == (7, True)
    assert (len(rest.assignments), rest.has_more) == (33, False)
    assert none == NOTHING


async def test_each_claim_raises_the_epoch_and_changes_nothing_else(database: Database) -> None:
    [pairing] = await accepted(database, ("a", "b"))
    claims = await claims_on(database)
    for epoch in (1, 2, 3):
        [assignment] = (await claims.claim(2)).assignments
        assert assignment.pairing == replace(pairing, epoch=epoch)
        await claims.disown([])


async def test_what_somebody_owns_is_not_due(database: Database) -> None:
    await accepted(database, ("a", "b"))
    assert len(await claim(database, 1)) == 1
    assert await claim(database, 1) == []


async def test_what_is_over_is_not_due(database: Database) -> None:
    over, due = await accepted(database, ("a", "b"), ("a", "c"))
    [assignment] = await claim(database)
    assert assignment.pairing.id == over.id
    async with journal_on(database) as journal:
        await journal.append(failed(assignment.pairing))
    assert [each.pairing.id for each in await claim(database, 10)] == [due.id]


async def test_a_running_pairing_comes_back_with_its_state_and_its_sides_in_order(
    database: Database,
) -> None:
    await accepted(database, ("b", "a"))
    first = await claims_on(database)
    [assignment] = (await first.claim(1)).assignments
    way = way_to_success(assignment.pairing)[:6]
    async with journal_on(database) as journal:
        for change in way:
            await journal.append(change)
    await first.disown([])
    [again] = await claim(database, 1)
    assert again.pairing == replace(way[-1].pairing, epoch=2)
    assert [side.appliance for side in again.pairing.sides] == ["b", "a"]
    assert [endpoint.name for endpoint in again.endpoints] == ["b", "a"]


async def test_endpoints_are_those_registered_at_the_moment_of_the_claim(
    database: Database,
) -> None:
    await accepted(database, ("a", "b"))
    changed = spec("b", api_url="https://elsewhere.example", api_thumbprint=thumbprint(0xCD))
    await registry(database).put(changed, AUTHOR)
    [assignment] = await claim(database, 1)
    one, other = assignment.endpoints
    assert (one.name, one.version, one.former_api_urls) == ("a", 1, ())
    assert (other.api_url, other.api_thumbprint) == ("https://elsewhere.example", thumbprint(0xCD))
    assert (other.version, other.former_api_urls) == (2, ("https://b.example:8048",))


async def test_a_former_url_that_is_anothers_by_now_is_not_told(database: Database) -> None:
    await accepted(database, ("a", "b"))
    for url in ("https://second.example", "https://third.example", "https://elsewhere.example"):
        await registry(database).put(spec("b", api_url=url), AUTHOR)
    await registry(database).put(spec("c", api_url="HTTPS://B.example:8048/"), AUTHOR)
    [assignment] = await claim(database, 1)
    former = ("https://third.example:443", "https://second.example:443")
    assert assignment.endpoints[1].former_api_urls == former


@pytest.mark.parametrize("whose", ["b", "c"])
async def test_where_a_peer_was_told_to_be_is_told_unless_it_is_anothers_by_now(
    database: Database, sql: "Connection", whose: str
) -> None:
    await accepted(database, ("a", "b"))
    await sql.execute("update side set asked_url = 'https://once.example:443'")
    await registry(database).put(spec(whose, api_url="https://once.example"), AUTHOR)
    [assignment] = await claim(database, 1)
    side = assignment.pairing.side(name("a"))
    assert side.asked_url == ("https://once.example:443" if whose == "b" else None)


async def test_all_but_what_is_driven_is_given_up_and_only_by_its_owner(
    database: Database,
) -> None:
    mine, driven, theirs = await accepted(database, ("a", "b"), ("a", "c"), ("b", "c"))
    me, them = await claims_on(database), await claims_on(database)
    taken = (await me.claim(2)).assignments
    assert [each.pairing.id for each in taken] == [mine.id, driven.id]
    assert [each.pairing.id for each in (await them.claim(1)).assignments] == [theirs.id]
    await me.disown({driven.id, theirs.id})
    due = await claim(database, 10)
    assert [each.pairing.id for each in due] == [mine.id]


async def test_what_somebody_else_takes_at_this_moment_is_not_given_up(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    claims, them = await claims_on(database), worker()
    await claims.claim(1)
    async with asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute("update pairing set worker = $1, epoch = epoch + 1", them)
        tasks.create_task(claims.disown([]))
        await until_blocked(sql)
    assert await sql.fetchval("select worker from pairing") == them


async def test_what_is_given_up_wakes_the_workers(database: Database, database_url: str) -> None:
    await accepted(database, ("a", "b"))
    claims, listener = await claims_on(database), Listener(database_url)
    await claims.claim(1)
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        listening = tasks.create_task(listener.run(ready))
        await ready.wait()
        await listener.due.wait(60)
        await claims.disown([])
        async with asyncio.timeout(10):
            await listener.due.wait(60)
        listening.cancel()


async def test_a_claim_on_its_way_is_given_up_too(database: Database, sql: "Connection") -> None:
    """Its answer was lost, and so it is disowned before it is through."""
    await accepted(database, ("a", "b"))
    owner = worker()
    claims = await claims_on(database, owner)
    async with asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            # What such a claim does, not committed yet.
            await sql.execute("select from worker where id = $1 for key share", owner)
            await sql.execute("update pairing set worker = $1, epoch = epoch + 1", owner)
            disowning = tasks.create_task(claims.disown([]))
            await until_blocked(sql)
        await disowning
    assert len(await claim(database, 1)) == 1


async def test_a_write_under_the_epoch_before_the_claim_is_fenced_off(database: Database) -> None:
    await accepted(database, ("a", "b"))
    old = await claims_on(database)
    [assignment] = (await old.claim(1)).assignments
    await old.disown([])
    [fresh] = await claim(database, 1)
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
    [assignment] = await claim(database, 1)
    assert assignment.remaining_s == pytest.approx(60, abs=20)


async def test_a_deadline_of_its_own_counts_more_than_what_was_accepted(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    deadline = int(time.time() * 1000) + 1_000_000_000
    await sql.execute("update pairing set deadline = $1", deadline)
    [assignment] = await claim(database, 1)
    assert assignment.pairing.deadline == deadline
    assert assignment.remaining_s == pytest.approx(1_000_000, abs=20)


async def test_a_pairing_whose_appliance_vanished_does_not_take_the_others_with_it(
    database: Database, sql: "Connection"
) -> None:
    """It cannot happen through the registry; by hand it can."""
    await accepted(database, ("a", "b"), ("c", "d"))
    await sql.execute("delete from appliance where name = 'b'")
    lame, good = await claim(database, 10)
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
    await (await claims_on(database, owner)).claim(1)
    assert await sql.fetchval("select worker from pairing") == owner
    assert len(await Pairings(database).events(pairing.id)) == 1
    assert (await Pairings(database).get(pairing.id)).side(name("a")).attempts == 0


async def test_nothing_is_claimed_in_the_name_of_who_does_not_live(database: Database) -> None:
    await accepted(database, ("a", "b"))
    nobody = worker()
    assert await Claims(database, nobody).claim(1) == NOTHING
    await claims_on(database, nobody)
    await Heartbeat(database, nobody).leave()
    assert await Claims(database, nobody).claim(1) == NOTHING


async def test_a_claim_that_meets_its_workers_burial_waits_and_owns_nothing(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    claims = await claims_on(database)
    async with asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("delete from worker")
            claiming = tasks.create_task(claims.claim(1))
            await until_blocked(sql)
        assert await claiming == NOTHING
    assert await sql.fetchval("select worker from pairing") is None


async def test_a_wish_to_cancel_comes_with_the_claim_and_is_told_of_until_it_is_in_the_chain(
    database: Database, sql: "Connection"
) -> None:
    wanted, other = await accepted(database, ("a", "b"), ("a", "c"))
    wish = "update pairing set cancel_user = 'eve', cancel_operation_id = 'op-9' where id = $1"
    await sql.execute(wish, wanted.id)
    claims = await claims_on(database)
    taken = (await claims.claim(2)).assignments
    eves = Author("eve", OperationId("op-9"))
    assert [each.cancel for each in taken] == [eves, None]
    assert await claims.wishes() == {wanted.id: eves}
    assert await (await claims_on(database)).wishes() == {}
    await sql.execute(wish, other.id)
    await sql.execute("update pairing set is_canceling = true where id = $1", wanted.id)
    assert await claims.wishes() == {other.id: eves}
    await claims.disown([])
    again = {each.pairing.id: each for each in await claim(database, 2)}
    assert again[wanted.id].cancel is None
    assert again[wanted.id].pairing.is_canceling
    assert again[other.id].cancel == eves
