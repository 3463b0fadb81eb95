"""The metrics of a whole service tell what happened in it."""

import json
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from service.app import running
from service.settings import Settings
from simulator import fault
from tests.support.contract import contract_client
from tests.support.logs import captured_logs
from tests.support.service import ServiceUnderTest


async def scrape(service: ServiceUnderTest) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await service.call("GET", "/metrics")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_what_pairings_come_to_is_counted(service: ServiceUnderTest) -> None:
    one, other, third = await service.register()
    await service.over(await service.pair(one, other))
    service.fleet[third].add_fault(
        fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Peer is busy.")
    )
    await service.over(await service.pair(one, third))

    found = await scrape(service)

    def value(name: str, **labels: str) -> float:
        return found[f"sitepair_{name}", frozenset(labels.items())]

    assert value("pairings_ended_total", operation="pair", state="SUCCEEDED", code="none") == 1
    assert value("pairings_ended_total", operation="pair", state="FAILED", code="appliance") == 1
    assert value("pairing_seconds_count", operation="pair", state="SUCCEEDED") == 1
    assert value("pairing_events_total", type="PairingStarted") == 2
    assert value("appliance_logins_total", outcome="accepted") == 3
    assert value("appliance_call_seconds_count", method="POST", status="2xx") >= 7
    assert value("journal_changes_total") >= value("journal_groups_total") > 0
    assert value("pairings_in_flight") == 0
    assert value("lease_left_seconds") > 0
    assert value("appliances_closed") == 0
    assert value("pairings_crashed_total") == 0


async def test_a_rollback_that_could_not_be_completed_is_counted_and_logged(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    service.fleet[other].add_fault(
        fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Peer is busy.")
    )
    service.fleet[one].add_fault(
        fault("status", method="DELETE", path="/sites/.*", status=403, code="Forbidden", msg="No.")
    )
    with captured_logs() as log:
        pairing = await service.over(await service.pair(one, other))

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (line,) = [line for line in lines if line["event"] == "rollback_incomplete"]
    assert (line["level"], line["side"], line["code"]) == ("error", one, "Forbidden")
    assert line["pairing"] == pairing["id"]
    found = await scrape(service)
    labels = frozenset({("code", "appliance")})
    assert found["sitepair_rollbacks_incomplete_total", labels] == 1


async def test_an_appliance_that_does_not_answer_is_counted_until_it_does(
    service: ServiceUnderTest,
) -> None:
    one, other, _ = await service.register()
    await service.fleet[one].down("refuse")
    pairing = await service.pair(one, other)
    while not (await scrape(service))["sitepair_appliances_closed", frozenset()]:
        await service.call("GET", f"/v1/pairings/{pairing['id']}?waitSeconds=0.1")
    await service.fleet[one].up()
    await service.over(pairing)

    found = await scrape(service)
    assert found["sitepair_breakers_opened_total", frozenset()] == 1
    assert found["sitepair_breakers_closed_total", frozenset()] == 1


async def test_a_worker_that_listens_on_no_port_needs_no_token(settings: Settings) -> None:
    async with running(settings, api=False) as worker:
        assert (worker.url, worker.admin_token) == (None, "")
        assert not (settings.data_dir / "admin.token").exists()


async def test_a_worker_without_the_api_tells_how_it_is_doing_and_nothing_else(
    settings: Settings,
) -> None:
    settings = replace(settings, metrics_listen=("127.0.0.1", 0))
    with captured_logs() as log:
        async with running(settings, api=False) as worker:
            (url,) = [
                line["listen"]
                for line in map(json.loads, log.getvalue().splitlines())
                if line["event"] == "service_started"
            ]
            async with contract_client(url, worker.admin_token) as client:
                alive = await client.call("GET", "/healthz")
                counted = await client.call("GET", "/metrics")
                nothing = await client.call("GET", "/nowhere")
                async with client.session.get(f"{url}/v1/pairings") as refused:
                    assert refused.status == 404
            async with contract_client(url, None) as stranger:
                closed = await stranger.call("GET", "/metrics")

    assert worker.url is None
    assert (alive.status, nothing.status, closed.status) == (200, 404, 401)
    assert b"sitepair_lease_left_seconds" in counted.body
