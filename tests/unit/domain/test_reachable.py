"""All that can become of a pairing, searched to its end, and held against the promises."""

from collections import defaultdict

import pytest

from service.domain.pairing import (
    STANDING,
    UNDER_WAY,
    OnFailure,
    Operation,
    Pairing,
    PairingState,
    Phase,
    SideState,
)
from tests.unit.domain.happenings import EVENTS, AnyEvent, Reached, Standing, everything
from tests.unit.domain.rows import RowChecks

KINDS = [(operation, on_failure) for operation in Operation for on_failure in OnFailure]
ALL = [each for kind in KINDS for each in everything(*kind).reached.values()]
ENDS = [each for each in ALL if each.pairing.is_over]
CHECKS = RowChecks()


def told(reached: list[Reached]) -> str:
    """The shortest story that leads where nothing should."""
    stories = sorted((each.story for each in reached), key=len)
    return " > ".join(stories[0]) if stories else ""


def test_the_search_found_what_there_is() -> None:
    """Every word for a state and a phase is there for something."""
    assert {each.pairing.state for each in ALL} == set(PairingState)
    assert {each.pairing.phase for each in ALL} == {*Phase, None}
    assert {side.state for each in ALL for side in each.pairing.sides} == set(SideState)


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_every_event_has_its_moment(event: AnyEvent) -> None:
    assert any(each.then(event) is not None for each in ALL)


def test_success_is_over_both_sides_verified_and_wanted() -> None:
    wrong = [
        each
        for each in ENDS
        if each.pairing.state is PairingState.SUCCEEDED
        and (
            not all(side.is_verified and side.state in STANDING for side in each.pairing.sides)
            or each.pairing.is_canceling
            or each.pairing.error is not None
        )
    ]
    assert not wrong, told(wrong)


def test_no_appliance_is_acting_on_a_call_of_a_pairing_that_is_over() -> None:
    wrong = [each for each in ENDS if any(side.state in UNDER_WAY for side in each.pairing.sides)]
    assert not wrong, told(wrong)


def test_what_did_not_succeed_leaves_nothing_half_unless_kept_or_reported() -> None:
    wrong = [
        each
        for each in ENDS
        if each.pairing.state is not PairingState.SUCCEEDED
        and each.pairing.on_failure is OnFailure.ROLLBACK
        and any(
            side.undo is not None and side.state is not SideState.ROLLBACK_FAILED
            for side in each.pairing.sides
        )
    ]
    assert not wrong, told(wrong)


def test_what_is_left_on_a_side_is_said_as_long_as_it_is_there() -> None:
    wrong = [each for each in ENDS if left_behind(each.pairing) != warned_of(each.pairing)]
    assert not wrong, told(wrong)


def left_behind(pairing: Pairing) -> list[str]:
    return sorted(side.appliance for side in pairing.left_behind)


def warned_of(pairing: Pairing) -> list[str]:
    return sorted(each.args[0] for each in pairing.warnings if each.code == "RollbackFailed")


def test_what_is_to_be_kept_is_never_undone() -> None:
    wrong = [
        each
        for each in ALL
        if each.pairing.on_failure is OnFailure.KEEP
        and (each.pairing.phase is Phase.ROLLING_BACK or each.pairing.left_behind)
    ]
    assert not wrong, told(wrong)


def test_only_what_was_done_is_undone() -> None:
    wrong = [
        each
        for each in ALL
        for side in each.pairing.sides
        if (side.state is SideState.ROLLBACK_FAILED and side.undo is None)
        or (side.state is SideState.ALREADY_PAIRED and side.call is not None)
    ]
    assert not wrong, told(wrong)


def test_a_way_back_has_its_reason() -> None:
    wrong = [
        each
        for each in ALL
        if each.pairing.phase is Phase.ROLLING_BACK and each.pairing.error is None
    ]
    assert not wrong, told(wrong)


def test_every_state_that_can_be_reached_fits_its_row() -> None:
    broken = [(name, each) for each in ALL for name in CHECKS.broken(each.pairing)]
    assert not broken, f"{broken[0][0]}: {told([broken[0][1]])}"


@pytest.mark.parametrize(("operation", "on_failure"), KINDS)
def test_wherever_a_pairing_stands_an_end_can_be_reached(
    operation: Operation, on_failure: OnFailure
) -> None:
    found = everything(operation, on_failure)
    before: defaultdict[Standing, set[Standing]] = defaultdict(set)
    for here, theres in found.following.items():
        for there in theres:
            before[there].add(here)
    ends = [here for here, each in found.reached.items() if each.pairing.is_over]
    hopeful, unseen = set(ends), list(ends)
    while unseen:
        fresh = before[unseen.pop()] - hopeful
        hopeful |= fresh
        unseen.extend(fresh)

    stuck = [each for here, each in found.reached.items() if here not in hopeful]
    assert not stuck, told(stuck)


@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_each_operation_has_its_own_calls_only(on_failure: OnFailure) -> None:
    asked = {
        operation: {
            step.split(" ")[0]
            for each in everything(operation, on_failure).reached.values()
            for step in each.story
            if step.split(" ")[0].endswith("Requested")
        }
        & {"PairRequested", "RepairRequested", "UnpairRequested"}
        for operation in Operation
    }
    assert asked == {
        Operation.PAIR: {"PairRequested"},
        Operation.REPAIR: {"PairRequested", "RepairRequested"},
        Operation.UNPAIR: {"UnpairRequested"},
    }
