"""Two sites, paired end to end: what the appliances hold is compared with what the service says."""

import asyncio
import hashlib
import json
from typing import Any

import pytest

from service.settings import Settings
from simulator import Rule, fault
from tests.support.logs import captured_logs
from tests.support.service import (
    QUICK,
    ServiceUnderTest,
    are_paired,
    fleet_of,
    posts,
    registration_of,
    service_over,
)

UNKNOWNS: list[dict[str, Any]] = [
    {},
    {"queued_ms": 300},
    {"extra_states": ["PAUSED", "CANCELLING"]},
    {"api_url_rewritten": True, "public_url_slash": "removed"},
    {"api_url_rewritten": False, "public_url_slash": "added"},
    {"poll_order": "random", "poll_cells": "flattened"},
    {"poll_layout": "columns"},
    {"poll_cells": "omitted"},
    {"poll_unknown_ids": "error", "tasks_of_others": "visible"},
    {"task_result": "omitted"},
    {"list_lag_ms": 700},
    {"one_sided_error": "NotAuthenticated", "one_sided_incoming": "null"},
    {"one_sided_error": "SiteNotFound", "api_version": "4.5"},
    {"max_sessions": 1, "session_binding": "address"},
    {"session_idle_ms": 60},
    {"session_max_age_ms": 300},
    {"operation_id_max": 64},
    {"about_needs_token": False, "get_site": True, "operation_id_filter": True},
    {"bulk_poll": "404"},
    {"bulk_poll": "405"},
    {"lists_local_site": True},
    {"media_type": "plain"},
    {"unknown_accept": "plain"},
    {"last_updated": "real", "operation_id_echoed": True},
    {"keep_alive_ms": 0},
    {"task_ms": [0, 0], "queued_ms": 0},
    {"thumbprint_case": "any"},
    {"task_retention_ms": 1},
    {"comm_refresh_ms": 700},
]


@pytest.mark.parametrize("knobs", UNKNOWNS, ids=str)
async def test_two_sites_are_paired_whichever_way_the_unknown_turns_out(
    knobs: dict[str, Any], settings: Settings
) -> None:
    async with fleet_of(2, **knobs) as fleet, service_over(settings, fleet) as service:
        one, other = await service.register()
        pairing = await service.over(await service.pair(one, other))

        assert pairing["state"] == "SUCCEEDED", pairing
        assert [side["state"] for side in pairing["sides"]] == ["SUCCEEDED", "SUCCEEDED"]
        assert are_paired(fleet, one, other)
        assert [name for name, _ in posts(fleet)] == [one, other]


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"already_paired": "rejected"},
        {"already_paired": "succeeds"},
        {"list_limit_max": 1},
        {"tasks_of_others": "visible"},
        {"task_result": "omitted"},
        {"task_retention_ms": 1},
        {"list_lag_ms": 1_000},
    ],
    ids=str,
)
async def test_an_answer_that_was_lost_is_looked_for_whichever_way_the_unknown_turns_out(
    knobs: dict[str, Any], settings: Settings
) -> None:
    async with fleet_of(2, **knobs) as fleet, service_over(settings, fleet, QUICK) as service:
        one, other = await service.register()
        fleet[one].add_fault(fault("lost_answer", method="POST", path="/sites"))
        pairing = await service.over(await service.pair(one, other))

        assert pairing["state"] == "SUCCEEDED", pairing
        assert are_paired(fleet, one, other)
        assert [name for name, _ in posts(fleet)] == [one, other]
        assert "AnswerLost" in [event["type"] for event in await service.events(pairing)]


@pytest.mark.parametrize("word", ["Forbidden", "NotAuthenticated", "SiteNotFound"])
async def test_sites_that_were_paired_once_are_paired_again(word: str, settings: Settings) -> None:
    async with (
        fleet_of(2, unpaired_error=word, comm_refresh_ms=300) as fleet,
        service_over(settings, fleet) as service,
    ):
        one, other = await service.register()
        for operation in ("pair", "unpair", "pair"):
            body = {"appliances": [one, other], "operation": operation}
            accepted = await service.call("POST", "/v1/pairings", body)
            pairing = await service.over(accepted.json)
            assert pairing["state"] == "SUCCEEDED", pairing
        assert are_paired(fleet, one, other)


async def test_comm_errors_that_take_five_seconds_to_clear_are_waited_for(
    settings: Settings,
) -> None:
    async with (
        fleet_of(2, comm_refresh_ms=5_000) as fleet,
        service_over(settings, fleet, QUICK) as service,
    ):
        one, other = await service.register()
        pairing = await service.over(await service.pair(one, other))
        assert pairing["state"] == "SUCCEEDED", pairing
        assert pairing["endTime"] - pairing["startTime"] >= 4_000


async def test_the_operation_id_reaches_both_appliances_and_every_event(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    pairing = await service.over(await service.pair(one, other, operationID="UI-7.x:1"))
    assert pairing["operationID"] == "UI-7.x:1"
    assert posts(service.fleet) == [(one, "UI-7.x:1"), (other, "UI-7.x:1")]
    assert {event["operationID"] for event in await service.events(pairing)} == {"UI-7.x:1"}
    for name in (one, other):
        assert not service.fleet.world.truth.counts(name).without_operation_id


async def test_each_call_to_an_appliance_is_one_line_that_says_for_what(
    settings: Settings,
) -> None:
    with captured_logs() as logs:
        async with fleet_of(2) as fleet, service_over(settings, fleet) as service:
            one, other = await service.register()
            pairing = await service.over(await service.pair(one, other, operationID="traced"))
        counted = sum(
            sum(fleet.world.truth.counts(name).requests.values()) for name in (one, other)
        )
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    calls = [line for line in lines if line["event"] == "appliance_called"]

    assert len(calls) == counted
    tasks = {side["appliance"]: side["taskId"] for side in pairing["sides"]}
    for line in calls:
        assert {"method", "path", "status", "ms", "appliance", "operationID"} <= set(line)
        if line["path"] in {"/sites", "/tasks/poll"}:
            assert (line["operationID"], line["pairing"]) == ("traced", pairing["id"])
        if line["path"] == "/tasks/poll":
            assert line["task"] == tasks[line["appliance"]]


async def test_the_audit_trail_tells_the_story_in_order(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    pairing = await service.over(await service.pair(one, other))
    events = await service.events(pairing)

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    types = [event["type"] for event in events]
    assert types[:2] == ["PairingAccepted", "PairingStarted"]
    assert types[-4:] == ["VerificationStarted", "PeerVerified", "PeerVerified", "PairingSucceeded"]
    for name in (one, other):
        story = [event["type"] for event in events if event.get("side") == name]
        assert story == ["PairRequested", "TaskAccepted", "SidePaired", "PeerVerified"]


async def test_a_caller_can_verify_the_chain_of_events(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    pairing = await service.over(await service.pair(one, other))
    before = bytes(32)
    for event in await service.events(pairing):
        content = {
            "chain": pairing["id"],
            "appliance": event.get("side"),
            **{name: event[name] for name in ("seq", "at", "type", "actor", "operationID")},
            "detail": event["detail"],
        }
        spelt = json.dumps(content, sort_keys=True, separators=(",", ":"))
        before = hashlib.sha256(before + spelt.encode()).digest()
        assert event["hash"] == before.hex()


async def test_sites_that_are_paired_already_are_left_alone(service: ServiceUnderTest) -> None:
    one, other, _ = await service.register()
    await service.over(await service.pair(one, other))
    again = await service.over(await service.pair(other, one))

    assert again["state"] == "SUCCEEDED"
    assert {side["state"] for side in again["sides"]} == {"ALREADY_PAIRED"}
    assert len(posts(service.fleet)) == 2


async def test_a_peer_listed_with_another_thumbprint_fails_and_points_to_repair(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await service.over(await service.pair(one, other))
    rotated = service.fleet[other]
    rotated.rotate_certificate("api")
    await service.register(rotated)
    again = await service.over(await service.pair(one, other))

    assert again["state"] == "FAILED"
    assert again["error"]["code"] == "PeerThumbprintDiffers"
    assert "repair" in again["error"]["msg"]
    assert len(posts(service.fleet)) == 2


async def test_a_task_that_succeeded_with_a_mismatch_is_not_taken_for_a_pairing(
    settings: Settings,
) -> None:
    async with fleet_of(2) as fleet, service_over(settings, fleet) as service:
        one, other = await service.register()
        fleet[one].add_fault(fault("task_mismatch", method="POST", path="/sites"))
        pairing = await service.over(await service.pair(one, other))
        assert pairing["state"] == "FAILED", pairing
        assert pairing["error"]["code"] == "CertificateMismatch"


async def test_a_failed_task_fails_the_pairing_in_the_appliances_own_words(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].add_fault(
        fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Peer is busy.")
    )
    pairing = await service.over(await service.pair(one, other))
    side = pairing["sides"][0]

    assert pairing["state"] == side["state"] == "FAILED"
    assert side["error"]["code"] == pairing["error"]["code"] == "PeerBusy"


@pytest.mark.parametrize(
    "trouble",
    [
        fault("reset", method="POST", path="/sites"),
        fault("status", method="POST", path="/sites", status=503),
    ],
    ids=["reset", "503"],
)
async def test_a_call_that_had_no_effect_is_made_again(
    trouble: Rule, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].add_fault(trouble)
    pairing = await service.over(await service.pair(one, other))

    assert pairing["state"] == "SUCCEEDED", pairing
    assert pairing["sides"][0]["attempts"] == 2
    assert [name for name, _ in posts(service.fleet)] == [one, other]


async def test_a_session_that_ends_again_at_once_fails_nothing(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    ended = fault(
        "status", path="/sites", status=401, code="NotAuthenticated", marker=True, times=4
    )
    service.fleet[one].add_fault(ended)
    pairing = await service.over(await service.pair(one, other))

    assert pairing["state"] == "SUCCEEDED", pairing
    assert [name for name, _ in posts(service.fleet)] == [one, other]
    assert "RequestDeferred" in [event["type"] for event in await service.events(pairing)]


@pytest.mark.parametrize(("status", "times"), [(401, 1), (409, 1), (422, 99), (500, 99)])
async def test_a_list_of_tasks_that_is_refused_is_not_taken_for_an_empty_one(
    status: int, times: int, service: ServiceUnderTest
) -> None:
    """What the lost call did cannot be told then, so it is not made again: the list is asked for
    again, and if that is always in vain the list of peers tells."""
    one, other, _ = await service.register()
    service.fleet[one].turn(task_ms=[1_500, 1_500])
    service.fleet[one].add_fault(fault("lost_answer", method="POST", path="/sites"))
    service.fleet[one].add_fault(
        fault("status", method="GET", path="/tasks", status=status, code="NotNow", times=times)
    )
    pairing = await service.over(await service.pair(one, other))

    assert pairing["state"] == "SUCCEEDED", pairing
    assert service.fleet.world.truth.counts(one).requests["POST /sites"] == 1
    assert are_paired(service.fleet, one, other)


@pytest.mark.parametrize("status", [403, 422])
async def test_a_task_that_one_may_not_ask_about_is_waited_for(
    status: int, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].turn(task_ms=[5_000, 5_000])
    service.fleet[one].add_fault(fault("status", path="/tasks/.+", status=status, times=99))
    pairing = await service.over(await service.pair(one, other))

    assert pairing["state"] == "SUCCEEDED", pairing
    assert service.fleet.world.truth.counts(one).requests["POST /sites"] == 1


async def test_a_task_that_was_forgotten_is_settled_by_the_list_of_peers(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    service.fleet[one].turn(task_retention_ms=1)
    pairing = await service.over(await service.pair(one, other))
    assert pairing["state"] == "SUCCEEDED", pairing
    assert len(posts(service.fleet)) == 2


@pytest.mark.parametrize("why", ["wrong", "locked", "from a public network", "too many"])
async def test_refused_credentials_fail_the_pairing_after_one_login(
    why: str, service: ServiceUnderTest
) -> None:
    one, other, _ = await service.register()
    here = service.fleet[one]
    match why:
        case "wrong":
            credentials = {"type": "localUser", "localUser": "root", "localPassword": "wrong"}
            await service.register(here, credentials=credentials)
        case "locked":
            here.turn(lockout_after=1)
            here.state.sessions.refuse(here.username, service.fleet.now())
        case "too many":
            here.turn(max_sessions=1, over_max_sessions="refused")
            here.state.sessions.open("somebody", "", service.fleet.now(), here.state.knobs)
        case _:
            here.turn(admin_from_public="refused")
    pairing = await service.over(await service.pair(one, other))

    assert pairing["state"] == "FAILED"
    assert pairing["error"]["code"] == "NotAuthenticated"
    assert service.fleet.world.truth.counts(one).logins_refused == 1


async def test_a_name_that_was_removed_and_registered_again_is_called_with_its_new_credentials(
    service: ServiceUnderTest,
) -> None:
    one, other, third = await service.register()
    await service.over(await service.pair(one, other))
    assert (await service.call("DELETE", f"/v1/appliances/{one}")).status == 204
    credentials = {"type": "localUser", "localUser": "root", "localPassword": "another"}
    await service.register(service.fleet[one], credentials=credentials)
    pairing = await service.over(await service.pair(one, third))
    assert pairing["state"] == "FAILED"
    assert pairing["error"]["code"] == "NotAuthenticated"


async def test_an_appliance_that_is_not_the_pinned_one_is_told_nothing(
    service: ServiceUnderTest,
) -> None:
    one, other, third = await service.register()
    await service.register(service.fleet[one], thumbprint=service.fleet[third].thumbprint)
    pairing = await service.over(await service.pair(one, other))

    assert pairing["state"] == "FAILED"
    assert not service.fleet.world.truth.counts(one).requests


async def test_one_appliance_that_is_down_until_the_deadline_fails_with_it(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await service.fleet[one].down("refuse")
    body = {"appliances": [one, other], "timeoutSeconds": 1}
    answer = await service.call("POST", "/v1/pairings", body)
    pairing = await service.over(answer.json)
    assert pairing["state"] == "FAILED"
    assert pairing["error"]["code"] == "DeadlineExceeded"


async def test_many_pairings_share_logins_and_connections(settings: Settings) -> None:
    async with fleet_of(8) as fleet, service_over(settings, fleet) as service:
        names = await service.register()
        couples = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(service.pair(*couple)) for couple in couples]
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(service.over(task.result())) for task in asked]

        assert {end.result()["state"] for end in ends} == {"SUCCEEDED"}
        assert all(are_paired(fleet, *couple) for couple in couples)
        assert len(posts(fleet)) == 2 * len(couples)
        for name in names:
            counts = fleet.world.truth.counts(name)
            assert counts.logins_accepted == 1
            assert counts.handshakes <= 4


async def test_a_service_that_stops_hands_its_pairings_to_the_next_one(
    settings: Settings,
) -> None:
    async with fleet_of(2, task_ms=[3_000, 3_000]) as fleet:
        async with service_over(settings, fleet) as first:
            one, other = await first.register()
            pairing = await first.pair(one, other)
            while len(posts(fleet)) < 2:
                await first.call("GET", f"/v1/pairings/{pairing['id']}?waitSeconds=0.05")
        async with service_over(settings, fleet) as second:
            ended = await second.over(pairing)
            types = [event["type"] for event in await second.events(pairing)]

    assert ended["state"] == "SUCCEEDED", ended
    assert len(posts(fleet)) == 2
    assert types.count("PairingHandedBack") == 1
    assert types.count("PairingStarted") == 2


async def test_an_address_that_egress_forbids_cannot_be_registered(
    service: ServiceUnderTest,
) -> None:
    body = registration_of(service.fleet["site-1"]) | {"managementUrl": "https://[::1]:8441"}
    answer = await service.call("PUT", "/v1/appliances/site-1", body)
    assert (answer.status, answer.json["code"]) == (422, "InvalidBody")
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["/managementUrl"]
    assert (await service.call("GET", "/v1/appliances/site-1")).status == 404
