"""What is only noted costs no transaction of its own, and is durable soon all the same."""

from dataclasses import replace
from math import inf

import pytest

from service.domain.events import PairingEvent, SideEvent
from service.domain.pairing import Operation, PairingState
from service.engine.case import Case
from service.observe.events import LogEvent, PairingEnded, PairingMoved
from service.observe.logging import listening
from service.store.journal import PATIENCE_S
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene

SOON_S = 2 * POLICY.note_s + 0.1


def transactions(here: Scene) -> list[int]:
    """How many events each of its transactions holds."""
    written: list[int] = []
    here.on_written = lambda each: written.append(len(each.entries))
    return written


def test_a_pairing_that_goes_well_takes_few_transactions() -> None:
    with scene() as here:
        sizes = transactions(here)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert len(sizes) <= 5
        # Both sides through, the look from both ends, and the end of it.
        assert sizes[-1] == 6
        assert sum(sizes) == len(here.events) - 1


def test_that_it_was_begun_is_durable_though_the_first_look_hangs() -> None:
    with scene() as here:
        for name in (ONE, OTHER):
            here.befall(name, "GET", "/sites", CallFault.HANGS)
        here.until(lambda: bool(here.events))
        here.until(lambda: "PairingStarted" in here.events, here.loop.instant + 1 + SOON_S)
        assert here.calls(ONE, "POST") == 0


def test_the_end_is_told_once_though_notes_are_written_meanwhile() -> None:
    told: list[LogEvent] = []
    with listening(told.append), scene(policy=replace(POLICY, note_s=0.01)) as here:
        here.stage.air.weather.store_way_s = 0.3
        here.until_over()
        here.until(lambda: any(isinstance(each, PairingEnded) for each in told))
        changes = [each for each in told if isinstance(each, PairingMoved)]
        moves = [move.type for change in changes for move in change.moves]
        assert moves == here.events[1:]
        (ended,) = [each for each in told if isinstance(each, PairingEnded)]
        assert ended.seconds == pytest.approx(here.loop.instant, abs=1.0)


def test_an_end_is_written_by_who_drives_it_and_by_nobody_else() -> None:
    ends: list[bool] = []

    class Watched(Case):
        def note(self, *events: PairingEvent | SideEvent) -> None:
            super().note(*events)
            ends.append(self.pairing.is_over and self.has_notes(inf))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.engine.worker.Case", Watched)
        with scene() as here:
            assert here.until_over().state is PairingState.SUCCEEDED
    assert ends
    assert not any(ends)


@pytest.mark.parametrize("quick", [ONE, OTHER])
def test_that_one_side_is_through_is_durable_while_the_other_takes_its_time(quick: str) -> None:
    slow = OTHER if quick == ONE else ONE
    with scene() as here:
        here.turn(slow, task_ms=(60_000, 60_000))
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        began = here.loop.instant
        here.until(lambda: "SidePaired" in here.events)
        assert here.loop.instant - began < 2 + SOON_S
        assert here.until_over().state is PairingState.SUCCEEDED


def test_what_was_noted_and_lost_with_its_worker_is_found_out_again() -> None:
    with scene(policy=replace(POLICY, note_s=600.0)) as here:
        here.turn(OTHER, task_ms=(60_000, 60_000))
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        here.loop.run_until(lambda: False, here.loop.instant + 10)
        (worker,) = here.stage.living
        here.loop.crash(worker.node)
        assert "SidePaired" not in here.events
        here.stage.start_another(worker)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == here.calls(OTHER, "POST") == 1


def test_what_the_database_was_not_there_for_is_found_out_again_too() -> None:
    """The worker lives, and what it was to note is ahead of what is stored."""
    with scene(policy=replace(POLICY, note_s=1.0)) as here:
        here.turn(OTHER, task_ms=(200_000, 200_000))
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        here.loop.run_until(lambda: False, here.loop.instant + 0.9)
        assert "SidePaired" not in here.events
        here.stage.database.is_down = True
        here.loop.run_until(lambda: False, here.loop.instant + PATIENCE_S + 2)
        here.stage.database.heal()
        assert here.until_over(400.0).state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == here.calls(OTHER, "POST") == 1


@pytest.mark.parametrize(
    ("operation", "before", "seen", "most"),
    [
        (Operation.PAIR, Operation.PAIR, "PeerFound", 1),
        (Operation.UNPAIR, Operation.PAIR, "SideUnpaired", 5),
        (Operation.UNPAIR, Operation.UNPAIR, "PeerGone", 1),
    ],
)
def test_what_was_seen_of_a_side_costs_no_transaction_either(
    operation: Operation, before: Operation, seen: str, most: int
) -> None:
    wanted = a_pairing(operation=before), a_pairing(at_s=100.0, operation=operation)
    with scene(*wanted) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        sizes = transactions(here)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.events.count(seen) == 2
        assert len(sizes) <= most
