"""What comes to nothing is undone, and nothing else: compared with what the appliances hold."""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from service.settings import Settings
from simulator import Rule, fault
from tests.support.service import (
    QUICK,
    ServiceUnderTest,
    are_paired,
    fleet_of,
    holds,
    posts,
    registration_of,
    service_over,
)

IMPATIENT = replace(QUICK, verify_timeout_s=0.5, rollback_s=10)
REFUSED = fault("status", method="DELETE", path="/sites/.*", status=403, code="Forbidden")
TASK_FAILS = fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Busy.")
ACTS_AND_FAILS = fault("task_acts_and_fails", method="POST", path="/sites", code="Unsure")


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[ServiceUnderTest]:
    async with fleet_of(3) as fleet, service_over(settings, fleet, IMPATIENT) as running:
        yield running


async def asked(service: ServiceUnderTest, one: str, other: str, **more: object) -> Any:
    """The accepted pairing that such a request leads to."""
    body = {"appliances": [one, other], **more}
    answer = await service.call("POST", "/v1/pairings", body)
    assert answer.status == 202, answer
    return answer.json


async def ended(service: ServiceUnderTest, one: str, other: str, **more: object) -> Any:
    """The pairing at its end."""
    return await service.over(await asked(service, one, other, **more))


async def event_types(service: ServiceUnderTest, pairing: Any) -> list[str]:
    return [event["type"] for event in await service.events(pairing)]


async def test_the_half_that_this_job_paired_is_unpaired_again(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    service.fleet[other].add_fault(TASK_FAILS)
    pairing = await ended(service, one, other)

    assert pairing["state"] == "FAILED"
    assert pairing["error"]["code"] == "PeerBusy"
    assert [side["state"] for side in pairing["sides"]] == ["ROLLED_BACK", "FAILED"]
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)
    types = await event_types(service, pairing)
    assert types.index("RollbackStarted") < types.index("RollbackRequested")
    assert types[-1] == "PairingFailed"


@pytest.mark.parametrize("is_other_failing", [False, True])
async def test_a_task_that_acted_and_failed_all_the_same_leaves_no_half(
    *, is_other_failing: bool, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].add_fault(ACTS_AND_FAILS)
    if is_other_failing:
        service.fleet[other].add_fault(TASK_FAILS)
    pairing = await ended(service, one, other)

    if is_other_failing:
        assert [side["state"] for side in pairing["sides"]] == ["ROLLED_BACK", "FAILED"]
        assert not holds(service.fleet, one, other)
        assert not holds(service.fleet, other, one)
    else:
        assert pairing["state"] == "SUCCEEDED", pairing
        assert are_paired(service.fleet, one, other)
    assert service.fleet.world.truth.counts(one).requests["POST /sites"] == 1


@pytest.mark.parametrize(
    ("knob", "way"),
    [
        *product(("wrong_thumbprint", "unreachable_peer"), ("rejected", "task_fails", "succeeds")),
        *product(("version_skew", "unready"), ("rejected", "task_fails")),
    ],
)
async def test_what_cannot_be_paired_fails_whichever_way_the_unknown_turns_out(
    knob: str, way: str, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    here, there = service.fleet[one], service.fleet[other]
    here.turn(**{knob: way})
    match knob:
        case "wrong_thumbprint":
            await service.register(there, apiThumbprint=here.api_thumbprint)
        case "unreachable_peer":
            service.fleet.world.darken(other, service.fleet.now())
        case "version_skew":
            there.turn(api_version="4.4")
        case _:
            here.turn(licensed=False)
    pairing = await ended(service, one, other, timeoutSeconds=20)

    assert pairing["state"] == "FAILED"
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)


async def test_a_half_is_kept_if_the_caller_wants_it(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    service.fleet[other].add_fault(TASK_FAILS)
    pairing = await ended(service, one, other, onFailure="keep")

    assert pairing["state"] == "FAILED"
    assert [side["state"] for side in pairing["sides"]] == ["SUCCEEDED", "FAILED"]
    assert holds(service.fleet, one, other)


async def test_what_was_there_before_the_job_stays(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    service.fleet.world.appliances[other].peers.clear()
    service.fleet[other].add_fault(TASK_FAILS)
    pairing = await ended(service, one, other)

    assert [side["state"] for side in pairing["sides"]] == ["ALREADY_PAIRED", "FAILED"]
    assert holds(service.fleet, one, other)
    assert "RollbackRequested" not in await event_types(service, pairing)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (fault("task_mismatch", method="POST", path="/sites"), "CertificateMismatch"),
        (fault("task_lies", method="POST", path="/sites"), "PeerNotListed"),
    ],
    ids=["dead", "not there"],
)
async def test_a_pairing_that_does_not_work_is_undone_on_both_sides(
    trouble: Rule, code: str, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].add_fault(trouble)
    pairing = await ended(service, one, other)

    assert pairing["state"] == "FAILED"
    assert pairing["error"]["code"] == code
    assert [side["state"] for side in pairing["sides"]] == ["ROLLED_BACK", "ROLLED_BACK"]
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)


@pytest.mark.parametrize(
    "trouble",
    [
        fault("lost_answer", method="DELETE", path="/sites/.*"),
        fault("reset", method="DELETE", path="/sites/.*"),
        fault("status", method="DELETE", path="/sites/.*", status=503),
        fault("status", method="DELETE", path="/sites/.*", status=500, when="after"),
        fault("task_acts_and_fails", method="DELETE", path="/sites/.*"),
    ],
    ids=["lost answer", "reset", "503", "500 after acting", "failed after acting"],
)
async def test_a_rollback_gets_through_what_befalls_its_call(
    trouble: Rule, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    service.fleet[other].add_fault(TASK_FAILS)
    service.fleet[one].add_fault(trouble)
    pairing = await ended(service, one, other)

    assert pairing["sides"][0]["state"] == "ROLLED_BACK", pairing
    assert not holds(service.fleet, one, other)


async def test_a_rollback_that_fails_says_what_is_left_where_and_a_retry_resumes_it(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    service.fleet[other].add_fault(TASK_FAILS)
    service.fleet[one].add_fault(REFUSED)
    pairing = await ended(service, one, other)

    assert pairing["state"] == "FAILED"
    assert pairing["error"]["code"] == "PeerBusy"
    assert pairing["sides"][0]["state"] == "ROLLBACK_FAILED"
    assert pairing["sides"][0]["error"]["code"] == "Forbidden"
    assert [warning["code"] for warning in pairing["warnings"]] == ["RollbackFailed"]
    assert pairing["warnings"][0]["args"][:2] == [one, other]
    assert holds(service.fleet, one, other)

    retried = await service.call("POST", f"/v1/pairings/{pairing['id']}/retry")
    assert retried.status == 202
    resumed = await service.over(pairing)
    assert resumed["state"] == "FAILED"
    assert resumed["error"]["code"] == "PeerBusy"
    assert [side["state"] for side in resumed["sides"]] == ["ROLLED_BACK", "FAILED"]
    assert resumed["warnings"] == []
    assert not holds(service.fleet, one, other)

    assert (await service.call("POST", f"/v1/pairings/{pairing['id']}/retry")).status == 202
    again = await service.over(pairing)
    assert again["state"] == "SUCCEEDED", again
    assert again["id"] == pairing["id"]
    assert are_paired(service.fleet, one, other)


async def test_a_half_is_undone_however_often_its_peer_was_registered_anew_since(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].add_fault(fault("lost_answer", method="POST", path="/sites"))
    # Whatever came of that, it tells nobody; nor on the way back.
    service.fleet[one].add_fault(
        fault("status", method="GET", path="/sites", status=403, code="Forbidden", skip=1, times=2)
    )
    pairing = await ended(service, one, other)
    assert pairing["sides"][0]["state"] == "ROLLBACK_FAILED"
    assert holds(service.fleet, one, other)
    assert (await service.call("DELETE", f"/v1/appliances/{other}")).status == 204
    await service.register(service.fleet[other], apiUrl="https://moved.example.test:8048/")

    assert (await service.call("POST", f"/v1/pairings/{pairing['id']}/retry")).status == 202
    resumed = await service.over(pairing)
    assert [side["state"] for side in resumed["sides"]] == ["ROLLED_BACK", "ROLLED_BACK"]
    assert not holds(service.fleet, one, other)


async def test_nothing_is_undone_on_another_machine_that_took_the_name(
    service: ServiceUnderTest,
) -> None:
    one, other, third = await service.register()
    fleet = service.fleet
    assert (await ended(service, third, other))["state"] == "SUCCEEDED"
    fleet[other].add_fault(TASK_FAILS)
    fleet[one].add_fault(REFUSED)
    pairing = await ended(service, one, other)
    assert pairing["sides"][0]["state"] == "ROLLBACK_FAILED"
    assert (await service.call("DELETE", f"/v1/appliances/{third}")).status == 204
    own = registration_of(fleet[one])
    anew = f"/v1/appliances/{one}"
    await service.call("PUT", anew, registration_of(fleet[third]))

    retry = f"/v1/pairings/{pairing['id']}/retry"
    assert (await service.call("POST", retry)).status == 202
    resumed = await service.over(pairing)
    assert resumed["sides"][0]["state"] == "ROLLBACK_FAILED"
    assert resumed["sides"][0]["error"]["code"] == "ApplianceMoved"
    assert [warning["code"] for warning in resumed["warnings"]] == ["RollbackFailed"]
    assert are_paired(fleet, third, other)

    await service.call("PUT", anew, own)
    assert (await service.call("POST", retry)).status == 202
    undone = await service.over(pairing)
    assert [side["state"] for side in undone["sides"]] == ["ROLLED_BACK", "FAILED"]
    assert not holds(fleet, one, other)
    assert are_paired(fleet, third, other)


async def test_who_takes_up_a_pairing_takes_no_other_machine_for_the_one_that_was_called(
    settings: Settings,
) -> None:
    async with fleet_of(3) as fleet:
        async with service_over(settings, fleet, IMPATIENT) as before:
            one, other, third = await before.register()
            assert (await ended(before, third, other))["state"] == "SUCCEEDED"
            assert (await before.call("DELETE", f"/v1/appliances/{third}")).status == 204
            for name in (one, other):
                fleet[name].turn(task_ms=[1_500, 1_500])
            pairing = await asked(before, one, other)
            while len(posts(fleet)) < 4:
                await before.call("GET", f"/v1/pairings/{pairing['id']}")
            await before.call("PUT", f"/v1/appliances/{one}", registration_of(fleet[third]))
        async with service_over(settings, fleet, IMPATIENT) as after:
            end = await after.over(pairing)

        assert end["error"]["code"] == "ApplianceMoved"
        assert [side["state"] for side in end["sides"]] == ["ROLLBACK_FAILED", "ROLLED_BACK"]
        assert are_paired(fleet, third, other)
        assert holds(fleet, one, other)
        assert not holds(fleet, other, one)


@pytest.mark.parametrize("how", ["canceled", "the other side fails"])
async def test_what_was_there_unrecognized_and_was_only_brought_up_to_date_stays(
    service: ServiceUnderTest, how: str
) -> None:
    one, other, _ = await service.register()
    assert (await ended(service, one, other))["state"] == "SUCCEEDED"
    for name, peer in ((one, other), (other, one)):
        # By hand, at an address that nobody registered: no look finds it. Appliances know each
        # other by their ids.
        service.fleet[name].turn(already_paired="succeeds", task_ms=[800, 900])
        record = service.fleet.world.appliances[name].peers[service.fleet[peer].site_id]
        record.url, record.shown = f"https://10.0.0.1/{peer}", None
    if how == "canceled":
        pairing = await asked(service, one, other)
        while len(posts(service.fleet)) < 4:
            await service.call("GET", f"/v1/pairings/{pairing['id']}")
        await service.call("POST", f"/v1/pairings/{pairing['id']}/cancel")
        pairing = await service.over(pairing)
        assert pairing["state"] == "CANCELED"
        assert {side["state"] for side in pairing["sides"]} == {"ALREADY_PAIRED"}
    else:
        service.fleet[other].add_fault(TASK_FAILS)
        pairing = await ended(service, one, other)
        assert [side["state"] for side in pairing["sides"]] == ["ALREADY_PAIRED", "FAILED"]
    assert holds(service.fleet, one, other)
    assert holds(service.fleet, other, one)
    assert "RollbackRequested" not in await event_types(service, pairing)


async def test_a_task_that_outlives_the_deadline_is_waited_for_and_undone(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].turn(task_ms=[2_000, 2_000])
    pairing = await ended(service, one, other, timeoutSeconds=1)

    assert pairing["error"]["code"] == "DeadlineExceeded"
    assert [side["state"] for side in pairing["sides"]] == ["ROLLED_BACK", "ROLLED_BACK"]
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)


async def test_a_canceled_pairing_begins_no_new_step_and_leaves_nothing(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    for name in (one, other):
        service.fleet[name].turn(task_ms=[1_000, 1_000])
    pairing = await asked(service, one, other)
    while not service.fleet.truth()["appliances"][one]["requests"].get("POST /sites"):
        await service.call("GET", f"/v1/pairings/{pairing['id']}?waitSeconds=0.05")
    wanted = await service.call("POST", f"/v1/pairings/{pairing['id']}/cancel")
    assert wanted.status == 202
    canceled = await service.over(pairing)

    assert canceled["state"] == "CANCELED", canceled
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)
    types = await event_types(service, pairing)
    assert "CancelRequested" in types
    assert types[-1] == "PairingCanceled"

    repeated = await service.call("POST", f"/v1/pairings/{pairing['id']}/cancel")
    assert repeated.status == 202
    assert repeated.json["state"] == "CANCELED"


async def test_a_pairing_that_waits_for_a_dead_appliance_can_be_canceled_at_once(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await service.fleet[one].down("refuse")
    await service.fleet[other].down("refuse")
    pairing = await asked(service, one, other)
    assert (await service.call("POST", f"/v1/pairings/{pairing['id']}/cancel")).status == 202
    canceled = await service.over(pairing)
    assert canceled["state"] == "CANCELED"
    assert not any(side["state"] == "ROLLED_BACK" for side in canceled["sides"])


async def test_what_is_over_cannot_be_canceled_and_what_succeeded_not_be_retried(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    pairing = await ended(service, one, other)
    cancel = await service.call("POST", f"/v1/pairings/{pairing['id']}/cancel")
    retry = await service.call("POST", f"/v1/pairings/{pairing['id']}/retry")
    assert (cancel.status, cancel.json["code"]) == (409, "PairingOver")
    assert (retry.status, retry.json["code"]) == (409, "NotRetryable")


async def test_a_canceled_pairing_can_be_tried_again(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await service.fleet[one].down("refuse")
    pairing = await asked(service, one, other)
    await service.call("POST", f"/v1/pairings/{pairing['id']}/cancel")
    assert (await service.over(pairing))["state"] == "CANCELED"
    await service.fleet[one].up()
    assert (await service.call("POST", f"/v1/pairings/{pairing['id']}/retry")).status == 202
    again = await service.over(pairing)
    assert again["state"] == "SUCCEEDED", again
