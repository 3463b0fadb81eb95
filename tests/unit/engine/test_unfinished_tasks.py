"""The time is over: whoever gives up says what was heard last, of a task how it stood."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.domain.pairing import PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, Scene, a_pairing, scene

NEVER_MS = (10**9, 10**9)
HAS_RUN_MS = (200_000, 200_000)
STATES = ("PAUSED", "CANCELLED")
"""After RUNNING; the last one when a deadline of 180 s is over."""


@pytest.mark.parametrize("bulk_poll", ["yes", "404"])
def test_who_gives_up_a_task_says_how_it_stood(bulk_poll: str) -> None:
    with scene(a_pairing(timeout_s=180)) as here:
        here.turn(ONE, task_ms=HAS_RUN_MS, extra_states=STATES, bulk_poll=bulk_poll)
        here.until(lambda: "RollbackStarted" in here.events)
        error = here.pairing.error
        assert error is not None
        assert error.code == "DeadlineExceeded"
        task_id = here.pairing.sides[0].task_id
        assert error.msg == (
            f"Gave up waiting for task {task_id} on '{ONE}': the pairing's 180 s are over. "
            f"Heard last: task {task_id} was CANCELLED."
        )
        assert here.until_over().state is PairingState.FAILED


def test_so_does_who_gives_up_undoing() -> None:
    with scene() as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.turn(ONE, task_ms=NEVER_MS)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.msg.endswith(f" Heard last: task {side.task_id} was RUNNING.")


def test_who_was_never_let_in_says_why() -> None:
    with scene(a_pairing(timeout_s=60)) as here:
        here.befall(ONE, "POST", "/sites", CallFault.BUSY)
        error = here.until_over().error
        assert error is not None
        assert error.msg == (
            f"Gave up calling '{ONE}': the pairing's 60 s are over. "
            "Heard last: The appliance answered 503 Service Unavailable."
        )


@contextmanager
def record_of_somebody_else(task_s: int) -> Iterator[Scene]:
    """A pairing whose own task outlasts it, and half of the time for its rollback: meanwhile
    somebody has made the very record that it would make."""
    with scene(a_pairing(timeout_s=30)) as here:
        here.turn(ONE, task_ms=(task_s * 1000, task_s * 1000))
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        here.turn(ONE, task_ms=(100, 100))
        here.stage.pair_by_hand(ONE, OTHER)
        yield here


UNANSWERED = (CallFault.ANSWER_LOST, CallFault.FAILS_AFTERWARDS)


@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("lost", [None, *UNANSWERED])
@pytest.mark.parametrize("task_s", [200, 295], ids=["soon", "late"])
def test_what_its_own_task_makes_anew_after_it_was_undone_is_undone_again(
    task_s: int, lost: CallFault | None, *, is_listed: bool
) -> None:
    with record_of_somebody_else(task_s) as here:
        here.befall(ONE, "GET", "/tasks", CallFault.REFUSED, when=lambda: not is_listed)
        if lost is not None:
            here.befall(ONE, "DELETE", "/sites/.*", lost, times=1)
        side, _ = here.until_over().sides
        assert here.calls(ONE, "DELETE") == 2
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def test_nor_does_that_stay_for_want_of_time() -> None:
    with record_of_somebody_else(320) as here:
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


@pytest.mark.parametrize("lost", [None, *UNANSWERED])
def test_that_it_may_do_so_when_the_time_is_over_is_said(lost: CallFault | None) -> None:
    with record_of_somebody_else(1_000) as here:
        if lost is not None:
            here.befall(ONE, "DELETE", "/sites/.*", lost, times=1)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.msg.endswith("what made it is not through yet, and may bring it back.")


def test_whoever_goes_on_with_the_rollback_outlasts_it_as_well() -> None:
    with record_of_somebody_else(200) as here:
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        here.stage.start_another(here.stop())
        side, _ = here.until_over().sides
        assert here.calls(ONE, "DELETE") == 2
        assert side.state is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers
