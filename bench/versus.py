"""`python -m bench.versus`: the same work by PgQueuer, Procrastinate and DBOS Transact.

Needs the dependency group `bench`. All begin with everything queued. A peer's clock runs from the
first job's first line to the last job's last one: what its library does before and after is not
counted against it, while ours runs from the first claim to the last end that is on record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import ours, truth
from bench.couples import chosen
from bench.figures import Row, Target, ratio
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import simulator, started
from bench.report import command, tell
from bench.rounds import Round

DEFAULTS = Options(pairings=2000)


@dataclass(frozen=True, slots=True)
class _Peer:
    """`module` is what it is called below `bench.peers`. Who is slow gets a `share` of the couples,
    which is no worse for a rate that hangs on the processor."""

    module: str
    target: Target
    share: float = 1.0


_PEERS = {
    "PgQueuer": _Peer("pgqueuer", Target(1.25, 1.7, higher_is_better=True)),
    "Procrastinate": _Peer("procrastinate", Target(3, 4, higher_is_better=True)),
    "DBOS": _Peer("dbos", Target(12, 20, higher_is_better=True), share=0.4),
}
_OURS = "ours"
_DEADLINE_S = 600.0


async def measure(options: Options) -> list[Row]:
    """Pairings a second of all, and ours against each."""
    couples = chosen(options)
    rounds: dict[str, list[Round]] = {name: [] for name in (_OURS, *_PEERS)}
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            names = list(rounds)
            # Who goes first moves on from round to round.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                async with simulator(options.appliances, options.seed + number) as fleet:
                    if name == _OURS:
                        driven = await ours.drive(postgres, fleet, couples, options.in_flight)
                        done = driven.round
                    else:
                        done = await _theirs(_PEERS[name], postgres, fleet, options)
                rounds[name].append(done)
            told = ", ".join(f"{name} {each[-1].per_s:.0f}/s" for name, each in rounds.items())
            tell(f"versus {number + 1}: {told}")
    return [
        row
        for name, peer in _PEERS.items()
        for row in _rows(list(zip(rounds[_OURS], rounds[name], strict=True)), name, peer.target)
    ]


def _rows(both: Sequence[tuple[Round, Round]], name: str, target: Target) -> list[Row]:
    between = [(mine.per_s_between, theirs.per_s_between) for mine, theirs in both]
    return [
        ratio("pairings/s", name, [(mine.per_s, theirs.per_s) for mine, theirs in both], target),
        ratio("pairings/s, while all goes on", name, between, Target(higher_is_better=True)),
    ]


async def _theirs(
    peer: _Peer, postgres: Postgres, fleet: dict[str, Any], options: Options
) -> Round:
    couples = chosen(options, max(1, int(options.pairings * peer.share)))
    async with postgres.empty() as url:
        contest = {
            "database_url": url,
            "in_flight": options.in_flight,
            "couples": couples,
            "appliances": fleet["appliances"],
        }
        async with started(["-m", "bench.peers", peer.module], contest) as process:
            await truth.reset(fleet)
            await postgres.settle()
            await process.tell()
            took = await process.hear(_DEADLINE_S)
            known = await truth.read(fleet)
    known.insist_on(truth.names(fleet, couples))
    return Round(took["endedS"], took["cpuS"], known.calls)


if __name__ == "__main__":
    command("bench.versus", __doc__, measure, DEFAULTS)
