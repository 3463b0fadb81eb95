"""The calls about pairings, over HTTP."""

import asyncio

import pytest

from tests.support.contract import Answer
from tests.unit.api.conftest import TOKEN, Served

NOBODYS = "0198c1de-0000-7000-8000-00000000cafe"


async def post(served: Served, key: str | None = None, **body: object) -> Answer:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return await served.client.call(
        "POST", "/v1/pairings", json={"appliances": ["prague", "brno"], **body}, headers=headers
    )


@pytest.fixture
async def registered(served: Served) -> Served:
    """The service with a few appliances."""
    for name in ["prague", "brno", "zlin"]:
        await served.register(name)
    return served


async def test_a_pairing_is_accepted_and_found_where_it_was_said(registered: Served) -> None:
    accepted = await registered.client.call(
        "POST",
        "/v1/pairings",
        json={"appliances": ["prague", "brno"], "description": "Ticket"},
        headers={"operationID": "order-4711"},
    )
    found = await registered.client.call("GET", accepted.headers["Location"])

    assert accepted.status == 202
    assert int(accepted.headers["Retry-After"]) > 0
    assert "Idempotency-Replayed" not in accepted.headers
    assert found.json == accepted.json
    shown = {key: accepted.json[key] for key in ["state", "endTime", "operationID", "user"]}
    assert shown == {
        "state": "QUEUED",
        "endTime": -1,
        "operationID": "order-4711",
        "user": "admin",
    }
    assert [(side["appliance"], side["peer"]) for side in accepted.json["sides"]] == [
        ("prague", "brno"),
        ("brno", "prague"),
    ]


async def test_its_audit_trail_begins_with_the_promise(registered: Served) -> None:
    accepted = await post(registered)

    events = await registered.client.call("GET", f"{accepted.headers['Location']}/events")

    assert [(event["seq"], event["type"]) for event in events.json["items"]] == [
        (1, "PairingAccepted")
    ]
    assert events.json["items"][0]["operationID"] == accepted.json["operationID"]


async def test_all_unknown_appliances_are_named_at_once(served: Served) -> None:
    await served.register("brno")

    both = await served.client.call(
        "POST", "/v1/pairings", json={"appliances": ["nobody", "nothing"]}
    )
    one = await served.client.call("POST", "/v1/pairings", json={"appliances": ["brno", "nothing"]})

    assert (both.status, both.json["code"]) == (422, "UnknownAppliance")
    assert [error["pointer"] for error in both.json["errors"]] == [
        "/appliances/0",
        "/appliances/1",
    ]
    assert [error["pointer"] for error in one.json["errors"]] == ["/appliances/1"]
    assert (await served.client.call("GET", "/v1/pairings")).json["items"] == []


async def test_a_second_pairing_of_the_same_two_leads_to_the_first(registered: Served) -> None:
    first = await post(registered)
    second = await post(registered, appliances=["brno", "prague"])

    assert (second.status, second.json["code"]) == (409, "PairingActive")
    assert second.headers["Location"] == first.headers["Location"]


async def test_the_same_key_and_request_get_the_same_answer(registered: Served) -> None:
    first = await post(registered, "key-1")
    again = await post(registered, "key-1", priority=0)

    assert (again.status, again.json) == (202, first.json)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_the_same_key_with_another_request_is_refused(registered: Served) -> None:
    await post(registered, "key-1")

    answer = await post(registered, "key-1", appliances=["prague", "zlin"])

    assert (answer.status, answer.json["code"]) == (422, "IdempotencyKeyReused")
    assert answer.json["errors"][0]["parameter"] == "Idempotency-Key"


async def test_a_refused_request_does_not_use_its_key_up(registered: Served) -> None:
    refused = await post(registered, "key-1", priority=1000)

    accepted = await post(registered, "key-1")

    assert (refused.status, accepted.status) == (422, 202)
    assert "Idempotency-Replayed" not in accepted.headers


async def test_many_at_once_with_one_key_make_one_pairing(registered: Served) -> None:
    answers = await asyncio.gather(*(post(registered, "key-1") for _ in range(10)))

    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len((await registered.client.call("GET", "/v1/pairings")).json["items"]) == 1


@pytest.mark.parametrize("pairing_id", ["x", NOBODYS, "{" + NOBODYS + "}", "0" * 32])
@pytest.mark.parametrize("more", ["", "/events", "?waitSeconds=5"])
async def test_a_pairing_that_never_was_is_not_found(
    shared: Served, pairing_id: str, more: str
) -> None:
    answer = await shared.client.call("GET", f"/v1/pairings/{pairing_id}{more}")

    assert answer.status == 404
    assert answer.json["code"] in {"UnknownPairing", "NotFound"}


@pytest.mark.parametrize("query", ["waitSeconds=nan", "waitSeconds=61", "wait=1", "waitSeconds"])
async def test_a_wait_that_cannot_be_is_refused(registered: Served, query: str) -> None:
    accepted = await post(registered)

    answer = await registered.client.call("GET", f"{accepted.headers['Location']}?{query}")

    assert (answer.status, answer.json["code"]) == (400, "InvalidParameters")


async def test_a_caller_who_hangs_up_has_been_promised_all_the_same(registered: Served) -> None:
    body = b'{"appliances": ["prague", "brno"]}'
    head = (
        f"POST /v1/pairings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(registered.host, registered.port)
    writer.write(head.encode() + body)
    await writer.drain()
    writer.transport.abort()

    found: list[object] = []
    while not found:
        found = (await registered.client.call("GET", "/v1/pairings")).json["items"]

    assert len(found) == 1


async def five_pairings(served: Served) -> list[str]:
    """The ids of five pairings, newest first."""
    ids = []
    for index in range(5):
        await served.register(f"spoke-{index}")
        answer = await served.client.call(
            "POST",
            "/v1/pairings",
            json={"appliances": ["prague", f"spoke-{index}"]},
            headers={"operationID": f"order-{index % 2}"},
        )
        ids.append(answer.json["id"])
    return ids[::-1]


async def test_pages_of_any_size_give_every_pairing_once_newest_first(registered: Served) -> None:
    ids = await five_pairings(registered)

    for limit in [1, 2, 4, 5, 6]:
        found: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            answer = await registered.client.call(
                "GET", f"/v1/pairings?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            )
            found += [item["id"] for item in answer.json["items"]]
            cursor = answer.json["nextCursor"]
        assert found == ids


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("operationID=order-0", [0, 2, 4]),
        ("appliance=spoke-4", [0]),
        ("appliance=spoke-4&operationID=order-1", []),
        ("state=QUEUED&appliance=prague", [0, 1, 2, 3, 4]),
        ("state=FAILED", []),
        ("appliance=nobody", []),
    ],
)
async def test_filters_choose_together(registered: Served, query: str, chosen: list[int]) -> None:
    ids = await five_pairings(registered)

    answer = await registered.client.call("GET", f"/v1/pairings?{query}")

    assert [item["id"] for item in answer.json["items"]] == [ids[index] for index in chosen]
    assert answer.json["nextCursor"] is None


async def test_a_cursor_that_somebody_edited_or_carried_over_is_refused(
    registered: Served,
) -> None:
    await five_pairings(registered)
    first = await registered.client.call("GET", "/v1/pairings?limit=1")
    cursor = first.json["nextCursor"]
    edited = ("B" if cursor[0] == "A" else "A") + cursor[1:]

    for query in [f"cursor={edited}", f"cursor={cursor}&state=QUEUED", "cursor=abc"]:
        answer = await registered.client.call("GET", f"/v1/pairings?{query}")

        assert (answer.status, answer.json["code"]) == (400, "InvalidParameters")
        assert answer.json["errors"] == [
            {"parameter": "cursor", "detail": "was not given for these filters"}
        ]


async def test_a_wrong_cursor_is_told_together_with_a_wrong_limit(shared: Served) -> None:
    answer = await shared.client.call("GET", "/v1/pairings?cursor=abc&limit=0")

    assert answer.status == 400
    assert {each["parameter"] for each in answer.json["errors"]} == {"cursor", "limit"}


async def test_of_a_cursor_nothing_is_told_while_its_filters_are_not_known(served: Served) -> None:
    await served.pair("a", "b")
    await served.pair("c", "d")
    cursor = (await served.client.call("GET", "/v1/pairings?limit=1")).json["nextCursor"]

    answer = await served.client.call("GET", f"/v1/pairings?cursor={cursor}&state=DONE&limit=0")

    assert answer.status == 400
    assert {each["parameter"] for each in answer.json["errors"]} == {"limit", "state"}


async def test_who_waits_hears_of_the_end_when_it_comes(
    registered: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.pairings._LOOK_S", 60.0)
    accepted = await post(registered)
    path = accepted.headers["Location"]

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(registered.client.call("GET", f"{path}?waitSeconds=60"))
        await registered.until_awaited(accepted.json["id"])
        await registered.fail(accepted.json["id"])

    assert waiting.result().json["state"] == "FAILED"


async def test_who_waits_for_what_is_over_does_not_wait(registered: Served) -> None:
    accepted = await post(registered)
    await registered.fail(accepted.json["id"])

    answer = await registered.client.call("GET", f"{accepted.headers['Location']}?waitSeconds=60")

    assert answer.json["state"] == "FAILED"
    assert answer.json["error"] == {"code": "Gone", "msg": "It is gone.", "args": []}


async def test_when_the_time_is_over_the_answer_is_what_stands(registered: Served) -> None:
    accepted = await post(registered)

    answer = await registered.client.call("GET", f"{accepted.headers['Location']}?waitSeconds=0.01")

    assert answer.json == accepted.json


async def test_a_service_that_stops_answers_those_who_wait_at_once(
    registered: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.pairings._LOOK_S", 60.0)
    accepted = await post(registered)
    path = f"{accepted.headers['Location']}?waitSeconds=60"

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(registered.client.call("GET", path))
        await registered.until_awaited(accepted.json["id"])
        await registered.stop()

    assert (waiting.result().status, waiting.result().json["state"]) == (200, "QUEUED")
