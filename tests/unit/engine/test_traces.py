"""What a pairing keeps that did not succeed is in the lists when it is over: nobody who comes next
takes it for their own."""

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import OnFailure, Operation, PairingState, SideState
from service.engine import traces
from service.observe.events import LogEvent
from service.observe.logging import listening
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, THIRD, a_pairing, scene

LAG_MS = 8_000
KEPT = a_pairing(on_failure=OnFailure.KEEP)
CANCELED = a_pairing(on_failure=OnFailure.KEEP, cancel_s=1.0)
PAIR = a_pairing()
UNPAIR = a_pairing(at_s=100.0, operation=Operation.UNPAIR, on_failure=OnFailure.KEEP, cancel_s=1.0)


@pytest.mark.parametrize("late", [ONE, OTHER])
def test_the_list_shows_what_a_canceled_pairing_keeps(late: str) -> None:
    with scene(CANCELED) as here:
        here.turn(late, list_lag_ms=LAG_MS)
        assert here.until_over().state is PairingState.CANCELED
        assert [side.state for side in here.pairing.sides] == [SideState.SUCCEEDED] * 2
        assert here.world.appliances[late].kept_list


def test_and_what_a_canceled_unpairing_has_removed() -> None:
    with scene(PAIR, UNPAIR) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        here.turn(ONE, list_lag_ms=LAG_MS)
        assert here.until_over().state is PairingState.CANCELED
        assert [side.state for side in here.pairing.sides] == [SideState.SUCCEEDED] * 2
        assert not here.world.appliances[ONE].kept_list
        assert here.loop.instant < 100.0 + POLICY.verify_timeout_s


def test_and_what_a_canceled_repair_has_changed() -> None:
    repair = a_pairing(
        at_s=100.0, operation=Operation.REPAIR, on_failure=OnFailure.KEEP, cancel_s=1.0
    )
    with scene(PAIR, repair) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        (record,) = here.world.appliances[ONE].peers.values()
        record.thumbprint = here.world.appliances[THIRD].api_thumbprint
        here.turn(ONE, list_lag_ms=LAG_MS)
        pairing = here.until_over()
        assert pairing.state is PairingState.CANCELED
        assert here.calls(ONE, "PUT") == 1
        assert here.loop.instant < 100.0 + POLICY.verify_timeout_s
        (listed,) = here.world.appliances[ONE].kept_list
        assert listed.thumbprint == here.world.appliances[OTHER].api_thumbprint


def test_who_comes_next_finds_what_one_with_a_failed_side_keeps() -> None:
    with scene(KEPT, a_pairing(at_s=30.0)) as here:
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites", times=1))
        here.until(lambda: "PairingFailed" in here.events)
        assert here.loop.instant >= LAG_MS / 1000
        here.until(lambda: len(here.tables.pairings) == 2)
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED
        assert pairing.sides[0].state is SideState.ALREADY_PAIRED
        assert here.calls(ONE, "POST") == 1


@pytest.mark.parametrize("looks", [None, CallFault.BUSY, CallFault.REFUSED])
def test_it_ends_though_no_list_ever_shows_it(looks: CallFault | None) -> None:
    with scene(KEPT) as here:
        here.spoil(ONE, fault("task_lies", method="POST", path="/sites"))
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        if looks is not None:
            here.befall(ONE, "GET", "/sites", looks, when=lambda: "SidePaired" in here.events)
        assert here.until_over(within_s=3 * POLICY.verify_timeout_s).state is PairingState.FAILED


@pytest.mark.parametrize("shown_to", [None, CallFault.REFUSED, CallFault.UNREACHABLE])
def test_a_list_that_shows_it_or_that_nobody_is_shown_holds_up_no_end(
    shown_to: CallFault | None,
) -> None:
    with scene(KEPT) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.turn(OTHER, task_ms=(3_000, 3_000))
        here.until(lambda: "SidePaired" in here.events)
        if shown_to is not None:
            here.befall(ONE, "GET", "/sites", shown_to)
        assert here.until_over(within_s=POLICY.verify_timeout_s - 5.0).state is PairingState.FAILED


def test_what_was_verified_in_vain_is_not_looked_for_again() -> None:
    with scene(KEPT) as here:
        here.spoil(ONE, fault("task_lies", method="POST", path="/sites"))
        assert here.until_over(within_s=1.5 * POLICY.verify_timeout_s).state is PairingState.FAILED


def test_a_defect_met_there_does_not_hide_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> bool:
        raise ZeroDivisionError

    told: list[LogEvent] = []
    monkeypatch.setattr(traces, "_shows", crash)
    with scene(KEPT) as here, listening(told.append):
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites", code="PeerBusy"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert pairing.error is not None
        assert pairing.error.code == "PeerBusy"
    assert "error" in {event.level for event in told}


def test_nor_does_an_appliance_that_was_removed_meanwhile() -> None:
    told: list[LogEvent] = []
    with scene(KEPT) as here, listening(told.append):
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites", code="PeerBusy"))
        here.until(lambda: "SidePaired" in here.events)
        here.befall(ONE, "GET", "/sites", CallFault.SESSION_GONE)
        here.tables.remove(ApplianceName(ONE))
        pairing = here.until_over()
        assert pairing.error is not None
        assert pairing.error.code == "PeerBusy"
    assert {event.level for event in told} == {"info"}


def test_what_did_nothing_waits_for_no_list() -> None:
    with scene(KEPT) as here:
        for name in (ONE, OTHER):
            here.befall(name, "POST", "/sites", CallFault.REFUSED)
        assert here.until_over(within_s=3.0).state is PairingState.FAILED
