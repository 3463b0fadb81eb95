"""`python -m bench.throughput`: many pairings at once, against the bare calls."""

from bench import bare, ours
from bench.couples import chosen
from bench.figures import Row, Target, alone, ratio
from bench.options import Options
from bench.ours import Driven
from bench.postgres import Postgres
from bench.processes import simulator
from bench.report import command, tell
from bench.rounds import Round

DEFAULTS = Options(pairings=2000)


async def measure(options: Options) -> list[Row]:
    """Rates, CPU, commits and calls."""
    couples = chosen(options)
    rounds: list[tuple[Driven, Round]] = []
    async with Postgres.started() as postgres:

        async def ours_once(seed: int) -> Driven:
            async with simulator(options.appliances, seed) as fleet:
                return await ours.drive(postgres, fleet, couples, options.in_flight)

        async def bare_once(seed: int) -> Round:
            async with simulator(options.appliances, seed) as fleet:
                return await bare.measure(fleet["appliances"], couples, options.in_flight)

        for number in range(options.rounds):
            seed = options.seed + number
            if number % 2:
                mine, theirs = await ours_once(seed), await bare_once(seed)
            else:
                theirs, mine = await bare_once(seed), await ours_once(seed)
            rounds.append((mine, theirs))
            tell(
                f"throughput {number + 1}: bare {theirs.per_s:.0f}/s, ours {mine.round.per_s:.0f}/s"
            )
    return _rows(rounds)


def _rows(rounds: list[tuple[Driven, Round]]) -> list[Row]:
    both = [(driven.round, bare_round) for driven, bare_round in rounds]
    driven = [mine for mine, _ in rounds]
    return [
        ratio(
            "pairings/s",
            "bare",
            [(mine.per_s, theirs.per_s) for mine, theirs in both],
            Target(0.75, 1.0, higher_is_better=True),
        ),
        ratio(
            "pairings/s, while all goes on",
            "bare",
            [(mine.per_s_between, theirs.per_s_between) for mine, theirs in both],
            Target(higher_is_better=True),
        ),
        ratio(
            "CPU ms per pairing, worker",
            "bare",
            [(mine.cpu_ms_each, theirs.cpu_ms_each) for mine, theirs in both],
            Target(1.4, 1.0),
        ),
        alone(
            "CPU ms per pairing, PostgreSQL",
            [1000 * each.postgres_cpu_s / each.round.pairings for each in driven],
            Target(0.25, 0.12),
        ),
        alone(
            "commits per pairing",
            [each.commits / each.round.pairings for each in driven],
            Target(0.3, 0.1),
        ),
        alone(
            "calls per pairing, under load",
            [each.round.calls_each for each in driven],
            Target(4, 3),
        ),
        ratio(
            "calls per pairing, as bare",
            "bare",
            [(mine.calls_each, theirs.calls_each) for mine, theirs in both],
            Target(),
        ),
    ]


if __name__ == "__main__":
    command("bench.throughput", __doc__, measure, DEFAULTS)
