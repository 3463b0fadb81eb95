"""Which event may follow which state, and what it makes of it. The one place states change."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar, assert_never, get_args

from msgspec.structs import replace

from service.domain import events as e
from service.domain.appliance import ApiError, normalized_url
from service.domain.errors import IllegalTransition
from service.domain.pairing import (
    STANDING,
    UNDER_WAY,
    OnFailure,
    Operation,
    Pairing,
    PairingState,
    Phase,
    Side,
    SideState,
    SiteCall,
)

P = PairingState
S = SideState
AnyState = TypeVar("AnyState", PairingState, SideState)

PAIRING: Mapping[type[e.PairingEvent], Mapping[PairingState, PairingState]] = {
    e.PairingStarted: {P.QUEUED: P.RUNNING, P.RUNNING: P.RUNNING},
    e.PairingHandedBack: {P.RUNNING: P.RUNNING},
    e.PairingParked: {P.RUNNING: P.RUNNING},
    e.CancelRequested: {P.RUNNING: P.RUNNING},
    e.VerificationStarted: {P.RUNNING: P.RUNNING},
    e.RollbackStarted: {P.RUNNING: P.RUNNING},
    e.PairingSucceeded: {P.RUNNING: P.SUCCEEDED},
    e.PairingFailed: {P.RUNNING: P.FAILED},
    e.PairingCanceled: {P.RUNNING: P.CANCELED},
    e.PairingRetried: {P.FAILED: P.QUEUED, P.CANCELED: P.QUEUED},
}

_UNDOABLE = {S.SUCCEEDED, S.FAILED, S.ROLLBACK_FAILED, S.REQUESTED, S.ACCEPTED}

SIDE: Mapping[type[e.SideEvent], Mapping[SideState, SideState]] = {
    # From REQUESTED too: somebody else was quicker, and the appliance refused our call. From
    # ACCEPTED too: our call only brought up to date what was there, unrecognized.
    e.PeerFound: {
        S.PENDING: S.ALREADY_PAIRED,
        S.REQUESTED: S.ALREADY_PAIRED,
        S.ACCEPTED: S.ALREADY_PAIRED,
    },
    e.PeerGone: {S.PENDING: S.SUCCEEDED, S.REQUESTED: S.SUCCEEDED},
    e.PairRequested: {S.PENDING: S.REQUESTED},
    e.RepairRequested: {S.PENDING: S.REQUESTED},
    e.UnpairRequested: {S.PENDING: S.REQUESTED},
    e.AnswerLost: {S.REQUESTED: S.REQUESTED},
    e.RequestDeferred: {S.PENDING: S.PENDING, S.REQUESTED: S.PENDING},
    # From ACCEPTED too: the appliance forgot the task, and what it was for is not there.
    e.CallLost: {S.REQUESTED: S.PENDING, S.ACCEPTED: S.PENDING},
    e.TaskAccepted: {S.REQUESTED: S.ACCEPTED},
    # From PENDING too: a call that had left no trace turned out to be late.
    e.SidePaired: {
        S.PENDING: S.SUCCEEDED,
        S.REQUESTED: S.SUCCEEDED,
        S.ACCEPTED: S.SUCCEEDED,
    },
    e.SideUnpaired: {
        S.PENDING: S.SUCCEEDED,
        S.REQUESTED: S.SUCCEEDED,
        S.ACCEPTED: S.SUCCEEDED,
    },
    e.SideFailed: {S.PENDING: S.FAILED, S.REQUESTED: S.FAILED, S.ACCEPTED: S.FAILED},
    e.PeerVerified: {S.SUCCEEDED: S.SUCCEEDED, S.ALREADY_PAIRED: S.ALREADY_PAIRED},
    e.AbsenceVerified: {S.SUCCEEDED: S.SUCCEEDED},
    e.RollbackRequested: dict.fromkeys(_UNDOABLE, S.REQUESTED),
    e.RollbackDelayed: {state: state for state in _UNDOABLE},
    e.SideRolledBack: dict.fromkeys(_UNDOABLE, S.ROLLED_BACK),
    e.NothingToUndo: {S.FAILED: S.FAILED},
    e.RollbackFailed: dict.fromkeys(_UNDOABLE, S.ROLLBACK_FAILED),
    e.SideReopened: {state: S.PENDING for state in S if state not in UNDER_WAY},
}

_ROLLBACK: tuple[type[e.SideEvent], ...] = get_args(e.RollbackEvent)
_PHASES: Mapping[type[e.SideEvent], Phase] = {
    **dict.fromkeys(SIDE.keys() - {e.AnswerLost, e.TaskAccepted, e.SideReopened}, Phase.PAIRING),
    **dict.fromkeys((e.PeerVerified, e.AbsenceVerified), Phase.VERIFYING),
    **dict.fromkeys(_ROLLBACK, Phase.ROLLING_BACK),
}
"""To which phase an event belongs; those that are not here fit any. AnswerLost and TaskAccepted are
of calls on the way back as well."""

_ANY = frozenset(Operation)
_TOGETHER = frozenset({Operation.PAIR, Operation.REPAIR})
_APART = frozenset({Operation.UNPAIR})
_OPERATIONS: Mapping[type[e.SideEvent], frozenset[Operation]] = {
    e.PeerFound: _TOGETHER,
    e.PairRequested: _TOGETHER,
    e.RepairRequested: frozenset({Operation.REPAIR}),
    e.SidePaired: _TOGETHER,
    e.PeerVerified: _TOGETHER,
    e.PeerGone: _APART,
    e.UnpairRequested: _APART,
    e.SideUnpaired: _APART,
    e.AbsenceVerified: _APART,
}
"""Whose business an event is; those that are not here may be any operation's."""

_CALLS: Mapping[type[e.SideEvent], SiteCall] = {
    e.PairRequested: SiteCall.PAIR,
    e.RepairRequested: SiteCall.REPAIR,
    e.UnpairRequested: SiteCall.UNPAIR,
}


class _Ground(NamedTuple):
    is_given: Callable[[Pairing, Side], bool]
    what: str


_GROUNDS: Mapping[type[e.SideEvent], _Ground] = {
    **dict.fromkeys(
        _CALLS, _Ground(lambda pairing, _: not pairing.is_canceling, "nobody who wants it canceled")
    ),
    **dict.fromkeys(
        (e.PeerFound, e.PeerGone),
        _Ground(lambda _, side: not side.losses, "no lost call that may have done it"),
    ),
    **dict.fromkeys(
        (e.SidePaired, e.SideUnpaired),
        _Ground(lambda _, side: side.call is not None, "a call that may have done it"),
    ),
    **dict.fromkeys(_ROLLBACK, _Ground(lambda _, side: side.undo is not None, "something to undo")),
    e.SideReopened: _Ground(
        lambda pairing, _: not pairing.left_behind, "nothing that was left behind"
    ),
}
"""What has to have gone before, where the state does not tell."""


def apply(pairing: Pairing, event: e.PairingEvent | e.SideEvent, at: int) -> Pairing:
    """`pairing` after `event`, which happened at `at` (ms). Raises IllegalTransition."""
    if isinstance(event, e.OnSide):
        return _apply_to_side(pairing, event, at)
    return _apply_to_pairing(pairing, event, at)


def _apply_to_pairing(pairing: Pairing, event: e.PairingEvent, at: int) -> Pairing:
    state = _next(PAIRING[type(event)], pairing.state, event)
    after = replace(pairing, state=state, last_updated=at)
    match event:
        case e.PairingStarted():
            begins_with = Phase.ROLLING_BACK if pairing.left_behind else Phase.PAIRING
            after = replace(after, phase=pairing.phase or begins_with)
        case e.PairingHandedBack() | e.PairingParked():
            pass
        case e.CancelRequested(user=user):
            _need(not pairing.is_canceling, event, "nobody who asked before")
            after = replace(after, is_canceling=True)
            if pairing.phase is not Phase.ROLLING_BACK:  # Else it has its reason already.
                error = ApiError("Canceled", f"'{user}' asked for it to be canceled.", (user,))
                after = replace(after, error=error)
        case e.VerificationStarted():
            _need(pairing.phase is Phase.PAIRING, event, f"the phase {Phase.PAIRING}")
            _need(not pairing.is_canceling, event, "nobody who wants it canceled")
            _need_standing(pairing, event)
            after = replace(after, phase=Phase.VERIFYING, sides=_unverified(pairing))
        case e.RollbackStarted(error=error, timeout_s=timeout_s):
            _need(pairing.phase is not Phase.ROLLING_BACK, event, "a pairing that goes forward")
            _need(pairing.is_to_be_undone, event, "something to undo")
            _need_rest(pairing, event)
            _need_no_try_to_come(pairing, event)
            deadline = at + timeout_s * 1000
            after = replace(after, phase=Phase.ROLLING_BACK, error=error, deadline=deadline)
        case e.PairingRetried(timeout_s=timeout_s):
            after = _retried(after, at + timeout_s * 1000)
        case e.PairingSucceeded() | e.PairingFailed() | e.PairingCanceled():
            after = _ended(pairing, after, event, at)
        case _:
            assert_never(event)
    return after


def _retried(after: Pairing, deadline: int) -> Pairing:
    """As it waits for a worker. What is left of a rollback goes on, under the same error."""
    queued = replace(after, end_time=None, deadline=deadline, is_unwanted=False)
    if after.left_behind:
        return queued
    return replace(queued, warnings=(), error=None, is_canceling=False)


def _ended(
    before: Pairing,
    after: Pairing,
    event: e.PairingSucceeded | e.PairingFailed | e.PairingCanceled,
    at: int,
) -> Pairing:
    ended = replace(after, phase=None, end_time=at)
    match event:
        case e.PairingSucceeded():
            _need(before.phase is Phase.VERIFYING, event, "a pairing that is looked at")
            _need(all(side.is_verified for side in before.sides), event, "both sides verified")
            _need(not before.is_canceling, event, "nobody who wants it canceled")
            _need_standing(before, event)
            return ended
        case e.PairingFailed(error=error):
            _need_nothing_half(before, event)
            return replace(ended, error=error)
        case e.PairingCanceled():
            _need(before.is_canceling, event, "a wish to cancel")
            _need_nothing_half(before, event)
            return ended
        case _:
            assert_never(event)


def _unverified(pairing: Pairing) -> tuple[Side, Side]:
    """Its sides; what was seen of them counts for one verification."""
    one, other = pairing.sides
    return replace(one, is_verified=False), replace(other, is_verified=False)


def _apply_to_side(pairing: Pairing, event: e.SideEvent, at: int) -> Pairing:
    _need_phase(pairing, event)
    before = pairing.side(event.side)
    _need_ground(pairing, before, event)
    after = _changed(
        replace(before, state=_next(SIDE[type(event)], before.state, event)), event, at
    )
    one, other = pairing.sides
    sides = (after, other) if one is before else (one, after)
    return replace(pairing, sides=sides, last_updated=at, warnings=_warned(pairing, before, event))


def _changed(side: Side, event: e.SideEvent, at: int) -> Side:
    after = side
    # A look that had to be put off has begun nothing: the next one is the first still.
    if side.start_time is None and not isinstance(event, e.RequestDeferred):
        after = replace(side, start_time=at)
    match event:
        case e.PeerFound(result=result):
            after = replace(after, result=result, error=None, call=None, end_time=at)
        case e.PeerGone():
            after = replace(after, error=None, call=None, end_time=at)
        case e.SidePaired(result=result):
            after = replace(after, result=result, error=None, end_time=at)
        case e.SideUnpaired():
            after = replace(after, error=None, end_time=at)
        case e.SideFailed(error=error, refused=refused):
            call = None if refused and not side.losses else side.call
            after = replace(after, error=error, call=call, end_time=at)
        case e.PeerVerified(result=result):
            after = replace(after, result=result, is_verified=True)
        case e.AbsenceVerified():
            after = replace(after, is_verified=True)
        case e.SideReopened():
            after = Side(side.appliance, side.peer, attempts=side.attempts)
        case _:
            after = _asked(after, event) or _undone(after, event, at)
    return after


def _asked(side: Side, event: e.SideEvent) -> Side | None:
    match event:
        case e.PairRequested() | e.RepairRequested() | e.UnpairRequested():
            return _called(side, event)
        case e.RequestDeferred(error=error):
            return replace(side, error=error, call=side.call if side.losses else None)
        case e.CallLost(error=error):
            return replace(side, error=error, task_id=None, losses=side.losses + 1)
        case e.AnswerLost(error=error):
            return replace(side, error=error)
        case e.TaskAccepted(task_id=task_id):
            return replace(side, task_id=task_id)
        case _:
            return None


def _called(side: Side, event: e.CallRequested) -> Side:
    # What was created stays ours to remove, whatever is asked about it later.
    call = SiteCall.PAIR if side.call is SiteCall.PAIR else _CALLS[type(event)]
    after = replace(
        side,
        attempts=event.attempt,
        call=call,
        task_id=None,
        error=None,
        called_url=event.management_url,
    )
    if isinstance(event, e.UnpairRequested):
        return after
    url = normalized_url(event.api_url) if event.api_url is not None else None
    return replace(after, asked_thumbprint=event.thumbprint, asked_url=url)


def _undone(side: Side, event: e.SideEvent, at: int) -> Side:
    match event:
        case e.RollbackRequested(attempt=attempt):
            return replace(side, attempts=attempt, task_id=None, end_time=None)
        case e.RollbackDelayed():
            return side
        case e.SideRolledBack():
            return replace(side, error=None, call=None, losses=0, end_time=at)
        case e.NothingToUndo():
            return replace(side, call=None, losses=0)
        case e.RollbackFailed(error=error):
            return replace(side, error=error, end_time=at)
        case _:
            raise IllegalTransition(f"{e.type_of(event)} changes no side")


def _warned(pairing: Pairing, side: Side, event: e.SideEvent) -> tuple[ApiError, ...]:
    """What a caller should know. That something is left on a side is said as long as it is."""
    before = pairing.warnings
    if isinstance(event, e.SideRolledBack | e.RollbackFailed):
        left = ("RollbackFailed", side.appliance)
        before = tuple([each for each in before if (each.code, *each.args[:1]) != left])
    return (*before, *_warnings_of(side, event))


def _warnings_of(side: Side, event: e.SideEvent) -> tuple[ApiError, ...]:
    match event:
        case e.PeerGone():
            text = f"'{side.appliance}' did not list '{side.peer}': there was nothing to unpair."
            return (ApiError("AlreadyUnpaired", text, (side.appliance, side.peer)),)
        case e.RollbackFailed(error=error):
            text = (
                f"What this pairing did on '{side.appliance}' about '{side.peer}' may still be "
                f"there: {error.msg}"
            )
            return (ApiError("RollbackFailed", text, (side.appliance, side.peer, error.code)),)
        case _:
            return ()


def _next(table: Mapping[AnyState, AnyState], state: AnyState, event: e.Event) -> AnyState:
    if state not in table:
        raise IllegalTransition(f"{e.type_of(event)} does not fit {state}")
    return table[state]


def _need(holds: bool, event: e.Event, what: str) -> None:  # noqa: FBT001 - it is the question
    if not holds:
        raise IllegalTransition(f"{e.type_of(event)} needs {what}")


def _need_phase(pairing: Pairing, event: e.SideEvent) -> None:
    if isinstance(event, e.SideReopened):
        _need(pairing.state is P.QUEUED, event, "a pairing that is tried again")
        return
    _need(pairing.state is P.RUNNING, event, "a RUNNING pairing")
    phase = _PHASES.get(type(event), pairing.phase)
    if pairing.phase is not phase:
        raise IllegalTransition(f"{e.type_of(event)} needs the phase {phase}")


def _need_ground(pairing: Pairing, side: Side, event: e.SideEvent) -> None:
    """What an event says has to have been possible: by what was asked for, and by what was done."""
    if pairing.operation not in _OPERATIONS.get(type(event), _ANY):
        raise IllegalTransition(f"{e.type_of(event)} is no event of {pairing.operation}")
    ground = _GROUNDS.get(type(event))
    if ground is not None:
        _need(ground.is_given(pairing, side), event, ground.what)


def _need_standing(pairing: Pairing, event: e.PairingEvent) -> None:
    if not all(side.state in STANDING for side in pairing.sides):
        states = ", ".join(side.state for side in pairing.sides)
        raise IllegalTransition(f"{e.type_of(event)} needs both sides standing, not {states}")


def _need_rest(pairing: Pairing, event: e.PairingEvent) -> None:
    """No appliance may be acting on a call of ours that nobody follows any more."""
    for side in pairing.sides:
        _need(side.state not in UNDER_WAY, event, f"'{side.appliance}' at rest, not {side.state}")


def _need_no_try_to_come(pairing: Pairing, event: e.PairingEvent) -> None:
    """A call that is to be made again may still come through, late: its side FAILED first."""
    for side in pairing.sides:
        _need(not side.is_between_tries, event, f"'{side.appliance}' given up")


def _need_nothing_half(pairing: Pairing, event: e.PairingEvent) -> None:
    """The promise of no half pairings: what was done is undone, or reported as left behind."""
    _need_rest(pairing, event)
    for side in pairing.sides:
        may_stay = pairing.on_failure is OnFailure.KEEP or side.state is S.ROLLBACK_FAILED
        _need(side.undo is None or may_stay, event, f"'{side.appliance}' undone")
