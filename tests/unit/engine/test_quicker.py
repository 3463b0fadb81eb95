"""Somebody else does what is asked for between the look and the call, which is refused then."""

from dataclasses import replace

import pytest

from service.domain.pairing import Operation, PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene

PAIR = a_pairing()
UNPAIR = a_pairing(at_s=100.0, operation=Operation.UNPAIR)
ALREADY = "It is already paired."


def be_quicker(here: Scene, method: str, *, then_ms: int = 1) -> None:
    """Somebody pairs, or unpairs, ONE by hand as the call to it is on its way, whose task takes
    `then_ms`."""
    wanted = iter([True])

    def done_by_hand() -> bool:
        if next(wanted, False):
            here.turn(ONE, task_ms=(1, 1), queued_ms=0)
            here.stage.call_by_hand(ONE, OTHER, pairs=method == "POST")
            here.turn(ONE, task_ms=(then_ms, then_ms))
        return False

    here.befall(ONE, method, "/sites.*", CallFault.LOST, when=done_by_hand)


def is_called(here: Scene) -> bool:
    """Whether the call was made, and what became of it is looked at."""
    return here.calls(ONE, "POST") > 0


def is_going_back(here: Scene) -> bool:
    """Whether a way back has begun and none was given up."""
    return "RollbackStarted" in here.events and "RollbackFailed" not in here.events


def has_failed(here: Scene) -> bool:
    """Whether a side has."""
    return "SideFailed" in here.events


@pytest.mark.parametrize("refused", ["rejected", "task_fails"])
def test_who_was_paired_meanwhile_stays_so_whatever_becomes_of_the_other_side(
    refused: str,
) -> None:
    with scene(already_paired=refused) as here:
        be_quicker(here, "POST")
        here.befall(ONE, "GET", "/sites", CallFault.BUSY, times=1, when=lambda: is_called(here))
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        assert side.state is SideState.ALREADY_PAIRED
        assert here.world.appliances[ONE].peers
        assert here.calls(ONE, "DELETE") == 0


def test_so_does_one_though_the_way_back_is_tried_again() -> None:
    hasty = replace(POLICY, rollback_s=10)
    with scene(a_pairing(timeout_s=5, retries=1), policy=hasty) as here:
        be_quicker(here, "POST", then_ms=6_000)
        here.befall(ONE, "GET", "/sites", CallFault.BUSY, when=lambda: is_going_back(here))
        side, _ = here.until_over().sides
        assert here.events.count("RollbackFailed") == 1
        assert side.state is SideState.ROLLED_BACK
        assert here.world.appliances[ONE].peers
        assert here.calls(ONE, "DELETE") == 0


def test_so_does_one_that_the_list_shows_late() -> None:
    with scene() as here:
        be_quicker(here, "POST")
        here.turn(ONE, list_lag_ms=int(POLICY.settle_s * 1000) - 500)
        for method, path in (("POST", "/tasks/poll"), ("GET", "/tasks.*")):
            here.befall(ONE, method, path, CallFault.REFUSED, when=lambda: has_failed(here))
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        assert here.world.appliances[ONE].peers
        assert here.calls(ONE, "DELETE") == 0
        assert side.state is SideState.FAILED


def test_so_does_one_that_a_task_met_when_nobody_waited_for_it_any_more() -> None:
    with scene(a_pairing(timeout_s=5)) as here:
        be_quicker(here, "POST", then_ms=20_000)
        side, _ = here.until_over().sides
        assert here.events.count("NothingToUndo") == 1
        assert here.world.appliances[ONE].peers
        assert here.calls(ONE, "DELETE") == 0
        assert side.state is SideState.FAILED


def test_a_call_that_comes_late_finds_one_there_and_leaves_nothing_after_the_way_back() -> None:
    with scene(a_pairing(timeout_s=5)) as here:
        be_quicker(here, "POST")
        here.befall(ONE, "POST", "/sites", CallFault.LATE, times=1)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        here.loop.run_until(lambda: False, here.loop.instant + POLICY.settle_s)
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def test_what_a_task_has_made_that_met_something_else_there_already_does_not_stay() -> None:
    in_use = "bind: Address already in use"
    with scene() as here:
        here.spoil(ONE, fault("task_acts_and_fails", method="POST", path="/sites", msg=in_use))
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until_over()
        assert not here.world.appliances[ONE].peers


def test_what_an_unpairing_did_that_says_so_is_undone() -> None:
    with scene(PAIR, UNPAIR) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        unpairing = {"method": "DELETE", "path": "/sites/.*", "msg": ALREADY}
        here.spoil(ONE, fault("task_acts_and_fails", **unpairing))
        here.spoil(OTHER, fault("task_fails", method="DELETE", path="/sites/.*"))
        here.until_over()
        assert "SideUnpaired" in here.events
        assert here.world.appliances[ONE].peers


def test_what_an_undoing_said_before_it_was_given_up_disowns_nothing() -> None:
    undoing = {"method": "DELETE", "path": "/sites/.*", "msg": ALREADY}
    with scene(a_pairing(retries=1)) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.spoil(ONE, fault("task_fails", times=None, **undoing))
        here.until(lambda: "PairingFailed" in here.events)
        here.world.appliances[ONE].faults.clear()
        side, _ = here.until_over().sides
        assert here.events.count("PairingFailed") == 2
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def test_what_a_lost_call_made_is_undone_whatever_the_next_one_says() -> None:
    with scene(a_pairing(timeout_s=25)) as here:
        here.befall(ONE, "GET", r"/tasks(\?.*)?", CallFault.REFUSED)
        here.turn(ONE, list_lag_ms=40_000)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        here.turn(ONE, task_ms=(15_000, 15_000))
        here.until_over()
        assert here.calls(ONE, "POST") == 2
        assert not here.world.appliances[ONE].peers


def test_what_its_own_task_made_is_undone_without_a_second_look() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        began = here.loop.instant
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        assert here.loop.instant - began < POLICY.settle_s


@pytest.mark.parametrize("refused", ["rejected", "task_fails"])
def test_who_was_paired_meanwhile_needs_no_repair_though_the_other_side_is_not_through(
    refused: str,
) -> None:
    with scene(a_pairing(operation=Operation.REPAIR), already_paired=refused) as here:
        be_quicker(here, "POST")
        here.turn(OTHER, task_ms=(5_000, 5_000))
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED
        assert pairing.sides[0].state is SideState.ALREADY_PAIRED
        assert here.calls(ONE, "PUT") == 0


def test_who_was_unpaired_meanwhile_is_gone() -> None:
    with scene(PAIR, UNPAIR) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        be_quicker(here, "DELETE")
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED
        assert [each.code for each in pairing.warnings] == ["AlreadyUnpaired"]


def test_what_a_lost_call_of_ours_made_is_undone_though_the_next_one_met_it() -> None:
    with scene() as here:
        here.turn(ONE, task_ms=(20_000, 20_000))
        here.befall(
            ONE, "GET", "/tasks.*", CallFault.REFUSED, when=lambda: not is_asked_twice(here)
        )
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.until(lambda: is_asked_twice(here))
        here.befall(ONE, "GET", "/sites", CallFault.REFUSED, when=lambda: not has_failed(here))
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def is_asked_twice(here: Scene) -> bool:
    """Whether the call to ONE was made again."""
    return here.calls(ONE, "POST") == 2


def test_who_was_paired_before_the_next_try_is_not_called_again() -> None:
    """However young the list is that the first look read."""
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.UNREACHABLE, times=1)
        here.until(lambda: "RequestDeferred" in here.events)
        here.turn(ONE, task_ms=(1, 1), queued_ms=0)
        here.stage.call_by_hand(ONE, OTHER, pairs=True)
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED
        assert pairing.sides[0].state is SideState.ALREADY_PAIRED
        assert here.events.count("PairRequested") == 2
