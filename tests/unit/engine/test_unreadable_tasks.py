"""An appliance that answers about a task, and never to any use: the list of peers decides."""

import pytest

from service.domain.pairing import Operation, PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene

PAIR = a_pairing()


def blur_tasks(here: Scene, appliance: str) -> None:
    """Let nobody be told of use about single tasks there."""
    here.befall(appliance, "POST", "/tasks/poll", CallFault.REFUSED)
    here.befall(appliance, "GET", "/tasks/.*", CallFault.FAILS_AFTERWARDS)


@pytest.mark.parametrize("operation", Operation)
def test_what_a_task_did_that_cannot_be_read_is_seen_in_the_list(operation: Operation) -> None:
    with scene(PAIR, a_pairing(at_s=100.0, operation=operation)) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        if operation is not Operation.UNPAIR:
            here.world.appliances[ONE].peers.clear()
        blur_tasks(here, ONE)
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_task_that_cannot_be_read_and_runs_long_is_not_asked_for_again(
    *, is_listed: bool
) -> None:
    with scene() as here:
        here.turn(ONE, task_ms=(400_000, 400_000))
        blur_tasks(here, ONE)
        if not is_listed:
            here.befall(ONE, "GET", "/tasks", CallFault.REFUSED)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 1


def test_a_bulk_poll_that_hangs_delays_a_pairing_by_one_look() -> None:
    with scene() as here:
        here.befall(ONE, "POST", "/tasks/poll", CallFault.HANGS)
        assert here.until_over(within_s=30.0).state is PairingState.SUCCEEDED
        assert "PairingParked" not in here.events


@pytest.mark.parametrize("bulk", [CallFault.REFUSED, CallFault.HANGS])
def test_what_a_task_did_that_nothing_is_heard_about_is_seen_in_the_list(bulk: CallFault) -> None:
    with scene() as here:
        here.befall(ONE, "POST", "/tasks/poll", bulk)
        here.befall(ONE, "GET", "/tasks/.*", CallFault.HANGS)
        assert here.until_over(within_s=200.0).state is PairingState.SUCCEEDED
        # It is the calls that hang, not the appliance.
        assert "PairingParked" not in here.events


def test_what_is_undone_by_a_task_that_cannot_be_read_is_seen_in_the_list() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackRequested" in here.events)
        blur_tasks(here, ONE)
        began_at = here.loop.instant
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert {side.state for side in pairing.sides} == {SideState.ROLLED_BACK, SideState.FAILED}
        assert here.loop.instant - began_at < 250.0


def test_what_a_task_made_is_undone_at_once_though_it_cannot_be_read_any_more() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        blur_tasks(here, ONE)
        began_at = here.loop.instant
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        assert here.loop.instant - began_at < POLICY.settle_s
