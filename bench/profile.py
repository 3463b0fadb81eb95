"""`python -m bench.profile`: where the worker's time goes under load.

In CPU seconds. cProfile weighs on small functions more than on others: trust the order, not the
times.
"""

import asyncio
import pstats
import sys

from bench import ours
from bench.couples import chosen
from bench.options import Options, parsed
from bench.postgres import Postgres
from bench.processes import simulator
from bench.report import tell

DEFAULTS = Options(rounds=1, pairings=2000)

_LINES = 40


def main() -> None:
    """One run, the functions that took most of it by themselves."""
    options, _ = parsed("bench.profile", __doc__, DEFAULTS)
    asyncio.run(_profile(options))


async def _profile(options: Options) -> None:
    async with (
        Postgres.started() as postgres,
        postgres.directory() as place,
        simulator(options.appliances, options.seed) as fleet,
    ):
        profile = place / "worker.profile"
        driven = await ours.drive(postgres, fleet, chosen(options), options.in_flight, profile)
        tell(f"{driven.round.per_s:.0f}/s, {driven.round.cpu_ms_each:.1f} ms of CPU for each")
        stats = pstats.Stats(str(profile), stream=sys.stdout)
        stats.strip_dirs().sort_stats("tottime").print_stats(_LINES)


if __name__ == "__main__":
    main()
