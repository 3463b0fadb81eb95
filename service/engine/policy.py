"""How patient the engine is."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from service.domain.appliance import ApiError
from service.domain.backoff import backoff_s
from service.domain.decisions import says_gone
from service.domain.errors import ApplianceError, NotSent
from service.domain.pairing import ROLLBACK_S

Seconds = float
AT_ONCE: Seconds = 0.0
LAST_LOOK_S: Seconds = 5.0
"""How long a look may take when the time is over already, as it may be after a worker died."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Waiting times in seconds, and limits. `jitter` gives numbers in [0, 1).

    `window` is how many pairings one worker drives at once. It begins them in lots of `lot_size`,
    or of a quarter of the window if that is less, and of more when it drives thousands. The most
    that it takes at a time is `claim_size`, as of what a dead worker had under way. As long as no
    other worker lives it owns a few more, which wait for their slots so that those are never idle
    for as long as a claim takes; once it was full, it claims again when a lot would fit.
    `verify_timeout_s` is how long the appliances may take to list what was done and to clear their
    communication errors (refresh interval unknown, h4-api 2.3). `settle_s` lies between the two
    looks that must both miss what a call whose answer was lost should have done, before it is made
    again. A list of tasks that was asked for in vain for `list_patience_s` counts as none.
    `clock_margin_s` is how far an appliance's clock may be off. `max_losses` is how often a call
    is made after its answer or its task was lost. `grace_s` is what a call that changes something
    gets to finish in when the worker stops. `rollback_s` is the time for undoing what was done,
    once the pairing's own is over or not needed any more.

    What is only noted about a pairing is durable after twice `note_s` at the latest.

    `lease_s` is how long after its last beat a worker counts as alive; it beats every `beat_s`,
    and sends no call that changes something unless the lease outlasts `call_s`, the longest that
    such a call can be on its way. `doubt_s` is how long a claim whose answer was lost may still
    take effect.
    """

    window: int = 20_000
    lot_size: int = 64
    claim_size: int = 1000
    idle_s: float = 5.0
    verify_timeout_s: float = 60.0
    settle_s: float = 2.0
    list_patience_s: float = 60.0
    clock_margin_s: float = 3600.0
    grace_s: float = 4.0
    rollback_s: int = ROLLBACK_S
    max_losses: int = 3
    note_s: float = 0.5
    lease_s: float = 20.0
    beat_s: float = 1.5
    call_s: float = 12.0
    doubt_s: float = 40.0
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.lease_s < self.call_s + 2 * self.beat_s:
            raise ValueError("a lease has to outlast the longest call and a beat that was missed")

    @property
    def lot(self) -> int:
        """How many are begun together; and, once all was full, how much has to be free before it is
        worth a claim."""
        return max(1, min(self.lot_size, self.window // 4))

    @property
    def ahead(self) -> int:
        """How many a worker that is alone owns besides those that it drives: a lot, and what is
        driven on with while that is claimed."""
        return self.lot + self.lot // 2

    def late_s(self, refusal: ApiError) -> float:
        """How long a list of peers may be behind an unpairing that met `refusal`: as long as any,
        if that says that there is nothing to unpair."""
        return self.verify_timeout_s if says_gone(refusal) else self.settle_s

    def pause_s(self, attempt: int, after: ApplianceError | None = None) -> float:
        """How long to wait after the `attempt`-th failure; not less than the appliance wished with
        it."""
        wish_s = after.retry_after_s if isinstance(after, NotSent) else None
        return max(backoff_s(attempt, self.jitter()), wish_s or 0.0)
