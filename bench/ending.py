"""`python -m bench.ending`: how long after the appliances' tasks a pairing is over.

The simulator knows when the later of the two tasks was over. What passes until then is one poll
round at most, which depends on the age of the task, and what comes on top is judged: seeing it,
recording it, looking at both lists, recording that.
"""

from bench import ours
from bench.couples import chosen
from bench.figures import Row, Target, alone, percentile
from bench.options import Options
from bench.ours import Driven
from bench.postgres import Postgres
from bench.processes import simulator
from bench.report import command, tell
from bench.truth import Task
from service.appliance.pace import Pace

DEFAULTS = Options(pairings=1000, in_flight=1000)

_SHARE = 0.99
_TASKS = "task_ms=[4000,12000]"
"""Long enough for all to be in flight at once, and random."""

_CROWD = 16
"""Tasks that are waited for at an appliance, or more."""


async def measure(options: Options) -> list[Row]:
    """The 99th percentile of the delay, whole and above one poll round."""
    whole, above = [], []
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            async with simulator(options.appliances, options.seed + number, _TASKS) as fleet:
                driven = await ours.drive(postgres, fleet, chosen(options), options.in_flight)
            delays = _delays(driven)
            whole.append(percentile([delay for delay, _ in delays], _SHARE))
            above.append(percentile([delay - round_ms for delay, round_ms in delays], _SHARE))
            tell(
                f"ending {number + 1}: p99 {whole[-1]:.0f} ms, {above[-1]:.0f} above a round, "
                f"{driven.peak_in_flight} in flight"
            )
    return [
        alone("ms from tasks over to pairing over, p99", whole, Target()),
        alone("the same above one poll round, p99", above, Target(100, 30)),
    ]


def _delays(driven: Driven) -> list[tuple[float, float]]:
    """The delay of each pairing, and the poll round of its later task, in ms."""
    delays = []
    for couple, ended_ms in driven.ended_ms.items():
        task = driven.truth.last_of(couple)
        delays.append((float(ended_ms - task.over_ms), _round_ms(task)))
    return delays


def _round_ms(task: Task) -> float:
    return 1000 * Pace().pause_s(task.took_ms / 1000, _CROWD)


if __name__ == "__main__":
    command("bench.ending", __doc__, measure, DEFAULTS)
