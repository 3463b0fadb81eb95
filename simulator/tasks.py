"""Tasks of one appliance (h4-api 3). No timers: what a task is follows from the time of asking.

From `start_ms` to `runs_ms` it is QUEUED, to `end_ms` RUNNING, then what its outcome says. The
world settles outcomes, in the order of `end_ms`, before anybody looks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from msgspec import UNSET

from simulator.knobs import Knobs
from simulator.wire import ApiError, ApiTask, Result, WorkflowInfo


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: an error, or success with or without a result."""

    result: Result | None = None
    error: ApiError | None = None
    changed: bool = False
    """Whether the appliance's peers are other ones than before."""


Effect = Callable[[int], Outcome]
"""What a task does at its end, given that instant."""


@dataclass(slots=True, eq=False)
class Task:
    """One long-running task. Its times are the world's, not the appliance's skewed clock's."""

    id: str
    user: str
    workflow: WorkflowInfo
    start_ms: int
    runs_ms: int
    end_ms: int
    effect: Effect | None
    operation_id: str | None = None
    outcome: Outcome | None = None

    def state(self, now: int, extra: tuple[str, ...] = ()) -> str:
        """The state word. Extra words share the running time evenly, after RUNNING itself."""
        if self.outcome is not None:
            return "SUCCEEDED" if self.outcome.error is None else "FAILED"
        if now < self.runs_ms:
            return "QUEUED"
        if not extra:
            return "RUNNING"
        span = max(1, self.end_ms - self.runs_ms)
        piece = min(len(extra), (now - self.runs_ms) * (len(extra) + 1) // span)
        return ("RUNNING", *extra)[piece]

    def progress(self, now: int) -> int:
        """Percent of the running time that is over."""
        if self.outcome is not None:
            return 100
        span = max(1, self.end_ms - self.runs_ms)
        return max(0, min(99, 100 * (now - self.runs_ms) // span))


@dataclass(frozen=True, slots=True)
class Look:
    """How an appliance shows its tasks: at which time, by which clock, under which site."""

    now: int
    offset_ms: int
    site: str
    knobs: Knobs


def view(task: Task, look: Look, *, with_site: bool) -> ApiTask:
    """The task as it is on the wire."""
    outcome, now, offset = task.outcome, look.now, look.offset_ms
    shown = ApiTask(
        id=task.id,
        user=task.user,
        workflow_info=task.workflow,
        progress=task.progress(now),
        state=task.state(now, look.knobs.extra_states),
        last_updated=-1,
        start_time=task.start_ms + offset,
        end_time=-1 if outcome is None else task.end_ms + offset,
        site=look.site if with_site else UNSET,
    )
    if look.knobs.last_updated == "real":
        shown.last_updated = (now if outcome is None else task.end_ms) + offset
    if outcome is not None and outcome.error is not None:
        shown.error = outcome.error
    elif outcome is not None and outcome.result is not None and look.knobs.task_result == "told":
        shown.result_type = type(outcome.result).__name__
        shown.result = outcome.result
    return shown


class Tasks:
    """The tasks an appliance remembers, oldest first."""

    def __init__(self) -> None:
        self._known: dict[str, Task] = {}
        self._unknown: list[Task] = []
        """Those that ran when they were forgotten, and may run still."""

    def __len__(self) -> int:
        return len(self._known)

    def add(self, task: Task) -> None:
        """Remember a task."""
        self._known[task.id] = task

    def get(self, task_id: str, now: int, knobs: Knobs) -> Task | None:
        """The task, unless it is unknown or forgotten by now."""
        task = self._known.get(task_id)
        if task is None or _is_forgotten(task, now, knobs):
            return None
        return task

    def newest_first(self, now: int, knobs: Knobs) -> Iterator[Task]:
        """Every task still remembered, by descending start time."""
        self._sweep(now, knobs)
        for task in reversed(self._known.values()):
            if not _is_forgotten(task, now, knobs):
                yield task

    def forget(self) -> None:
        """Know nothing any more. Tasks that run still take effect."""
        all_tasks = (*self._unknown, *self._known.values())
        self._unknown = [task for task in all_tasks if task.outcome is None]
        self._known.clear()

    def abandon(self) -> None:
        """Know nothing any more, and what has not ended never takes effect: a hard restart."""
        self.forget()
        for task in self._unknown:
            task.effect = None
        self._unknown.clear()

    def _sweep(self, now: int, knobs: Knobs) -> None:
        """Free what is forgotten at the old end; later ones wait for their turn there."""
        while self._known:
            task_id, oldest = next(iter(self._known.items()))
            if not _is_forgotten(oldest, now, knobs):
                return
            del self._known[task_id]


def _is_forgotten(task: Task, now: int, knobs: Knobs) -> bool:
    retention = knobs.task_retention_ms
    return bool(retention) and task.outcome is not None and now >= task.end_ms + retention
