"""An appliance that does not answer is left alone, costs nobody a slot, and is taken up again."""

import asyncio
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from service.settings import Settings
from simulator import Rule, fault
from tests.integration.test_ways_back import asked, ended, event_types
from tests.support.service import QUICK, ServiceUnderTest, are_paired, fleet_of, service_over

if TYPE_CHECKING:
    import asyncpg

NARROW = replace(QUICK, window=4)


async def until(service: ServiceUnderTest, pairing: Any, event: str) -> None:
    """Return once `event` is on the pairing's record."""
    while event not in await event_types(service, pairing):
        await service.call("GET", f"/v1/pairings/{pairing['id']}?waitSeconds=0.1")


WAYS: list[Rule] = [
    fault("down", times=None),
    fault("status", status=503, times=None),
]


@pytest.mark.parametrize("way", WAYS, ids=["down", "503"])
async def test_a_dead_appliance_takes_no_slots_from_the_others_and_comes_back(
    way: Rule, settings: Settings
) -> None:
    async with fleet_of(8) as fleet, service_over(settings, fleet, NARROW) as service:
        dead, *others = await service.register()
        fleet[dead].add_fault(way)
        waiting = [await asked(service, dead, other) for other in others]
        await until(service, waiting[0], "PairingParked")
        calls = fleet.world.truth.counts(dead).requests.total()

        async with asyncio.TaskGroup() as tasks:
            ends = [
                tasks.create_task(ended(service, *couple)) for couple in combinations(others, 2)
            ]
        assert {end.result()["state"] for end in ends} == {"SUCCEEDED"}
        probes = fleet.world.truth.counts(dead).requests.total() - calls
        assert probes <= 40

        fleet[dead].clear_faults()
        await fleet[dead].up()
        for pairing in waiting:
            assert (await service.over(pairing))["state"] == "SUCCEEDED"
        assert all(are_paired(fleet, dead, other) for other in others)


async def test_a_pairing_that_waits_ends_at_its_deadline(settings: Settings) -> None:
    async with fleet_of(3) as fleet, service_over(settings, fleet) as service:
        dead, other, _ = await service.register()
        await fleet[dead].down("refuse")
        first = await asked(service, dead, other)
        await until(service, first, "PairingParked")
        late = await ended(service, dead, _, timeoutSeconds=2)
        assert late["error"]["code"] == "DeadlineExceeded"
        wanted = await service.call("POST", f"/v1/pairings/{first['id']}/cancel")
        assert wanted.status == 202
        assert (await service.over(first))["state"] == "CANCELED"


async def test_one_refused_login_for_all_workers_and_all_pairings(settings: Settings) -> None:
    credentials = {"type": "localUser", "localUser": "root", "localPassword": "wrong"}
    async with fleet_of(6) as fleet:
        async with (
            service_over(settings, fleet) as service,
            service_over(settings, fleet) as second,
        ):
            await service.register()
            locked, *others = [appliance.name for appliance in fleet.appliances]
            await service.register(fleet[locked], credentials=credentials)
            async with asyncio.TaskGroup() as tasks:
                ends = [
                    tasks.create_task(ended(each, locked, other))
                    for each, other in zip((service, second) * 3, others, strict=False)
                ]
            assert {end.result()["error"]["code"] for end in ends} == {"NotAuthenticated"}
        async with service_over(settings, fleet) as restarted:
            again = await ended(restarted, locked, others[0])
            assert again["error"]["code"] == "NotAuthenticated"
            assert fleet.world.truth.counts(locked).logins_refused == 1

            await restarted.register(fleet[locked])
            assert (await ended(restarted, locked, others[0]))["state"] == "SUCCEEDED"


async def test_a_check_that_gets_in_lifts_the_refusal(settings: Settings) -> None:
    async with fleet_of(2) as fleet, service_over(settings, fleet) as service:
        one, other = await service.register()
        refusal = fault(
            "status", method="POST", path="/sessions", status=401, code="NotAuthenticated"
        )
        fleet[one].add_fault(refusal)
        assert (await ended(service, one, other))["error"]["code"] == "NotAuthenticated"
        assert (await ended(service, one, other))["error"]["code"] == "NotAuthenticated"
        checked = await service.call("POST", f"/v1/appliances/{one}/check")
        assert checked.json["ok"] is True
        assert (await ended(service, one, other))["state"] == "SUCCEEDED"


async def test_a_turn_to_log_in_is_on_record_as_the_workers(
    service: ServiceUnderTest, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].add_fault(fault("hang", path="/sessions", ms=1_000))
    pairing = await service.pair(one, other)
    owner = "select login_owner from appliance_health where login_owner is not null"
    while (turn := await sql.fetchval(owner)) is None:
        pass
    assert await sql.fetchval("select array_agg(id) from worker") == [turn]
    assert (await service.over(pairing))["state"] == "SUCCEEDED"
    assert await sql.fetchval(owner) is None
