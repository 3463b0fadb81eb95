"""The calls about batches, over HTTP."""

import asyncio
import io
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.api import uploads
from service.api.bodies import LIMIT
from service.observe.events import RequestServed
from service.observe.logging import listening
from tests.support.contract import Answer
from tests.unit.api.conftest import Served

LINES = "application/x-ndjson"


def lines(*items: object) -> str:
    return "\n".join(item if isinstance(item, str) else json.dumps(item) for item in items) + "\n"


def couple(one: str, other: str, **more: object) -> dict[str, object]:
    return {"appliances": [one, other], **more}


async def ask(served: Served, body: object, query: str = "", **headers: str) -> Answer:
    """POST a batch: text as lines, anything else as JSON."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent.setdefault("Content-Type", LINES if isinstance(body, str) else "application/json")
    data = io.BytesIO((body if isinstance(body, str) else json.dumps(body)).encode())
    return await served.client.call("POST", f"/v1/batches{query}", data=data, headers=sent)


async def registered(served: Served, *names: str) -> None:
    for name in names:
        await served.register(name)


async def listed(served: Served, batch: str) -> list[Any]:
    items = (await served.client.call("GET", f"/v1/pairings?batch={batch}")).json["items"]
    return list(items)


async def counted(served: Served, batch: str, query: str = "") -> Any:
    return (await served.client.call("GET", f"/v1/batches/{batch}{query}")).json


async def test_lines_become_pairings_of_a_batch(served: Served) -> None:
    await registered(served, "a", "b", "c")
    body = lines(couple("a", "b"), "", couple("c", "a", operation="repair", priority=-7))
    answer = await ask(served, body, operationID="bulk-1")
    assert answer.status == 202, answer
    assert answer.json == {"id": answer.json["id"], "total": 2, "accepted": 2, "rejected": []}
    assert answer.headers["Location"] == f"/v1/batches/{answer.json['id']}"
    newest, oldest = await listed(served, answer.json["id"])
    assert oldest["appliances"] == ["a", "b"]
    assert (newest["appliances"], newest["operation"]) == (["c", "a"], "repair")
    assert {each["operationID"] for each in (newest, oldest)} == {"bulk-1"}
    assert {each["batch"] for each in (newest, oldest)} == {answer.json["id"]}
    events = await served.client.call("GET", f"/v1/pairings/{newest['id']}/events")
    [event] = events.json["items"]
    assert (event["type"], event["operationID"]) == ("PairingAccepted", "bulk-1")
    assert event["detail"]["batch"] == answer.json["id"]
    assert (await counted(served, answer.json["id"])) == {
        "id": answer.json["id"],
        "total": 2,
        "accepted": 2,
        "counts": {"QUEUED": 2, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 0, "CANCELED": 0},
        "progress": 0,
        "operationID": "bulk-1",
        "user": "admin",
        "startTime": newest["startTime"],
        "endTime": -1,
    }


async def test_the_last_line_needs_no_end(served: Served) -> None:
    await registered(served, "a", "b", "c")
    longest = json.dumps(couple("a", "c")).ljust(LIMIT)
    answer = await ask(served, lines(couple("a", "b")) + longest)
    assert (answer.json["total"], answer.json["accepted"]) == (2, 2)


@pytest.mark.parametrize("as_json", [True, False], ids=["JSON", "lines"])
async def test_one_bad_item_never_sinks_the_rest(served: Served, as_json: bool) -> None:
    active = await served.pair("a", "b")
    await registered(served, "c", "d")
    items: list[Any] = [
        couple("b", "a"),
        couple("a", "c"),
        couple("c", "a", operation="unpair"),
        couple("a", "nobody"),
        couple("a", "a"),
        {"appliances": ["a", "d"], "timeoutSeconds": 0, "colour": "red"},
        17,
        couple("c", "d"),
    ]
    answer = await ask(served, {"items": items} if as_json else lines(*items))
    assert answer.status == 202, answer
    assert (answer.json["total"], answer.json["accepted"]) == (8, 2)
    told = {each["index"]: (each["code"], each["detail"]) for each in answer.json["rejected"]}
    assert list(told) == [0, 2, 3, 4, 5, 6]
    assert told[0] == (
        "PairingActive",
        f"Pairing {active['id']} of the same two appliances is not over yet.",
    )
    assert told[2][0] == "DuplicateInBatch"
    assert told[3] == ("UnknownAppliance", "No appliance is registered as 'nobody'.")
    assert told[4] == ("InvalidBody", "/appliances: must not have the same item twice")
    assert told[5][0] == "InvalidBody"
    assert "/timeoutSeconds: must be at least 1" in told[5][1]
    assert "/colour: is not a known field" in told[5][1]
    assert told[6] == ("InvalidBody", "must be an object")


@pytest.mark.parametrize("as_json", [True, False], ids=["JSON", "lines"])
async def test_an_item_that_cannot_be_kept_is_rejected_by_itself(
    served: Served, as_json: bool
) -> None:
    await registered(served, "a", "b", "c")
    items = [couple("a", "b"), couple("b", "c", description="\ud800"), couple("a", "c", colour=1)]
    answer = await ask(served, {"items": items} if as_json else lines(*items))
    assert (answer.status, answer.json["accepted"]) == (202, 1), answer
    assert [(each["index"], each["code"], each["detail"]) for each in answer.json["rejected"]] == [
        (1, "InvalidBody", "/description: must not have unpaired surrogates"),
        (2, "InvalidBody", "/colour: is not a known field"),
    ]


async def test_a_line_that_is_no_json_is_rejected_by_itself(served: Served) -> None:
    await registered(served, "a", "b")
    answer = await ask(served, lines("{oops", couple("a", "b"), '{"appliances": ["a"'))
    assert [each["index"] for each in answer.json["rejected"]] == [0, 2]
    assert {each["code"] for each in answer.json["rejected"]} == {"MalformedBody"}
    assert answer.json["rejected"][0]["detail"].startswith("The item is not JSON")


async def test_an_atomic_batch_with_a_bad_item_leaves_nothing(served: Served) -> None:
    await registered(served, "a", "b", "c")
    body = lines(couple("a", "b"), couple("a", "x"), couple("b", "c"))
    answer = await ask(served, body, "?atomic=true", Idempotency_Key="k")
    assert (answer.status, answer.json["code"]) == (422, "BatchRejected")
    assert answer.json["detail"] == "1 of 3 items cannot be accepted, so none was."
    [rejected] = answer.json["rejected"]
    assert (rejected["index"], rejected["code"]) == (1, "UnknownAppliance")
    assert (await served.client.call("GET", "/v1/pairings")).json["items"] == []
    await registered(served, "x")
    again = await ask(served, body, "?atomic=true", Idempotency_Key="k")
    assert (again.status, again.json["accepted"]) == (202, 3)


async def test_an_atomic_batch_names_a_hundred_of_what_it_refuses(served: Served) -> None:
    answer = await ask(served, lines(*[couple("a", "b")] * 150), "?atomic=true")
    assert len(answer.json["rejected"]) == 100
    assert answer.json["detail"].startswith("150 of 150 items")
    assert "the first 100 are listed" in answer.json["detail"]


async def test_the_same_key_and_body_get_the_same_answer(served: Served) -> None:
    await registered(served, "a", "b")
    body = lines(couple("a", "b"), couple("a", "x"))
    first, second = await asyncio.gather(
        *[ask(served, body, Idempotency_Key="once") for _ in range(2)]
    )
    assert first.json == second.json
    replayed = {"Idempotency-Replayed" in each.headers for each in (first, second)}
    assert replayed == {True, False}
    assert len(await listed(served, first.json["id"])) == 1
    for other in (
        await ask(served, body + "\n", Idempotency_Key="once"),
        await ask(served, body, "?atomic=true", Idempotency_Key="once"),
    ):
        assert (other.status, other.json["code"]) == (422, "IdempotencyKeyReused")


@pytest.mark.parametrize(
    ("topology", "couples"),
    [
        ({"mesh": ["c", "a", "b"]}, [["c", "a"], ["c", "b"], ["a", "b"]]),
        ({"hub": "b", "spokes": ["c", "a"]}, [["b", "c"], ["b", "a"]]),
    ],
    ids=["mesh", "hub"],
)
async def test_a_topology_becomes_couples(
    served: Served, topology: dict[str, object], couples: list[list[str]]
) -> None:
    await registered(served, "a", "b", "c")
    body = {"topology": topology, "operation": "repair", "description": "all", "priority": 3}
    answer = await ask(served, body)
    assert answer.json["accepted"] == len(couples)
    found = await listed(served, answer.json["id"])
    assert [each["appliances"] for each in reversed(found)] == couples
    assert {(each["operation"], each["description"]) for each in found} == {("repair", "all")}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ("", [""]),
        ("\n \n", [""]),
        ({"items": []}, ["/items"]),
        ({"items": {}}, ["/items"]),
        ({}, [""]),
        ([], [""]),
        ({"items": [1], "priority": 1}, ["/items", "/priority"]),
        ({"items": [1], "colour": 1}, ["/colour"]),
        ({"items": [1], "topology": {"mesh": ["a", "b"]}}, ["/items", "/topology"]),
        ({"topology": {}}, ["/topology"]),
        ({"topology": {"mesh": ["a"]}}, ["/topology/mesh"]),
        ({"topology": {"mesh": ["a", "a"]}}, ["/topology/mesh"]),
        ({"topology": {"mesh": [str(n) for n in range(448)]}}, ["/topology/mesh"]),
        ({"topology": {"hub": "a"}}, ["/topology/spokes"]),
        ({"topology": {"spokes": ["a"]}}, ["/topology/hub"]),
        ({"topology": {"hub": "a", "mesh": ["a", "b"]}}, ["/topology/hub", "/topology/mesh"]),
        ({"topology": {"hub": "a", "spokes": ["b", "a"]}}, ["/topology/spokes/1"]),
        ({"topology": {"hub": "a", "spokes": ["a"]}, "x": 1}, ["/topology/spokes/0", "/x"]),
        ({"topology": {"mesh": ["a", "b"]}, "priority": 101}, ["/priority"]),
    ],
)
async def test_a_batch_that_is_none_is_refused_as_a_whole(
    shared: Served, body: object, pointers: list[str]
) -> None:
    answer = await ask(shared, body)
    assert (answer.status, answer.json["code"]) == (422, "InvalidBody"), answer
    assert sorted(each["pointer"] for each in answer.json["errors"]) == pointers, answer


async def test_a_batch_is_told_what_it_lacks_and_what_does_not_go_together(shared: Served) -> None:
    for body, detail in (
        ({}, "must have 'items' or 'topology'"),
        ({"topology": {}}, "must have 'mesh' or 'hub' and 'spokes'"),
        ({"items": [1], "priority": 1}, "cannot stand beside the other fields"),
    ):
        answer = await ask(shared, body)
        assert {each["detail"] for each in answer.json["errors"]} == {detail}


async def test_fields_that_come_twice_are_seen_however_many_items_there_are(
    shared: Served,
) -> None:
    for body in ('{"items":[1],"items":[2]}', '{"items":[{"a:":1}],"items":[2]}'):
        answer = await ask(shared, body, Content_Type="application/json")
        assert (answer.status, answer.json["code"]) == (422, "InvalidBody")
        assert answer.json["errors"] == [{"pointer": "/items", "detail": "comes more than once"}]


async def test_too_many_items_are_refused_before_each_is_looked_at(shared: Served) -> None:
    """Or it would be said first that they come more than once."""
    body = f'{{"items":[1],"items":[{",".join(["1"] * (uploads.MOST_ITEMS + 1))}]}}'
    answer = await ask(shared, body, Content_Type="application/json")
    assert (answer.status, answer.json["code"]) == (422, "InvalidBody")
    told = f"must have at most {uploads.MOST_ITEMS} items"
    assert answer.json["errors"] == [{"pointer": "/items", "detail": told}]


async def test_limits_are_told_and_nothing_of_a_body_beyond_them_is_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(served, "a", "b")
    large = await ask(served, {"items": [couple("a", "b", description="x" * 1000)] * 9000})
    assert (large.status, large.json["code"]) == (413, "BodyTooLarge")
    odd = await ask(served, {"items": ["x" * 1000] * 1100, "priority": 1})
    assert (odd.status, odd.json["code"]) == (400, "MalformedBody")
    monkeypatch.setattr(uploads, "MOST_ITEMS", 2)
    many = await ask(served, lines(couple("a", "b"), 2, 3))
    assert (many.status, many.json["errors"][0]["detail"]) == (422, "must have at most 2 items")
    assert (await served.client.call("GET", "/v1/pairings")).json["items"] == []


async def test_a_line_that_is_too_long_is_an_item_that_is_rejected(served: Served) -> None:
    await registered(served, "a", "b", "c")
    good, other = json.dumps(couple("a", "b")), json.dumps(couple("a", "c"))
    longest = other + " " * (LIMIT - len(other))
    body = lines("x" * 1_000_000, good, " " * LIMIT, " " * (LIMIT + 1), longest)
    too_long = {"code": "BodyTooLarge", "detail": "A line may have at most 65536 bytes."}
    rejected = [{"index": index, **too_long} for index in (0, 2, 4)]

    nothing = await ask(served, body + longest + " ", "?atomic=true")
    assert (nothing.status, nothing.json["code"]) == (422, "BatchRejected"), nothing
    assert nothing.json["rejected"] == rejected
    answer = await ask(served, body + longest + " ")
    assert (answer.status, answer.json["rejected"]) == (202, rejected), answer
    assert (answer.json["total"], answer.json["accepted"]) == (5, 2)


async def test_other_kinds_of_bodies_are_refused(shared: Served) -> None:
    answer = await ask(shared, "a,b\n", Content_Type="text/csv")
    assert (answer.status, answer.json["code"]) == (415, "UnsupportedMediaType")
    assert "application/x-ndjson" in answer.json["detail"]
    wrong = await ask(shared, lines(1), "?atomic=perhaps")
    assert (wrong.status, wrong.json["errors"][0]["detail"]) == (400, "must be true or false")


async def test_a_client_that_goes_away_half_way_leaves_nothing(served: Served) -> None:
    await registered(served, "a", "b")
    _, writer = await asyncio.open_connection(served.host, served.port)
    line = lines(couple("a", "b"))
    head = (
        "POST /v1/batches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: {LINES}\r\nAuthorization: Bearer the-token-of-these-tests\r\n\r\n"
        f"{len(line):x}\r\n{line}\r\n"
    )
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def see(event: object) -> None:
        if isinstance(event, RequestServed) and event.route == "/v1/batches":
            answered.set_result(event.status)

    with listening(see):
        writer.write(head.encode())
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            assert await answered == 400
    assert (await served.client.call("GET", "/v1/pairings")).json["items"] == []


async def test_counts_follow_what_becomes_of_the_pairings(served: Served) -> None:
    await registered(served, "a", "b", "c")
    answer = await ask(served, lines(couple("a", "b"), couple("a", "c"), couple("b", "x")))
    batch = answer.json["id"]
    newest, oldest = await listed(served, batch)
    await served.fail(oldest["id"])
    half = await counted(served, batch)
    assert half["counts"] == {"QUEUED": 1, "RUNNING": 0, "SUCCEEDED": 0, "FAILED": 1, "CANCELED": 0}
    assert (half["progress"], half["endTime"]) == (50, -1)
    waiting = asyncio.create_task(counted(served, batch, "?waitSeconds=60"))
    await served.fail(newest["id"])
    over = await waiting
    assert over["counts"]["FAILED"] == 2
    last = (await served.client.call("GET", f"/v1/pairings/{newest['id']}")).json
    assert (over["progress"], over["endTime"]) == (100, last["endTime"])
    retried = await served.client.call("POST", f"/v1/pairings/{newest['id']}/retry")
    assert retried.json["batch"] == batch
    again = await counted(served, batch)
    assert (again["counts"]["QUEUED"], again["counts"]["FAILED"], again["endTime"]) == (1, 1, -1)


async def test_a_batch_of_which_nothing_was_accepted_is_over(served: Served) -> None:
    answer = await ask(served, lines(couple("x", "y")))
    assert (answer.status, answer.json["accepted"]) == (202, 0)
    batch = await counted(served, answer.json["id"])
    assert (batch["progress"], batch["endTime"]) == (100, batch["startTime"])


async def test_canceling_reaches_all_that_are_not_over(served: Served) -> None:
    await registered(served, "a", "b", "c")
    answer = await ask(served, lines(couple("a", "b"), couple("a", "c"), couple("b", "c")))
    batch = answer.json["id"]
    *others, oldest = await listed(served, batch)
    await served.fail(oldest["id"])
    for _ in range(2):
        canceled = await served.client.call("POST", f"/v1/batches/{batch}/cancel")
        assert (canceled.status, canceled.json["counts"]["QUEUED"]) == (202, 2)
    states = {each["id"]: each["canceling"] for each in await listed(served, batch)}
    assert states == {each["id"]: each in others for each in [*others, oldest]}


@pytest.mark.parametrize("batch", ["nonsense", "019a3f5e-7c1d-7a52-9a55-3c0d7e6f2b10"])
async def test_an_unknown_batch_is_not_found(shared: Served, batch: str) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel")):
        answer = await shared.client.call(method, f"/v1/batches/{batch}{path}")
        assert (answer.status, answer.json["code"]) == (404, "UnknownBatch")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows any further: to who writes it is like a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# The kept part of a body that is too large for memory, and then its last bytes, find no room.
@pytest.mark.parametrize("room", [uploads._IN_MEMORY // 2, 2 * uploads._IN_MEMORY - 100])
async def test_a_body_that_there_is_no_room_for_may_be_sent_again(
    served: Served, log: io.StringIO, room: int
) -> None:
    await registered(served, "a", "b")
    body = lines(couple("a", "b")).ljust(2 * uploads._IN_MEMORY, "\n")
    with files_of_at_most(room):
        refused = await ask(served, body, Idempotency_Key="k")
    assert (refused.status, refused.json["code"]) == (503, "NoRoom")
    assert refused.headers["Retry-After"] == "1"
    assert "Nothing was accepted" in refused.json["detail"]
    assert (await served.client.call("GET", "/v1/pairings")).json["items"] == []
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert "body_unkept" in events
    assert "request_crashed" not in events

    again = await ask(served, body, Idempotency_Key="k")

    assert (again.status, again.json["accepted"]) == (202, 1), again
