"""What the parts of a process tell of themselves when somebody looks at its metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """A worker, as it is now. `closed` counts the appliances that nobody calls, as far as it
    knows."""

    in_flight: int
    lease_left_s: float
    closed: int


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """What a journal has done so far: commits, the changes in them, and how often one was made
    again because the database had undone it."""

    groups: int = 0
    changes: int = 0
    repeats: int = 0
