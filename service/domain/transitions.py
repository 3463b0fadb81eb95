"""Which event may follow which state, and what it makes of it. The one place states change."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

from service.domain import events as e
from service.domain.errors import IllegalTransition
from service.domain.pairing import STANDING, Pairing, PairingState, Phase, Side, SideState

P = PairingState
S = SideState
AnyState = TypeVar("AnyState", PairingState, SideState)

PAIRING: Mapping[type[e.PairingEvent], Mapping[PairingState, PairingState]] = {
    e.PairingStarted: {P.QUEUED: P.RUNNING, P.RUNNING: P.RUNNING},
    e.PairingHandedBack: {P.RUNNING: P.RUNNING},
    e.VerificationStarted: {P.RUNNING: P.RUNNING},
    e.PairingSucceeded: {P.RUNNING: P.SUCCEEDED},
    e.PairingFailed: {P.QUEUED: P.FAILED, P.RUNNING: P.FAILED},
}

SIDE: Mapping[type[e.SideEvent], Mapping[SideState, SideState]] = {
    # From REQUESTED too: somebody else was quicker, and the appliance refused our call.
    e.PeerFound: {S.PENDING: S.ALREADY_PAIRED, S.REQUESTED: S.ALREADY_PAIRED},
    e.PairRequested: {S.PENDING: S.REQUESTED},
    e.AnswerLost: {S.REQUESTED: S.REQUESTED},
    # From ACCEPTED too: the appliance forgot the task, and the peer is certainly not there.
    e.RequestDeferred: {S.PENDING: S.PENDING, S.REQUESTED: S.PENDING, S.ACCEPTED: S.PENDING},
    e.TaskAccepted: {S.REQUESTED: S.ACCEPTED},
    # From REQUESTED too: the answer was lost, and the peer turned out to be there.
    e.SidePaired: {S.REQUESTED: S.SUCCEEDED, S.ACCEPTED: S.SUCCEEDED},
    e.SideFailed: {S.PENDING: S.FAILED, S.REQUESTED: S.FAILED, S.ACCEPTED: S.FAILED},
    e.PeerVerified: {S.SUCCEEDED: S.SUCCEEDED, S.ALREADY_PAIRED: S.ALREADY_PAIRED},
}


def apply(pairing: Pairing, event: e.PairingEvent | e.SideEvent, at: int) -> Pairing:
    """`pairing` after `event`, which happened at `at` (ms). Raises IllegalTransition."""
    if pairing.is_over:
        raise IllegalTransition(f"{e.type_of(event)} came after {pairing.state}")
    if isinstance(event, e.SideEvent):
        return _apply_to_side(pairing, event, at)
    return _apply_to_pairing(pairing, event, at)


def _apply_to_pairing(pairing: Pairing, event: e.PairingEvent, at: int) -> Pairing:
    state = _next(PAIRING[type(event)], pairing.state, event)
    after = replace(pairing, state=state, last_updated=at)
    match event:
        case e.PairingStarted():
            return replace(after, phase=pairing.phase or Phase.PAIRING)
        case e.PairingHandedBack():
            return after
        case e.VerificationStarted():
            _need_standing(pairing, event)
            return replace(after, phase=Phase.VERIFYING)
        case e.PairingSucceeded():
            _need_standing(pairing, event)
            return replace(after, phase=None, end_time=at)
        case e.PairingFailed(error=error):
            return replace(after, phase=None, end_time=at, error=error)
        case _:
            assert_never(event)


def _apply_to_side(pairing: Pairing, event: e.SideEvent, at: int) -> Pairing:
    if pairing.state is not PairingState.RUNNING:
        raise IllegalTransition(f"{e.type_of(event)} needs a RUNNING pairing")
    before = pairing.side(event.side)
    after = _changed(
        replace(before, state=_next(SIDE[type(event)], before.state, event)), event, at
    )
    one, other = pairing.sides
    sides = (after, other) if one is before else (one, after)
    return replace(pairing, sides=sides, last_updated=at)


def _changed(side: Side, event: e.SideEvent, at: int) -> Side:
    begun = side.start_time if side.start_time is not None else at
    match event:
        case e.PeerFound(result=result) | e.SidePaired(result=result):
            return replace(side, result=result, error=None, start_time=begun, end_time=at)
        case e.PairRequested(attempt=attempt):
            return replace(side, attempts=attempt, task_id=None, start_time=begun)
        case e.AnswerLost(error=error) | e.RequestDeferred(error=error):
            return replace(side, error=error, start_time=begun)
        case e.TaskAccepted(task_id=task_id):
            return replace(side, task_id=task_id, error=None)
        case e.SideFailed(error=error):
            return replace(side, error=error, start_time=begun, end_time=at)
        case e.PeerVerified(result=result):
            return replace(side, result=result)
        case _:
            assert_never(event)


def _next(table: Mapping[AnyState, AnyState], state: AnyState, event: e.Event) -> AnyState:
    if state not in table:
        raise IllegalTransition(f"{e.type_of(event)} does not fit {state}")
    return table[state]


def _need_standing(pairing: Pairing, event: e.PairingEvent) -> None:
    if not all(side.state in STANDING for side in pairing.sides):
        states = ", ".join(side.state for side in pairing.sides)
        raise IllegalTransition(f"{e.type_of(event)} needs both sides standing, not {states}")
