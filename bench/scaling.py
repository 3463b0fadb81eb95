"""`python -m bench.scaling`: two and four workers on one database, against one.

What a claim costs is PostgreSQL's time in it, for each pairing that was claimed. On a machine with
fewer cores than processes more workers bring nothing but their cost: that is what shows here.
"""

from collections.abc import Sequence

from bench import ours
from bench.couples import chosen
from bench.figures import Row, Target, ratio
from bench.options import Options
from bench.postgres import Postgres, connected
from bench.processes import simulator
from bench.report import command, tell
from bench.rounds import Round

DEFAULTS = Options(rounds=3, pairings=1500)
_TEAMS = (1, 2, 4)
_CLAIMS = """
select sum(total_exec_time) from pg_stat_statements where query like '%set_aside as (%'
"""


async def measure(options: Options) -> list[Row]:
    """Rates, and the cost of claims and looks."""
    rounds: dict[int, list[tuple[Round, float]]] = {team: [] for team in _TEAMS}
    async with Postgres.started(shared_preload_libraries="pg_stat_statements") as postgres:
        async with connected(postgres.url) as connection:
            await connection.execute("create extension pg_stat_statements")
        for number in range(options.rounds):
            for team in _TEAMS if number % 2 else _TEAMS[::-1]:
                done, claim_ms = await _round(postgres, options, options.seed + number, team)
                rounds[team].append((done, claim_ms))
                tell(f"scaling {number + 1}: {team} at work, {done.per_s:.0f}/s")
    return [
        row
        for team in _TEAMS[1:]
        for row in _rows(team, list(zip(rounds[team], rounds[1], strict=True)))
    ]


def _rows(
    team: int, rounds: Sequence[tuple[tuple[Round, float], tuple[Round, float]]]
) -> list[Row]:
    rates = [(many.per_s, one.per_s) for (many, _), (one, _) in rounds]
    claims = [(many_ms, one_ms) for (_, many_ms), (_, one_ms) in rounds]
    calls = [(many.calls_each, one.calls_each) for (many, _), (one, _) in rounds]
    return [
        ratio(f"pairings/s, {team} workers", "1 worker", rates, Target(higher_is_better=True)),
        ratio(f"claim, ms per pairing, {team} workers", "1 worker", claims, Target()),
        ratio(f"calls per pairing, {team} workers", "1 worker", calls, Target()),
    ]


async def _round(postgres: Postgres, options: Options, seed: int, team: int) -> tuple[Round, float]:
    """What it took, and the milliseconds of claims for a pairing."""
    async with connected(postgres.url) as connection:
        await connection.execute("select pg_stat_statements_reset()")
        async with simulator(options.appliances, seed) as fleet:
            window = max(1, options.in_flight // team)
            driven = await ours.drive(postgres, fleet, chosen(options), window, workers=team)
        claim_ms = float(await connection.fetchval(_CLAIMS))
    return driven.round, claim_ms / options.pairings


if __name__ == "__main__":
    command("bench.scaling", __doc__, measure, DEFAULTS)
