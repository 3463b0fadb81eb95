"""The engine on virtual time, over the simulation's appliances and database: nothing by chance.

The real worker, saga, journal and fleet run; a test says what befalls which call, and looks at
what became of it.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.appliance.exchange import Request
from service.domain.ids import ApplianceName
from service.domain.pairing import OnFailure, Operation, Pairing
from service.engine.policy import Policy
from simulator.faults import Rule
from simulator.knobs import Knobs, changed
from tests.simulation.appliances import Air, Departure
from tests.simulation.callers import Callers
from tests.simulation.clockwork import Clock, Node
from tests.simulation.process import Process
from tests.simulation.schedule import Schedule, Wanted
from tests.simulation.stage import Stage
from tests.simulation.tables import Row, Written
from tests.simulation.weather import CallFault, Weather

POLICY = Policy(verify_timeout_s=15.0, jitter=lambda: 0.0)
ONE, OTHER, THIRD = "site-1", "site-2", "site-3"


@dataclass(slots=True)
class Trouble:
    """What befalls calls to an appliance: the next `times` of them, as long as `when` holds. `path`
    is a regular expression that all of it has to match."""

    appliance: str
    method: str
    path: str
    fault: CallFault
    times: int
    when: Callable[[], bool]

    def befalls(self, appliance: str, request: Request) -> bool:
        """Whether it befalls this call."""
        fits = (appliance, request.method) == (self.appliance, self.method)
        fits = fits and re.fullmatch(self.path, request.path) is not None
        if not (fits and self.times > 0 and self.when()):
            return False
        self.times -= 1
        return True


@dataclass(slots=True)
class _TroubledAir(Air):
    troubles: list[Trouble] = field(default_factory=list)

    def fault_for(self, node: Node, appliance: str, request: Request) -> CallFault | None:
        for trouble in self.troubles:
            if trouble.befalls(appliance, request):
                return trouble.fault
        return Air.fault_for(self, node, appliance, request)


class _Stage(Stage):
    def _air(self) -> Air:
        air = super()._air()
        return _TroubledAir(air.loop, air.world, air.rng, air.weather, air.tell)


class Scene:
    """One worker at first, and what is asked of it."""

    def __init__(
        self, wanted: Sequence[Wanted], policy: Policy, appliances: int, knobs: Knobs
    ) -> None:
        schedule = Schedule(
            seed=1,
            knobs=(knobs,) * appliances,
            skews_ms=(0,) * appliances,
            before={},
            wanted=tuple(wanted),
            befallen=(),
            ambush=None,
            clocks=(Clock(),),
            database=Clock(),
            policy=policy,
            weather=Weather(),
            calm_s=0.0,
        )
        self.stage = _Stage(schedule, is_traced=False)
        self.loop = self.stage.loop
        self.tables = self.stage.database.tables
        self.world = self.stage.air.world
        self.on_written: Callable[[Written], None] = lambda _: None
        """Told of each change, as it becomes durable."""
        self.on_look: Callable[[], None] = lambda: None
        """Told when somebody reads a list of peers."""
        self._callers = Callers(self.stage)
        self._calls: list[Departure] = []
        self.stage.air.watch = self._departed
        self.tables.watch = self._written
        self._callers.arrange()

    @property
    def pairing(self) -> Pairing:
        """The last one that was accepted."""
        return self._row.pairing

    @property
    def is_claimed(self) -> bool:
        """Whether a worker owns it."""
        return self._row.worker is not None

    @property
    def waits_for(self) -> str | None:
        """The closed appliance that it is set aside for."""
        return self._row.waits_for

    @property
    def events(self) -> list[str]:
        """The types of its events; none before it was accepted."""
        rows = list(self.tables.pairings.values())[-1:]
        return [entry.type for row in rows for entry in row.entries]

    def delays_ms(self, event: str) -> list[int]:
        """The pauses that are on record with events of this type."""
        entries = self._row.entries
        return [json.loads(each.detail)["delayMs"] for each in entries if each.type == event]

    def calls(self, appliance: str, method: str, path: str = "/sites") -> int:
        """How many such calls were sent."""
        called = [
            (each.spec.name, each.request.method)
            for each in self._calls
            if each.request.path.startswith(path)
        ]
        return called.count((ApplianceName(appliance), method))

    def befall(
        self,
        appliance: str,
        method: str,
        path: str,
        fault: CallFault,
        *,
        times: int = 1_000_000,
        when: Callable[[], bool] = lambda: True,
    ) -> None:
        """Let `fault` befall the calls to come."""
        air = self.stage.air
        assert isinstance(air, _TroubledAir)
        air.troubles.append(Trouble(appliance, method, path, fault, times, when))

    def spoil(self, appliance: str, rule: Rule) -> None:
        """Let the tasks to come be spoilt."""
        self.world.appliances[appliance].faults.add(rule)

    def turn(self, appliance: str, **knobs: object) -> None:
        """Let an appliance behave in another way from now on."""
        self.world.turn(appliance, knobs, self.stage.now_ms)

    def stop(self) -> Process:
        """Tell the one worker to stop, and wait until it has."""
        (worker,) = self.stage.living
        task = worker.task
        assert task is not None
        self.loop.post(worker.node, 0.0, task.cancel)
        self.until(task.done)
        assert task.cancelled()
        return worker

    def until(self, condition: Callable[[], bool], within_s: float = 2_000.0) -> None:
        """Let time go by until it holds, which it has to within that."""
        assert self.loop.run_until(condition, self.loop.instant + within_s), self.events

    def until_over(self, within_s: float = 2_000.0) -> Pairing:
        """The pairing at its end, when nobody tries it again any more."""
        self.until(lambda: bool(self.tables.pairings) and self._callers.are_content, within_s)
        return self.pairing

    @property
    def _row(self) -> Row:
        *_, row = self.tables.pairings.values()
        return row

    def _departed(self, departure: Departure) -> None:
        self._calls.append(departure)
        if departure.request.method == "GET" and departure.request.path == "/sites":
            self.on_look()

    def _written(self, written: Written) -> None:
        self.on_written(written)
        self._callers.saw(written)


def a_pairing(
    one: int = 0,
    other: int = 1,
    *,
    at_s: float = 0.0,
    operation: Operation = Operation.PAIR,
    on_failure: OnFailure = OnFailure.ROLLBACK,
    timeout_s: int = 900,
    cancel_s: float | None = None,
    retries: int = 0,
) -> Wanted:
    """A request, by default for a pairing of the first two."""
    return Wanted(
        at_s, one, other, operation, on_failure, timeout_s, cancel_s=cancel_s, retries=retries
    )


@contextmanager
def scene(
    *wanted: Wanted, policy: Policy = POLICY, appliances: int = 3, **knobs: object
) -> Iterator[Scene]:
    """A scene in which `wanted` is asked for, one plain pairing if nothing is. All its appliances
    have `knobs`."""
    here = Scene(wanted or (a_pairing(),), policy, appliances, changed(Knobs(), knobs))
    try:
        yield here
    finally:
        here.loop.dispose()
