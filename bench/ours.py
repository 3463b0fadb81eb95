"""The service doing the same: a backlog that was asked for, and one worker that begins.

Asking is over before the clock starts and the API is stopped then, so that neither the client nor
the API takes part. How far the worker is, its metrics tell, which touch no database.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import truth
from bench.client import PATIENCE_S, Client
from bench.couples import Places
from bench.postgres import Postgres, commits, connected
from bench.processes import Child, service
from bench.rounds import Round
from bench.truth import Couple, Truth

_START_S = 60.0
_LOOK_S = 1.0

_ENDED = "sitepair_pairings_ended_total{"
_IN_FLIGHT = "sitepair_pairings_in_flight "

_RESULTS = "select couple_low, couple_high, state, end_time from pairing"
_FIRST_CLAIM = """
select extract(epoch from min(at)) from event where type = 'PairingStarted'
"""


@dataclass(frozen=True, slots=True)
class Driven:
    """What became of a backlog. `ended_ms` is when each pairing was over, by its couple in order;
    the peaks are of what was seen at the looks."""

    round: Round
    truth: Truth
    ended_ms: dict[Couple, int]
    postgres_cpu_s: float
    commits: int
    idle_rss: int
    peak_rss: int
    peak_in_flight: int


async def drive(
    postgres: Postgres,
    fleet: dict[str, Any],
    couples: Places,
    window: int,
    profile: Path | None = None,
    workers: int = 1,
) -> Driven:
    """So many workers pair all `couples`, each `window` at once; a single one under cProfile if
    there is a `profile`.

    The wall clock runs from its first claim to the last end, the CPU's from when it was told to
    begin. Raises RuntimeError unless all succeed.
    """
    wanted = truth.names(fleet, couples)
    async with postgres.migrated() as url:
        async with postgres.directory() as place:
            async with (
                service(place, window, url, "api") as api,
                Client.of(api.described) as client,
            ):
                await client.register(fleet, workers)
                await client.ask_all(wanted)
            async with AsyncExitStack() as stack:
                team = [
                    await stack.enter_async_context(service(place, window, url, "worker", profile))
                    for _ in range(workers)
                ]
                await truth.reset(fleet)
                await postgres.settle()
                committed = await commits(url)
                before = _Used.by(team, postgres)
                for worker in team:
                    await worker.tell()
                seen = await _until_over(team, len(couples))
                after = _Used.by(team, postgres)
                known = await truth.read(fleet)
        committed = await commits(url) - committed
        ended_ms, began_s = await _results(url)
    known.insist_on(wanted)
    return Driven(
        round=Round(
            [each / 1000 - began_s for each in ended_ms.values()],
            after.cpu_s - before.cpu_s,
            known.calls,
        ),
        truth=known,
        ended_ms=ended_ms,
        postgres_cpu_s=after.postgres_cpu_s - before.postgres_cpu_s,
        commits=committed,
        idle_rss=before.rss,
        peak_rss=seen.rss,
        peak_in_flight=seen.in_flight,
    )


@dataclass(frozen=True, slots=True)
class _Used:
    """What was used so far."""

    cpu_s: float
    postgres_cpu_s: float
    rss: int

    @classmethod
    def by(cls, team: Sequence[Child], postgres: Postgres) -> "_Used":
        cpu_s, rss = sum(each.cpu_s() for each in team), sum(each.rss() for each in team)
        return cls(cpu_s, postgres.cpu_s(), rss)


@dataclass(slots=True)
class _Peaks:
    """The most that was seen."""

    rss: int = 0
    in_flight: int = 0


async def _until_over(team: Sequence[Child], pairings: int) -> _Peaks:
    peaks = _Peaks()
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        clients = [
            await stack.enter_async_context(Client.of(await worker.hear(_START_S)))
            for worker in team
        ]
        while True:
            metrics = [line for client in clients for line in await client.metrics()]
            peaks.in_flight = max(peaks.in_flight, _sum(metrics, _IN_FLIGHT))
            peaks.rss = max(peaks.rss, sum(worker.rss() for worker in team))
            if _sum(metrics, _ENDED) >= pairings:
                return peaks
            await asyncio.sleep(_LOOK_S)


def _sum(metrics: list[str], beginning: str) -> int:
    return sum(
        int(float(line.rpartition(" ")[2])) for line in metrics if line.startswith(beginning)
    )


async def _results(url: str) -> tuple[dict[Couple, int], float]:
    """When each pairing was over, in ms, and when the first one began, in seconds."""
    async with connected(url) as connection:
        rows = await connection.fetch(_RESULTS)
        began_s = float(await connection.fetchval(_FIRST_CLAIM))
    if failed := [row for row in rows if row["state"] != "SUCCEEDED"]:
        raise RuntimeError(f"{len(failed)} did not succeed, {dict(failed[0])} among them")
    return {(row["couple_low"], row["couple_high"]): row["end_time"] for row in rows}, began_s
