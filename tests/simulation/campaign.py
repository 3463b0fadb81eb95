"""Many seeds, on all processors."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import repeat
from multiprocessing import get_context

from tests.simulation.run import Report, Run, play
from tests.simulation.schedule import Ambush, Befallen, Blow, Schedule, drawn
from tests.simulation.sites import Site, all_sites
from tests.simulation.weather import CallFault

CHUNK = 10


@dataclass(slots=True)
class Tally:
    """What a campaign found."""

    runs: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    crashes: int = 0
    hit: set[Site] = field(default_factory=set)
    ends: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    failures: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """One more run."""
        self.runs += 1
        self.steps += report.steps
        self.virtual_s += report.virtual_s
        self.crashes += report.crashes
        self.hit |= report.hit
        self.ends.update(report.ends)
        self.struck.update(report.struck)
        if report.broken:
            self.failures.append(report)

    @property
    def spared(self) -> list[str]:
        """The faults that never happened."""
        return [str(fault) for fault in (*CallFault, *Blow) if not self.struck[fault]]

    @property
    def missed(self) -> list[Site]:
        """Awaits of the engine at which no process was killed."""
        return sorted(all_sites() - self.hit)


def campaign(seeds: Sequence[int], *, jobs: int) -> Iterator[Report]:
    """The reports of `seeds`, in their order."""
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    # Sets of texts have the same order in all of them, so that a seed replays anywhere.
    os.environ["PYTHONHASHSEED"] = "0"
    if len(seeds) == 1:
        yield play(seeds[0])
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_play_all, chunk) for chunk in chunks]
        try:
            for future in futures:
                yield from future.result()
        finally:
            for future in futures:
                future.cancel()


def _play_all(seeds: Sequence[int]) -> list[Report]:
    return [play(seed) for seed in seeds]


def ambushes(seeds: Sequence[int], *, jobs: int) -> Iterator[tuple[Site, int | None]]:
    """Every await of the engine, with the first of `seeds` at which a process that waited there was
    killed; None if none of them is."""
    os.environ["PYTHONHASHSEED"] = "0"
    sites = sorted(all_sites())
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from zip(sites, pool.map(_first_ambush, sites, repeat(seeds)), strict=True)


def _provoking(schedule: Schedule) -> Schedule:
    """The same with more of one kind of trouble, so that what is seldom happens."""
    seed = schedule.seed
    fault, blows = list(CallFault)[seed % len(CallFault)], schedule.befallen
    if seed % 2:
        schedule.weather.changes = {fault: 0.5}
    if seed % 3 == 1:
        blows += (
            Befallen(1.0, Blow.APPLIANCE_DOWN, whom=seed, other=seed, lasts_s=60.0, steps=0),
            Befallen(9.0 + seed % 7, Blow.SHUTDOWN, whom=seed, other=0, lasts_s=1.0, steps=0),
        )
    if seed % 3 == 2:
        at_s = (seed % 50) / 50
        blows += (
            Befallen(at_s, Blow.PASSWORD, whom=0, other=seed, lasts_s=5.0, steps=0),
            Befallen(at_s, Blow.EXPIRY, whom=0, other=seed, lasts_s=0.0, steps=0),
        )
    return replace(schedule, befallen=blows)


def _first_ambush(site: Site, seeds: Sequence[int]) -> int | None:
    for seed in seeds:
        schedule = _provoking(replace(drawn(seed), ambush=Ambush(site, 1)))
        report = Run(schedule, is_traced=False).play()
        if report.broken:
            raise AssertionError(f"seed {seed}, ambushed at {site}: {report.broken}")
        if site in report.hit:
            return seed
    return None
