"""The service doing the same: asked over its REST API, its own process measured."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import psutil

from bench.figures import Round
from bench.processes import cpu_s

_ASKING = 32
_DEADLINE_S = 300.0


async def measure(
    described: dict[str, Any],
    fleet: dict[str, Any],
    couples: Sequence[tuple[int, int]],
    process: psutil.Process,
) -> Round:
    """Register the appliances, then ask for all `couples` at once and wait for the last one.

    A pairing's latency runs from its acceptance to its end, queueing for a slot included.
    """
    headers = {"Authorization": f"Bearer {described['token']}"}
    connector = aiohttp.TCPConnector(limit=_ASKING)
    async with aiohttp.ClientSession(
        described["url"], headers=headers, connector=connector, raise_for_status=True
    ) as session:
        names = [await register(session, appliance) for appliance in fleet["appliances"]]
        await _reset_counters(fleet["controlUrl"])
        cpu = cpu_s(process)
        slots = asyncio.Semaphore(_ASKING)
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(_ask(session, slots, [names[one], names[other]]))
                for one, other in couples
            ]
        async with asyncio.timeout(_DEADLINE_S):
            pairings = [await _over(session, task.result()) for task in asked]
        wall_s = (max(each["endTime"] for each in pairings) / 1000) - _began(pairings)
        return Round(
            pairings=len(couples),
            wall_s=wall_s,
            cpu_s=cpu_s(process) - cpu,
            calls=await _calls(fleet["controlUrl"]),
            latencies_s=[_latency_s(each) for each in pairings],
        )


def _began(pairings: Sequence[dict[str, Any]]) -> float:
    return float(min(each["startTime"] for each in pairings)) / 1000


def _latency_s(pairing: dict[str, Any]) -> float:
    """From when the first side was asked: before that it waited for a slot, as in the bare run."""
    begun = min(side["startTime"] for side in pairing["sides"])
    return float(pairing["endTime"] - begun) / 1000


async def register(session: aiohttp.ClientSession, appliance: dict[str, Any]) -> str:
    """Register a simulated appliance; its name."""
    body = {
        name: appliance[name]
        for name in ("managementUrl", "apiUrl", "thumbprint", "apiThumbprint", "credentials")
    }
    async with session.put(f"/v1/appliances/{appliance['name']}", json=body):
        return str(appliance["name"])


async def _ask(session: aiohttp.ClientSession, slots: asyncio.Semaphore, names: list[str]) -> str:
    async with slots, session.post("/v1/pairings", json={"appliances": names}) as response:
        return str((await response.json())["id"])


async def _over(session: aiohttp.ClientSession, pairing_id: str) -> dict[str, Any]:
    while True:
        async with session.get(f"/v1/pairings/{pairing_id}?waitSeconds=60") as response:
            pairing: dict[str, Any] = await response.json()
        if pairing["state"] == "SUCCEEDED":
            return pairing
        if pairing["endTime"] != -1:
            raise RuntimeError(f"{pairing_id} ended {pairing['state']}: {pairing['error']}")


async def _reset_counters(control_url: str) -> None:
    async with aiohttp.ClientSession(control_url, raise_for_status=True) as session:
        await session.delete("/truth")


async def _calls(control_url: str) -> int:
    async with (
        aiohttp.ClientSession(control_url, raise_for_status=True) as session,
        session.get("/truth") as response,
    ):
        truth = await response.json()
    return sum(
        count for each in truth["appliances"].values() for count in each["requests"].values()
    )
