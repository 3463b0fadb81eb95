"""An appliance that shows tasks long after their end: what they tell decides how long is looked."""

from dataclasses import replace

import pytest

from service.domain.pairing import Operation, PairingState, SideState
from simulator import fault
from tests.simulation.schedule import Wanted
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, THIRD, Scene, a_pairing, scene

PATIENT = replace(POLICY, verify_timeout_s=60.0)
LAG_MS = 20_000
BEFORE = a_pairing(0, 2)
"""Whose task on ONE is listed ever after."""
PAIR = a_pairing(at_s=30.0)
UNPAIR = a_pairing(at_s=100.0, operation=Operation.UNPAIR)


def until_asked_for(here: Scene, count: int) -> None:
    """Wait for the last of them, whose appliances begin to lag then."""
    here.until(lambda: len(here.tables.pairings) == count)
    here.turn(ONE, list_lag_ms=LAG_MS)


@pytest.mark.parametrize("told", ["told", "omitted"])
def test_a_task_that_may_be_the_lost_calls_and_succeeded_is_waited_for_in_the_list(
    told: str,
) -> None:
    with scene(BEFORE, PAIR, policy=PATIENT, task_result=told) as here:
        until_asked_for(here, 2)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 2


def test_so_is_one_that_unpairs() -> None:
    with scene(BEFORE, PAIR, UNPAIR, policy=PATIENT) as here:
        until_asked_for(here, 3)
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "DELETE") == 1


@pytest.mark.parametrize(
    ("wanted", "method"),
    [((BEFORE, PAIR), "POST"), ((BEFORE, PAIR, UNPAIR), "DELETE")],
    ids=["pair", "unpair"],
)
def test_where_only_others_tasks_are_shown_a_lost_call_is_soon_made_again(
    wanted: tuple[Wanted, ...], method: str
) -> None:
    with scene(*wanted, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == len(wanted))
        began = here.loop.instant
        here.befall(ONE, method, "/sites.*", CallFault.LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.loop.instant - began < PATIENT.verify_timeout_s


def test_nor_does_a_task_that_failed_hold_it_up() -> None:
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        began = here.loop.instant
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.spoil(ONE, fault("task_fails", method="POST", path="/sites"))
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 3
        assert here.loop.instant - began < PATIENT.verify_timeout_s


def test_a_call_that_is_made_again_is_looked_for_as_long_as_the_first() -> None:
    with scene(policy=PATIENT) as here:
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 2


def test_a_call_that_is_lost_every_time_is_given_up() -> None:
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        here.befall(ONE, "POST", "/sites", CallFault.LOST)
        side = here.until_over().failed_side
        assert side is not None
        assert side.error is not None
        assert side.error.code == "ConnectionLost"
        assert here.calls(ONE, "POST") == 1 + PATIENT.max_losses


def test_what_a_task_did_before_holds_up_no_call_back_that_was_lost() -> None:
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        began = here.loop.instant
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.LOST, times=1)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 2
        assert here.loop.instant - began < PATIENT.verify_timeout_s


@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "forgotten"])
def test_a_list_that_is_shown_no_more_is_no_proof_that_a_task_would_be_in_it(
    *, is_refused: bool
) -> None:
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        here.turn(ONE, list_lag_ms=LAG_MS, task_ms=(1, 1), queued_ms=0, task_retention_ms=1)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        if is_refused:
            here.befall(ONE, "GET", "/tasks", CallFault.REFUSED)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 3


def test_that_a_task_failed_which_one_may_not_ask_about_is_found_out_soon() -> None:
    with scene(policy=PATIENT) as here:
        here.befall(ONE, "POST", "/tasks/poll", CallFault.REFUSED)
        here.befall(ONE, "GET", "/tasks/.+", CallFault.REFUSED)
        here.spoil(ONE, fault("task_fails", method="POST", path="/sites"))
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 2
        assert "CallLost" in here.events
        assert here.loop.instant < PATIENT.verify_timeout_s


def test_where_one_call_was_lost_and_the_task_of_the_next_failed_the_way_back_is_short() -> None:
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        began = here.loop.instant
        here.stage.call_by_hand(ONE, THIRD, pairs=False)
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.spoil(ONE, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        assert side.state is SideState.FAILED
        assert here.calls(ONE, "POST") == 3
        assert here.loop.instant - began < PATIENT.verify_timeout_s


def lose_sight_of_the_last_task(here: Scene) -> None:
    """Let the last task on ONE, and no other, be shown to us no more."""
    appliance = here.world.appliances[ONE]
    last = next(appliance.tasks.newest_first(here.stage.now_ms, appliance.knobs))
    last.user = "somebody else"


def test_a_task_that_nobody_is_shown_any_more_may_have_done_its_work_whatever_else_is_shown() -> (
    None
):
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        until_asked_for(here, 2)
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        lose_sight_of_the_last_task(here)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 2


def test_what_a_task_did_after_the_time_was_over_is_undone_though_the_list_shows_it_late() -> None:
    hasty = a_pairing(timeout_s=5)
    with scene(hasty, policy=PATIENT) as here:
        here.turn(ONE, task_ms=(10_000, 10_000), list_lag_ms=LAG_MS)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "hidden"])
def test_nor_does_a_list_tell_that_showed_a_task_as_running_and_shows_it_no_more(
    *, is_refused: bool
) -> None:
    with scene(BEFORE, PAIR, policy=PATIENT) as here:
        until_asked_for(here, 2)
        here.turn(ONE, task_ms=(6_000, 6_000))
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.until(lambda: here.calls(ONE, "POST", "/tasks/poll") > 2)
        if is_refused:
            for method in ("GET", "POST"):
                here.befall(ONE, method, "/tasks.*", CallFault.REFUSED)
        else:
            lose_sight_of_the_last_task(here)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 2
