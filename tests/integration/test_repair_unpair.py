"""Repairing and unpairing, both sides: compared with what the appliances hold."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from service.settings import Settings
from simulator import Rule, fault
from tests.integration.test_ways_back import ended, event_types
from tests.support.service import (
    QUICK,
    ServiceUnderTest,
    are_paired,
    fleet_of,
    holds,
    service_over,
)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[ServiceUnderTest]:
    policy = replace(QUICK, verify_timeout_s=3.0, rollback_s=5)
    async with fleet_of(3) as fleet, service_over(settings, fleet, policy) as running:
        yield running


def changes(service: ServiceUnderTest, name: str) -> list[str]:
    """The kinds of calls that `name` accepted, in order."""
    service.fleet.truth()
    accepted = service.fleet.world.truth.accepted
    return [call.kind for call in accepted if call.appliance == name]


async def rotated(service: ServiceUnderTest, one: str, other: str) -> None:
    """Pair the two, then give the second one another certificate and register it anew."""
    assert (await ended(service, one, other))["state"] == "SUCCEEDED"
    service.fleet[other].rotate_certificate()
    await service.register(service.fleet[other])


async def test_a_repair_after_a_rotated_certificate_brings_the_pairing_back(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await rotated(service, one, other)
    broken = await ended(service, one, other)
    assert broken["error"]["code"] == "PeerThumbprintDiffers"
    pairing = await ended(service, one, other, operation="repair")

    assert pairing["state"] == "SUCCEEDED", pairing
    assert pairing["operation"] == "repair"
    assert are_paired(service.fleet, one, other)
    assert changes(service, one) == ["pair", "repair"]
    assert changes(service, other) == ["pair"]
    assert [side["state"] for side in pairing["sides"]] == ["SUCCEEDED", "ALREADY_PAIRED"]
    assert "RepairRequested" in await event_types(service, pairing)


@pytest.mark.parametrize(
    "trouble",
    [
        fault("lost_answer", method="PUT", path="/sites/.*"),
        fault("reset", method="PUT", path="/sites/.*"),
        fault("status", method="PUT", path="/sites/.*", status=500, when="before"),
        fault("task_acts_and_fails", method="PUT", path="/sites/.*"),
    ],
    ids=["lost answer", "reset", "500 before acting", "failed after acting"],
)
async def test_a_repair_gets_through_what_befalls_its_call(
    trouble: Rule, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    await rotated(service, one, other)
    service.fleet[one].add_fault(trouble)
    pairing = await ended(service, one, other, operation="repair")
    assert pairing["state"] == "SUCCEEDED", pairing
    assert are_paired(service.fleet, one, other)


async def test_a_repair_pairs_the_side_that_has_no_record(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    service.fleet.world.appliances[other].peers.clear()
    pairing = await ended(service, one, other, operation="repair")
    assert pairing["state"] == "SUCCEEDED", pairing
    assert changes(service, other) == ["pair", "pair"]


async def test_a_failed_repair_removes_nothing_that_was_there(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await rotated(service, one, other)
    service.fleet[one].add_fault(fault("task_fails", method="PUT", path="/sites/.*"))
    pairing = await ended(service, one, other, operation="repair")
    assert pairing["state"] == "FAILED"
    assert holds(service.fleet, one, other)
    assert holds(service.fleet, other, one)


async def test_two_paired_sites_are_unpaired_on_both_sides(service: ServiceUnderTest) -> None:
    one, other, third = await service.register()
    await ended(service, one, other)
    await ended(service, one, third)
    pairing = await ended(service, one, other, operation="unpair")

    assert pairing["state"] == "SUCCEEDED", pairing
    assert pairing["warnings"] == []
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)
    assert are_paired(service.fleet, one, third)


@pytest.mark.parametrize("removes_both", [False, True])
@pytest.mark.parametrize("unknown", ["rejected", "task_fails"])
async def test_unpairing_where_one_side_is_gone_succeeds_and_says_so(
    removes_both: bool, unknown: str, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    for name in (one, other):
        service.fleet[name].turn(unpair_removes_both=removes_both, unknown_peer_id=unknown)
    service.fleet.world.appliances[other].peers.clear()
    pairing = await ended(service, one, other, operation="unpair")

    assert pairing["state"] == "SUCCEEDED", pairing
    warned: list[Any] = pairing["warnings"]
    assert [(warning["code"], warning["args"]) for warning in warned] == [
        ("AlreadyUnpaired", [other, one])
    ]
    assert not holds(service.fleet, one, other)


@pytest.mark.parametrize("unknown", ["rejected", "task_fails"])
async def test_one_call_may_remove_both_records(unknown: str, service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    for name in (one, other):
        service.fleet[name].turn(unpair_removes_both=True, unknown_peer_id=unknown)
    pairing = await ended(service, one, other, operation="unpair")
    assert pairing["state"] == "SUCCEEDED", pairing


@pytest.mark.parametrize("way", ["rejected", "task_fails"])
async def test_a_side_that_cannot_be_unpaired_brings_the_other_one_back(
    way: str, service: ServiceUnderTest
) -> None:
    """Replications go over the pairing (h4-api 2.1): half of it gone would break them."""
    one, other, _ = await service.register()
    await ended(service, one, other)
    service.fleet[one].turn(replications=way)
    pairing = await ended(service, one, other, operation="unpair")

    assert pairing["state"] == "FAILED"
    assert [side["state"] for side in pairing["sides"]] == ["FAILED", "ROLLED_BACK"]
    assert are_paired(service.fleet, one, other)


async def test_the_side_that_could_be_unpaired_stays_so_if_the_caller_wants_it(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    service.fleet[one].turn(replications="rejected")
    pairing = await ended(service, one, other, operation="unpair", onFailure="keep")
    assert pairing["state"] == "FAILED"
    assert holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)


@pytest.mark.parametrize(
    "trouble",
    [
        fault("lost_answer", method="DELETE", path="/sites/.*"),
        fault("reset", method="DELETE", path="/sites/.*"),
        fault("task_acts_and_fails", method="DELETE", path="/sites/.*"),
    ],
    ids=["lost answer", "reset", "failed after acting"],
)
async def test_unpairing_gets_through_a_lost_call(trouble: Rule, service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    service.fleet[one].add_fault(trouble)
    pairing = await ended(service, one, other, operation="unpair")
    assert pairing["state"] == "SUCCEEDED", pairing
    assert not holds(service.fleet, one, other)


async def test_an_appliance_that_moved_is_still_found_under_its_former_url(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await ended(service, one, other)
    await service.register(service.fleet[other], apiUrl="https://moved.example.test:8048/")
    wrong = await ended(service, one, other)
    assert wrong["error"]["code"] == "PeerUrlDiffers"
