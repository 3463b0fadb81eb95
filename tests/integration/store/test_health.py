"""Closed appliances: who is told, what waits for them, who probes, and how they open again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from service.domain.appliance import ApiError
from service.domain.ids import ApplianceName
from service.domain.pairing import Assignment, Pairing
from service.domain.registration import ApplianceHealth, LocalUser, LoginRefusal
from service.store.database import Database
from service.store.health import Health
from service.store.leases import Heartbeat
from service.store.notify import Listener
from service.store.pairings import Pairings
from tests.integration.store.history import over
from tests.integration.store.values import (
    AUTHOR,
    NOW,
    accepted,
    claim,
    claims_on,
    gates_on,
    name,
    real_now,
    register,
    registry,
    spec,
    worker,
)
from tests.integration.store.watching import until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

DOWN = ApiError("ConnectionRefused", "Nobody listens.", ("8048",))
SLOW = ApiError("Timeout", "No answer in 10 s.")
A, B, C = name("a"), name("b"), name("c")
RIPE = "update appliance_health set probe_time = clock_timestamp()"


async def accepted_now(database: Database, *couples: tuple[str, str]) -> list[Pairing]:
    """Pairings whose time is not over yet."""
    return await accepted(database, *couples, clock=real_now)


async def waiting(sql: "Connection") -> list[str]:
    """For what the pairings wait, in the order of their ids."""
    rows = await sql.fetch("select waits_for from pairing order by id")
    return [row["waits_for"] or "" for row in rows]


async def test_who_is_reported_is_closed_for_the_last_reason_until_it_opens(
    database: Database,
) -> None:
    await register(database, "a", "b")
    health, others = Health(database), Health(database)
    assert await health.closed() == {}
    await health.report({A: DOWN, name("nobody"): DOWN})
    await health.report({A: SLOW, B: DOWN})
    assert await others.closed() == {A: SLOW, B: DOWN}
    await others.reopen(A)
    await others.reopen(name("nobody"))
    assert await health.closed() == {B: DOWN}


async def test_many_who_report_the_same_at_once_do_not_stop_each_other(
    database: Database,
) -> None:
    names = [f"n{number}" for number in range(20)]
    await register(database, *names)
    there = {ApplianceName(each): DOWN for each in names}
    back = {ApplianceName(each): SLOW for each in reversed(names)}
    healths = [Health(database) for _ in range(8)]
    await asyncio.gather(*[each.report(news) for each in healths for news in (there, back)])
    assert (await healths[0].closed()).keys() == there.keys()


async def test_what_needs_a_closed_appliance_is_set_aside_and_nothing_else(
    database: Database, sql: "Connection"
) -> None:
    await accepted_now(database, ("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"))
    await Health(database).report({B: DOWN})
    claims = await claims_on(database)
    claimed = await claims.claim(3)
    assert [sorted(_names(each)) for each in claimed.assignments] == [["a", "c"]]
    assert claimed.has_more
    assert await waiting(sql) == ["b", "b", "", ""]
    last = await claims.claim(3)
    assert [sorted(_names(each)) for each in last.assignments] == [["c", "d"]]
    assert not last.has_more


def _names(assignment: Assignment) -> list[str]:
    return [side.appliance for side in assignment.pairing.sides]


async def test_with_both_appliances_closed_it_waits_for_one_and_then_for_the_other(
    database: Database, sql: "Connection"
) -> None:
    await accepted_now(database, ("a", "b"))
    health = Health(database)
    await health.report({A: DOWN, B: DOWN})
    assert await claim(database) == []
    assert await waiting(sql) == ["a"]
    await health.reopen(A)
    assert await claim(database) == []
    assert await waiting(sql) == ["b"]
    await health.reopen(B)
    assert len(await claim(database)) == 1


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("phase", ["ROLLING_BACK", "VERIFYING"])
async def test_on_the_way_back_it_goes_on_where_either_of_the_two_opens(
    database: Database, sql: "Connection", one: str, other: str, phase: str
) -> None:
    await accepted_now(database, ("a", "b"))
    await register(database, "c")
    await sql.execute(
        "update side set state = 'SUCCEEDED', call = 'pair', start_time = 1, end_time = 1"
    )
    await sql.execute(
        "update pairing set state = 'RUNNING', phase = $2, waits_for = $1, deadline = 9e12::bigint",
        one,
        phase,
    )
    health = Health(database)
    await health.report({A: DOWN, B: DOWN})
    await health.reopen(name("c"))
    assert await waiting(sql) == [one]
    await health.reopen(name(other))
    assert len(await claim(database)) == (phase == "ROLLING_BACK")


async def test_what_the_two_had_before_keeps_none_from_going_on_its_way_back(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b")
    await over(database, ("a", "b"), NOW)
    [pairing] = await accepted_now(database, ("a", "b"))
    await sql.execute(
        "update pairing set state = 'RUNNING', phase = 'ROLLING_BACK', waits_for = 'b', "
        "deadline = 9e12::bigint where id = $1",
        pairing.id,
    )
    health = Health(database)
    await health.report({A: DOWN, B: DOWN})
    await health.reopen(A)
    assert await waiting(sql) == ["", ""]


async def test_what_is_set_aside_keeps_its_state_and_its_deadline(database: Database) -> None:
    [pairing] = await accepted_now(database, ("a", "b"))
    await Health(database).report({B: DOWN})
    await claim(database)
    assert await Pairings(database).get(pairing.id) == pairing


@pytest.mark.parametrize(
    "change",
    ["start_time = 1, deadline = 2", "cancel_user = 'eve', cancel_operation_id = 'x'"],
)
async def test_what_is_late_or_to_be_canceled_is_claimed_all_the_same(
    database: Database, sql: "Connection", change: str
) -> None:
    await accepted_now(database, ("a", "b"))
    await Health(database).report({B: DOWN})
    await sql.execute(f"update pairing set {change}")  # noqa: S608 - from above
    [assignment] = await claim(database)
    assert (assignment.cancel is not None) == change.startswith("cancel")


@pytest.mark.parametrize(("phase", "claimed"), [("PAIRING", 1), ("ROLLING_BACK", 0)])
async def test_whose_wish_to_cancel_is_in_the_chain_waits_only_on_the_way_back(
    database: Database, sql: "Connection", phase: str, claimed: int
) -> None:
    """Who took it into the chain stopped before it was over."""
    await accepted_now(database, ("a", "b"))
    await done_on(sql, "b")
    await Health(database).report({B: DOWN})
    await sql.execute(
        "update pairing set state = 'RUNNING', phase = $1, cancel_user = 'eve', "
        "cancel_operation_id = 'x', is_canceling = true",
        phase,
    )
    assert len(await claim(database)) == claimed


@pytest.mark.parametrize("phase", ["PAIRING", "VERIFYING"])
async def test_what_has_begun_waits_like_what_has_not(
    database: Database, sql: "Connection", phase: str
) -> None:
    await accepted_now(database, ("a", "b"))
    await done_on(sql, "b")
    await Health(database).report({B: DOWN})
    await sql.execute("update pairing set state = 'RUNNING', phase = $1", phase)
    assert await claim(database) == []
    assert await waiting(sql) == ["b"]


@pytest.mark.parametrize(("phase", "claimed"), [("PAIRING", 1), ("ROLLING_BACK", 0)])
async def test_one_side_of_which_has_failed_waits_only_on_the_way_back(
    database: Database, sql: "Connection", phase: str, claimed: int
) -> None:
    """Whose worker stopped before the way back was on record."""
    await accepted_now(database, ("a", "b"))
    await done_on(sql, "b")
    await Health(database).report({B: DOWN})
    await sql.execute("update pairing set state = 'RUNNING', phase = $1", phase)
    await sql.execute(
        "update side set state = 'FAILED', start_time = 1, end_time = 2, error = "
        """'{"code": "Broken", "msg": "", "args": []}' where appliance = 'a'"""
    )
    assert len(await claim(database)) == claimed


REFUSED = """
    update side set state = 'ROLLBACK_FAILED', error = '{"code": "Broken", "msg": "", "args": []}'
    where appliance = 'b'
"""
RETRIED = """
    state = 'QUEUED', phase = null, error = '{"code": "Broken", "msg": "", "args": []}'
"""
GOING_BACK = """
    update pairing set state = 'RUNNING', phase = 'ROLLING_BACK', waits_for = 'a',
    deadline = 9e12::bigint, error = '{"code": "Broken", "msg": "", "args": []}'
"""
WAYS_BACK = {
    "begun": "state = 'RUNNING', phase = 'ROLLING_BACK'",
    "retried": RETRIED,
}


@pytest.mark.parametrize("way_back", WAYS_BACK.values(), ids=WAYS_BACK)
@pytest.mark.parametrize(
    ("done", "closed", "waits_for"),
    [
        ("a", "b", ""),
        ("b", "b", "b"),
        ("ab", "b", ""),
        ("b", "ab", "b"),
        ("ab", "ab", "a"),
    ],
)
async def test_on_the_way_back_it_waits_only_for_what_is_left_to_be_undone(
    database: Database, sql: "Connection", way_back: str, done: str, closed: str, waits_for: str
) -> None:
    await accepted_now(database, ("a", "b"))
    await done_on(sql, *done)
    await Health(database).report({name(each): DOWN for each in closed})
    await sql.execute(f"update pairing set {way_back}")  # noqa: S608 - from above
    assert len(await claim(database)) == (not waits_for)
    assert await waiting(sql) == [waits_for]


async def test_on_the_way_back_with_nothing_left_to_be_undone_it_waits_for_nobody(
    database: Database, sql: "Connection"
) -> None:
    """Whose worker stopped before the end was on record."""
    await accepted_now(database, ("a", "b"))
    await Health(database).report({A: DOWN, B: DOWN})
    await sql.execute("update pairing set state = 'RUNNING', phase = 'ROLLING_BACK'")
    assert len(await claim(database)) == 1


async def done_on(sql: "Connection", *names: str) -> None:
    """What it wants was done there."""
    await sql.execute(
        "update side set state = 'SUCCEEDED', start_time = 1, end_time = 2, call = 'pair' "
        "where appliance = any($1)",
        names,
    )


async def test_opening_wakes_the_workers_if_anything_waited(
    database: Database, database_url: str
) -> None:
    await accepted_now(database, ("a", "b"))
    health, listener = Health(database), Listener(database_url)
    await health.report({B: DOWN, A: DOWN})
    await claim(database)
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        listening = tasks.create_task(listener.run(ready))
        await ready.wait()
        await listener.due.wait(60)
        await health.reopen(B)
        await health.reopen(A)
        began = time.monotonic()
        await listener.due.wait(60)
        assert time.monotonic() - began < 10
        listening.cancel()


async def test_what_was_set_aside_while_its_appliance_opened_is_found_by_who_buries(
    database: Database, sql: "Connection"
) -> None:
    couples = ("a", "b"), ("a", "c"), ("b", "c"), ("b", "d")
    before, behind, late, rightly = await accepted_now(database, *couples)
    await Health(database).report({B: DOWN})
    park = "update pairing set waits_for = $2, deadline = $3 where id = $1"
    await sql.execute(park, before.id, "a", before.deadline)
    await sql.execute(park, behind.id, "c", behind.deadline)
    await sql.execute(park, late.id, "b", late.start_time + 1)
    await sql.execute(park, rightly.id, "b", rightly.deadline)
    me = worker()
    await claims_on(database, me)
    await Heartbeat(database, me).bury()
    assert await waiting(sql) == ["", "", "", "b"]


async def test_what_is_found_by_who_buries_wakes_the_workers(
    database: Database, database_url: str, sql: "Connection"
) -> None:
    await accepted_now(database, ("a", "b"))
    await sql.execute("update pairing set waits_for = 'b', deadline = 9e12::bigint")
    me, listener = worker(), Listener(database_url)
    await claims_on(database, me)
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        listening = tasks.create_task(listener.run(ready))
        await ready.wait()
        await listener.due.wait(60)
        await Heartbeat(database, me).bury()
        async with asyncio.timeout(10):
            await listener.due.wait(60)
        listening.cancel()


async def with_one_open_again(database: Database, sql: "Connection", *changes: str) -> Heartbeat:
    """A pairing of a and b, of which b alone answers again, changed so by hand; of who may bury."""
    await accepted_now(database, ("a", "b"))
    await done_on(sql, "a", "b")
    health, me = Health(database), worker()
    await health.report({A: DOWN, B: DOWN})
    await health.reopen(B)
    for change in changes:
        await sql.execute(change)
    await claims_on(database, me)
    return Heartbeat(database, me)


@pytest.mark.parametrize(
    ("but", "waits_for"),
    [
        ("select", ""),
        ("update appliance_health set back_since = back_since - 30000", "a"),
        ("update pairing set phase = 'VERIFYING'", "a"),
        ("update side set state = 'ROLLED_BACK', call = null where appliance = 'b'", "a"),
        (REFUSED, "a"),
        (REFUSED + "; update pairing set" + RETRIED, ""),
    ],
)
async def test_on_the_way_back_it_is_found_that_was_set_aside_while_its_other_one_opened(
    database: Database, sql: "Connection", but: str, waits_for: str
) -> None:
    heart = await with_one_open_again(database, sql, GOING_BACK, but)
    await heart.bury()
    assert await waiting(sql) == [waits_for]


@pytest.mark.parametrize(
    "why",
    [
        "update pairing set waits_for = 'b', deadline = 9e12::bigint",
        "update pairing set waits_for = 'a', deadline = start_time + 1",
        GOING_BACK,
    ],
)
async def test_who_buries_waits_for_no_lock_and_leaves_what_is_locked_to_the_next_one(
    database: Database, sql: "Connection", why: str
) -> None:
    heart = await with_one_open_again(database, sql, why)
    async with sql.transaction():
        await sql.execute("select from pairing for update")
        async with asyncio.timeout(5):
            await heart.bury()
    await heart.bury()
    assert await waiting(sql) == [""]


async def test_a_probe_is_one_callers_and_comes_again_only_later(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b", "c")
    health = Health(database)
    await health.report({A: DOWN, B: DOWN})
    assert await health.take_probes() == []
    await sql.execute(RIPE)
    taken = await asyncio.gather(*[Health(database).take_probes() for _ in range(5)])
    assert sorted(each for names in taken for each in names) == [A, B]
    assert await health.take_probes() == []
    left = await sql.fetchval("select min(probe_time) - now() from appliance_health")
    assert 10 < left.total_seconds() <= 20


async def test_whose_row_is_locked_keeps_nobody_from_probing_others(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b")
    health = Health(database)
    await health.report({A: DOWN, B: DOWN})
    await sql.execute(RIPE)
    lock = "select from appliance_health join appliance on id = appliance_id where name = 'a'"
    async with sql.transaction(), asyncio.timeout(5):
        await sql.execute(f"{lock} for update of appliance_health")
        assert await health.take_probes() == [B]
    assert await health.take_probes() == [A]


@pytest.mark.parametrize(("away_s", "pause_s"), [(0, 1), (8, 3), (40, 11), (56, 15), (10**6, 15)])
async def test_the_longer_it_is_away_the_longer_until_the_next_probe(
    database: Database, sql: "Connection", away_s: int, pause_s: int
) -> None:
    await register(database, "a")
    await Health(database).report({A: DOWN})
    since = await sql.fetchval(
        "update appliance_health set closed_since = closed_since - $1 returning closed_since",
        away_s * 1000,
    )
    await Health(database).report({A: DOWN})
    assert await sql.fetchval("select closed_since from appliance_health") == since
    left = await sql.fetchval("select probe_time - now() from appliance_health")
    assert left.total_seconds() == pytest.approx(pause_s, abs=0.9)


async def closed_again(
    sql: "Connection", health: Health, back_s: int, reopen: Callable[[], Awaitable[Any]]
) -> tuple[float, float]:
    """For how long A counts as closed, and how long it is until the next probe, in seconds: it was
    closed for 20 s, and then open."""
    await health.report({A: DOWN})
    await sql.execute("update appliance_health set closed_since = closed_since - 20000")
    await reopen()
    await sql.execute(
        "update appliance_health set away_since = away_since - $1, back_since = back_since - $1",
        back_s * 1000,
    )
    await reopen()  # Another worker finds the same.
    await health.report({A: DOWN})
    row = await sql.fetchrow(
        "select extract(epoch from now())::float8 - closed_since / 1000.0::float8 as closed_s,"
        " probe_time - now() as pause from appliance_health"
    )
    assert row is not None
    return row["closed_s"], row["pause"].total_seconds()


@pytest.mark.parametrize(
    ("back_s", "closed_s", "pause_s"), [(0, 20, 6), (12, 32, 9), (16, 0, 1), (3_600, 0, 1)]
)
async def test_one_that_was_back_for_a_moment_counts_as_away_all_along(
    database: Database, sql: "Connection", back_s: int, closed_s: int, pause_s: int
) -> None:
    await register(database, "a")
    health = Health(database)
    found = await closed_again(sql, health, back_s, lambda: health.reopen(A))
    assert found == pytest.approx((closed_s, pause_s), abs=0.9)


async def test_but_not_one_that_was_registered_anew(database: Database, sql: "Connection") -> None:
    await register(database, "a")

    async def reopen() -> None:
        await registry(database).put(spec("a", management_url="https://moved.example"), AUTHOR)

    found = await closed_again(sql, Health(database), 0, reopen)
    assert found == pytest.approx((0, 1), abs=0.9)


async def test_who_is_removed_meanwhile_is_reported_in_vain(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a")
    await Health(database).report({A: DOWN})
    await registry(database).delete(A, AUTHOR)
    await Health(database).report({A: DOWN})
    assert await sql.fetchval("select count(*) from appliance_health") == 0


async def test_who_is_removed_at_this_moment_does_not_keep_others_from_being_reported(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b")
    health = Health(database)
    async with asyncio.TaskGroup() as tasks, sql.transaction():
        await sql.execute("delete from appliance where name = 'a'")
        tasks.create_task(health.report({A: DOWN, B: DOWN}))
        await until_blocked(sql)
    assert await health.closed() == {B: DOWN}


async def test_a_new_registration_opens_the_appliance_and_the_same_one_does_not(
    database: Database, sql: "Connection"
) -> None:
    await accepted_now(database, ("a", "b"))
    health = Health(database)
    await health.report({B: DOWN})
    await claim(database)
    await registry(database).put(spec("b"), AUTHOR)
    assert await health.closed() == {B: DOWN}
    await registry(database).put(spec("b", management_url="https://moved.example"), AUTHOR)
    assert await health.closed() == {}
    assert await waiting(sql) == [""]


async def test_any_number_of_appliances_may_be_asked_about(database: Database) -> None:
    await register(database, "a")
    many = [A, *(name(f"n{number}") for number in range(40_000))]
    assert await Health(database).health_of(many) == {A: ApplianceHealth()}


async def test_what_is_known_of_an_appliance_can_be_read(
    database: Database, sql: "Connection"
) -> None:
    registration, _ = await registry(database).put(spec("a"), AUTHOR)
    await register(database, "b")
    health = Health(database)
    assert await health.health_of([A, C]) == {A: ApplianceHealth()}
    refusal = LoginRefusal(ApiError("NotAuthenticated", "Authentication required."), 401)
    async with gates_on(database) as gates:
        await gates.of(registration).tell(refusal)
    await health.report({A: DOWN})
    since = await sql.fetchval("select closed_since from appliance_health")
    assert abs(since - time.time() * 1000) < 60_000
    assert await health.health_of([A, B]) == {
        A: ApplianceHealth(since, DOWN, NOW, refusal),
        B: ApplianceHealth(),
    }
    await registry(database).put(spec("a", credentials=LocalUser("root", "new")), AUTHOR)
    known = (await health.health_of([A]))[A]
    assert known == ApplianceHealth(last_contact=NOW)
    await health.report({A: DOWN})
    await health.reopen(A)
    contact = (await health.health_of([A]))[A].last_contact
    assert contact is not None
    assert abs(contact - time.time() * 1000) < 60_000
