"""What is left of a try before is waited for, and nothing else: no call is made twice, nor late."""

from service.domain.pairing import OnFailure, PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, Scene, a_pairing, scene

SLOW_MS = [60_000, 60_000]
OUTLASTED = a_pairing(on_failure=OnFailure.KEEP, timeout_s=40, retries=1)
"""Its tasks are under way yet when it fails, and over before the second try is."""


def posts(here: Scene) -> list[int]:
    """How often each side was asked to pair."""
    return [here.calls(name, "POST") for name in (ONE, OTHER)]


def test_a_task_that_a_try_before_left_running_is_not_overtaken() -> None:
    with scene(OUTLASTED, task_ms=SLOW_MS) as here:
        here.until(lambda: "PairingRetried" in here.events)
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED
        assert {side.state for side in pairing.sides} == {SideState.ALREADY_PAIRED}
        assert posts(here) == [1, 1]


def test_nor_is_it_by_another_worker_that_takes_over_before_the_first_look_succeeded() -> None:
    with scene(OUTLASTED, task_ms=SLOW_MS) as here:
        here.until(lambda: "PairingRetried" in here.events)
        for name in (ONE, OTHER):
            here.befall(name, "GET", "/tasks", CallFault.FAILS_AFTERWARDS, times=1)
        here.until(lambda: here.events.count("RequestDeferred") == 2)
        (worker,) = here.stage.living
        assert worker.task is not None
        worker.task.cancel()
        here.until(lambda: "PairingHandedBack" in here.events)
        here.stage.start_another(worker)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert posts(here) == [1, 1]


def test_a_later_try_waits_for_nobody_else_once_it_has_looked() -> None:
    with scene(a_pairing(retries=1)) as here:
        here.spoil(ONE, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "PairingRetried" in here.events)
        here.befall(ONE, "POST", "/sites", CallFault.BUSY, times=1)
        here.until(lambda: "RequestDeferred" in here.events)
        # Somebody else's task on the same appliance, under the same account.
        here.turn(ONE, task_ms=SLOW_MS)
        here.stage.call_by_hand(ONE, "site-3", pairs=True)
        here.turn(ONE, task_ms=[80, 220])
        began = here.loop.instant
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.loop.instant < began + 20


def test_after_a_call_that_was_lost_no_look_misses_a_task_that_it_began_late() -> None:
    """An appliance may be slower than two looks that miss what a call does."""
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        here.turn(ONE, task_ms=SLOW_MS)
        # What it makes of the call now.
        here.stage.call_by_hand(ONE, OTHER, pairs=True)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert posts(here) == [1, 1]


def test_what_it_waited_for_in_vain_is_told() -> None:
    with scene(OUTLASTED, task_ms=[10_000_000, 10_000_000]) as here:
        here.befall(OTHER, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.until(lambda: "PairingFailed" in here.events)
        one, other = (side.error for side in here.pairing.sides)
        assert one is not None
        assert other is not None
        assert one.msg.startswith("Gave up waiting for task ")
        assert other.msg.startswith(f"Gave up finding out what a call to '{OTHER}' has done: ")
        # Of the second try, whichever of its sides is the first to run out of time.
        late = here.until_over().failed_side
        assert late is not None
        assert late.error is not None
        awaited = f"the end of what was asked of '{late.appliance}' before"
        assert late.error.msg.startswith(f"Gave up waiting for {awaited}")
        assert posts(here) == [1, 1]


def test_what_was_there_unrecognized_stays_after_a_later_try_too() -> None:
    """The calls of a try before had no effect: what this one's met is older."""
    with scene(a_pairing(at_s=10.0, retries=1), already_paired="succeeds") as here:
        for holder, peer in ((ONE, OTHER), (OTHER, ONE)):
            here.stage.call_by_hand(holder, peer, pairs=True)
            here.befall(holder, "POST", "/sites", CallFault.REFUSED, times=1)
        here.until(lambda: here.loop.instant > 5.0)
        here.world.settle(here.stage.now_ms)
        for holder, peer in ((ONE, OTHER), (OTHER, ONE)):
            # At an address that nobody registered: no look finds it.
            record = here.world.appliances[holder].peers[here.world.appliances[peer].site_id]
            record.url, record.shown = "https://10.0.0.1:8048", None
        here.until(lambda: "PairingRetried" in here.events)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        pairing = here.until_over()
        assert [side.state for side in pairing.sides] == [
            SideState.ALREADY_PAIRED,
            SideState.FAILED,
        ]
        assert all(here.world.appliances[name].peers for name in (ONE, OTHER))
        assert here.calls(ONE, "DELETE") == 0


def test_a_side_that_gets_on_is_tried_again_soon_after_the_next_failure() -> None:
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.BUSY, times=8)
        here.until(lambda: here.calls(ONE, "POST") == 8)
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        here.befall(ONE, "POST", "/sites", CallFault.BUSY, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        *_, longest, last = here.delays_ms("RequestDeferred")
        assert last < longest
