"""What is counted, as Prometheus gets it."""

from prometheus_client.parser import text_string_to_metric_families

from tests.unit.api.conftest import Served


async def scrape(served: Served) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples, by name and labels."""
    answer = await served.client.call("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_requests_are_counted_by_their_pattern(served: Served) -> None:
    for name in ("nobody", "nothing"):
        await served.client.call("GET", f"/v1/appliances/{name}")

    found = await scrape(served)

    labels = {"method": "GET", "route": "/v1/appliances/{name}", "status": "404"}
    assert found["sitepair_http_request_seconds_count", frozenset(labels.items())] == 2


async def test_a_path_that_is_nowhere_is_no_label(served: Served) -> None:
    await served.client.call("GET", "/v1/nowhere/secret-4711")

    found = await scrape(served)

    labels = {"method": "GET", "route": "unmatched", "status": "404"}
    assert found["sitepair_http_request_seconds_count", frozenset(labels.items())] == 1
    assert not any("4711" in word for _, labels in found for _, word in labels)


async def test_metrics_are_for_those_with_the_token(served: Served) -> None:
    answer = await served.stranger.call("GET", "/metrics")

    assert (answer.status, answer.json["code"]) == (401, "NotAuthenticated")
