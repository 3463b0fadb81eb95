"""A caller of the service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bench.truth import Couple

ASKING = 32
"""Connections to the service."""

PATIENCE_S = 1200.0


class Client:
    """The calls that the bench makes. They raise for every answer that is none of the good ones."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def of(cls, described: dict[str, Any]) -> AsyncIterator["Client"]:
        """A client of the service that describes itself so."""
        async with aiohttp.ClientSession(
            described["url"],
            headers={"Authorization": f"Bearer {described['token']}"},
            connector=aiohttp.TCPConnector(limit=ASKING),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
            raise_for_status=True,
        ) as session:
            yield cls(session)

    async def register(self, fleet: dict[str, Any], workers: int = 1) -> None:
        """Register all simulated appliances of a fleet, for so many workers to share."""
        for appliance in fleet["appliances"]:
            await register(self._session, appliance, workers)

    async def ask(self, couple: Couple) -> str:
        """Ask for one pairing; its id."""
        body = {"appliances": couple, "timeoutSeconds": int(PATIENCE_S)}
        async with self._session.post("/v1/pairings", json=body) as response:
            return str((await response.json())["id"])

    async def ask_all(self, couples: Sequence[Couple]) -> None:
        """Ask for all; return when all are promised."""
        waiting = iter(couples)

        async def ask() -> None:
            for couple in waiting:
                await self.ask(couple)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(ASKING):
                tasks.create_task(ask())

    async def over(self, pairing_id: str) -> dict[str, Any]:
        """The pairing, once it has succeeded. Raises RuntimeError when it ends otherwise."""
        while True:
            async with self._session.get(f"/v1/pairings/{pairing_id}?waitSeconds=60") as response:
                pairing: dict[str, Any] = await response.json()
            if pairing["state"] == "SUCCEEDED":
                return pairing
            if pairing["endTime"] != -1:
                raise RuntimeError(f"{pairing_id} ended {pairing['state']}: {pairing['error']}")

    async def metrics(self) -> list[str]:
        """The lines of the process's metrics."""
        async with self._session.get("/metrics") as response:
            return (await response.text()).splitlines()


async def register(
    session: aiohttp.ClientSession, appliance: dict[str, Any], workers: int = 1
) -> str:
    """Register a simulated appliance; its name. It gets two connections from each of the workers,
    as from the bare calls."""
    names = ("managementUrl", "apiUrl", "thumbprint", "apiThumbprint", "credentials")
    body = {name: appliance[name] for name in names} | {"maxInFlight": 2 * workers}
    async with session.put(f"/v1/appliances/{appliance['name']}", json=body):
        return str(appliance["name"])
