"""`python -m bench.dead`: what one dead appliance costs the pairings of all the others.

A third of the backlog is aimed at one appliance. In one run of a round it is well, in the other it
is not; the latencies of the pairings that have nothing to do with it are compared.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.client import register
from bench.processes import service, simulator

WAYS: dict[str, dict[str, Any]] = {
    "refuse": {"kind": "down", "mode": "refuse"},
    "hang": {"kind": "hang"},
    "503": {"kind": "status", "status": 503},
}
_ASKING = 32
_DEADLINE_S = 300.0


def main() -> None:
    """Measure and print."""
    options = _options()
    rounds = asyncio.run(_measure(options))
    ratios = [dead / well for well, dead in rounds]
    figures = {
        "way": options.way,
        "p99 ms, all well": 1000 * median(well for well, _ in rounds),
        "p99 ms, one dead": 1000 * median(dead for _, dead in rounds),
        "ratio": median(ratios),
        "worst ratio": max(ratios),
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:22}{value if isinstance(value, str) else format(value, '10.2f')}")


async def _measure(options: argparse.Namespace) -> list[tuple[float, float]]:
    generator = random.Random(options.seed)
    rounds = []
    for number in range(options.rounds):
        aimed, others = _backlog(options.appliances, generator)
        p99s = {}
        # Who goes first changes from round to round.
        for way in (None, options.way) if number % 2 else (options.way, None):
            p99s[way is None] = await _run(options, aimed, others, way)
        rounds.append((p99s[True], p99s[False]))
        sys.stderr.write(
            f"round {number + 1}: p99 {1000 * p99s[True]:.0f} ms with all well, "
            f"{1000 * p99s[False]:.0f} ms with one dead\n"
        )
    return rounds


def _backlog(
    appliances: int, generator: random.Random
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """All couples of the first appliance, and twice as many of the others."""
    aimed = [(0, other) for other in range(1, appliances)]
    others = list(itertools.combinations(range(1, appliances), 2))
    return aimed, generator.sample(others, min(len(others), 2 * len(aimed)))


async def _run(
    options: argparse.Namespace,
    aimed: Sequence[tuple[int, int]],
    others: Sequence[tuple[int, int]],
    way: str | None,
) -> float:
    """The 99th percentile of the others' latencies in seconds, from acceptance to end."""
    with tempfile.TemporaryDirectory(prefix="sitepair-bench-") as directory:
        data_dir = Path(directory)
        await asyncio.to_thread(data_dir.chmod, 0o755)
        async with (
            simulator(options.appliances, options.seed) as fleet,
            service(data_dir, options.in_flight) as serving,
        ):
            if way is not None:
                await _kill(fleet["controlUrl"], fleet["appliances"][0]["name"], way)
            return await _p99_s(serving.described, fleet, aimed, others)


async def _kill(control_url: str, name: str, way: str) -> None:
    body = {"times": None, "action": WAYS[way]}
    async with aiohttp.ClientSession(control_url, raise_for_status=True) as session:
        await session.post(f"/appliances/{name}/faults", json=body)


async def _p99_s(
    described: dict[str, Any],
    fleet: dict[str, Any],
    aimed: Sequence[tuple[int, int]],
    others: Sequence[tuple[int, int]],
) -> float:
    headers = {"Authorization": f"Bearer {described['token']}"}
    connector = aiohttp.TCPConnector(limit=_ASKING)
    async with aiohttp.ClientSession(
        described["url"], headers=headers, connector=connector, raise_for_status=True
    ) as session:
        names = [await register(session, appliance) for appliance in fleet["appliances"]]
        # Two healthy ones after each that is aimed at the dead one.
        healthy = iter(others)
        order = [couple for each in aimed for couple in (each, *itertools.islice(healthy, 2))]
        slots = asyncio.Semaphore(_ASKING)
        async with asyncio.TaskGroup() as tasks:
            asked = [
                tasks.create_task(_ask(session, slots, names[one], names[other]))
                for one, other in order
            ]
        ids = [task.result() for task, couple in zip(asked, order, strict=True) if 0 not in couple]
        async with asyncio.timeout(_DEADLINE_S):
            latencies = sorted([await _latency_s(session, each) for each in ids])
        return latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))]


async def _ask(
    session: aiohttp.ClientSession, slots: asyncio.Semaphore, one: str, other: str
) -> str:
    body = {"appliances": [one, other], "timeoutSeconds": 600}
    async with slots, session.post("/v1/pairings", json=body) as response:
        return str((await response.json())["id"])


async def _latency_s(session: aiohttp.ClientSession, pairing_id: str) -> float:
    while True:
        async with session.get(f"/v1/pairings/{pairing_id}?waitSeconds=60") as response:
            pairing: dict[str, Any] = await response.json()
        if pairing["state"] == "SUCCEEDED":
            return float(pairing["endTime"] - pairing["startTime"]) / 1000
        if pairing["endTime"] != -1:
            raise RuntimeError(f"{pairing_id} ended {pairing['state']}: {pairing['error']}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.dead", description=__doc__)
    parser.add_argument("--way", choices=sorted(WAYS), default="hang")
    parser.add_argument("--appliances", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
