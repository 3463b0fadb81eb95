"""One login at a time on an appliance, and never again with credentials that were refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from service.domain.appliance import ApiError
from service.domain.errors import StoreUnavailable, UnknownAppliance
from service.domain.ids import WorkerId
from service.domain.registration import (
    LocalUser,
    LoginEnd,
    LoginOutcome,
    LoginRefusal,
    Registration,
)
from service.store.database import Database
from service.store.leases import Heartbeat
from service.store.logins import TURN_LASTS_S, LoginGate, LoginGates
from tests.integration.store.values import AUTHOR, NOW, gates_on, name, register, registry, spec
from tests.integration.store.watching import until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

REFUSED = LoginRefusal(ApiError("NotAuthenticated", "No.", ("root",), "at Login.java:1"), 401)
OTHERWISE_REFUSED = LoginRefusal(ApiError("AccountLocked", "No."), 403)


@pytest.fixture
async def registration(database: Database) -> Registration:
    return (await register(database, "a"))[0]


@pytest.fixture
async def gates(database: Database) -> AsyncIterator[LoginGates]:
    async with gates_on(database) as at_work:
        yield at_work


async def test_of_many_who_want_to_log_in_one_does_at_a_time(
    gates: LoginGates, registration: Registration
) -> None:
    inside = 0
    most = 0

    async def log_in(gate: LoginGate) -> None:
        nonlocal inside, most
        assert await gate.admit() is None
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        await gate.tell(LoginEnd.ACCEPTED)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(log_in(gates.of(registration)))
    assert most == 1


async def test_a_refusal_is_told_to_everybody_also_after_a_restart(
    gates: LoginGates, registration: Registration, database: Database
) -> None:
    first, waiting = gates.of(registration), gates.of(registration)
    assert await first.admit() is None
    async with asyncio.TaskGroup() as tasks:
        told = tasks.create_task(waiting.admit())
        await first.tell(REFUSED)
    assert told.result() == REFUSED
    async with gates_on(database) as later:
        assert await later.of(registration).admit() == REFUSED


async def test_other_credentials_may_be_tried_and_any_other_change_is_no_reason_to(
    gates: LoginGates, registration: Registration, database: Database
) -> None:
    gate = gates.of(registration)
    assert await gate.admit() is None
    await gate.tell(REFUSED)

    described, _ = await registry(database).put(spec("a", description="new"), AUTHOR)
    assert described.version == 2
    assert await gates.of(described).admit() == REFUSED

    assert await gates.of(await with_other_credentials(database)).admit() is None


async def test_a_login_that_worked_lifts_the_refusal(
    gates: LoginGates, registration: Registration
) -> None:
    gate = gates.of(registration)
    assert await gate.admit() is None
    await gate.tell(REFUSED)
    await gates.of(registration).tell(LoginEnd.ACCEPTED)
    assert await gate.admit() is None


@pytest.mark.parametrize("outcome", [LoginEnd.ACCEPTED, OTHERWISE_REFUSED, LoginEnd.UNKNOWN])
async def test_what_older_credentials_have_met_does_not_lift_a_refusal(
    gates: LoginGates, registration: Registration, database: Database, outcome: LoginOutcome
) -> None:
    """They are in the hands of who began with them, and goes on with them to the end."""
    old = gates.of(registration)
    assert await old.admit() is None
    renewed = await with_other_credentials(database)
    new = gates.of(renewed)
    await new.tell(REFUSED)
    await old.tell(outcome)
    assert await new.admit() == REFUSED
    assert await old.admit() == REFUSED, "they were taken back"


async def test_newer_credentials_that_got_in_lift_a_refusal_of_older_ones(
    gates: LoginGates, registration: Registration, database: Database, sql: "Connection"
) -> None:
    await gates.of(registration).tell(REFUSED)
    await gates.of(await with_other_credentials(database)).tell(LoginEnd.ACCEPTED)
    assert await sql.fetchval("select refused_version from appliance_health") is None


async def with_other_credentials(database: Database) -> Registration:
    """The same appliance, when its credentials were replaced."""
    changed = replace(spec("a"), credentials=LocalUser("root", "another"))
    return (await registry(database).put(changed, AUTHOR))[0]


async def test_a_login_of_which_nothing_is_known_gives_the_turn_back_and_no_more(
    gates: LoginGates, registration: Registration, sql: "Connection"
) -> None:
    gate = gates.of(registration)
    assert await gate.admit() is None
    await gate.tell(LoginEnd.UNKNOWN)
    row = await sql.fetchrow("select * from appliance_health")
    assert row is not None
    assert row["login_worker"] is row["refused_version"] is row["last_contact"] is None
    assert await gates.of(registration).admit() is None


async def test_a_turn_that_came_as_its_taker_was_cancelled_can_be_given_back(
    gates: LoginGates, registration: Registration, sql: "Connection"
) -> None:
    first, second = gates.of(registration), gates.of(registration)
    async with sql.transaction():
        await sql.execute("lock appliance_health")
        admission = asyncio.ensure_future(first.admit())
        await until_blocked(sql)
        admission.cancel()
        await asyncio.wait([admission])
    await first.tell(LoginEnd.UNKNOWN)
    async with asyncio.timeout(TURN_LASTS_S / 3):
        assert await second.admit() is None


async def test_who_asks_again_for_the_turn_that_he_holds_has_it(
    gates: LoginGates, registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a statement that was cut off nobody knows whether it was carried out."""
    turn = uuid4()
    monkeypatch.setattr("service.store.logins.uuid4", lambda: turn)
    assert await gates.of(registration).admit() is None
    async with asyncio.timeout(TURN_LASTS_S / 3):
        assert await gates.of(registration).admit() is None


async def test_what_is_asked_and_told_of_one_appliance_at_once_keeps_its_order(
    gates: LoginGates, registration: Registration
) -> None:
    one, other = gates.of(registration), gates.of(registration)
    told = await asyncio.gather(one.admit(), one.tell(REFUSED), other.admit())
    assert [*told] == [None, None, REFUSED]


async def test_what_many_ask_and_tell_at_once_shares_statements(
    gates: LoginGates, database: Database, sql: "Connection"
) -> None:
    registrations = await register(database, *(f"a{number}" for number in range(40)))
    ways_in = [gates.of(registration) for registration in registrations]
    async with asyncio.TaskGroup() as tasks:
        for gate in ways_in:
            tasks.create_task(gate.admit())
    assert await _transactions(sql) <= 5
    async with asyncio.TaskGroup() as tasks:
        for number, gate in enumerate(ways_in):
            tasks.create_task(gate.tell(REFUSED if number % 2 else LoginEnd.ACCEPTED))
    assert await _transactions(sql) <= 5
    admitted = [await gates.of(registration).admit() for registration in registrations]
    assert admitted == [None, REFUSED] * 20


async def test_what_is_known_of_an_appliance_is_held_by_somebody_and_nobody_else_waits(
    gates: LoginGates, database: Database, sql: "Connection"
) -> None:
    one, other, third = await register(database, "b", "c", "d")
    leaving = gates.of(third)
    for gate in (gates.of(one), gates.of(other)):
        assert await gate.admit() is None
        await gate.tell(LoginEnd.UNKNOWN)
    assert await leaving.admit() is None
    async with sql.transaction():
        await sql.execute("select from appliance_health where appliance_id = $1 for update", one.id)
        waiting = asyncio.ensure_future(gates.of(one).admit())
        async with asyncio.timeout(TURN_LASTS_S / 3):
            assert await gates.of(other).admit() is None
            await leaving.tell(REFUSED)
            with pytest.raises(StoreUnavailable):
                await gates.of(one).tell(REFUSED)
        assert not waiting.done()
        telling = asyncio.ensure_future(gates.of(one).tell(LoginEnd.ACCEPTED))
    assert await waiting is None
    await telling
    assert await gates.of(third).admit() == REFUSED


async def test_one_that_is_removed_in_the_same_moment_takes_the_turn_from_nobody(
    gates: LoginGates, database: Database, sql: "Connection"
) -> None:
    gone, stays = await register(database, "b", "c")
    async with sql.transaction():
        await sql.execute("delete from appliance where id = $1", gone.id)
        first = asyncio.ensure_future(gates.of(gone).admit())
        await until_blocked(sql)
        second = asyncio.ensure_future(gates.of(stays).admit())
    told = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(each) for each in told] == [UnknownAppliance, type(None)]


async def test_a_turn_ends_with_its_worker(database: Database, registration: Registration) -> None:
    living, dead = WorkerId(uuid4()), WorkerId(uuid4())
    await Heartbeat(database, living).join(lease_s=3600)
    await Heartbeat(database, dead).join(lease_s=3600)
    async with (
        gates_on(database, lambda: dead) as gates_of_dead,
        gates_on(database, lambda: living) as gates_of_living,
    ):
        first, second = gates_of_dead.of(registration), gates_of_living.of(registration)
        assert await first.admit() is None
        waiting = asyncio.ensure_future(second.admit())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        await Heartbeat(database, dead).leave()
        async with asyncio.timeout(TURN_LASTS_S / 3):
            assert await waiting is None
        # It is not the dead one's to give back.
        await first.tell(LoginEnd.UNKNOWN)
        third = asyncio.ensure_future(gates_of_living.of(registration).admit())
        done, _ = await asyncio.wait([third], timeout=0.3)
        assert not done
        await second.tell(LoginEnd.ACCEPTED)
        assert await third is None


async def test_a_turn_that_was_never_given_back_is_over_some_day(
    gates: LoginGates, registration: Registration, sql: "Connection"
) -> None:
    dead, late = gates.of(registration), gates.of(registration)
    assert await dead.admit() is None
    await sql.execute("update appliance_health set login_until = now() - interval '1 second'")
    assert await late.admit() is None
    # What the first one learnt counts all the same, but the turn is not its own any more.
    await dead.tell(REFUSED)
    row = await sql.fetchrow("select * from appliance_health")
    assert row is not None
    assert row["login_worker"] is not None
    assert row["refused_version"] == 1


async def test_an_appliance_that_is_not_registered_any_more_has_no_turns(
    gates: LoginGates, registration: Registration, database: Database
) -> None:
    await registry(database).delete(name("a"), AUTHOR)
    with pytest.raises(UnknownAppliance):
        await gates.of(registration).admit()
    await gates.of(registration).tell(LoginEnd.ACCEPTED)


async def test_the_last_contact_is_noted_and_stays_when_nothing_is_known_of_the_next_one(
    gates: LoginGates, registration: Registration, sql: "Connection"
) -> None:
    gate = gates.of(registration)
    assert await gate.admit() is None
    for end in (LoginEnd.ACCEPTED, LoginEnd.UNKNOWN):
        await gate.tell(end)
        assert await sql.fetchval("select last_contact from appliance_health") == NOW


async def _transactions(sql: "Connection") -> int:
    """How many wrote what is there now."""
    return int(await sql.fetchval("select count(distinct xmin::text) from appliance_health"))
