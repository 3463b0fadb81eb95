"""Canceling and trying again, over HTTP."""

import asyncio
from typing import Any

import pytest

from service.domain.appliance import ApiError
from service.domain.events import (
    CancelRequested,
    PairingCanceled,
    PairingEvent,
    PairingFailed,
    PairingSucceeded,
    PairRequested,
    PeerFound,
    PeerVerified,
    RollbackFailed,
    RollbackStarted,
    SideEvent,
    SideFailed,
    SidePaired,
    TaskAccepted,
    VerificationStarted,
)
from service.domain.ids import ApplianceName, OperationId, TaskId
from service.store import journal
from service.store.group import CROWD
from tests.support.contract import Answer
from tests.unit.api.conftest import Served, served_over

PRAGUE, BRNO = ApplianceName("prague"), ApplianceName("brno")
ERROR = ApiError("Busy", "Peer is busy.")
LEFT_BEHIND: list[PairingEvent | SideEvent] = [
    PairRequested(PRAGUE, 1),
    TaskAccepted(PRAGUE, TaskId("t")),
    SidePaired(PRAGUE, b'{"id": "1"}'),
    SideFailed(BRNO, ERROR),
    RollbackStarted(ERROR, 300),
    RollbackFailed(PRAGUE, ApiError("ApplianceUnavailable", "It does not answer.")),
    PairingFailed(ERROR),
]


FOUND_AND_PAIRED: list[PairingEvent | SideEvent] = [
    PeerFound(PRAGUE, b'{"id": "1"}'),
    PairRequested(BRNO, 1),
    SidePaired(BRNO, b'{"id": "2"}'),
    VerificationStarted(),
    PeerVerified(PRAGUE, b'{"id": "1"}'),
    PeerVerified(BRNO, b'{"id": "2"}'),
    PairingSucceeded(),
]


async def ask(served: Served, pairing: Any, what: str, **headers: str) -> Answer:
    path = f"/v1/pairings/{pairing['id']}/{what}"
    return await served.client.call("POST", path, headers=headers)


async def shown(served: Served, pairing: Any) -> Any:
    return (await served.client.call("GET", f"/v1/pairings/{pairing['id']}")).json


@pytest.fixture
async def pairing(served: Served) -> Any:
    """A pairing of prague and brno that nobody has taken up."""
    return await served.pair("prague", "brno")


async def test_who_cancels_is_promised_it_and_sees_it_at_once(served: Served, pairing: Any) -> None:
    answer = await ask(served, pairing, "cancel")

    assert answer.status == 202
    assert answer.headers["Location"] == f"/v1/pairings/{pairing['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert (answer.json["state"], answer.json["canceling"]) == ("QUEUED", True)
    assert await shown(served, pairing) == answer.json


async def test_canceling_again_changes_nothing(served: Served, pairing: Any) -> None:
    first = await ask(served, pairing, "cancel", operationID="first")
    again = await asyncio.gather(*(ask(served, pairing, "cancel") for _ in range(5)))

    assert {answer.status for answer in again} == {202}
    assert all(answer.json == first.json for answer in again)


async def test_a_pairing_that_was_canceled_may_be_canceled_again(
    served: Served, pairing: Any
) -> None:
    wish = CancelRequested("admin", OperationId("o"))
    await served.store.drive(pairing["id"], wish, PairingCanceled())

    answer = await ask(served, pairing, "cancel")

    assert answer.status == 202
    assert (answer.json["state"], answer.json["canceling"]) == ("CANCELED", False)
    assert answer.json["error"]["code"] == "Canceled"


async def test_what_is_over_cannot_be_canceled(served: Served, pairing: Any) -> None:
    await served.fail(pairing["id"])

    answer = await ask(served, pairing, "cancel")

    assert (answer.status, answer.json["code"]) == (409, "PairingOver")
    assert "FAILED" in answer.json["detail"]


async def test_a_pairing_that_failed_is_queued_again_under_its_id(
    served: Served, pairing: Any
) -> None:
    await served.fail(pairing["id"])

    answer = await ask(served, pairing, "retry", operationID="again-1")

    assert answer.status == 202
    assert answer.headers["Location"] == f"/v1/pairings/{pairing['id']}"
    told = {key: answer.json[key] for key in ("id", "state", "endTime", "error", "operationID")}
    assert told == {
        "id": pairing["id"],
        "state": "QUEUED",
        "endTime": -1,
        "error": None,
        "operationID": pairing["operationID"],
    }
    assert await shown(served, pairing) == answer.json
    events = await served.client.call("GET", f"/v1/pairings/{pairing['id']}/events")
    retried = next(each for each in events.json["items"] if each["type"] == "PairingRetried")
    assert (retried["operationID"], retried["actor"]) == ("again-1", "admin")
    assert [each["type"] for each in events.json["items"][-2:]] == ["SideReopened"] * 2


async def test_what_is_left_behind_is_shown_and_a_retry_resumes_its_rollback(
    served: Served, pairing: Any
) -> None:
    await served.store.drive(pairing["id"], *LEFT_BEHIND)
    left = await shown(served, pairing)
    answer = await ask(served, pairing, "retry")

    assert [side["state"] for side in left["sides"]] == ["ROLLBACK_FAILED", "FAILED"]
    assert left["sides"][0]["error"]["code"] == "ApplianceUnavailable"
    assert [(each["code"], each["args"][:2]) for each in left["warnings"]] == [
        ("RollbackFailed", ["prague", "brno"])
    ]
    assert answer.status == 202
    assert (answer.json["state"], answer.json["error"]["code"]) == ("QUEUED", "Busy")
    assert answer.json["warnings"] == left["warnings"]
    assert answer.json["sides"][0]["state"] == "ROLLBACK_FAILED"


async def test_what_a_later_pairing_found_and_took_for_its_own_is_not_undone(
    served: Served, pairing: Any
) -> None:
    await served.store.drive(pairing["id"], *LEFT_BEHIND)
    body = {"appliances": ["brno", "prague"]}
    failed = (await served.client.call("POST", "/v1/pairings", json=body)).json
    await served.fail(failed["id"])
    allowed = await ask(served, pairing, "retry")
    await served.store.drive(pairing["id"], RollbackFailed(PRAGUE, ERROR), PairingFailed(ERROR))
    later = (await served.client.call("POST", "/v1/pairings", json=body)).json
    await served.store.drive(later["id"], *FOUND_AND_PAIRED)

    refused = await ask(served, pairing, "retry")

    assert allowed.status == 202
    assert (refused.status, refused.json["code"]) == (409, "Superseded")
    assert refused.headers["Location"] == f"/v1/pairings/{later['id']}"
    assert (await shown(served, pairing))["state"] == "FAILED"


async def test_an_old_pairing_begins_anew_whatever_succeeded_since(
    served: Served, pairing: Any
) -> None:
    await served.fail(pairing["id"])
    body = {"appliances": ["brno", "prague"]}
    later = (await served.client.call("POST", "/v1/pairings", json=body)).json
    await served.store.drive(later["id"], *FOUND_AND_PAIRED)

    assert (await ask(served, pairing, "retry")).status == 202


async def test_a_wish_from_before_is_forgotten_by_a_retry(served: Served, pairing: Any) -> None:
    await ask(served, pairing, "cancel")
    heeded = CancelRequested("admin", OperationId("unwanted-1"))
    await served.store.drive(pairing["id"], heeded, PairingCanceled())

    answer = await ask(served, pairing, "retry")

    assert (answer.json["state"], answer.json["canceling"]) == ("QUEUED", False)
    assert await shown(served, pairing) == answer.json


async def test_only_what_did_not_succeed_can_be_tried_again(served: Served, pairing: Any) -> None:
    queued = await ask(served, pairing, "retry")

    assert (queued.status, queued.json["code"]) == (409, "NotRetryable")
    assert "QUEUED" in queued.json["detail"]


async def test_of_many_who_retry_at_once_one_does(served: Served, pairing: Any) -> None:
    await served.fail(pairing["id"])

    answers = await asyncio.gather(*(ask(served, pairing, "retry") for _ in range(8)))

    statuses = sorted(answer.status for answer in answers)
    assert statuses == [202] + [409] * 7
    assert {each.json["code"] for each in answers if each.status == 409} == {"NotRetryable"}


async def test_a_retry_has_to_wait_for_another_pairing_of_the_two(
    served: Served, pairing: Any
) -> None:
    await served.fail(pairing["id"])
    body = {"appliances": ["brno", "prague"], "operation": "unpair"}
    other = await served.client.call("POST", "/v1/pairings", json=body)

    answer = await ask(served, pairing, "retry")

    assert (answer.status, answer.json["code"]) == (409, "PairingActive")
    assert answer.headers["Location"] == other.headers["Location"]


async def test_a_pairing_of_an_appliance_that_is_gone_cannot_be_tried_again(
    served: Served, pairing: Any
) -> None:
    await served.fail(pairing["id"])
    await served.client.call("DELETE", "/v1/appliances/brno")

    answer = await ask(served, pairing, "retry")

    assert (answer.status, answer.json["code"]) == (409, "UnknownAppliance")
    assert "'brno'" in answer.json["detail"]
    assert "prague" not in answer.json["detail"]


@pytest.mark.parametrize("what", ["cancel", "retry"])
@pytest.mark.parametrize("pairing_id", ["x", "0198c1de-0000-7000-8000-00000000cafe"])
async def test_nothing_is_asked_of_a_pairing_that_never_was(
    shared: Served, pairing_id: str, what: str
) -> None:
    answer = await ask(shared, {"id": pairing_id}, what)

    assert (answer.status, answer.json["code"]) == (404, "UnknownPairing")


@pytest.mark.parametrize("what", ["cancel", "retry"])
async def test_parameters_that_mean_nothing_are_refused_before_anything_changes(
    served: Served, pairing: Any, what: str
) -> None:
    answer = await ask(served, pairing, f"{what}?force=true")

    assert (answer.status, answer.json["code"]) == (400, "InvalidParameters")
    assert (await shown(served, pairing))["canceling"] is False


async def test_what_is_to_be_done_and_kept_is_shown(served: Served) -> None:
    for name in ("prague", "brno"):
        await served.register(name)
    body = {"appliances": ["prague", "brno"], "operation": "repair", "onFailure": "keep"}

    answer = await served.client.call("POST", "/v1/pairings", json=body)

    assert answer.status == 202
    assert (answer.json["operation"], answer.json["onFailure"]) == ("repair", "keep")
    assert await shown(served, answer.json) == answer.json


async def test_whoever_tries_again_waits_no_longer_than_an_intent(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "REST_S", 3600.0)
    async with served_over(database_url) as served:
        pairings = [await served.pair(f"a{number}", f"b{number}") for number in range(CROWD)]
        for pairing in pairings:
            await served.fail(pairing["id"])
        # There is a crowd now, and the next group begins in an hour.
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*[ask(served, each, "retry") for each in pairings])
    assert {answer.status for answer in answers} == {202}
