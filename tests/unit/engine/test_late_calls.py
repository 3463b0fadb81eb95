"""A call that nobody waits for any more is come to late: what was missed before its task does not
count."""

from service.domain.pairing import OnFailure, PairingState
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, a_pairing, scene


def test_what_a_late_call_made_has_its_time_to_be_listed_from_the_end_of_its_task_on() -> None:
    late_s = POLICY.verify_timeout_s
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "AnswerLost" in here.events)
        here.loop.run_until(lambda: False, here.loop.instant + POLICY.settle_s / 2)
        here.turn(ONE, task_ms=(int(late_s * 1500),) * 2, list_lag_ms=int(late_s * 700))
        here.stage.call_by_hand(ONE, OTHER, pairs=True)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 1


def test_a_call_of_the_try_before_may_come_after_the_first_look_of_the_next_one() -> None:
    with scene(a_pairing(timeout_s=5, on_failure=OnFailure.KEEP, retries=1)) as here:
        here.befall(ONE, "POST", "/sites", CallFault.HANGS, times=1)
        here.until(lambda: "PairingRetried" in here.events)
        here.loop.run_until(lambda: False, here.loop.instant + POLICY.settle_s / 2)
        here.stage.call_by_hand(ONE, OTHER, pairs=True)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 1
