"""Two workers that are replaced one after the other under load: nobody notices."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

from service.app import running
from service.settings import Settings
from tests.support.contract import contract_client
from tests.support.service import (
    QUICK,
    ServiceUnderTest,
    are_paired,
    fleet_of,
    posts,
)

PATIENT = replace(QUICK, idle_s=60.0, lease_s=60.0)
"""Nobody looks by the clock: what is handed back is taken up because its taker is told."""


def waits_ms(events: list[Any]) -> list[int]:
    """How long the pairing was nobody's, each time that it was handed back."""
    gaps = []
    for before, after in pairwise(events):
        if before["type"] == "PairingHandedBack":
            assert after["type"] == "PairingStarted"
            gaps.append(after["at"] - before["at"])
    return gaps


async def test_a_rolling_restart_keeps_no_pairing_waiting(
    settings: Settings,
) -> None:
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(fleet_of(12, task_ms=[1_500, 2_500]))
        api = await stack.enter_async_context(running(settings, worker=False, policy=PATIENT))
        assert api.url is not None
        client = await stack.enter_async_context(contract_client(api.url, api.admin_token))
        service = ServiceUnderTest(api.url, api.admin_token, fleet, client)
        names = await service.register()

        def worker() -> Any:
            return running(settings, api=False, policy=PATIENT)

        async with AsyncExitStack() as first, AsyncExitStack() as second:
            await first.enter_async_context(worker())
            await second.enter_async_context(worker())
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(service.pair(*couple)) for couple in combinations(names, 2)
                ]
            while len(posts(fleet)) < len(asked):
                await service.call("GET", "/v1/pairings?limit=1")
            async with worker():
                await first.aclose()
                async with worker():
                    await second.aclose()
                    async with asyncio.TaskGroup() as tasks:
                        ends = [tasks.create_task(service.over(task.result())) for task in asked]

        gaps = [gap for end in ends for gap in waits_ms(await service.events(end.result()))]
        assert {end.result()["state"] for end in ends} == {"SUCCEEDED"}
        assert all(are_paired(fleet, *couple) for couple in combinations(names, 2))
        assert len(posts(fleet)) == 2 * len(asked)
        assert len(gaps) >= len(asked) // 2
        assert max(gaps) < 1000 * PATIENT.idle_s / 2
