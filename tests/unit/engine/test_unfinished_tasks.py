"""The time is over: whoever gives up says what was heard last, of a task how it stood."""

import pytest

from service.domain.pairing import PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, a_pairing, scene

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
