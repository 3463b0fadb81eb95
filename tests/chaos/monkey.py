"""The disturbances of a run: their schedule, which is data made of a seed, and its execution."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from tests.chaos.appliances import Appliances
from tests.chaos.database import OwnDatabase
from tests.chaos.processes import Process, Slot
from tests.chaos.seeds import seeded
from tests.chaos.weather import weather


class Kind(StrEnum):
    """What is done to whom."""

    KILL_WORKER = "kill worker"
    RESTART_WORKER = "restart worker"
    PAUSE_WORKER = "pause worker"
    OUTLAST_LEASE = "pause worker for longer than its lease"
    KILL_API = "kill API"
    PAUSE_API = "pause API"
    STOP_DATABASE = "stop database"
    CRASH_DATABASE = "crash database"
    CUT_CONNECTIONS = "cut connections"
    APPLIANCE_DOWN = "appliance down"
    APPLIANCE_DARK = "appliance down, for its peers too"
    APPLIANCE_RESTART = "restart appliance"
    WEATHER = "weather"


@dataclass(frozen=True, slots=True)
class Cast:
    """Whom there is to disturb."""

    workers: int
    apis: int
    appliances: tuple[str, ...]
    lease_s: float


@dataclass(frozen=True, slots=True)
class Disturbance:
    """`at_s` from the begin, to number or name `target`, for `for_s`: until it is undone, or until
    the next process is started. `seed` is for what a weather is made of."""

    at_s: float
    kind: Kind
    target: str
    for_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class _Track:
    """Disturbances of one sort: `deck` is dealt, shuffled and dealt again, so each comes soon."""

    deck: tuple[Kind, ...]
    gap_s: tuple[float, float]
    first_s: tuple[float, float]


_TRACKS = (
    _Track(
        (
            Kind.KILL_WORKER,
            Kind.KILL_WORKER,
            Kind.KILL_WORKER,
            Kind.OUTLAST_LEASE,
            Kind.PAUSE_WORKER,
            Kind.RESTART_WORKER,
        ),
        gap_s=(2.0, 9.0),
        first_s=(2.0, 5.0),
    ),
    _Track((Kind.KILL_API, Kind.KILL_API, Kind.PAUSE_API), gap_s=(5.0, 15.0), first_s=(3.0, 8.0)),
    _Track(
        (Kind.STOP_DATABASE, Kind.CRASH_DATABASE, Kind.CUT_CONNECTIONS),
        gap_s=(8.0, 16.0),
        first_s=(5.0, 10.0),
    ),
    _Track(
        (Kind.APPLIANCE_DOWN, Kind.APPLIANCE_DOWN, Kind.APPLIANCE_DARK, Kind.APPLIANCE_RESTART),
        gap_s=(4.0, 12.0),
        first_s=(2.0, 10.0),
    ),
    _Track((Kind.WEATHER,), gap_s=(8.0, 15.0), first_s=(0.0, 0.0)),
)


def schedule(seed: int, seconds: float, cast: Cast) -> tuple[Disturbance, ...]:
    """What happens when, in order. The same seed gives the same schedule."""
    rng = seeded(seed, "disturbances")
    found = [each for track in _TRACKS for each in _dealt(track, rng, seconds, cast)]
    return tuple(sorted(found, key=lambda each: each.at_s))


def _dealt(track: _Track, rng: random.Random, seconds: float, cast: Cast) -> list[Disturbance]:
    dealt: list[Disturbance] = []
    deck: list[Kind] = []
    at_s = rng.uniform(*track.first_s)
    while at_s < seconds:
        if not deck:
            deck = rng.sample(track.deck, len(track.deck))
        kind = deck.pop()
        dealt.append(
            Disturbance(
                round(at_s, 3),
                kind,
                _target(kind, rng, cast),
                round(_for_s(kind, rng, cast), 3),
                rng.randrange(2**32),
            )
        )
        at_s += rng.uniform(*track.gap_s)
    return dealt


def _target(kind: Kind, rng: random.Random, cast: Cast) -> str:
    match kind:
        case Kind.KILL_WORKER | Kind.RESTART_WORKER | Kind.PAUSE_WORKER | Kind.OUTLAST_LEASE:
            return str(rng.randrange(cast.workers))
        case Kind.KILL_API | Kind.PAUSE_API:
            return str(rng.randrange(cast.apis))
        case Kind.APPLIANCE_DOWN | Kind.APPLIANCE_DARK | Kind.APPLIANCE_RESTART:
            return rng.choice(cast.appliances)
        case _:
            return ""


def _for_s(kind: Kind, rng: random.Random, cast: Cast) -> float:
    match kind:
        case Kind.KILL_WORKER | Kind.KILL_API | Kind.RESTART_WORKER:
            return rng.choice((0.0, rng.uniform(0, 5), rng.uniform(5, 15)))
        case Kind.PAUSE_WORKER | Kind.PAUSE_API:
            return rng.uniform(0.5, 8)
        case Kind.OUTLAST_LEASE:
            return cast.lease_s + rng.uniform(1, 8)
        case Kind.STOP_DATABASE | Kind.CRASH_DATABASE:
            return rng.uniform(1, 8)
        case Kind.APPLIANCE_DOWN | Kind.APPLIANCE_DARK:
            return rng.uniform(0.5, 6)
        case Kind.CUT_CONNECTIONS | Kind.APPLIANCE_RESTART | Kind.WEATHER:
            return 0.0
    assert_never(kind)


class Monkey:
    """Carries a schedule out. `done` counts what was really done: nobody can kill the dead."""

    def __init__(
        self,
        workers: Sequence[Slot],
        apis: Sequence[Slot],
        database: OwnDatabase,
        appliances: Appliances,
        on_kill: Callable[[Process], None],
    ) -> None:
        """`on_kill` hears of each worker that was killed."""
        self.done: Counter[Kind] = Counter()
        self._workers = workers
        self._apis = apis
        self._database = database
        self._appliances = appliances
        self._on_kill = on_kill

    async def run(self, disturbances: Sequence[Disturbance], seconds: float) -> None:
        """Disturb for `seconds`, then undo what is still in force and return."""
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                began = asyncio.get_running_loop().time()
                for each in disturbances:
                    tasks.create_task(self._at(began + each.at_s, each))
                await asyncio.sleep(seconds)
        except TimeoutError:
            pass
        await self._restore()

    async def _restore(self) -> None:
        await self._database.restore()
        for slot in (*self._workers, *self._apis):
            slot.call_back()
        await self._appliances.disarm()
        for name in self._appliances.names:
            await self._appliances.lever(name, "up")

    async def _at(self, instant: float, disturbance: Disturbance) -> None:
        await asyncio.sleep(instant - asyncio.get_running_loop().time())
        if await self._disturb(disturbance):
            self.done[disturbance.kind] += 1

    async def _disturb(self, each: Disturbance) -> bool:
        """Do it, for as long as it shall last; whether there was anything to do it to."""
        match each.kind:
            case Kind.KILL_WORKER:
                killed = self._worker(each).end(signal.SIGKILL, each.for_s)
                if killed is not None:
                    self._on_kill(killed)
                return killed is not None
            case Kind.RESTART_WORKER:
                return self._worker(each).end(signal.SIGTERM, each.for_s) is not None
            case Kind.KILL_API:
                return self._api(each).end(signal.SIGKILL, each.for_s) is not None
            case Kind.PAUSE_WORKER | Kind.OUTLAST_LEASE:
                return await _pause(self._worker(each), each.for_s)
            case Kind.PAUSE_API:
                return await _pause(self._api(each), each.for_s)
            case _:
                return await self._disturb_others(each)

    async def _disturb_others(self, each: Disturbance) -> bool:
        match each.kind:
            case Kind.STOP_DATABASE:
                await self._database.outage("fast", each.for_s)
            case Kind.CRASH_DATABASE:
                await self._database.outage("immediate", each.for_s)
            case Kind.CUT_CONNECTIONS:
                return await self._database.cut_connections() > 0
            case Kind.APPLIANCE_DOWN | Kind.APPLIANCE_DARK:
                await self._appliances.lever(
                    each.target,
                    "down",
                    mode="slam" if each.seed % 2 else "refuse",
                    ms=int(each.for_s * 1000),
                    peersToo=each.kind is Kind.APPLIANCE_DARK,
                )
            case Kind.APPLIANCE_RESTART:
                await self._appliances.lever(each.target, "restart")
            case Kind.WEATHER:
                await self._change_weather(each.seed)
        return True

    async def _change_weather(self, seed: int) -> None:
        await self._appliances.disarm()
        for name, rules in weather(seeded(seed, "weather"), self._appliances.names).items():
            for rule in rules:
                await self._appliances.arm(name, rule)

    def _worker(self, each: Disturbance) -> Slot:
        return self._workers[int(each.target)]

    def _api(self, each: Disturbance) -> Slot:
        return self._apis[int(each.target)]


async def _pause(slot: Slot, for_s: float) -> bool:
    process = slot.process
    if process is None:
        return False
    process.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(for_s)
    finally:
        process.signal(signal.SIGCONT)
    return True
