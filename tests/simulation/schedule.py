"""What a seed stands for: the appliances, what is asked of the service, what befalls it when."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from service.domain.pairing import OnFailure, Operation
from service.engine.policy import Policy
from simulator.knobs import Knobs
from tests.simulation.appliances import drawn_knobs, with_more
from tests.simulation.clockwork import Clock
from tests.simulation.sites import Site, all_sites
from tests.simulation.weather import Weather, forecast


class Before(StrEnum):
    """How a couple stands when the run begins."""

    STRANGERS = "strangers"
    PAIRED = "paired by hand"
    ONE_SIDED = "one holds a record of the other"
    OUTDATED = "paired by hand, then one got another certificate"


class Blow(StrEnum):
    """What can befall the service or the appliances at a moment of the run."""

    CRASH = "SIGKILL"
    CRASH_SOON = "SIGKILL some steps later"
    PAUSE = "SIGSTOP"
    SHUTDOWN = "SIGTERM"
    DATABASE_DOWN = "database down"
    DATABASE_CUT = "worker and database do not reach each other"
    APPLIANCE_DOWN = "appliance down"
    APPLIANCE_CUT = "worker and appliance do not reach each other"
    DARK = "appliance not reached by its peers"
    ROTATION = "new certificate, registered later"
    RESTART = "appliance restarted"
    FORGET = "finished tasks forgotten"
    EXPIRY = "sessions expired"
    PASSWORD = "another password, registered later"
    REMOVAL = "registration removed by hand, made anew later"
    BY_HAND = "somebody pairs or unpairs two appliances by hand"
    CLOCK_STEP = "the database's clock is set"
    MOVE = "another API URL, registered later"
    ADDRESS = "another management URL, registered later"
    PIN = "new certificate of the management, registered later"
    USER = "another user registered"
    WRONG_PASSWORD = "wrong password registered, the right one later"


LATER: Mapping[Blow, float] = {
    Blow.MOVE: 0.08,
    Blow.ADDRESS: 0.06,
    Blow.PIN: 0.05,
    Blow.USER: 0.08,
    Blow.WRONG_PASSWORD: 0.05,
}
"""How likely a run has one; drawn with dice of their own, as `weather.LATER`."""


@dataclass(frozen=True, slots=True)
class Befallen:
    """One blow: when, whom (by number), and for how long or after how many steps."""

    at_s: float
    blow: Blow
    whom: int
    other: int
    lasts_s: float
    steps: int


@dataclass(frozen=True, slots=True)
class Ambush:
    """A process is killed when it waits at `site` for the `count`-th time."""

    site: Site
    count: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """One pairing that is asked for, and what its caller does later: cancels it after `cancel_s`,
    or when it is rolled back; tries it again so often. Its `operation_id` is its own by default.
    Those of one `batch` are asked for at the same moment."""

    at_s: float
    one: int
    other: int
    operation: Operation
    on_failure: OnFailure
    timeout_s: int
    cancel_s: float | None = None
    cancels_rollback: bool = False
    retries: int = 0
    operation_id: str | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that is decided beforehand. `calm_s` is when everything is healed."""

    seed: int
    knobs: tuple[Knobs, ...]
    skews_ms: tuple[int, ...]
    before: dict[tuple[int, int], Before]
    wanted: tuple[Wanted, ...]
    befallen: tuple[Befallen, ...]
    ambush: Ambush | None
    clocks: tuple[Clock, ...]
    database: Clock
    policy: Policy
    weather: Weather
    calm_s: float


@dataclass(slots=True)
class _Draw:
    rng: random.Random
    more: random.Random
    """For the blows that came to be drawn later."""
    appliances: int
    couples: list[tuple[int, int]] = field(default_factory=list)
    is_rush: bool = False
    """Many pairings at once of one appliance with the others."""


def drawn(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(f"schedule {seed}")
    draw = _Draw(rng, random.Random(f"more blows {seed}"), rng.choice((2, 2, 2, 3, 4)))
    count = draw.appliances
    draw.couples = [(one, other) for one in range(count) for other in range(one + 1, count)]
    draw.is_rush = count > 2 and rng.random() < 0.5
    if draw.is_rush:
        draw.couples = [couple for couple in draw.couples if 0 in couple]
    before = {couple: _before(rng) for couple in draw.couples}
    calm_s = rng.choice((10.0, 30.0, 60.0, 120.0))
    workers = rng.choice((2, 2, 3))
    schedule = Schedule(
        seed=seed,
        knobs=tuple([drawn_knobs(rng) for _ in range(count)]),
        skews_ms=tuple([rng.choice((0, 0, -600_000, 300_000)) for _ in range(count)]),
        before=before,
        wanted=tuple([_wanted(draw, before, calm_s) for _ in range(_how_many(draw))]),
        befallen=_befallen(draw, workers, calm_s),
        ambush=_ambush(rng) if rng.random() < 0.3 else None,
        clocks=tuple([_clock(rng) for _ in range(workers)]),
        database=_clock(rng),
        policy=_policy(rng),
        weather=forecast(rng, random.Random(f"more weather {seed}")),
        calm_s=calm_s,
    )
    more, patience_s = random.Random(f"more knobs {seed}"), schedule.policy.verify_timeout_s
    knobs = tuple([with_more(each, more, patience_s) for each in schedule.knobs])
    is_batch = random.Random(f"batch {seed}").random() < 0.3
    wanted = _as_batch(schedule.wanted, calm_s) if is_batch else schedule.wanted
    return replace(schedule, knobs=knobs, wanted=wanted)


def _how_many(draw: _Draw) -> int:
    return draw.rng.choice((3, 4, 6) if draw.is_rush else (1, 1, 2, 3, 6))


def _before(rng: random.Random) -> Before:
    usual = (Before.STRANGERS,) * 4
    return rng.choice((*usual, Before.PAIRED, Before.PAIRED, Before.ONE_SIDED, Before.OUTDATED))


def _wanted(draw: _Draw, before: dict[tuple[int, int], Before], calm_s: float) -> Wanted:
    rng = draw.rng
    couple = rng.choice(draw.couples)
    fitting = {
        Before.STRANGERS: Operation.PAIR,
        Before.PAIRED: Operation.UNPAIR,
        Before.ONE_SIDED: Operation.PAIR,
        Before.OUTDATED: Operation.REPAIR,
    }
    is_fitting = rng.random() < 0.7
    moments = (0.0, rng.uniform(0, 2), rng.uniform(0, calm_s))
    one, other = couple if rng.random() < 0.5 else couple[::-1]
    return Wanted(
        at_s=rng.uniform(0, 1.5) if draw.is_rush else rng.choice(moments),
        one=one,
        other=other,
        operation=fitting[before[couple]] if is_fitting else rng.choice(list(Operation)),
        on_failure=OnFailure.KEEP if rng.random() < 0.2 else OnFailure.ROLLBACK,
        timeout_s=rng.choice((5, 20, 60, 300, 900)),
        cancel_s=rng.choice((rng.uniform(0, 1), rng.uniform(0, 20)))
        if rng.random() < 0.25
        else None,
        cancels_rollback=rng.random() < 0.15,
        retries=rng.choice((0, 0, 1, 2)),
    )


def _as_batch(wanted: Sequence[Wanted], calm_s: float) -> tuple[Wanted, ...]:
    """Who would come within half a second of the first one is asked for together with them."""
    soon_s = min(min([each.at_s for each in wanted]) + 0.5, calm_s)
    first = [replace(each, at_s=soon_s, batch=1) for each in wanted if each.at_s <= soon_s]
    return (*first, *[each for each in wanted if each.at_s > soon_s])


def _befallen(draw: _Draw, workers: int, calm_s: float) -> tuple[Befallen, ...]:
    rng = draw.rng
    blows = rng.sample([blow for blow in Blow if blow not in LATER], rng.choice((0, 1, 2, 3, 5)))
    if rng.random() < 0.6:
        blows += [Blow.CRASH_SOON, Blow.CRASH_SOON]
    count = rng.choice((1, 2, 4, 8)) if blows else 0
    found = [_blow(rng, blows, calm_s) for _ in range(count)]
    later = [blow for blow, odd in LATER.items() if draw.more.random() < odd]
    found += [_blow(draw.more, [blow], calm_s) for blow in later]
    return tuple(sorted(found, key=lambda each: each.at_s))


def _blow(rng: random.Random, blows: Sequence[Blow], calm_s: float) -> Befallen:
    # Most blows fall where the pairings are: at the beginning.
    ends = [min(calm_s, limit) for limit in (2.0, 6.0, calm_s)]
    return Befallen(
        at_s=rng.uniform(0, rng.choice(ends)),
        blow=rng.choice(blows),
        whom=rng.randrange(60),
        other=rng.randrange(60),
        lasts_s=rng.choice((rng.uniform(0, 2), rng.uniform(0, 15), rng.uniform(10, 60))),
        steps=rng.choice((rng.randrange(40), rng.randrange(400))),
    )


def _ambush(rng: random.Random) -> Ambush:
    return Ambush(rng.choice(sorted(all_sites())), rng.choice((1, 1, 2, 3)))


def _clock(rng: random.Random) -> Clock:
    return Clock(
        offset_s=rng.uniform(0, 100_000),
        rate=rng.uniform(0.9995, 1.0005),
        skew_ms=rng.choice((0, rng.randrange(-500, 500), rng.randrange(-3_000, 3_000))),
    )


def _policy(rng: random.Random) -> Policy:
    lease_s, beat_s, call_s = rng.choice(((20.0, 1.5, 12.0), (10.0, 1.5, 5.0)))
    window, at_once = rng.choice((20_000, 20_000, 2)), rng.choice((500, 1))
    return Policy(
        window=window,
        lot_size=at_once,
        claim_size=at_once,
        verify_timeout_s=rng.choice((60.0, 15.0)),
        rollback_s=rng.choice((300, 60)),
        lease_s=lease_s,
        beat_s=beat_s,
        call_s=call_s,
        jitter=random.Random(f"jitter {rng.random()}").random,
    )
