"""`python -m bench.versus`: the same work by PgQueuer, Procrastinate and DBOS Transact.

Needs the dependency group `bench`. All begin with everything queued, and a peer's clock stops when
the last job's own code is through, before that is on record.
"""

from typing import Any

from bench import ours, truth
from bench.couples import Places, chosen
from bench.figures import Row, Target, ratio
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import simulator, started
from bench.report import command, tell
from bench.rounds import Round

DEFAULTS = Options(pairings=1000)

_PEERS = {
    "PgQueuer": ("pgqueuer", Target(1.25, 1.7, higher_is_better=True)),
    "Procrastinate": ("procrastinate", Target(3, 4, higher_is_better=True)),
    "DBOS": ("dbos", Target(12, 20, higher_is_better=True)),
}
_OURS = "ours"
_DEADLINE_S = 600.0


async def measure(options: Options) -> list[Row]:
    """Pairings a second of all, and ours against each."""
    couples = chosen(options)
    rates: dict[str, list[float]] = {name: [] for name in (_OURS, *_PEERS)}
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            names = list(rates)
            # Who goes first moves on from round to round.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                async with simulator(options.appliances, options.seed + number) as fleet:
                    if name == _OURS:
                        driven = await ours.drive(postgres, fleet, couples, options.in_flight)
                        done = driven.round
                    else:
                        done = await _peer(name, postgres, fleet, couples, options.in_flight)
                rates[name].append(done.per_s)
            told = ", ".join(f"{name} {each[-1]:.0f}/s" for name, each in rates.items())
            tell(f"versus {number + 1}: {told}")
    return [
        ratio("pairings/s", name, list(zip(rates[_OURS], rates[name], strict=True)), target)
        for name, (_, target) in _PEERS.items()
    ]


async def _peer(
    name: str, postgres: Postgres, fleet: dict[str, Any], couples: Places, in_flight: int
) -> Round:
    module, _ = _PEERS[name]
    async with postgres.empty() as url:
        contest = {
            "database_url": url,
            "in_flight": in_flight,
            "couples": couples,
            "appliances": fleet["appliances"],
        }
        async with started(["-m", "bench.peers", module], contest) as peer:
            await truth.reset(fleet)
            await postgres.settle()
            await peer.tell()
            took = await peer.hear(_DEADLINE_S)
            known = await truth.read(fleet)
    known.insist_on(truth.names(fleet, couples))
    return Round(len(couples), took["wallS"], took["cpuS"], known.calls)


if __name__ == "__main__":
    command("bench.versus", __doc__, measure, DEFAULTS)
