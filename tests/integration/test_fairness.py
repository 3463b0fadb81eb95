"""A few pairings that come behind thousands do not wait for them."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from service.app import running
from service.settings import Settings
from tests.support.contract import contract_client
from tests.support.service import QUICK, ServiceUnderTest, fleet_of

CROWDED = replace(QUICK, window=24)
ROOMY = replace(QUICK, lot_size=8)


async def batch(service: ServiceUnderTest, couples: Iterable[tuple[str, str]]) -> Any:
    """Ask for all of them at once; the batch."""
    items = [{"appliances": couple} for couple in couples]
    answer = await service.call("POST", "/v1/batches", {"items": items})
    assert (answer.status, answer.json["accepted"]) == (202, len(items)), answer
    return answer.json


async def over(service: ServiceUnderTest, asked: Any) -> Any:
    """The batch at its end."""
    while True:
        answer = await service.call("GET", f"/v1/batches/{asked['id']}?waitSeconds=30")
        assert answer.status == 200, answer
        if answer.json["endTime"] != -1:
            return answer.json


async def test_a_small_batch_behind_a_large_one_is_over_long_before_it(settings: Settings) -> None:
    """Also at the appliances: each of the small batch's is busy with the large one as well."""
    async with fleet_of(18) as fleet, running(settings, policy=CROWDED) as up:
        assert up.url is not None
        async with contract_client(up.url, up.admin_token) as client:
            service = ServiceUnderTest(up.url, up.admin_token, fleet, client)
            names = await service.register(maxInFlight=1)
            few, many = names[:4], names[4:]
            large = await batch(service, [*product(few, many), *combinations(many, 2)])
            small = await batch(service, combinations(few, 2))
            assert (await over(service, small))["counts"]["SUCCEEDED"] == 6
            answer = await service.call("GET", f"/v1/batches/{large['id']}")
            counts = answer.json["counts"]
            assert counts["SUCCEEDED"] < large["total"] / 2, counts
            await service.call("POST", f"/v1/batches/{large['id']}/cancel")


async def test_it_is_though_all_of_the_large_one_would_fit_into_the_window(
    settings: Settings,
) -> None:
    """What is begun shares the processor: all of it at once would be over at the same time."""
    async with fleet_of(54) as fleet, running(settings, policy=ROOMY) as up:
        assert up.url is not None
        async with contract_client(up.url, up.admin_token) as client:
            service = ServiceUnderTest(up.url, up.admin_token, fleet, client)
            names = await service.register()
            few, many = names[:4], names[4:]
            large = await batch(service, combinations(many, 2))
            small = await batch(service, combinations(few, 2))
            assert (await over(service, small))["counts"]["SUCCEEDED"] == 6
            answer = await service.call("GET", f"/v1/batches/{large['id']}")
            assert answer.json["counts"]["QUEUED"] > 0, answer.json
            await service.call("POST", f"/v1/batches/{large['id']}/cancel")
