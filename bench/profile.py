"""`python -m bench.profile`: where the time goes under load, in the worker and in PostgreSQL.

The worker's are CPU seconds. cProfile weighs on small functions more than on others: trust the
order, not the times.
"""

import asyncio
import pstats
import sys

from bench import ours
from bench.couples import chosen
from bench.options import Options, parsed
from bench.postgres import Postgres, connected
from bench.processes import simulator
from bench.report import tell

DEFAULTS = Options(rounds=1, pairings=2000)

_LINES = 40
_STATEMENTS = """
select round(total_exec_time) as ms, calls, rows, regexp_replace(left(query, 120), '\\s+', ' ', 'g')
from pg_stat_statements where query !~* '^(create|drop|checkpoint)'
order by total_exec_time desc limit 12
"""


def main() -> None:
    """One run; the functions and the statements that took most of it by themselves."""
    options, _ = parsed("bench.profile", __doc__, DEFAULTS)
    asyncio.run(_profile(options))


async def _profile(options: Options) -> None:
    async with (
        Postgres.started(shared_preload_libraries="pg_stat_statements") as postgres,
        postgres.directory() as place,
        simulator(options.appliances, options.seed) as fleet,
    ):
        profile = place / "worker.profile"
        async with connected(postgres.url) as connection:
            await connection.execute("create extension pg_stat_statements")
        driven = await ours.drive(postgres, fleet, chosen(options), options.in_flight, profile)
        tell(f"{driven.round.per_s:.0f}/s, {driven.round.cpu_ms_each:.1f} ms of CPU for each")
        stats = pstats.Stats(str(profile), stream=sys.stdout)
        stats.strip_dirs().sort_stats("tottime").print_stats(_LINES)
        async with connected(postgres.url) as connection:
            for row in await connection.fetch(_STATEMENTS):
                print("{:>8} ms {:>8} calls {:>8} rows  {}".format(*row))


if __name__ == "__main__":
    main()
