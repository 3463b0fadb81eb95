"""An undo task that failed is no reason to leave something behind, unless it fails every time."""

from dataclasses import replace

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import Operation, PairingState, SideState
from service.observe.events import LogEvent, PairingEnded, RollbackIncomplete
from service.observe.logging import listening
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene


def to_be_undone(here: Scene, failures: int) -> None:
    """Let the other side fail, and then so many tasks that undo this one."""
    here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
    here.spoil(
        ONE, fault("task_fails", method="DELETE", path="/sites/.*", code="PeerBusy", times=failures)
    )


def test_an_undo_task_that_failed_is_tried_again() -> None:
    failures = POLICY.max_losses - 1
    with scene() as here:
        to_be_undone(here, failures)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert pairing.side(pairing.sides[0].appliance).state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == failures + 1
        assert here.events.count("RollbackDelayed") == failures
        assert not here.world.appliances[ONE].peers


def test_an_undo_task_that_fails_every_time_is_given_up_in_its_own_words() -> None:
    told: list[LogEvent] = []
    with scene() as here, listening(told.append):
        to_be_undone(here, failures=100)
        side, _ = here.until_over().sides
        here.until(lambda: any(isinstance(each, PairingEnded) for each in told))
        incomplete = [each for each in told if isinstance(each, RollbackIncomplete)]
        assert incomplete == [RollbackIncomplete(ApplianceName(ONE), "PeerBusy")]
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.code == "PeerBusy"
        assert here.calls(ONE, "DELETE") == POLICY.max_losses
        assert here.world.appliances[ONE].peers


def test_what_a_failed_undo_task_undid_all_the_same_is_not_undone_again() -> None:
    with scene() as here:
        to_be_undone(here, failures=1)
        here.until(lambda: "RollbackDelayed" in here.events)
        here.world.appliances[ONE].peers.clear()
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1


@pytest.mark.parametrize("is_gone", [True, False])
def test_what_is_gone_when_the_time_is_over_is_undone_though_its_task_never_ends(
    *, is_gone: bool
) -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, task_ms=[10**9, 10**9])
        here.until(lambda: here.events[-1] == "TaskAccepted")
        if is_gone:
            here.world.appliances[ONE].peers.clear()
        side, _ = here.until_over().sides
        assert side.state is (SideState.ROLLED_BACK if is_gone else SideState.ROLLBACK_FAILED)
        assert here.calls(ONE, "DELETE") == 1


def test_a_rollback_that_is_resumed_does_not_overtake_the_undo_task_that_it_gave_up() -> None:
    hasty = replace(POLICY, rollback_s=10)
    with scene(a_pairing(retries=1), policy=hasty) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, task_ms=[60_000, 60_000])
        here.befall(ONE, "GET", "/tasks", CallFault.REFUSED)
        here.until(lambda: "RollbackFailed" in here.events)
        side, _ = here.until_over().sides
        assert (side.state, side.error) == (SideState.ROLLED_BACK, None)
        assert here.calls(ONE, "DELETE") == 1


def test_nor_one_whose_call_was_lost() -> None:
    hasty = replace(POLICY, rollback_s=10)
    with scene(a_pairing(retries=1), policy=hasty) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, task_ms=[60_000, 60_000])
        site = here.world.appliances[OTHER].site_id
        here.befall(ONE, "DELETE", f"/sites/{site}", CallFault.ANSWER_LOST)
        here.until(lambda: "RollbackFailed" in here.events)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1


def test_an_appliance_that_is_too_busy_to_undo_is_asked_again_without_a_long_look() -> None:
    """What was refused before it began has changed nothing that a list could be late with."""
    with scene(policy=replace(POLICY, verify_timeout_s=60.0)) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.BUSY, times=6)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 7


def test_nor_does_a_refusal_before_it_shorten_the_look_after_a_lost_call() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, list_lag_ms=10_000)
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.BUSY, times=1)
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.ANSWER_LOST, times=1)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 2


def test_an_undoing_that_gets_on_is_tried_again_soon_after_the_next_failure() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.BUSY, times=8)
        here.until(lambda: here.calls(ONE, "DELETE") == 9)
        here.befall(ONE, "GET", "/sites", CallFault.BUSY, times=1)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        *_, longest, last = here.delays_ms("RollbackDelayed")
        assert last < longest


def test_a_call_back_that_never_does_anything_is_not_made_for_ever() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.LOST)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.code == "RollbackWithoutEffect"
        assert here.calls(ONE, "DELETE") == POLICY.max_losses


UNPAIR = a_pairing(at_s=100.0, operation=Operation.UNPAIR)


def test_an_undo_task_that_did_nothing_is_given_up_once_the_list_had_its_time() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.spoil(ONE, fault("task_lies", method="DELETE", path="/sites/.*"))
        side, _ = here.until_over(2 * POLICY.verify_timeout_s).sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.code == "RollbackWithoutEffect"
        assert here.calls(ONE, "DELETE") == 1


def test_an_undo_task_of_which_no_answer_told_is_not_overtaken() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, task_ms=[60_000, 60_000])
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.ANSWER_LOST, times=1)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1


def test_what_a_task_does_of_which_no_answer_told_is_undone_when_it_has() -> None:
    with scene(a_pairing(timeout_s=20)) as here:
        here.turn(ONE, task_ms=[100_000, 100_000])
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def test_what_a_lost_call_may_still_do_is_waited_for_though_the_next_one_is_through() -> None:
    with scene() as here:
        here.turn(ONE, task_ms=[60_000, 60_000])
        here.turn(OTHER, task_ms=[30_000, 30_000])
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.befall(
            ONE, "GET", "/tasks", CallFault.REFUSED, when=lambda: here.calls(ONE, "POST") < 2
        )
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        here.turn(ONE, task_ms=[80, 220])
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        assert here.calls(ONE, "POST") == 2
        assert here.loop.instant > 60.0


def test_who_was_not_paired_again_in_time_is_not_undone_though_nobody_is_listed() -> None:
    with scene(a_pairing(), UNPAIR) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        here.spoil(OTHER, fault("task_fails", method="DELETE", path="/sites/.*"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, task_ms=[10**9, 10**9])
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED


def test_nor_is_who_was_not_asked_to_go_in_time_where_the_list_is_late() -> None:
    with scene(policy=replace(POLICY, rollback_s=10)) as here:
        here.turn(ONE, list_lag_ms=10**9)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert here.world.appliances[ONE].peers
