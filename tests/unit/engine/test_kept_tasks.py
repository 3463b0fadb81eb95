"""An appliance that shows tasks long after their end: what they tell decides how long is looked."""

from dataclasses import replace

import pytest

from service.domain.pairing import Operation, PairingState
from simulator import fault
from tests.simulation.schedule import Wanted
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, POLICY, Scene, a_pairing, scene

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
