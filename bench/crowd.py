"""`python -m bench.crowd`: as many in flight in one worker as it shall hold, with tasks of 30 s.

They are asked for before the worker begins. Memory is what the worker's process holds at most,
above what it held before it began, for each that was in flight.
"""

from bench import ours
from bench.couples import chosen
from bench.figures import Row, Target, alone
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import simulator
from bench.report import command, tell

DEFAULTS = Options(rounds=2, appliances=201, pairings=20_000, in_flight=20_000)

_TASKS = "task_ms=[28000,32000]"
_KB = 1024


async def measure(options: Options) -> list[Row]:
    """How many were in flight, and the memory of each. Succeeds only if all pairings do."""
    crowds, kilobytes = [], []
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            async with simulator(options.appliances, options.seed + number, _TASKS) as fleet:
                driven = await ours.drive(postgres, fleet, chosen(options), options.in_flight)
            crowds.append(float(driven.peak_in_flight))
            held = driven.peak_rss - driven.idle_rss
            kilobytes.append(held / driven.peak_in_flight / _KB)
            tell(
                f"crowd {number + 1}: {crowds[-1]:.0f} in flight, {kilobytes[-1]:.1f} KB each, "
                f"over in {driven.round.wall_s:.0f} s"
            )
    # Of a smaller crowd only the memory can be judged.
    is_full = options.pairings >= DEFAULTS.pairings
    full = Target(20_000, 50_000, higher_is_better=True) if is_full else Target()
    return [
        alone("in flight in one worker", crowds, full),
        alone("KB of memory for each", kilobytes, Target(16, 6)),
    ]


if __name__ == "__main__":
    command("bench.crowd", __doc__, measure, DEFAULTS)
