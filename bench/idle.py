"""`python -m bench.idle`: one pairing on a service that does nothing else, against the bare calls.

They take turns, pairing by pairing, on one fleet. Task times are random, so what the appliances
took is taken off: what is compared is the time around the slower of the two tasks. Ours is what a
caller sees, from the request to the answer that it is over.
"""

import time
from collections.abc import Awaitable, Callable
from statistics import median

from bench import bare, truth
from bench.bare import Sites
from bench.client import Client
from bench.couples import Places, warmed_up
from bench.figures import Row, Target, difference
from bench.options import Options
from bench.postgres import Postgres
from bench.processes import service, simulator
from bench.report import command, tell
from bench.truth import Couple

DEFAULTS = Options(pairings=20, appliances=12)
"""A round is `pairings` of each."""

_Pair = Callable[[int], Awaitable[None]]


async def measure(options: Options) -> list[Row]:
    """Milliseconds above the bare calls."""
    rounds = []
    async with Postgres.started() as postgres:
        for number in range(options.rounds):
            seed = options.seed + number
            # Never the same couple for both.
            warmup, places = warmed_up(options, 2 * options.pairings)
            async with (
                simulator(options.appliances, seed) as fleet,
                postgres.migrated() as url,
                postgres.directory() as place,
                service(place, options.in_flight, url) as serving,
                Client.of(serving.described) as client,
                bare.logged_in(fleet["appliances"]) as sites,
            ):
                await client.register(fleet)
                for couple in truth.names(fleet, warmup):
                    await client.over(await client.ask(couple))
                took = await _take_turns(client, sites, places, truth.names(fleet, places))
                known = await truth.read(fleet)
            around = [
                took_ms - known.longest_ms(couple)
                for couple, took_ms in zip(truth.names(fleet, places), took, strict=True)
            ]
            rounds.append((median(around[0::2]), median(around[1::2])))
            tell(f"idle {number + 1}: ours {rounds[-1][0]:.1f} ms, bare {rounds[-1][1]:.1f} ms")
    target = Target(25, 8)
    return [difference("ms around the tasks, one pairing alone", "bare", rounds, target)]


async def _take_turns(
    client: Client, sites: Sites, places: Places, couples: list[Couple]
) -> list[float]:
    """How many ms each took; the even ones ours, the odd ones bare."""

    async def ours(index: int) -> None:
        await client.over(await client.ask(couples[index]))

    async def theirs(index: int) -> None:
        await sites.pair(places[index])

    turns: tuple[_Pair, _Pair] = (ours, theirs)
    return [await _ms(turns[index % 2], index) for index in range(len(places))]


async def _ms(pair: _Pair, index: int) -> float:
    began = time.perf_counter()
    await pair(index)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    command("bench.idle", __doc__, measure, DEFAULTS)
