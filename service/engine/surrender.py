"""The end of a pairing that cannot be driven any more: nothing is hidden."""

from service.domain.appliance import ApiError
from service.domain.events import (
    PairingEvent,
    RollbackFailed,
    RollbackStarted,
    SideEvent,
    SideFailed,
)
from service.domain.pairing import UNDER_WAY, OnFailure, Phase
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.saga import end_of


async def surrender(case: Case, error: ApiError, policy: Policy) -> None:
    """End `case` now. What it did or may have done stays, and is reported as not rolled back, so
    that a retry can undo it. Raises LeaseLost, StoreUnavailable."""
    pairing = case.pairing
    events: list[PairingEvent | SideEvent] = []
    if pairing.phase is not Phase.ROLLING_BACK:
        events += [
            SideFailed(side.appliance, error)
            for side in pairing.sides
            if side.state in UNDER_WAY or side.is_between_tries
        ]
    # A side that was cut off in its rollback too has a call to undo.
    left = [side for side in pairing.sides if side.undo is not None]
    is_kept = pairing.on_failure is OnFailure.KEEP and pairing.phase is not Phase.ROLLING_BACK
    if left and not is_kept:
        if pairing.phase is not Phase.ROLLING_BACK:
            events.append(RollbackStarted(error, policy.rollback_s))
        events += [RollbackFailed(side.appliance, error) for side in left]
    await case.record(*events, end_of(pairing, error))
