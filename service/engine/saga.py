"""How two appliances are paired, repaired or unpaired, as the vendor tells it: call both, poll
both, then look. What comes to nothing is undone."""

import asyncio
from collections.abc import Sequence

from service.domain.appliance import ApiError
from service.domain.errors import UnknownAppliance
from service.domain.events import (
    PairingCanceled,
    PairingFailed,
    PairingStarted,
    RollbackStarted,
    SideFailed,
)
from service.domain.pairing import UNDER_WAY, Pairing, Phase
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.ports import Appliance, Fleet
from service.engine.rollback import SideRollback
from service.engine.side import SideSaga
from service.engine.traces import until_listed
from service.engine.verification import verify


async def drive(case: Case, fleet: Fleet, policy: Policy, worker: str) -> None:
    """Bring a pairing from wherever it stands to its end, which is noted and left to be written,
    or to where only a closed appliance could help it on: then `case.closed` says which. Every step
    may be entered again.

    Raises UnknownAppliance, and, alone or in an exception group, LeaseLost or StoreUnavailable when
    the case has to be dropped.
    """
    case.note(PairingStarted(worker=worker, epoch=case.pairing.epoch))
    await case.heed_cancel()
    one, other = case.endpoints
    # Of an appliance that was removed meanwhile only the name is left.
    if not (one.api_url and other.api_url):
        raise UnknownAppliance(*[each.name for each in case.endpoints if not each.api_url])

    async with fleet.use(one) as here, fleet.use(other) as there:
        if case.pairing.phase is not Phase.ROLLING_BACK:
            error = await go_forward(case, here, there, policy)
            if error is not None:
                await turn_back(case, here, there, error, policy)
        if case.pairing.phase is Phase.ROLLING_BACK:
            await go_back(case, here, there, policy)


async def go_forward(
    case: Case, here: Appliance, there: Appliance, policy: Policy
) -> ApiError | None:
    """Both sides, then the look from both ends. None when it succeeded or has to wait."""
    if case.pairing.phase is Phase.PAIRING:
        for appliance in (here, there):
            # It hardly gets anywhere: the other side would be called for nothing, and undone. Or it
            # is what the time ran out for: the other side would be blamed.
            if appliance.is_refused or (appliance.closed is not None and case.left_s <= 0):
                await SideSaga(case, appliance, policy).run()
        async with asyncio.TaskGroup() as both_sides:
            # Two tasks, so that a cancellation reaches both at once.
            both_sides.create_task(SideSaga(case, here, policy).run(), name=here.name)
            both_sides.create_task(SideSaga(case, there, policy).run(), name=there.name)
    doubt = None
    if case.is_promising and all(side.is_over for side in case.pairing.sides):
        doubt = await verify(case, here, there, policy)
    if case.pairing.is_over:
        return None
    await case.heed_cancel()
    if any(side.state in UNDER_WAY for side in case.pairing.sides):
        return None
    failed = case.pairing.failed_side
    return doubt or (failed.error if failed is not None else case.pairing.error)


async def turn_back(
    case: Case, here: Appliance, there: Appliance, error: ApiError, policy: Policy
) -> None:
    """It will not succeed: that is its end, unless something has to be undone first."""
    if case.pairing.is_to_be_undone:
        unsettled = [side for side in case.pairing.sides if side.is_between_tries]
        given_up = [SideFailed(side.appliance, error) for side in unsettled]
        await case.record(*given_up, RollbackStarted(error, policy.rollback_s))
    else:
        await until_listed(case, here, there, policy)
        await case.heed_cancel()
        case.note(end_of(case.pairing, error))


async def go_back(case: Case, here: Appliance, there: Appliance, policy: Policy) -> None:
    """Undo both sides; then it is over, unless one has to wait. One that was given up before is
    tried once more when the other is through, which may have been in its way, and not whenever that
    one goes on."""
    case.closed.clear()
    both = [SideRollback(case, appliance, policy) for appliance in (here, there)]
    left = [side for side in both if side.is_left]
    given_up = [side for side in both if side.is_given_up]
    await _undo(left or given_up)
    if left and not case.closed and case.left_s > 0:
        await _undo(given_up)
    await case.heed_cancel()
    if not case.closed:
        error = case.pairing.error or ApiError("InternalError", "A rollback without a reason.")
        case.note(end_of(case.pairing, error))


async def _undo(sides: Sequence[SideRollback]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for side in sides:
            tasks.create_task(side.run())


def end_of(pairing: Pairing, error: ApiError) -> PairingFailed | PairingCanceled:
    """How a pairing ends that did not succeed."""
    return PairingCanceled() if pairing.is_canceling else PairingFailed(error)
