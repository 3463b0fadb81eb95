"""A batch, as a value: many pairings that were asked for together."""

from dataclasses import dataclass

from service.domain.ids import BatchId, OperationId


@dataclass(frozen=True, slots=True)
class Rejection:
    """An item of a batch that was not accepted. `index` counts from 0."""

    index: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of a batch's pairings are in each state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def over(self) -> int:
        """How many have come to their end."""
        return self.succeeded + self.failed + self.canceled


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands: `total` items, of which `accepted` became pairings. `last_end` (ms) is
    when the last pairing that is over was."""

    id: BatchId
    operation_id: OperationId
    user: str
    total: int
    accepted: int
    counts: Counts
    start_time: int
    last_end: int = 0

    @property
    def is_over(self) -> bool:
        """Whether all its pairings are."""
        return self.counts.over == self.accepted

    @property
    def end_time(self) -> int | None:
        """When the last of its pairings was over; at once if there are none."""
        return max(self.start_time, self.last_end) if self.is_over else None

    @property
    def progress(self) -> int:
        """Percent of its pairings that are over."""
        return 100 if self.is_over else self.counts.over * 100 // self.accepted
