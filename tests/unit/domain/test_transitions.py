"""Which event may follow which state: stories that are told by hand, and walks that are drawn."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from service.domain import events as e
from service.domain.errors import IllegalTransition
from service.domain.ids import ApplianceName, OperationId, TaskId
from service.domain.pairing import (
    OVER,
    STANDING,
    UNDER_WAY,
    OnFailure,
    Operation,
    Pairing,
    PairingState,
    Phase,
    SideState,
    SiteCall,
)
from service.domain.transitions import PAIRING, SIDE, apply
from tests.unit.domain.deeds import Deeds
from tests.unit.domain.happenings import (
    EVENTS,
    PAIRING_EVENTS,
    SIDE_EVENTS,
    AnyEvent,
    Reached,
    accepted,
)
from tests.unit.domain.rows import RowChecks
from tests.unit.domain.values import ERROR, A, B, a_pairing

CHECKS = RowChecks()
BEGUN: list[AnyEvent] = [
    e.PairingStarted("worker-1", 1),
    e.PairRequested(A, 1),
    e.TaskAccepted(A, TaskId("t-a")),
    e.SidePaired(A, b'{"id": "b"}'),
]
TURNED_BACK: list[AnyEvent] = [*BEGUN, e.SideFailed(B, ERROR), e.RollbackStarted(ERROR, 300)]
LEFT_BEHIND: list[AnyEvent] = [*TURNED_BACK, e.RollbackFailed(A, ERROR), e.PairingFailed(ERROR)]
AGAIN = e.PairingRetried("admin", OperationId("op-2"), 900)
UNWANTED = e.CancelRequested("admin", OperationId("op-3"))


def told(
    story: Iterable[AnyEvent],
    operation: Operation = Operation.PAIR,
    on_failure: OnFailure = OnFailure.ROLLBACK,
) -> Pairing:
    """A pairing after `story`."""
    pairing = accepted(operation, on_failure)
    for at, event in enumerate(story, start=2_000):
        pairing = apply(pairing, event, at)
    return pairing


def test_the_vendors_procedure_leads_to_success() -> None:
    pairing = told(
        [
            e.PairingStarted("worker-1", 1),
            e.PairRequested(A, 1),
            e.PairRequested(B, 1),
            e.TaskAccepted(B, TaskId("t-b")),
            e.TaskAccepted(A, TaskId("t-a")),
            e.SidePaired(A, b'{"id": "b"}'),
            e.SidePaired(B, b'{"id": "a"}'),
            e.VerificationStarted(),
            e.PeerVerified(A, b'{"id": "b", "verified": true}'),
            e.PeerVerified(B, b'{"id": "a"}'),
            e.PairingSucceeded(),
        ]
    )
    assert pairing.state is PairingState.SUCCEEDED
    assert pairing.end_time == pairing.last_updated == 2_010
    assert pairing.phase is None
    assert pairing.side(A).result == b'{"id": "b", "verified": true}'
    assert pairing.side(A).task_id == "t-a"
    assert pairing.side(A).end_time == 2_005


def test_what_one_side_did_is_undone_when_the_other_failed() -> None:
    pairing = told(
        [
            *TURNED_BACK,
            e.RollbackRequested(A, "unpair", 2),
            e.TaskAccepted(A, TaskId("t-back")),
            e.SideRolledBack(A),
            e.PairingFailed(ERROR),
        ]
    )
    assert pairing.state is PairingState.FAILED
    assert [side.state for side in pairing.sides] == [SideState.ROLLED_BACK, SideState.FAILED]
    assert (pairing.error, pairing.warnings) == (ERROR, ())


def test_a_side_that_was_unpaired_is_paired_again_when_the_other_failed() -> None:
    pairing = told(
        [e.PairingStarted("w", 1), e.UnpairRequested(A, 1), e.SideUnpaired(A)],
        Operation.UNPAIR,
    )
    assert pairing.side(A).undo is SiteCall.PAIR


@pytest.mark.parametrize(
    ("operation", "story"),
    [
        (Operation.PAIR, [e.RequestDeferred(A, ERROR, 1), e.PeerFound(A, b"{}")]),
        (Operation.PAIR, [e.PairRequested(A, 1), e.AnswerLost(A, ERROR), e.SidePaired(A, b"{}")]),
        (Operation.PAIR, [e.PairRequested(A, 1), e.CallLost(A, ERROR, 1), e.SidePaired(A, b"{}")]),
        (Operation.UNPAIR, [e.RequestDeferred(A, ERROR, 1), e.PeerGone(A)]),
        (Operation.UNPAIR, [e.UnpairRequested(A, 1), e.AnswerLost(A, ERROR), e.SideUnpaired(A)]),
        (
            Operation.UNPAIR,
            [e.UnpairRequested(A, 1), e.CallLost(A, ERROR, 1), e.SideUnpaired(A)],
        ),
    ],
    ids=lambda told: "-".join(map(e.type_of, told)) if isinstance(told, list) else None,
)
def test_trouble_on_the_way_is_told_of_a_side_until_it_stands(
    operation: Operation, story: list[AnyEvent]
) -> None:
    begun: list[AnyEvent] = [e.PairingStarted("w", 1), *story]
    assert told(begun[:-1], operation).side(A).error == ERROR
    side = told(begun, operation).side(A)
    assert side.state in STANDING
    assert side.error is None


def test_what_was_created_is_to_be_removed_though_its_repair_was_asked_for_later() -> None:
    lost: list[AnyEvent] = [e.PairRequested(A, 1), e.CallLost(A, ERROR, 1)]
    pairing = told([e.PairingStarted("w", 1), *lost, e.RepairRequested(A, 2)], Operation.REPAIR)
    assert pairing.side(A).undo is SiteCall.UNPAIR


def test_what_is_left_on_a_side_is_told_until_a_retry_undid_it() -> None:
    left = told(LEFT_BEHIND)
    resumed = told([*LEFT_BEHIND, AGAIN, e.PairingStarted("w", 2)])
    again = told([*LEFT_BEHIND, AGAIN, e.PairingStarted("w", 2), e.RollbackFailed(A, ERROR)])
    undone = told([*LEFT_BEHIND, AGAIN, e.PairingStarted("w", 2), e.SideRolledBack(A)])

    assert [(each.code, each.args) for each in left.warnings] == [
        ("RollbackFailed", (A, B, ERROR.code))
    ]
    assert (resumed.phase, resumed.error) == (Phase.ROLLING_BACK, ERROR)
    assert resumed.warnings == again.warnings == left.warnings
    assert undone.warnings == ()
    assert undone.side(A).error is None


def test_a_retry_begins_anew_when_nothing_was_left_behind() -> None:
    ended: list[AnyEvent] = [
        e.PairingStarted("w", 1),
        e.SideFailed(A, ERROR),
        e.PairingFailed(ERROR),
    ]
    unwanted = structs.replace(told(ended), is_unwanted=True)
    assert not apply(unwanted, AGAIN, 9_000).is_being_canceled
    pairing = told([*ended, AGAIN, e.SideReopened(A), e.SideReopened(B)])
    assert pairing.state is PairingState.QUEUED
    assert (pairing.error, pairing.end_time, pairing.is_canceling) == (None, None, False)
    assert {side.state for side in pairing.sides} == {SideState.PENDING}
    assert pairing.deadline == 2_003 + 900_000


def test_a_pairing_that_is_canceled_says_by_whom() -> None:
    pairing = told([e.PairingStarted("w", 1), UNWANTED, e.PairingCanceled()])
    assert pairing.state is PairingState.CANCELED
    assert pairing.error is not None
    assert (pairing.error.code, pairing.error.args) == ("Canceled", ("admin",))


def test_a_wish_to_cancel_on_the_way_back_keeps_the_reason_for_it() -> None:
    pairing = told([*TURNED_BACK, UNWANTED])
    assert pairing.is_canceling
    assert pairing.error == ERROR


def test_nothing_to_unpair_is_success_with_a_warning() -> None:
    pairing = told([e.PairingStarted("w", 1), e.PeerGone(A)], Operation.UNPAIR)
    assert pairing.side(A).state is SideState.SUCCEEDED
    assert [(each.code, each.args) for each in pairing.warnings] == [("AlreadyUnpaired", (A, B))]


@pytest.mark.parametrize(
    ("story", "event"),
    [
        (TURNED_BACK, e.VerificationStarted()),
        (TURNED_BACK, e.RollbackStarted(ERROR, 300)),
        (TURNED_BACK, e.PairingFailed(ERROR)),
        (TURNED_BACK, e.RollbackRequested(B, "unpair", 1)),
        ([*TURNED_BACK, UNWANTED], UNWANTED),
        ([e.PairingStarted("w", 1), e.SideFailed(A, ERROR)], e.RollbackStarted(ERROR, 300)),
        ([e.PairingStarted("w", 1), UNWANTED], e.PairRequested(A, 1)),
        ([e.PairingStarted("w", 1), e.PairRequested(A, 1), UNWANTED], e.PairingCanceled()),
        ([*BEGUN, UNWANTED], e.PairingCanceled()),
        ([*BEGUN, e.PeerFound(B, b"{}"), UNWANTED], e.VerificationStarted()),
        ([*BEGUN, e.PeerFound(B, b"{}"), e.VerificationStarted()], e.PairingSucceeded()),
        (
            [*BEGUN, e.PeerFound(B, b"{}"), e.VerificationStarted(), e.PeerVerified(A, b"{}")],
            e.PairingSucceeded(),
        ),
        ([*BEGUN[:2], e.CallLost(A, ERROR, 1)], e.PeerFound(A, b"{}")),
        ([e.PairingStarted("w", 1)], e.SidePaired(A, b"{}")),
        ([e.PairingStarted("w", 1)], e.UnpairRequested(A, 1)),
        ([e.PairingStarted("w", 1)], e.RepairRequested(A, 1)),
        ([e.PairingStarted("w", 1)], e.PairingCanceled()),
        ([*LEFT_BEHIND, AGAIN], e.SideReopened(A)),
    ],
)
def test_what_would_break_a_promise_is_refused(story: list[AnyEvent], event: AnyEvent) -> None:
    with pytest.raises(IllegalTransition):
        apply(told(story), event, 9_000)


def test_nothing_counts_as_unpaired_by_a_call_that_was_not_made() -> None:
    with pytest.raises(IllegalTransition):
        told([e.PairingStarted("w", 1), e.SideUnpaired(A)], Operation.UNPAIR)


SEEN_GONE: list[AnyEvent] = [e.PeerGone(A), e.PeerGone(B), e.VerificationStarted()]
SEEN_THERE: list[AnyEvent] = [*BEGUN[1:], e.PeerFound(B, b"{}"), e.VerificationStarted()]


@pytest.mark.parametrize(
    ("operation", "story", "event"),
    [
        (Operation.PAIR, [], e.PeerGone(A)),
        (Operation.PAIR, [e.PairRequested(A, 1)], e.SideUnpaired(A)),
        (Operation.PAIR, SEEN_THERE, e.AbsenceVerified(A)),
        (Operation.UNPAIR, [], e.PeerFound(A, b"{}")),
        (Operation.UNPAIR, [e.UnpairRequested(A, 1)], e.SidePaired(A, b"{}")),
        (Operation.UNPAIR, SEEN_GONE, e.PeerVerified(A, b"{}")),
    ],
)
def test_no_operation_comes_to_what_only_another_could(
    operation: Operation, story: list[AnyEvent], event: AnyEvent
) -> None:
    begun = told([e.PairingStarted("w", 1), *story], operation)
    with pytest.raises(IllegalTransition):
        apply(begun, event, 9_000)


def test_what_is_to_be_kept_is_not_undone() -> None:
    kept = told([*BEGUN, e.SideFailed(B, ERROR)], on_failure=OnFailure.KEEP)
    with pytest.raises(IllegalTransition):
        apply(kept, e.RollbackStarted(ERROR, 300), 9_000)
    assert apply(kept, e.PairingFailed(ERROR), 9_000).side(A).state is SideState.SUCCEEDED


def test_a_side_whose_call_may_be_late_is_given_up_before_the_rollback() -> None:
    lost: list[AnyEvent] = [
        e.PairingStarted("w", 1),
        e.PairRequested(A, 1),
        e.CallLost(A, ERROR, 1),
    ]
    with pytest.raises(IllegalTransition):
        told([*lost, UNWANTED, e.RollbackStarted(ERROR, 300)])
    pairing = told([*lost, UNWANTED, e.SideFailed(A, ERROR), e.RollbackStarted(ERROR, 300)])
    assert pairing.side(A).undo is SiteCall.UNPAIR
    undone = apply(pairing, e.NothingToUndo(A), 9_000)
    assert (undone.side(A).undo, undone.side(A).losses) == (None, 0)


@given(
    st.sampled_from(Operation),
    st.sampled_from(OnFailure),
    st.lists(st.integers(0, 10_000), min_size=15, max_size=60),
)
def test_no_walk_leads_to_a_forbidden_state(
    operation: Operation, on_failure: OnFailure, choices: list[int]
) -> None:
    reached = Reached(accepted(operation, on_failure))
    deeds = {A: Deeds(), B: Deeds()}
    for choice in choices:
        fitting = [(event, then) for event in EVENTS if (then := reached.then(event)) is not None]
        if not fitting:
            assert reached.pairing.state is PairingState.SUCCEEDED
            return
        event, then = fitting[choice % len(fitting)]
        if isinstance(event, e.SideEvent):
            deeds[event.side] = deeds[event.side].after(event)
        _assert_step(reached.pairing, event, then.pairing)
        _assert_sane(then.pairing)
        _assert_remembered(then.pairing, deeds)
        reached = then


def _assert_step(before: Pairing, event: AnyEvent, after: Pairing) -> None:
    if before.is_over:
        assert isinstance(event, e.PairingRetried)
    if isinstance(event, e.RollbackEvent):
        assert before.phase is Phase.ROLLING_BACK
    if isinstance(event, e.CallRequested):
        assert not before.is_canceling
    if isinstance(event, e.SideEvent):
        other = before.side(event.side).peer
        assert after.side(other) == before.side(other)
        assert after.state is before.state


def _assert_sane(pairing: Pairing) -> None:
    assert CHECKS.broken(pairing) == []
    if pairing.state is PairingState.SUCCEEDED:
        assert {side.state for side in pairing.sides} <= STANDING
        assert not pairing.is_canceling
    assert 0 <= pairing.progress <= 100


def _assert_remembered(pairing: Pairing, deeds: dict[ApplianceName, Deeds]) -> None:
    """What was done can be undone, and nothing else."""
    for side in pairing.sides:
        done = deeds[side.appliance]
        if SiteCall.REPAIR in done.maybe and SiteCall.PAIR not in done.all:
            # A repair that was lost, then a call that was not sent: both may be taken for done.
            assert side.undo in {None, SiteCall.UNPAIR}
        else:
            assert side.undo is done.undo
        assert side.losses == 0 or side.call is not None


@pytest.mark.parametrize("event", [*PAIRING_EVENTS, *SIDE_EVENTS], ids=e.type_of)
@pytest.mark.parametrize("state", sorted(OVER))
def test_nothing_but_a_retry_follows_the_end(state: PairingState, event: AnyEvent) -> None:
    if isinstance(event, e.PairingRetried) and state is not PairingState.SUCCEEDED:
        assert apply(a_pairing(state=state), event, 2_000).state is PairingState.QUEUED
        return
    with pytest.raises(IllegalTransition):
        apply(a_pairing(state=state), event, 2_000)


def test_a_queued_pairing_has_sides_that_stand_still_unless_they_begin_anew() -> None:
    for event in SIDE_EVENTS:
        if not isinstance(event, e.SideReopened):
            with pytest.raises(IllegalTransition):
                apply(a_pairing(state=PairingState.QUEUED), event, 2_000)


@pytest.mark.parametrize("state", sorted(UNDER_WAY))
def test_a_side_whose_appliance_may_be_acting_does_not_begin_anew(state: SideState) -> None:
    with pytest.raises(IllegalTransition):
        apply(a_pairing(state, SideState.FAILED, state=PairingState.QUEUED), e.SideReopened(A), 9)


@pytest.mark.parametrize("other", [state for state in SideState if state not in STANDING])
def test_success_and_verification_need_both_sides_standing(other: SideState) -> None:
    pairing = a_pairing(SideState.SUCCEEDED, other)
    for event in (e.VerificationStarted(), e.PairingSucceeded()):
        with pytest.raises(IllegalTransition):
            apply(pairing, event, 2_000)


def test_every_event_has_its_row_in_the_table() -> None:
    assert set(PAIRING) == {type(event) for event in PAIRING_EVENTS}
    assert set(SIDE) == {type(event) for event in SIDE_EVENTS}


def test_only_a_side_that_asked_can_be_accepted() -> None:
    allowed = [state for state in SideState if state in SIDE[e.TaskAccepted]]
    assert allowed == [SideState.REQUESTED]


def test_asking_again_forgets_the_task_of_the_try_before() -> None:
    again = told([*BEGUN[:3], e.CallLost(A, ERROR, 10), e.PairRequested(A, 2)])
    assert again.side(A).task_id is None
    assert (again.side(A).attempts, again.side(A).losses) == (2, 1)


def test_a_running_pairing_resumes_in_its_phase() -> None:
    pairing = structs.replace(
        a_pairing(SideState.SUCCEEDED, SideState.ALREADY_PAIRED), phase=Phase.VERIFYING
    )
    assert apply(pairing, e.PairingStarted("worker-2", 2), 2_000).phase is Phase.VERIFYING


def test_what_somebody_else_saw_does_not_count_as_verified() -> None:
    seen = told([*BEGUN, e.PeerFound(B, b"{}"), e.VerificationStarted(), e.PeerVerified(A, b"{}")])
    one, other = [structs.replace(side, is_verified=False) for side in seen.sides]
    stored = structs.replace(seen, sides=(one, other))
    resumed = apply(stored, e.PairingStarted("worker-2", 2), 3_000)
    with pytest.raises(IllegalTransition):
        apply(apply(resumed, e.PeerVerified(B, b"{}"), 3_001), e.PairingSucceeded(), 3_002)
