"""`python -m bench.calls`: calls to appliances for a pairing, where there is little to share.

One alone, where sessions are there already; and long tasks, many in flight, where a script that
looks at each task every second makes sixty.
"""

from dataclasses import replace

from bench import ours, truth
from bench.client import Client
from bench.couples import chosen, warmed_up
from bench.figures import Row, Target, alone
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import service, simulator
from bench.report import command, tell

DEFAULTS = Options(rounds=1, pairings=1000, in_flight=1000)

_ALONE = 9
_FEW = Options(appliances=10, pairings=1)
_LONG_TASKS = "task_ms=[28000,32000]"


async def measure(options: Options) -> list[Row]:
    """Both counts."""
    lonely: list[float] = []
    shared: list[float] = []
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            seed = options.seed + number
            lonely += await _one_by_one(postgres, options, seed)
            async with simulator(options.appliances, seed, _LONG_TASKS) as fleet:
                driven = await ours.drive(postgres, fleet, chosen(options), options.in_flight)
            shared.append(driven.round.calls_each)
            tell(
                f"calls {number + 1}: {lonely[-1]:.0f} alone, {shared[-1]:.1f} with "
                f"{driven.peak_in_flight} in flight"
            )
    return [
        alone("calls per pairing, one alone", lonely, Target(8, 6)),
        alone(f"calls per pairing, {options.in_flight:,} tasks of 30 s", shared, Target(6, 4)),
    ]


async def _one_by_one(postgres: Postgres, options: Options, seed: int) -> list[float]:
    counts = []
    async with (
        simulator(_FEW.appliances, seed) as fleet,
        postgres.migrated() as url,
        postgres.directory() as place,
        service(place, options.in_flight, url) as serving,
        Client.of(serving.described) as client,
    ):
        await client.register(fleet)
        warmup, lonely = warmed_up(replace(_FEW, seed=seed), _ALONE)
        for couple in truth.names(fleet, warmup):
            await client.over(await client.ask(couple))
        for couple in truth.names(fleet, lonely):
            await truth.reset(fleet)
            await client.over(await client.ask(couple))
            counts.append(float((await truth.read(fleet)).calls))
    return counts


if __name__ == "__main__":
    command("bench.calls", __doc__, measure, DEFAULTS)
