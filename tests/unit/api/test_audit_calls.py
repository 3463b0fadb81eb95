"""The audit trail of everything, page by page."""

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.api.paging import Cursors
from service.store.audit import Place
from tests.support.database import closed_to_all
from tests.support.trail import record
from tests.unit.api.conftest import Served

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


async def pages(served: Served, query: str = "", *, limit: int = 100) -> list[Any]:
    """All items of a listing, page by page."""
    items, after = [], ""
    while True:
        answer = await served.client.call("GET", f"/v1/audit?limit={limit}{query}{after}")
        assert answer.status == 200, answer
        items += answer.json["items"]
        if answer.json["nextAfter"] is None:
            return items
        assert answer.json["nextAfter"] == answer.json["items"][-1]["id"]
        after = f"&after={answer.json['nextAfter']}"


async def shown(served: Served, count: int, query: str = "") -> list[Any]:
    """The listing, once it has so many: somebody else's transaction may hold it back."""
    while len(items := await pages(served, query)) < count:
        pass
    assert len(items) == count
    return items


async def test_pairings_and_registrations_stand_in_one_trail(served: Served) -> None:
    pairing = await served.pair("prague", "brno")

    prague, brno, accepted = await shown(served, 3)

    assert (prague["type"], prague["side"]) == ("ApplianceRegistered", "prague")
    assert (brno["type"], brno["side"]) == ("ApplianceRegistered", "brno")
    assert "pairing" not in prague
    assert accepted["pairing"] == pairing["id"]
    (same,) = (await served.client.call("GET", f"/v1/pairings/{pairing['id']}/events")).json[
        "items"
    ]
    assert {k: v for k, v in accepted.items() if k not in {"id", "pairing"}} == same


async def test_an_empty_trail_is_one_page(shared: Served) -> None:
    answer = await shared.client.call("GET", "/v1/audit")

    assert answer.json == {"items": [], "nextAfter": None}


async def test_pages_of_any_size_give_every_event_once(served: Served, sql: "Connection") -> None:
    async with sql.transaction():
        for _ in range(7):
            await record(sql)
    whole = await shown(served, 7)

    assert len({item["id"] for item in whole}) == 7
    for limit in (1, 3, 6, 7, 8):
        assert await pages(served, limit=limit) == whole


async def test_filters_choose_together_and_an_id_is_good_for_all_of_them(served: Served) -> None:
    pairing = await served.pair("prague", "brno")
    await served.fail(pairing["id"])
    whole = await shown(served, 5)
    operation = pairing["operationID"]

    of_pairing = await pages(served, f"&pairing={pairing['id']}")
    of_operation = await pages(served, f"&operationID={operation}")

    assert [item["type"] for item in await pages(served, "&appliance=brno")] == [
        "ApplianceRegistered"
    ]
    assert of_pairing == of_operation == whole[2:]
    assert await pages(served, f"&pairing={pairing['id']}&appliance=brno") == []
    assert await pages(served, f"&pairing={uuid4()}") == []
    assert await pages(served, f"&operationID={operation}&after={whole[3]['id']}") == whole[4:]


EDITED = Cursors([b"another key"]).event_id(Place(3, UUID(int=1), 1))
ELSEWHERE = Cursors([b"k" * 32]).event_id(Place(2**62, UUID(int=1), 1))


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/stream"])
@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("after=!", "after", "must be the id of an event as it was given"),
        ("after=abc", "after", "is not the id of an event"),
        (f"after={EDITED}", "after", "is not the id of an event"),
        (f"after={ELSEWHERE}", "after", "is not the id of an event of this database"),
        ("pairing=4711", "pairing", "must be a uuid"),
        ("appliance=B%C3%BCro", "appliance", "must be 1 to 63 characters out of a-z, 0-9 and -"),
        ("state=QUEUED", "state", "is not a known parameter"),
        ("appliance=a&appliance=b", "appliance", "comes more than once"),
    ],
)
async def test_what_is_wrong_is_refused_before_a_stream_begins(
    shared: Served, path: str, query: str, parameter: str, detail: str
) -> None:
    answer = await shared.client.call("GET", f"{path}?{query}")

    assert (answer.status, answer.json["code"]) == (400, "InvalidParameters")
    assert answer.json["errors"] == [{"parameter": parameter, "detail": detail}]


@pytest.mark.parametrize("place", ["abc", EDITED, ELSEWHERE])
@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/stream"])
async def test_a_wrong_place_is_told_together_with_all_else(
    shared: Served, path: str, place: str
) -> None:
    answer = await shared.client.call("GET", f"{path}?after={place}&pairing=4711&x=1")

    assert answer.status == 400
    assert {each["parameter"] for each in answer.json["errors"]} == {"after", "pairing", "x"}


async def test_a_wrong_last_event_id_is_told_together_with_all_else(shared: Served) -> None:
    answer = await shared.client.call(
        "GET", "/v1/audit/stream?pairing=4711", headers={"Last-Event-ID": EDITED}
    )

    assert answer.status == 400
    assert {each["parameter"] for each in answer.json["errors"]} == {"Last-Event-ID", "pairing"}


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/stream"])
async def test_what_is_wrong_is_told_without_the_database(
    served: Served, server_url: str, database_url: str, path: str
) -> None:
    place = Cursors([b"k" * 32]).event_id(Place(3, UUID(int=1), 1))
    async with closed_to_all(server_url, database_url):
        sound = await served.client.call("GET", f"{path}?after={place}")
        wrong = await served.client.call("GET", f"{path}?after={place}&pairing=4711")

    assert (sound.status, wrong.status) == (503, 400)
    assert [each["parameter"] for each in wrong.json["errors"]] == ["pairing"]


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
async def test_a_page_has_one_to_a_thousand_events(shared: Served, limit: str) -> None:
    answer = await shared.client.call("GET", f"/v1/audit?limit={limit}")

    assert (answer.status, answer.json["errors"][0]["parameter"]) == (400, "limit")


@pytest.mark.parametrize("path", ["/v1/audit", "/v1/audit/stream"])
async def test_the_trail_is_not_for_strangers(shared: Served, path: str) -> None:
    assert (await shared.stranger.call("GET", path)).status == 401
