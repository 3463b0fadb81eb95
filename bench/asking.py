"""`python -m bench.asking`: `POST /v1/pairings`, against a handler that inserts a row per request.

Both are one process on the same PostgreSQL and are asked by the same plain client over as many
connections. No worker runs, and no appliance is called.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from bench.client import ASKING, Client
from bench.couples import chosen
from bench.figures import Row, Target, ratio
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import service, started
from bench.report import command, tell
from bench.truth import names
from bench.wire import Connection

DEFAULTS = Options(appliances=64, pairings=2000)


async def measure(options: Options) -> list[Row]:
    """Requests a second."""
    rounds = []
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            mine, theirs = await _round(postgres, options, ours_first=number % 2 == 1)
            rounds.append((mine, theirs))
            tell(f"asking {number + 1}: ours {mine:.0f}/s, one insert each {theirs:.0f}/s")
    target = Target(1.0, 2.0, higher_is_better=True)
    return [ratio("POST /v1/pairings, requests/s", "insert", rounds, target)]


async def _round(postgres: Postgres, options: Options, *, ours_first: bool) -> tuple[float, float]:
    """Ours and theirs; both run all the time, so that the one that is not asked is idle."""
    fleet = {"appliances": [_invented(number) for number in range(options.appliances)]}
    couples = names(fleet, chosen(options))
    bodies = [json.dumps({"appliances": couple}).encode() for couple in couples]
    async with (
        postgres.migrated() as url,
        postgres.empty() as their_url,
        postgres.directory() as place,
        service(place, options.in_flight, url, "api") as api,
        Client.of(api.described) as client,
        started(["-m", "bench.inserting", their_url]) as other,
    ):
        await client.register(fleet)
        turns = [(api.described, "/v1/pairings"), (other.described, "/rows")]
        rates = []
        for described, path in turns if ours_first else turns[::-1]:
            await postgres.settle()
            rates.append(await _per_s(described, path, bodies))
        mine, theirs = rates if ours_first else rates[::-1]
        return mine, theirs


async def _per_s(described: dict[str, str], path: str, bodies: Sequence[bytes]) -> float:
    waiting = iter(bodies)

    async def ask(connection: Connection) -> None:
        for body in waiting:
            status = await connection.post(path, body)
            if status != 202:
                raise RuntimeError(f"{path} answered {status}")

    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(
                Connection.to(described["url"], described.get("token", ""))
            )
            for _ in range(ASKING)
        ]
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for connection in connections:
                tasks.create_task(ask(connection))
        return len(bodies) / (time.perf_counter() - began)


def _invented(number: int) -> dict[str, object]:
    thumbprint = "SHA-256" + f":{number % 256:02X}" * 32
    return {
        "name": f"site-{number}",
        "managementUrl": f"https://127.0.0.1:{40_000 + number}",
        "apiUrl": f"https://10.71.0.{number}:8048/",
        "thumbprint": thumbprint,
        "apiThumbprint": thumbprint,
        "credentials": {"type": "localUser", "localUser": "root", "localPassword": "none"},
    }


if __name__ == "__main__":
    command("bench.asking", __doc__, measure, DEFAULTS)
