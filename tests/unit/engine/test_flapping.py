"""An appliance that answers now and then: nothing is done, and told, without end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import Pairing, PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene
from tests.unit.engine.test_late_lists import hide_tasks

RUNNING_MS = 5_000
PATIENT = replace(POLICY, verify_timeout_s=60.0)


def flap(here: Scene, name: str, times: int) -> None:
    """Let a closed appliance answer until that is known, and no longer; so many times, unless the
    pairing is over before."""
    down = here.stage.air.down
    for _ in range(times):
        here.until(lambda: name in here.tables.closed() or here.pairing.is_over)
        down.discard(name)
        here.until(lambda: name not in here.tables.closed() or here.pairing.is_over)
        down.add(name)


@contextmanager
def refused_by_one_while_the_other_is_away() -> Iterator[Scene]:
    """A pairing that was canceled while both its tasks ran, and is undone on neither side."""
    with scene(a_pairing(cancel_s=1.0), task_ms=(RUNNING_MS, RUNNING_MS)) as here:
        here.spoil(
            ONE, fault("task_fails", method="DELETE", path="/sites/.*", code="PeerBusy", times=None)
        )
        here.until(lambda: "RollbackStarted" in here.events)
        here.stage.air.down.add(OTHER)
        here.until(lambda: here.waits_for == OTHER)
        yield here


def test_what_was_given_up_is_not_tried_again_each_time_the_other_appliance_answers() -> None:
    with refused_by_one_while_the_other_is_away() as here:
        flap(here, OTHER, 1_000)
        one, other = here.until_over().sides
        assert one.state is other.state is SideState.ROLLBACK_FAILED
        assert here.calls(ONE, "DELETE") == POLICY.max_losses
        assert here.events.count("RollbackFailed") == 2
        # And why is told still, though the time is over.
        assert one.error is not None
        assert one.error.code == "PeerBusy"


def test_but_once_more_when_the_other_side_is_undone_which_may_have_been_in_its_way() -> None:
    with refused_by_one_while_the_other_is_away() as here:
        flap(here, OTHER, 3)
        here.on_written = lambda _: (
            here.world.appliances[ONE].faults.clear() if "SideRolledBack" in here.events else None
        )
        here.stage.air.down.discard(OTHER)
        pairing = here.until_over()
        assert pairing.state is PairingState.CANCELED
        assert [side.state for side in pairing.sides] == [SideState.ROLLED_BACK] * 2
        assert here.calls(ONE, "DELETE") == POLICY.max_losses + 1


def test_what_waits_for_it_is_begun_ever_more_seldom_and_soon_when_it_is_back() -> None:
    with scene(a_pairing()) as here:
        is_busy = True
        for method in ("GET", "POST"):
            here.befall(OTHER, method, "/.*", CallFault.BUSY, when=lambda: is_busy)
        begun = []
        for _ in range(30):
            here.until(lambda: OTHER in here.tables.closed())
            is_busy = False
            here.until(lambda: OTHER not in here.tables.closed())
            begun.append(here.loop.instant)
            is_busy = True
        assert begun[1] - begun[0] <= 10.0
        assert min(begun[at] - begun[at - 1] for at in range(20, 30)) >= 15.0
        here.until(lambda: OTHER in here.tables.closed())
        is_busy = False
        assert here.until_over(within_s=25.0).state is PairingState.SUCCEEDED


def flap_for_s(here: Scene, seconds: float) -> Pairing:
    """Let ONE answer for so long, and not for as long, until it is over."""
    while not here.pairing.is_over:
        here.loop.run_until(lambda: here.pairing.is_over, here.loop.instant + seconds)
        here.stage.air.down ^= {ONE}
    return here.pairing


@contextmanager
def one_whose_call_was_lost() -> Iterator[Scene]:
    """A pairing that looks for what a call has done of which nobody tells."""
    with scene(policy=PATIENT) as here:
        hide_tasks(here, ONE)
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "AnswerLost" in here.events)
        here.loop.run_until(lambda: False, here.loop.instant + 3.0)
        yield here


@contextmanager
def one_whose_record_is_gone(cancel_s: float | None = None) -> Iterator[Scene]:
    """A way back that looks for a record on ONE that somebody removed by hand."""
    with scene(a_pairing(cancel_s=cancel_s), policy=PATIENT) as here:
        here.turn(OTHER, task_ms=(RUNNING_MS, RUNNING_MS))
        if cancel_s is None:
            here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: bool(here.world.appliances[ONE].peers))
        here.world.appliances[ONE].peers.clear()
        here.until(lambda: "RollbackStarted" in here.events)
        here.loop.run_until(lambda: False, here.loop.instant + 3.0)
        yield here


@pytest.mark.parametrize("seconds", [20.0, 40.0])
def test_what_is_missed_is_missed_for_good_though_the_appliance_was_away_meanwhile(
    seconds: float,
) -> None:
    with one_whose_call_was_lost() as here:
        assert flap_for_s(here, seconds).state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 2
    with one_whose_record_is_gone() as here:
        one, _ = flap_for_s(here, seconds).sides
        assert one.state is SideState.ROLLED_BACK


def test_but_who_misses_something_does_not_wait_for_ever_where_nobody_answers() -> None:
    for missing in (one_whose_call_was_lost, one_whose_record_is_gone):
        with missing() as here:
            began = here.loop.instant
            here.stage.air.down.add(ONE)
            here.until(lambda: here.waits_for == ONE, within_s=2 * PATIENT.verify_timeout_s + 10)
            assert here.loop.instant > began + PATIENT.verify_timeout_s


def test_who_is_about_to_call_again_misses_nothing_any_more() -> None:
    with one_whose_call_was_lost() as here:
        here.until(lambda: "CallLost" in here.events)
        here.stage.air.down.add(ONE)
        here.until(lambda: here.waits_for == ONE, within_s=PATIENT.verify_timeout_s / 2)


def test_while_one_is_missed_the_other_side_is_undone_as_soon_as_its_appliance_answers() -> None:
    with one_whose_record_is_gone(cancel_s=1.0) as here:
        here.stage.air.down |= {ONE, OTHER}
        here.until(lambda: len(here.tables.closed()) == 2)
        here.loop.run_until(lambda: False, here.loop.instant + PATIENT.idle_s)
        here.stage.air.down.discard(OTHER)
        here.until(lambda: "SideRolledBack" in here.events, within_s=30.0)
        assert here.pairing.side(ApplianceName(OTHER)).state is SideState.ROLLED_BACK
