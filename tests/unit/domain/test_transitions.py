"""Which event may follow which state. The table is compared with what the words promise."""

import dataclasses
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import events as e
from service.domain.errors import IllegalTransition
from service.domain.ids import TaskId
from service.domain.pairing import OVER, STANDING, Pairing, PairingState, Phase, SideState
from service.domain.transitions import PAIRING, SIDE, apply
from tests.unit.domain.values import ERROR, A, B, a_pairing

PAIRING_EVENTS: list[e.PairingEvent] = [
    e.PairingStarted("worker-1", 1),
    e.PairingHandedBack("worker-1"),
    e.VerificationStarted(),
    e.PairingSucceeded(),
    e.PairingFailed(ERROR),
]
SIDE_EVENTS: list[e.SideEvent] = [
    event
    for side in (A, B)
    for event in (
        e.PeerFound(side, {"id": "1"}),
        e.PairRequested(side, 1),
        e.AnswerLost(side, ERROR),
        e.RequestDeferred(side, ERROR, 250),
        e.TaskAccepted(side, TaskId("t-1")),
        e.SidePaired(side, {"id": "1"}),
        e.SideFailed(side, ERROR),
        e.PeerVerified(side, {"id": "1"}),
    )
]
ANY_EVENT = st.sampled_from([*PAIRING_EVENTS, *SIDE_EVENTS])


def test_the_vendors_procedure_leads_to_success() -> None:
    pairing = a_pairing(state=PairingState.QUEUED)
    story: Iterable[e.PairingEvent | e.SideEvent] = [
        e.PairingStarted("worker-1", 1),
        e.PairRequested(A, 1),
        e.PairRequested(B, 1),
        e.TaskAccepted(B, TaskId("t-b")),
        e.TaskAccepted(A, TaskId("t-a")),
        e.SidePaired(A, {"id": "b"}),
        e.SidePaired(B, {"id": "a"}),
        e.VerificationStarted(),
        e.PeerVerified(A, {"id": "b", "verified": True}),
        e.PeerVerified(B, {"id": "a"}),
        e.PairingSucceeded(),
    ]
    for at, event in enumerate(story, start=2_000):
        pairing = apply(pairing, event, at)

    assert pairing.state is PairingState.SUCCEEDED
    assert pairing.end_time == pairing.last_updated == 2_010
    assert pairing.phase is None
    assert pairing.side(A).result == {"id": "b", "verified": True}
    assert pairing.side(A).task_id == "t-a"
    assert pairing.side(A).end_time == 2_005


@given(st.lists(ANY_EVENT, max_size=40))
def test_no_sequence_of_events_reaches_a_forbidden_state(
    events: list[e.PairingEvent | e.SideEvent],
) -> None:
    pairing = a_pairing(state=PairingState.QUEUED)
    for at, event in enumerate(events, start=2_000):
        before = pairing
        try:
            pairing = apply(pairing, event, at)
        except IllegalTransition:
            assert pairing is before
        _assert_sane(before, pairing)


def _assert_sane(before: Pairing, after: Pairing) -> None:
    if before.is_over:
        assert after == before
    if after.state is PairingState.SUCCEEDED:
        assert {side.state for side in after.sides} <= STANDING
    assert (after.end_time is not None) == after.is_over
    assert (after.phase is not None) == (after.state is PairingState.RUNNING)
    for side in after.sides:
        assert (side.end_time is not None) == side.is_over
        if side.state is SideState.ACCEPTED:
            assert side.task_id is not None
        if side.state is SideState.FAILED:
            assert side.error is not None
    assert 0 <= after.progress <= 100


@pytest.mark.parametrize("event", [*PAIRING_EVENTS, *SIDE_EVENTS], ids=e.type_of)
@pytest.mark.parametrize("state", sorted(OVER))
def test_nothing_follows_the_end(state: PairingState, event: e.PairingEvent | e.SideEvent) -> None:
    with pytest.raises(IllegalTransition):
        apply(a_pairing(state=state), event, 2_000)


def test_a_queued_pairing_has_sides_that_stand_still() -> None:
    for event in SIDE_EVENTS:
        with pytest.raises(IllegalTransition):
            apply(a_pairing(state=PairingState.QUEUED), event, 2_000)


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


def test_an_event_of_one_side_leaves_the_other_alone() -> None:
    before = a_pairing()
    after = apply(before, e.PairRequested(B, 1), 2_000)
    assert after.side(A) == before.side(A)
    assert after.side(B).state is SideState.REQUESTED


def test_asking_again_forgets_the_task_of_the_try_before() -> None:
    pairing = a_pairing(SideState.ACCEPTED, SideState.PENDING)
    pairing = dataclasses.replace(
        pairing,
        sides=(dataclasses.replace(pairing.side(A), task_id=TaskId("old")), pairing.side(B)),
    )
    pairing = apply(pairing, e.RequestDeferred(A, ERROR, 10), 2_000)
    pairing = apply(pairing, e.PairRequested(A, 2), 2_001)
    assert pairing.side(A).task_id is None
    assert pairing.side(A).attempts == 2


def test_a_running_pairing_resumes_in_its_phase() -> None:
    pairing = dataclasses.replace(
        a_pairing(SideState.SUCCEEDED, SideState.ALREADY_PAIRED), phase=Phase.VERIFYING
    )
    assert apply(pairing, e.PairingStarted("worker-2", 2), 2_000).phase is Phase.VERIFYING
