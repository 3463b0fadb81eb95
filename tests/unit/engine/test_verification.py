"""Only what is seen wrong fails a verification before the deadline, and nothing outlasts that."""

import pytest

from service.domain.pairing import PairingState, Phase, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene

LONG_S = 3 * POLICY.verify_timeout_s


def blinded(here: Scene, appliance: str, until_s: float = float("inf")) -> None:
    """Let its list of peers not be had while the pairing is looked at."""
    here.befall(
        appliance,
        "GET",
        "/sites",
        CallFault.FAILS_AFTERWARDS,
        when=lambda: is_looked_at(here) and here.loop.instant < until_s,
    )


def is_looked_at(here: Scene) -> bool:
    """Whether whoever reads the list of peers now does so to verify."""
    is_called = here.events.count("TaskAccepted") == 2
    return is_called and here.pairing.phase is not Phase.ROLLING_BACK


def darkened(here: Scene, until_s: float) -> None:
    """Let both see, from when they are looked at, that one does not reach the other."""

    def darken() -> None:
        if is_looked_at(here):
            here.on_look = lambda: None
            left_ms = int((until_s - here.loop.instant) * 1000)
            here.world.darken(OTHER, here.stage.now_ms, left_ms)

    here.on_look = darken


def test_who_could_not_look_for_longer_than_a_verification_takes_fails_nothing() -> None:
    with scene() as here:
        blinded(here, ONE, until_s=LONG_S)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.loop.instant >= LONG_S


def test_what_one_side_sees_wrong_does_not_count_while_the_other_cannot_look() -> None:
    with scene() as here:
        darkened(here, until_s=LONG_S)
        blinded(here, OTHER, until_s=LONG_S)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.loop.instant >= LONG_S


def test_who_cannot_look_until_the_deadline_fails_then_and_what_was_done_is_undone() -> None:
    with scene(a_pairing(timeout_s=120)) as here:
        blinded(here, ONE)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert pairing.error is not None
        assert pairing.error.code == "DeadlineExceeded"
        assert pairing.error.msg.startswith(f"Gave up looking at the peers of '{ONE}': ")
        assert "Heard last: " in pairing.error.msg
        assert {side.state for side in pairing.sides} == {SideState.ROLLED_BACK}
        assert 120 <= here.loop.instant < 140


def test_a_look_that_hangs_does_not_outlast_the_deadline() -> None:
    with scene(a_pairing(timeout_s=10)) as here:
        here.befall(ONE, "GET", "/sites", CallFault.HANGS, when=lambda: is_looked_at(here))
        here.until(lambda: here.events[-1:] == ["RollbackStarted"], within_s=10 + POLICY.note_s)
        assert here.pairing.error is not None
        assert here.pairing.error.code == "DeadlineExceeded"


def test_who_comes_to_look_when_the_time_is_over_looks_all_the_same() -> None:
    with scene(a_pairing(timeout_s=30), task_ms=(80, 220)) as here:
        blinded(here, ONE, until_s=25)
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        here.until(lambda: here.pairing.phase is Phase.VERIFYING, within_s=10)
        (worker,) = here.stage.living
        here.loop.crash(worker.node)
        here.loop.run_until(lambda: False, 40)
        here.stage.start_another(worker)
        assert here.until_over().state is PairingState.SUCCEEDED


def test_what_is_seen_wrong_all_the_time_fails_when_the_verification_is_over() -> None:
    with scene() as here:
        here.spoil(ONE, fault("task_mismatch", method="POST", path="/sites"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert pairing.error is not None
        assert pairing.error.code == "CertificateMismatch"
        assert POLICY.verify_timeout_s <= here.loop.instant < 2 * POLICY.verify_timeout_s


def test_the_time_for_which_a_worker_was_stopped_does_not_count() -> None:
    """What it sees just after that may be as old as its last look."""
    with scene() as here:
        darkened(here, until_s=34.0)
        here.until(lambda: "VerificationStarted" in here.events)
        here.loop.run_until(lambda: False, 5.0)
        (worker,) = here.stage.living
        here.loop.pause(worker.node)
        here.loop.run_until(lambda: False, 32.0)
        here.loop.resume(worker.node)
        assert worker.is_up
        assert here.until_over().state is PairingState.SUCCEEDED


@pytest.mark.parametrize("timeout_s", [20, 60])
def test_an_appliance_that_stays_closed_holds_a_verification_up_until_the_deadline_only(
    timeout_s: int,
) -> None:
    with scene(a_pairing(timeout_s=timeout_s)) as here:
        blinded(here, ONE)
        here.until(lambda: "VerificationStarted" in here.events)
        here.stage.air.down.add(ONE)
        here.until(lambda: "PairingParked" in here.events)
        here.until(lambda: here.pairing.phase is Phase.ROLLING_BACK, within_s=timeout_s + 10)
        pairing = here.until_over(POLICY.rollback_s + 30)
        assert pairing.state is PairingState.FAILED
        assert [side.state for side in pairing.sides] == [
            SideState.ROLLBACK_FAILED,
            SideState.ROLLED_BACK,
        ]


def test_nor_does_it_when_nobody_can_look_just_as_its_time_is_over() -> None:
    with scene() as here:
        darkened(here, until_s=20.0)
        here.until(lambda: "VerificationStarted" in here.events)
        # In the last of its pauses, which takes seconds.
        here.until(lambda: here.loop.instant > POLICY.verify_timeout_s - 3)
        blinded(here, ONE, until_s=25.0)
        blinded(here, OTHER, until_s=25.0)
        assert here.until_over().state is PairingState.SUCCEEDED


@pytest.mark.parametrize("blind", [ONE, OTHER])
def test_what_is_seen_wrong_is_told_rather_than_that_somebody_could_not_look(blind: str) -> None:
    seeing = OTHER if blind == ONE else ONE
    with scene(a_pairing(timeout_s=60)) as here:
        here.spoil(seeing, fault("task_mismatch", method="POST", path="/sites"))
        blinded(here, blind)
        pairing = here.until_over()
        assert pairing.error is not None
        assert pairing.error.code == "CertificateMismatch"


def test_a_list_that_is_shown_to_nobody_by_then_fails_it_in_its_own_words() -> None:
    with scene() as here:
        here.befall(ONE, "GET", "/sites", CallFault.REFUSED, when=lambda: is_looked_at(here))
        pairing = here.until_over()
        assert pairing.error is not None
        assert pairing.error.code == "Forbidden"
        assert [side.state for side in pairing.sides] == [SideState.ROLLED_BACK] * 2
