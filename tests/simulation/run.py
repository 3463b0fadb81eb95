"""One seed, one run."""

import traceback
from collections import Counter
from dataclasses import dataclass, field

from service.domain.pairing import Operation
from service.observe.context import current
from service.observe.events import (
    ApplianceCalled,
    LogEvent,
    PairingCrashed,
    PairingMoved,
    StoreTroubled,
    UpkeepCrashed,
)
from tests.simulation.blows import Blows
from tests.simulation.callers import Callers
from tests.simulation.clockwork import Node, Stuck
from tests.simulation.overheard import overhear, take_over
from tests.simulation.promises import Promises
from tests.simulation.schedule import Schedule, drawn
from tests.simulation.sites import Site, suspended
from tests.simulation.stage import Stage
from tests.simulation.tables import Written

PATIENCE_S = 2_500.0
"""How long after the calm everything has to be over: the longest time-out, its rollback, and once
more for a retry."""

AFTERWARDS_S = 25.0
"""When it has been calm for so long, no call is under way any more that somebody gave up."""


@dataclass(slots=True)
class Report:
    """What became of a seed."""

    seed: int
    broken: list[str]
    steps: int
    virtual_s: float
    crashes: int
    hit: set[Site] = field(default_factory=set)
    ends: dict[str, int] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)
    """How often each kind of fault really happened."""
    trace: list[str] = field(default_factory=list)


class Run:
    """A stage, those who act on it, and those who watch."""

    def __init__(self, schedule: Schedule, *, is_traced: bool) -> None:
        self.stage = Stage(schedule, is_traced=is_traced)
        self.promises = Promises(self.stage)
        self.callers = Callers(self.stage)
        self.blows = Blows(self.stage)
        self.hit: set[Site] = set()
        self.crashes = 0
        self.stage.loop.on_crash = self._crashed
        self.stage.database.tables.watch = self._changed

    def play(self) -> Report:
        """From the beginning to the end, and the judgement."""
        stage, loop = self.stage, self.stage.loop
        self.callers.arrange()
        self.blows.arrange()
        calm_s = stage.schedule.calm_s
        take_over()
        overhear(self._heard)
        try:
            loop.run_until(lambda: False, calm_s)
            loop.run_until(lambda: self.callers.are_content, calm_s + PATIENCE_S)
            loop.run_until(lambda: False, max(calm_s + AFTERWARDS_S, stage.air.quiet_s))
            # What a list is behind is no fault: by now it tells what is.
            loop.run_until(lambda: False, loop.instant + stage.air.longest_lag_s)
            self.promises.judge_end()
            stage.forget_moves()
            for operation in (Operation.REPAIR, Operation.UNPAIR):
                self._prove(operation)
            self.promises.judge_complaints()
        except Stuck as stuck:
            self.promises.broken.append(str(stuck))
        except Exception:  # noqa: BLE001 - ours or the service's: it has a seed, and is to be told
            self.promises.broken.append(f"the run fell: {traceback.format_exc()}")
        finally:
            overhear(None)
            loop.dispose()
        return self._report()

    def _prove(self, operation: Operation) -> None:
        """In calm weather it works: what went before has not broken anything for good."""
        if self.promises.broken:
            return
        loop = self.stage.loop
        self.stage.trace.tell("schedule", f"now {operation} has to succeed")
        pairing_id = self.callers.prove(operation)
        loop.run_until(lambda: self.callers.are_content, loop.instant + PATIENCE_S)
        self.promises.judge_proof(pairing_id)

    def _changed(self, written: Written) -> None:
        self.promises.saw_change(written)
        self.callers.saw(written)

    def _heard(self, event: LogEvent, error: BaseException | None) -> None:
        """What the service logs and the trace does not have from elsewhere."""
        if isinstance(event, PairingCrashed | UpkeepCrashed):
            lines = traceback.format_exception(error)
            self.promises.broken.append(f"{current().pairing}: a defect: {''.join(lines)}")
        elif not isinstance(event, ApplianceCalled | PairingMoved | StoreTroubled):
            self.stage.trace.tell(self.stage.loop.running.name, f"{current().pairing}: {event}")

    def _crashed(self, node: Node) -> None:
        self.crashes += 1
        self.hit |= suspended(node)
        self.stage.trace.tell(node.name, "killed")
        self.blows.crashed(node)

    def _report(self) -> Report:
        ends: dict[str, int] = {}
        for row in self.stage.database.tables.pairings.values():
            word = f"{row.pairing.operation} {row.pairing.state}"
            ends[word] = ends.get(word, 0) + 1
        loop = self.stage.loop
        return Report(
            seed=self.stage.schedule.seed,
            broken=self.promises.broken,
            steps=loop.steps,
            virtual_s=loop.instant,
            crashes=self.crashes,
            hit=self.hit,
            ends=ends,
            struck=self.stage.air.struck,
            trace=self.stage.trace.lines,
        )


def play(seed: int, *, is_traced: bool = False) -> Report:
    """The run of a seed."""
    return Run(drawn(seed), is_traced=is_traced).play()
