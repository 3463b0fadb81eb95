"""The registry: versions, duplicates, secrets, and who may be deleted when."""

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from sqlalchemy import select

from service.domain.author import Author
from service.domain.errors import (
    ApplianceBusy,
    ApplianceExists,
    SitepairError,
    UnknownAppliance,
)
from service.domain.ids import OperationId
from service.domain.registration import LocalUser, SsoUser
from service.store import appliances as appliances_module
from service.store.appliances import Appliances
from service.store.database import Database
from service.store.errors import Locked
from service.store.intake import Acceptance
from service.store.rows import entry_from
from service.store.tables import event
from service.store.vault import Vault
from tests.integration.store.values import (
    AUTHOR,
    KEY,
    NOW,
    accepted,
    claim,
    failed,
    intake_on,
    journal_on,
    name,
    now,
    register,
    registry,
    request,
    spec,
    thumbprint,
)
from tests.integration.store.watching import insert_rival, until_blocked
from tests.support.chain import first_misfit

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FULL = spec(
    "a",
    thumbprint=thumbprint(0x01),
    description="Site A, düsseldorf",
    credentials=SsoUser("administrator@vsphere.local", "s3cret"),
    max_in_flight=2,
)


async def outcome(work: Any) -> Any:
    """What `work` returns, or the error it raises."""
    try:
        return await work
    except SitepairError as error:
        return error


async def test_what_is_registered_is_read_back(database: Database) -> None:
    appliances = registry(database)
    registration, created = await appliances.put(FULL, AUTHOR)
    assert created
    assert registration.spec == FULL
    assert (registration.version, registration.created, registration.last_updated) == (1, NOW, NOW)
    assert await appliances.get(name("a")) == registration


@pytest.mark.parametrize(
    "change",
    [
        {"management_url": "https://moved.example"},
        {"api_url": "https://moved.example"},
        {"api_thumbprint": thumbprint(0x02)},
        {"thumbprint": None},
        {"credentials": SsoUser("administrator@vsphere.local", "new")},
        {"credentials": LocalUser("administrator@vsphere.local", "s3cret")},
        {"description": "moved"},
        {"max_in_flight": 3},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_whatever_changes_makes_a_new_version_of_the_same_registration(
    database: Database, change: dict[str, Any]
) -> None:
    appliances = registry(database)
    first, _ = await appliances.put(FULL, AUTHOR)
    changed = replace(FULL, **change)
    second, created = await appliances.put(changed, AUTHOR)
    assert not created
    assert second == replace(
        first,
        spec=changed,
        version=2,
        credentials_version=1 + ("credentials" in change),
        former_api_urls=("https://a.example:8048",) if "api_url" in change else (),
    )
    assert await appliances.get(name("a")) == second


async def test_the_same_again_changes_nothing_and_is_answered(
    database: Database, sql: "Connection"
) -> None:
    appliances = registry(database)
    first, _ = await appliances.put(FULL, AUTHOR)
    assert await appliances.put(FULL, AUTHOR) == (first, False)
    assert await sql.fetchval("select count(*) from event") == 1


async def test_a_clock_that_goes_back_does_not_take_a_registration_with_it(
    database: Database,
) -> None:
    await registry(database).put(FULL, AUTHOR)
    late = Appliances(database, Vault([KEY]), lambda: NOW - 1000)
    changed, _ = await late.put(replace(FULL, description="moved"), AUTHOR)
    assert (changed.version, changed.created, changed.last_updated) == (2, NOW, NOW)


async def test_two_names_cannot_have_the_same_api_url_however_it_is_spelt(
    database: Database,
) -> None:
    appliances = registry(database)
    await appliances.put(spec("a", api_url="https://site.example"), AUTHOR)
    with pytest.raises(ApplianceExists) as refusal:
        await appliances.put(spec("b", api_url="HTTPS://Site.Example:443/"), AUTHOR)
    assert refusal.value.name == "a"
    with pytest.raises(UnknownAppliance):
        await appliances.get(name("b"))


async def test_a_replacement_cannot_take_anothers_api_url(database: Database) -> None:
    appliances = registry(database)
    [one, _] = await register(database, "a", "b")
    with pytest.raises(ApplianceExists) as refusal:
        await appliances.put(spec("b", api_url=one.spec.api_url), AUTHOR)
    assert refusal.value.name == "a"
    assert (await appliances.get(name("b"))).version == 1


async def test_many_who_register_the_same_name_at_once_leave_one_registration(
    database: Database, sql: "Connection"
) -> None:
    appliances = registry(database)
    specs = [spec("a", description=f"try {number}") for number in range(8)]
    answers = await asyncio.gather(*[appliances.put(each, AUTHOR) for each in specs])
    assert sum(created for _, created in answers) == 1
    assert len({registration.id for registration, _ in answers}) == 1
    assert sorted(registration.version for registration, _ in answers) == list(range(1, 9))
    assert first_misfit(await chain_of(database, answers[0][0].id)) is None


async def test_many_who_want_the_same_api_url_at_once_are_told_who_has_it(
    database: Database,
) -> None:
    appliances = registry(database)
    specs = [spec(f"n{number}", api_url="https://one.example") for number in range(6)]
    answers = await asyncio.gather(*[outcome(appliances.put(each, AUTHOR)) for each in specs])
    [(winner, _)] = [answer for answer in answers if isinstance(answer, tuple)]
    losers = [answer for answer in answers if not isinstance(answer, tuple)]
    assert {type(loser) for loser in losers} == {ApplianceExists}
    assert {loser.name for loser in losers} == {winner.spec.name}


async def test_the_page_is_ordered_by_name(database: Database) -> None:
    await register(database, "b", "a0", "a-1", "aa", "c")
    names = [each.spec.name for each in await registry(database).page(1000)]
    assert names == sorted(names) == ["a-1", "a0", "aa", "b", "c"]


async def test_every_change_is_on_record_with_its_author_and_without_secrets(
    database: Database, sql: "Connection"
) -> None:
    appliances = registry(database)
    first, _ = await appliances.put(FULL, AUTHOR)
    bob = Author("bob", OperationId("op-2"))
    await appliances.put(replace(FULL, credentials=LocalUser("root", "t0psecret")), bob)
    await appliances.put(
        replace(FULL, credentials=LocalUser("root", "t0psecret"), api_url="https://x.example"), bob
    )
    await appliances.delete(name("a"), bob)
    chain = await chain_of(database, first.id)
    assert first_misfit(chain) is None
    assert [(each.type, each.actor, each.appliance) for each in chain] == [
        ("ApplianceRegistered", "tester", "a"),
        ("ApplianceRegistered", "bob", "a"),
        ("ApplianceRegistered", "bob", "a"),
        ("ApplianceRemoved", "bob", "a"),
    ]
    changed = [json.loads(each.detail).get("credentialsChanged") for each in chain]
    assert changed == [True, True, False, None]
    everything = await sql.fetchval("select string_agg(event::text, '') from event")
    assert "s3cret" not in everything
    assert "t0psecret" not in everything


async def test_credentials_are_unreadable_at_rest(database: Database, sql: "Connection") -> None:
    await registry(database).put(FULL, AUTHOR)
    row = await sql.fetchrow("select appliance::text as shown, credentials from appliance")
    assert row is not None
    for secret in ("s3cret", "administrator"):
        assert secret not in row["shown"]
        assert secret.encode() not in row["credentials"]
        assert secret.encode().hex() not in row["shown"]


async def test_with_another_key_credentials_stay_sealed_until_registered_anew(
    database: Database,
) -> None:
    await registry(database).put(FULL, AUTHOR)
    other = Appliances(database, Vault([b"x" * 32]), now)
    assert (await other.get(name("a"))).is_sealed
    again, created = await other.put(FULL, AUTHOR)
    assert (again.version, created) == (2, False)
    assert (await other.get(name("a"))).spec == FULL


async def test_a_rotated_key_opens_what_the_old_one_sealed(
    database: Database, sql: "Connection"
) -> None:
    registration, _ = await registry(database).put(FULL, AUTHOR)
    rotated = Appliances(database, Vault([b"x" * 32, KEY]), now)
    assert await rotated.get(name("a")) == registration
    assert await rotated.put(FULL, AUTHOR) == (registration, False)
    sealed = await sql.fetchval("select credentials from appliance")
    await rotated.put(FULL, AUTHOR)
    assert await sql.fetchval("select credentials from appliance") == sealed
    # What was put again stays readable without the old key.
    assert await Appliances(database, Vault([b"x" * 32]), now).get(name("a")) == registration


async def test_who_was_deleted_and_comes_back_is_a_new_registration(database: Database) -> None:
    appliances = registry(database)
    first, _ = await appliances.put(FULL, AUTHOR)
    await appliances.delete(name("a"), AUTHOR)
    with pytest.raises(UnknownAppliance):
        await appliances.get(name("a"))
    with pytest.raises(UnknownAppliance):
        await appliances.delete(name("a"), AUTHOR)
    second, created = await appliances.put(FULL, AUTHOR)
    assert created
    assert second.id != first.id
    assert second.version == 1


async def test_an_appliance_with_active_pairings_stays_on_whichever_side_it_is(
    database: Database,
) -> None:
    await accepted(database, ("b", "a"))
    await register(database, "c")
    appliances = registry(database)
    for busy in ("a", "b"):
        with pytest.raises(ApplianceBusy):
            await appliances.delete(name(busy), AUTHOR)
    await appliances.delete(name("c"), AUTHOR)
    [assignment] = await claim(database, 1)
    with pytest.raises(ApplianceBusy):
        await appliances.delete(name("a"), AUTHOR)
    async with journal_on(database) as journal:
        await journal.append(failed(assignment.pairing))
    await appliances.delete(name("a"), AUTHOR)


async def test_a_delete_that_meets_an_accept_waits_and_then_sees_the_pairing(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "c"))
    await register(database, "b")
    async with intake_on(database) as intake, asyncio.TaskGroup() as tasks:
        transaction = sql.transaction()
        await transaction.start()
        # Stops the accept at the index of couples, when it has its appliances already.
        await insert_rival(sql, "a", "b")
        accept = tasks.create_task(outcome(intake.accept(request(), AUTHOR)))
        await until_blocked(sql)
        delete = tasks.create_task(outcome(registry(database).delete(name("b"), AUTHOR)))
        await until_blocked(sql, 2)
        await transaction.rollback()
        assert isinstance(await accept, Acceptance)
        assert isinstance(await delete, ApplianceBusy)


async def test_a_change_that_meets_a_lock_does_not_keep_its_connection_for_long(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(database, "a")
    monkeypatch.setattr(appliances_module, "_LOCK_S", 0.05)
    appliances = registry(database)
    async with sql.transaction():
        await sql.execute("select from appliance for update")
        with pytest.raises(Locked):
            await appliances.delete(name("a"), AUTHOR)
        with pytest.raises(Locked):
            await appliances.put(spec("a", description="new"), AUTHOR)
    await appliances.delete(name("a"), AUTHOR)


async def test_an_accept_that_meets_a_delete_waits_and_then_finds_no_appliance(
    database: Database, sql: "Connection"
) -> None:
    await register(database, "a", "b")
    async with intake_on(database) as intake, asyncio.TaskGroup() as tasks:
        async with sql.transaction():
            await sql.execute("select from appliance where name = 'a' for update")
            accept = tasks.create_task(outcome(intake.accept(request(), AUTHOR)))
            await until_blocked(sql)
            await sql.execute("delete from appliance where name = 'a'")
        assert isinstance(await accept, UnknownAppliance)
    assert await sql.fetchval("select count(*) from pairing") == 0


async def test_accepts_and_deletes_that_race_never_leave_a_pairing_without_its_appliance(
    database: Database, sql: "Connection"
) -> None:
    appliances = registry(database)
    async with intake_on(database) as intake:
        for _ in range(15):
            await register(database, "a", "b")
            await asyncio.gather(
                outcome(intake.accept(request(), AUTHOR)),
                outcome(appliances.delete(name("a"), AUTHOR)),
            )
            orphans = await sql.fetchval(
                "select count(*) from pairing where state in ('QUEUED', 'RUNNING') and not exists"
                " (select from appliance where name in (couple_low, couple_high) offset 1)"
            )
            assert orphans == 0
            async with journal_on(database) as journal:
                for assignment in await claim(database, 10):
                    await journal.append(failed(assignment.pairing))


async def chain_of(database: Database, registration: Any) -> list[Any]:
    """The audit chain of a registration."""
    chain = select(event).where(event.c.chain == registration).order_by(event.c.seq)
    return [entry_from(row) for row in await database.run(chain)]


async def test_former_urls_are_those_before_however_often_they_are_spelt_anew(
    database: Database,
) -> None:
    appliances = registry(database)
    formers = []
    for api_url in (
        "https://one.example",
        "https://ONE.example:443/",
        "https://two.example",
        "https://two.example/",
        "https://one.example",
        "https://three.example",
    ):
        registration, _ = await appliances.put(spec("a", api_url=api_url), AUTHOR)
        assert await appliances.get(name("a")) == registration
        formers.append(registration.former_api_urls)
    one, two = "https://one.example:443", "https://two.example:443"
    assert formers == [(), (), (one,), (one,), (two,), (one, two)]


async def test_only_so_many_former_urls_are_kept(database: Database) -> None:
    appliances = registry(database)
    for number in range(20):
        await appliances.put(spec("a", api_url=f"https://n{number}.example"), AUTHOR)
    formers = (await appliances.get(name("a"))).former_api_urls
    assert formers == tuple(f"https://n{18 - each}.example:443" for each in range(16))
