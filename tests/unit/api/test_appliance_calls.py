"""The calls about appliances, over HTTP."""

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from yarl import URL

from service.appliance.check import Check, CheckReport
from service.domain.appliance import ApiError
from service.domain.errors import StoreUnavailable
from service.domain.ids import ApplianceName
from service.domain.registration import LoginRefusal
from service.store import appliances
from tests.support.logs import captured_logs
from tests.unit.api.asking import SECRET, THUMBPRINT, spec_body
from tests.unit.api.conftest import Served

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

PRAGUE = ApplianceName("prague")


async def test_a_new_appliance_is_created_and_then_replaced(served: Served) -> None:
    first = await served.client.call("PUT", "/v1/appliances/prague", json=spec_body())
    again = await served.client.call(
        "PUT", "/v1/appliances/prague", json=spec_body(description="second room")
    )

    assert (first.status, first.headers["Location"]) == (201, "/v1/appliances/prague")
    assert (again.status, "Location" in again.headers) == (200, False)
    assert (first.json["version"], again.json["version"]) == (1, 2)
    assert again.json["description"] == "second room"
    assert again.json["created"] == first.json["created"]


async def test_the_same_registration_again_changes_nothing(served: Served) -> None:
    first = await served.register("prague")
    again = await served.client.call(
        "PUT", "/v1/appliances/prague", json=spec_body(**served.urls("prague"))
    )

    assert (again.status, again.json) == (200, first)


async def test_what_was_registered_is_shown_without_secrets(served: Served) -> None:
    shown = await served.register("prague", thumbprint=THUMBPRINT)
    answers = [
        await served.client.call("GET", "/v1/appliances/prague"),
        await served.client.call("GET", "/v1/appliances"),
    ]

    assert shown["credentials"] == {"type": "localUser", "user": "root"}
    assert answers[0].json == shown
    assert answers[1].json == {"items": [shown], "nextCursor": None}
    assert not any(SECRET in answer.body.decode() for answer in answers)


async def test_an_appliance_that_does_not_answer_is_shown_so_until_it_does(
    served: Served,
) -> None:
    fresh = (await served.register("prague"))["health"]
    error = ApiError("ConnectTimeout", "No connection.", (), "at com.vmware.Internal")
    await served.store.health.report({PRAGUE: error})
    closed = (await served.client.call("GET", "/v1/appliances/prague")).json["health"]
    listed = (await served.client.call("GET", "/v1/appliances")).json["items"][0]["health"]
    await served.store.health.reopen(PRAGUE)
    reopened = (await served.client.call("GET", "/v1/appliances/prague")).json["health"]

    assert (fresh["breaker"], fresh["since"], fresh["lastContact"]) == ("closed", -1, -1)
    assert (closed["breaker"], closed["since"] > 0) == ("open", True)
    assert closed["lastError"] == {"code": "ConnectTimeout", "msg": "No connection.", "args": []}
    assert listed == closed
    assert (reopened["breaker"], reopened["lastError"]) == ("closed", None)
    assert reopened["lastContact"] > 0


async def test_refused_credentials_are_shown_until_others_are_registered(served: Served) -> None:
    before = await served.register("prague")
    refusal = LoginRefusal(ApiError("NotAuthenticated", "Bad password."), 401)
    await served.store.refuse(PRAGUE, refusal)
    refused = (await served.client.call("GET", "/v1/appliances/prague")).json["health"]
    credentials = {"type": "localUser", "localUser": "root", "localPassword": "another"}
    changed = await served.client.call(
        "PUT",
        "/v1/appliances/prague",
        json=spec_body(**served.urls("prague"), credentials=credentials),
    )

    assert before["health"]["login"] == "ok"
    assert (refused["login"], refused["loginError"]["code"]) == ("refused", "NotAuthenticated")
    assert changed.json["health"]["login"] == "ok"
    assert changed.json["health"]["loginError"] is None


async def test_credentials_that_no_key_opens_hide_neither_their_appliance_nor_others(
    served: Served,
) -> None:
    for name in ("brno", "prague"):
        await served.register(name)
    await served.store.lose_key_of(PRAGUE)

    listed = await served.client.call("GET", "/v1/appliances")
    one = await served.client.call("GET", "/v1/appliances/prague")
    checked = await served.client.call("POST", "/v1/appliances/prague/check")
    again = await served.client.call(
        "PUT", "/v1/appliances/prague", json=spec_body(**served.urls("prague"))
    )

    assert [each["credentials"] for each in listed.json["items"]] == [
        {"type": "localUser", "user": "root"},
        None,
    ]
    assert one.json == listed.json["items"][1]
    assert (checked.status, checked.json["code"]) == (409, "CredentialsSealed")
    assert again.json["credentials"] == {"type": "localUser", "user": "root"}


async def test_appliances_are_listed_by_name(served: Served) -> None:
    for name in ["brno", "zlin", "prague"]:
        await served.register(name)

    answer = await served.client.call("GET", "/v1/appliances")

    assert [item["name"] for item in answer.json["items"]] == ["brno", "prague", "zlin"]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_of_any_size_list_every_appliance_once(served: Served, limit: int) -> None:
    for name in ["a", "b-1", "b1"]:
        await served.register(name)

    names: list[str] = []
    path = f"/v1/appliances?limit={limit}"
    page = (await served.client.call("GET", path)).json
    names += [item["name"] for item in page["items"]]
    while (cursor := page["nextCursor"]) is not None:
        assert len(page["items"]) == limit
        page = (await served.client.call("GET", f"{path}&cursor={cursor}")).json
        names += [item["name"] for item in page["items"]]

    whole = (await served.client.call("GET", "/v1/appliances")).json
    assert names == [item["name"] for item in whole["items"]]
    assert (sorted(names), whole["nextCursor"]) == (["a", "b-1", "b1"], None)


async def test_a_page_goes_on_behind_an_appliance_that_was_removed(served: Served) -> None:
    for name in ["a", "b", "c"]:
        await served.register(name)
    cursor = (await served.client.call("GET", "/v1/appliances?limit=2")).json["nextCursor"]
    await served.client.call("DELETE", "/v1/appliances/b")

    page = (await served.client.call("GET", f"/v1/appliances?cursor={cursor}")).json

    assert [item["name"] for item in page["items"]] == ["c"]


async def test_what_is_wrong_with_a_page_of_appliances_is_told_at_once(shared: Served) -> None:
    answer = await shared.client.call("GET", "/v1/appliances?limit=1001&cursor=abc&x=1")

    assert answer.status == 400
    assert answer.json["errors"] == [
        {"parameter": "limit", "detail": "must be at most 1000"},
        {"parameter": "x", "detail": "is not a known parameter"},
        {"parameter": "cursor", "detail": "was not given by this list"},
    ]


async def test_an_appliance_that_is_removed_is_gone(served: Served) -> None:
    await served.register("prague")

    removed = await served.client.call("DELETE", "/v1/appliances/prague")

    assert (removed.status, removed.body) == (204, b"")
    assert (await served.client.call("GET", "/v1/appliances")).json["items"] == []


async def test_an_appliance_with_active_pairings_stays(served: Served) -> None:
    await served.pair("prague", "brno")

    answer = await served.client.call("DELETE", "/v1/appliances/prague")

    assert (answer.status, answer.json["code"]) == (409, "ApplianceBusy")
    assert (await served.client.call("GET", "/v1/appliances/prague")).status == 200


@pytest.mark.parametrize("name", ["nobody", "UPPER", "a_b", "a" * 64, "a.b"])
@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("DELETE", ""), ("POST", "/check")])
async def test_an_appliance_nobody_registered_is_not_found(
    shared: Served, method: str, name: str, more: str
) -> None:
    answer = await shared.client.call(method, f"/v1/appliances/{name}{more}")

    assert (answer.status, answer.json["code"]) == (404, "UnknownAppliance")


@pytest.mark.parametrize("name", ["SITE", "A_B", "<img>'\"", "a" * 64, "a" * 4000])
@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("DELETE", ""), ("POST", "/check")])
async def test_a_name_that_cannot_be_is_not_repeated(
    shared: Served, method: str, name: str, more: str
) -> None:
    url = URL(f"{shared.client.url}/v1/appliances/{name}{more}", encoded=True)
    async with shared.client.session.request(method, url) as response:
        problem = await response.json()

    assert (response.status, problem["code"]) == (404, "UnknownAppliance")
    assert problem["detail"] == "No appliance is registered under this name."


async def test_a_name_that_could_be_is_repeated(shared: Served) -> None:
    answer = await shared.client.call("GET", "/v1/appliances/nobody")

    assert answer.json["detail"] == "No appliance is registered as 'nobody'."


@pytest.mark.parametrize("name", ["UPPER", "a_b", "a" * 64, "a.b"])
async def test_a_name_that_cannot_be_is_refused(shared: Served, name: str) -> None:
    answer = await shared.client.call("PUT", f"/v1/appliances/{name}", json=spec_body())

    assert answer.status == 400
    assert answer.json["errors"] == [
        {"parameter": "name", "detail": "must be 1 to 63 characters out of a-z, 0-9 and -"}
    ]


@pytest.mark.parametrize(
    "spelling",
    ["https://one.example", "https://ONE.example/", "https://one.example:443"],
)
async def test_two_appliances_cannot_have_the_same_api_url(served: Served, spelling: str) -> None:
    await served.register("one", apiUrl="https://one.example:443/")

    answer = await served.client.call(
        "PUT", "/v1/appliances/other", json=spec_body(apiUrl=spelling)
    )

    assert (answer.status, answer.json["code"]) == (409, "ApplianceExists")
    assert "'one'" in answer.json["detail"]
    assert answer.json["errors"][0]["pointer"] == "/apiUrl"
    assert (await served.client.call("GET", "/v1/appliances/other")).status == 404


async def test_a_registration_with_faults_changes_nothing(served: Served) -> None:
    before = await served.register("prague")

    answer = await served.client.call(
        "PUT",
        "/v1/appliances/prague",
        json=spec_body(description="x" * 50_000, apiUrl="http://a", thumbprint="SHA-1:00"),
    )

    assert (answer.status, answer.json["code"]) == (422, "InvalidBody")
    assert {error["pointer"] for error in answer.json["errors"]} == {
        "/apiUrl",
        "/thumbprint",
        "/description",
    }
    assert (await served.client.call("GET", "/v1/appliances/prague")).json == before


async def test_an_address_that_egress_forbids_cannot_be_registered(shared: Served) -> None:
    answer = await shared.client.call(
        "PUT",
        "/v1/appliances/prague",
        json=spec_body(managementUrl="https://169.254.169.254"),
    )

    assert answer.status == 422
    [fault] = answer.json["errors"]
    assert fault["pointer"] == "/managementUrl"
    assert "169.254.169.254, which this service may not call" in fault["detail"]


async def test_a_check_reports_what_each_look_found(served: Served) -> None:
    await served.register("prague")
    data: dict[str, Any] = {"peers": [{"id": "1", "error": {"stacktrace": "at com.vmware"}}]}
    served.check.report = CheckReport(
        (
            Check("reachable", ok=True, detail="answers", data={}),
            Check("login", ok=False, detail="refused", data=data),
            Check("version", ok=None, detail="not looked at", data={}),
        )
    )

    answer = await served.client.call("POST", "/v1/appliances/prague/check")

    assert answer.status == 200
    assert (answer.json["appliance"], answer.json["ok"]) == ("prague", False)
    assert [check["ok"] for check in answer.json["checks"]] == [True, False, None]
    assert answer.json["checks"][1]["data"] == {"peers": [{"id": "1", "error": {}}]}
    assert [registration.spec.name for registration in served.check.asked] == ["prague"]


async def test_a_database_that_does_not_answer_is_worth_another_try(served: Served) -> None:
    await served.register("prague")
    served.check.error = StoreUnavailable("password=hunter2")

    with captured_logs() as logs:
        answer = await served.client.call("POST", "/v1/appliances/prague/check")

    assert '"event":"store_troubled"' in logs.getvalue()
    assert (answer.status, answer.json["code"]) == (503, "StoreUnavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "hunter2" not in answer.body.decode()


async def test_what_somebody_else_holds_is_no_trouble_of_the_database(
    served: Served, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.register("prague")
    monkeypatch.setattr(appliances, "_LOCK_S", 0.05)

    with captured_logs() as logs:
        async with sql.transaction():
            await sql.execute("select from appliance for update")
            answer = await served.client.call("DELETE", "/v1/appliances/prague")

    assert (answer.status, answer.json["code"]) == (503, "StoreUnavailable")
    assert "Nothing was changed; ask again." in answer.json["detail"]
    assert '"event":"store_troubled"' not in logs.getvalue()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/appliances"),
        ("GET", "/v1/appliances/prague"),
        ("DELETE", "/v1/appliances/prague"),
        ("POST", "/v1/appliances/prague/check"),
    ],
)
async def test_parameters_that_mean_nothing_are_refused(
    served: Served, method: str, path: str
) -> None:
    await served.register("prague")

    answer = await served.client.call(method, f"{path}?force=true&x")

    assert (answer.status, answer.json["code"]) == (400, "InvalidParameters")
    assert (await served.client.call("GET", "/v1/appliances/prague")).status == 200
