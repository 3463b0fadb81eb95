"""`python -m tests.chaos.takeover`: how long the pairings of a killed worker are nobody's.

So many pairings are in flight on one worker, a second one is idle, the first one is killed; the
clock runs until the second one owns the last of them. Prints one line of JSON.
"""

import argparse
import asyncio
import itertools
import json
import math
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg

from tests.chaos.appliances import Appliances, Couple, Json, simulated
from tests.chaos.database import OwnDatabase, connected
from tests.chaos.load import Clients
from tests.chaos.processes import Slot, run_once
from tests.chaos.run import LEASE_S, environment_of, new_directory, registration_of

_ASKING = 32
_IN_FLIGHT = 64
_LOOK_S = 0.02
_REST_LOOK_S = 0.5
_AT_REST_S = 5.0
_PATIENCE_S = 1_200.0
_TASK_MS = (1_800_000, 1_900_000)
"""Longer than it takes to ask for ten thousand, and to take them over."""

_UNDER_WAY = """
select (select count(*) from pairing where state = 'RUNNING' and worker is not null) as pairings,
       (select count(*) from side where state = 'ACCEPTED') as sides
"""
_OWNERS = """
select worker::text, count(*) as pairings from pairing where state in ('QUEUED', 'RUNNING')
group by 1
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is measured on."""

    appliances: Appliances
    clients: Clients
    connection: "asyncpg.Connection[asyncpg.Record]"
    first: Slot
    second: Slot
    api: Slot


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.takeover", description=__doc__)
    parser.add_argument("--pairings", type=int, default=1000)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.write(json.dumps(asyncio.run(measure(args.pairings))) + "\n")


async def measure(pairings: int) -> Json:
    """The figures for so many pairings in flight."""
    place = new_directory()
    try:
        return await _on_stage(place, pairings)
    finally:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


async def _on_stage(place: Path, pairings: int) -> Json:
    fleet = math.ceil((1 + math.sqrt(1 + 8 * pairings)) / 2)
    token = secrets.token_hex(16)
    knob = f"task_ms={json.dumps(_TASK_MS)}"
    async with (
        OwnDatabase.started(place / "database") as database,
        simulated(fleet, 1, place, knob) as appliances,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as tasks,
    ):
        environment = environment_of(database.url, place, token)
        await run_once("migrate", ["-m", "service", "migrate"], environment, place / "log")
        first, second, api = (
            Slot(name, f"--{name.partition('-')[0]}-only", environment, place, database.was_down)
            for name in ("worker-1", "worker-2", "api-1")
        )
        running = [tasks.create_task(slot.run()) for slot in (first, api)]
        await first.ready()
        await api.ready()
        clients = Clients(token, lambda: [api.url] if api.url is not None else [], session)
        connection = await connected(database.url)
        try:
            stage = Stage(appliances, clients, connection, first, second, api)
            flight_s = await _launch(stage, list(_couples(appliances.names, pairings)))
            sys.stderr.write(f"{pairings} in flight after {flight_s:.0f} s\n")
            running.append(tasks.create_task(second.run()))
            await second.ready()
            return {"pairings": pairings, "launchS": round(flight_s, 1), **await _kill(stage)}
        finally:
            connection.terminate()
            for each in running:
                each.cancel()


def _couples(names: Sequence[str], count: int) -> Iterator[Couple]:
    return itertools.islice(itertools.combinations(names, 2), count)


async def _launch(stage: Stage, couples: Sequence[Couple]) -> float:
    """Ask for all of them; return when all are driven and no more tasks have begun for a while.
    How long it took, in seconds."""
    for name, appliance in stage.appliances.described.items():
        body = {**registration_of(appliance), "maxInFlight": _IN_FLIGHT}
        await stage.clients.call("PUT", f"/v1/appliances/{name}", body)
    began = time.monotonic()
    waiting = iter(couples)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(_ASKING):
            tasks.create_task(_ask(stage.clients, waiting))
    sides, since = -1, time.monotonic()
    async with asyncio.timeout(_PATIENCE_S):
        while sides == 0 or time.monotonic() - since < _AT_REST_S:
            row = await stage.connection.fetchrow(_UNDER_WAY)
            if row is None or row["pairings"] < len(couples) or row["sides"] != sides:
                sides, since = row["sides"] if row is not None else 0, time.monotonic()
            await asyncio.sleep(_REST_LOOK_S)
    return since - began


async def _ask(clients: Clients, waiting: Iterator[Couple]) -> None:
    for couple in waiting:
        body = {"appliances": list(couple), "timeoutSeconds": 3600}
        key = "-".join(couple)
        status, answer = await clients.call(
            "POST", "/v1/pairings", body, **{"Idempotency-Key": key}
        )
        if status != 202:
            raise RuntimeError(f"{couple}: {status} {answer}")


async def _kill(stage: Stage) -> Json:
    """Kill the first worker; how long until the second one owned the first pairing, and the
    last."""
    ((owner, in_flight),) = (await _owners(stage)).items()
    row = await stage.connection.fetchrow(_UNDER_WAY)
    stage.first.end(signal.SIGKILL, back_s=_PATIENCE_S)
    killed = time.monotonic()
    first_s = None
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            owners = await _owners(stage)
            elapsed = time.monotonic() - killed
            if first_s is None and set(owners) - {owner, None}:
                first_s = elapsed
            if not set(owners) & {owner, None}:
                break
            await asyncio.sleep(_LOOK_S)
    return {
        "inFlight": in_flight,
        "tasksRunning": row["sides"] if row is not None else None,
        "leaseS": LEASE_S,
        "firstOwnedAgainS": round(first_s or elapsed, 2),
        "lastOwnedAgainS": round(elapsed, 2),
        "lateS": round(elapsed - LEASE_S, 2),
    }


async def _owners(stage: Stage) -> dict[str | None, int]:
    """How many pairings each worker owns; None owns what waits to be claimed."""
    return {row["worker"]: row["pairings"] for row in await stage.connection.fetch(_OWNERS)}


if __name__ == "__main__":
    main()
