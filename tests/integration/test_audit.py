"""What the service did stands in the trail as it is in each pairing's own, and its chains hold."""

import asyncio
from dataclasses import replace
from itertools import combinations
from typing import Any

from service.domain.chain import Verdict
from service.settings import Settings
from service.store.chains import Chains
from service.store.database import Database
from tests.support.service import ServiceUnderTest, fleet_of, service_over


async def test_pairings_that_are_followed_and_verified_while_they_run(settings: Settings) -> None:
    assert settings.database_url is not None
    broken: list[Verdict] = []

    async def verify() -> int:
        """Look at all chains; how many events there are."""
        verdicts = [each async for each in Chains(database).verify()]
        broken.extend(verdict for verdict in verdicts if verdict.misfit is not None)
        return sum(verdict.events for verdict in verdicts)

    async with (
        fleet_of(5) as fleet,
        service_over(settings, fleet) as service,
        Database.connect(settings.database_url) as database,
        service.client.stream("/v1/audit/stream") as live,
    ):
        names = await service.register()
        asked = [await service.pair(*couple) for couple in combinations(names, 2)]
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(service.over(pairing)) for pairing in asked]
            while not all(end.done() for end in ends):
                await verify()
        count = await verify()
        followed = await live.take(count)
        own = {pairing["id"]: await service.events(pairing) for pairing in asked}

    assert broken == []
    assert [event["side"] for event in followed if "pairing" not in event] == names
    for pairing_id, events in own.items():
        assert [_alone(event) for event in followed if event.get("pairing") == pairing_id] == events


async def test_who_reads_it_goes_on_when_a_new_key_is_put_in_front(settings: Settings) -> None:
    old, new = b"o" * 32, b"n" * 32
    async with fleet_of(2) as fleet:
        async with service_over(replace(settings, secret_keys=(old,)), fleet) as service:
            one, other = await service.register()
            first = await _next_event(service, "limit=1")
        async with service_over(replace(settings, secret_keys=(new, old)), fleet) as service:
            second = await _next_event(service, f"after={first['id']}")
    assert (first["side"], second["side"]) == (one, other)


async def _next_event(service: ServiceUnderTest, query: str) -> Any:
    """The first one that fits, as soon as it is shown."""
    while True:
        answer = await service.call("GET", f"/v1/audit?{query}")
        assert answer.status == 200, answer
        if items := answer.json["items"]:
            return items[0]


def _alone(event: dict[str, Any]) -> dict[str, Any]:
    """An event of the trail as its pairing's own trail shows it."""
    return {name: value for name, value in event.items() if name not in {"id", "pairing"}}
