"""Whether a pairing works, or is gone, seen from both appliances."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.appliance import ApiError, Peer
from service.domain.decisions import deadline_exceeded, doubt, lingering, verification_failed
from service.domain.errors import ApplianceClosed, ApplianceError, NotSent
from service.domain.events import (
    AbsenceVerified,
    PairingSucceeded,
    PeerVerified,
    VerificationStarted,
)
from service.domain.ids import ApplianceName
from service.domain.pairing import Operation, Phase
from service.engine.case import Case
from service.engine.defects import NO_DEFECT, defect
from service.engine.policy import LAST_LOOK_S, Policy
from service.engine.ports import Appliance

Verified = PeerVerified | AbsenceVerified


async def verify(case: Case, here: Appliance, there: Appliance, policy: Policy) -> ApiError | None:
    """Look at both lists until both are as the operation wants them: then it has succeeded.

    Returns what is still wrong when the time for that is over; None also if it has to wait for a
    closed appliance, or is not wanted any more. The appliances may need a moment to clear their
    communication errors (h4-api 2.3). Only what was seen wrong counts against that moment; who
    could not look has seen nothing, and tries until the deadline, at which all of it ends.
    """
    if case.pairing.phase is not Phase.VERIFYING:
        case.note(VerificationStarted())
    clock = asyncio.get_running_loop().time
    began, waited_s, looks = clock(), 0.0, 0
    while True:
        async with asyncio.TaskGroup() as both_sides:
            at_the_other = both_sides.create_task(_judge(case, there))
            judgement = await _judge(case, here)
        judgements = [judgement, at_the_other.result()]
        doubts = [each for each in judgements if isinstance(each, Doubt)]
        if not case.is_promising or (case.closed and case.left_s > 0):
            return None
        if not doubts:
            verified = [each for each in judgements if not isinstance(each, Doubt)]
            case.note(*verified, PairingSucceeded())
            return None
        is_seen = not any(each.is_blind for each in doubts)
        if case.left_s <= 0 or (is_seen and waited_s >= policy.verify_timeout_s):
            worst = min(doubts, key=lambda each: each.is_blind)
            if worst.is_blind:
                return worst.error
            return verification_failed(worst.side, worst.error, clock() - began)
        looks += 1
        pause_s = policy.pause_s(looks)
        if is_seen:
            pause_s = min(pause_s, policy.verify_timeout_s - waited_s)
            # Pauses, not the clock: a worker that was stopped meanwhile has to look again.
            waited_s += pause_s
        await case.write_notes()
        await case.pause_while_promising(pause_s)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a side does not count as it should yet. `is_blind`: it could not be looked at, which is
    an error at the deadline only."""

    side: ApplianceName
    error: ApiError
    is_blind: bool = False


async def _judge(case: Case, appliance: Appliance) -> Verified | Doubt:
    try:
        return await _judged(case, appliance)
    except NO_DEFECT:
        raise
    except Exception as crash:  # noqa: BLE001 - both sides have to be undone
        return Doubt(appliance.name, defect(crash))


async def _judged(case: Case, appliance: Appliance) -> Verified | Doubt:
    listed = await _listed(case, appliance)
    if isinstance(listed, Doubt):
        return listed
    side = case.side(appliance.name)
    peer = case.peer_of(side.appliance)
    if case.pairing.operation is Operation.UNPAIR:
        left = lingering(listed, peer)
        return AbsenceVerified(side.appliance) if left is None else Doubt(side.appliance, left)
    found = doubt(listed, peer, side.peer_id)
    if isinstance(found, ApiError):
        return Doubt(side.appliance, found)
    return PeerVerified(side.appliance, found.sent)


async def _listed(case: Case, appliance: Appliance) -> Sequence[Peer] | Doubt:
    until = max(case.deadline, asyncio.get_running_loop().time() + LAST_LOOK_S)
    name = appliance.name
    try:
        return await appliance.peers(until=until)
    except TimeoutError:
        return _blind(case, name)
    except ApplianceClosed as closed:
        case.closed[name] = closed.error
        return _blind(case, name, closed.error)
    except NotSent as trouble:
        return _blind(case, name, trouble.error)
    except ApplianceError as trouble:
        return Doubt(name, trouble.error)


def _blind(case: Case, name: ApplianceName, last: ApiError | None = None) -> Doubt:
    doing = f"looking at the peers of '{name}'"
    heard = last.msg if last is not None else ""
    return Doubt(name, deadline_exceeded(doing, case.pairing.timeout_s, heard), is_blind=True)
