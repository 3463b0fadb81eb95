"""`python -m bench.takeover`: until a killed worker's pairings are owned again.

The run is `tests.chaos.takeover`'s, at any size; the targets are for 10,000.
"""

from bench.figures import Row, Target, alone
from bench.options import Options
from bench.processes import finished
from bench.report import command, tell

DEFAULTS = Options(rounds=3, appliances=142, pairings=10_000)
"""`appliances` has no say: as many are taken as make so many couples."""

_PATIENCE_S = 1800.0


async def measure(options: Options) -> list[Row]:
    """Seconds beyond the lease until the last one is owned again."""
    late = []
    for number in range(options.rounds):
        arguments = ["-m", "tests.chaos.takeover", "--pairings", str(options.pairings)]
        late.append(float((await finished(arguments, _PATIENCE_S))["lateS"]))
        tell(f"takeover {number + 1}: {late[-1]:.2f} s beyond the lease")
    return [alone("s beyond the lease, all owned again", late, Target(2, 0.5))]


if __name__ == "__main__":
    command("bench.takeover", __doc__, measure, DEFAULTS)
