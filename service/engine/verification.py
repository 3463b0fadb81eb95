"""Whether a pairing works, seen from both appliances."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.appliance import ApiError
from service.domain.decisions import doubt, verification_failed
from service.domain.errors import ApplianceError
from service.domain.events import (
    PairingFailed,
    PairingSucceeded,
    PeerVerified,
    VerificationStarted,
)
from service.domain.ids import ApplianceName
from service.domain.pairing import Phase
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.ports import Appliance


async def verify(case: Case, here: Appliance, there: Appliance, policy: Policy) -> None:
    """Look at both lists until both records work, or until the time for that is over.

    The appliances may need a moment to clear their communication errors (h4-api 2.3).
    """
    if case.pairing.phase is not Phase.VERIFYING:
        await case.record(VerificationStarted())
    clock = asyncio.get_running_loop().time
    began, patience_s = clock(), min(policy.verify_timeout_s, case.left_s)
    for look in itertools.count(1):
        async with asyncio.TaskGroup() as both_sides:
            sights = [both_sides.create_task(_judge(case, side)) for side in (here, there)]
        judgements = [sight.result() for sight in sights]
        doubts = [each for each in judgements if isinstance(each, Doubt)]
        waited_s = clock() - began
        if not doubts:
            await case.record(*_verified(judgements), PairingSucceeded())
            return
        if waited_s >= patience_s:
            error = verification_failed(doubts[0].side, doubts[0].error, waited_s)
            await case.record(PairingFailed(error))
            return
        await asyncio.sleep(min(policy.pause_s(look), patience_s - waited_s))


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a side does not count as paired yet."""

    side: ApplianceName
    error: ApiError


async def _judge(case: Case, appliance: Appliance) -> PeerVerified | Doubt:
    side = case.side(appliance.name)
    try:
        found = doubt(await appliance.peers(), case.peer_of(side.appliance), side.peer_id)
    except ApplianceError as trouble:
        return Doubt(side.appliance, trouble.error)
    if isinstance(found, ApiError):
        return Doubt(side.appliance, found)
    return PeerVerified(side.appliance, found.as_sent)


def _verified(judgements: Sequence[PeerVerified | Doubt]) -> list[PeerVerified]:
    return [each for each in judgements if isinstance(each, PeerVerified)]
