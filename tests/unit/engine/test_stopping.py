"""A worker that stops while its appliances take their time."""

import pytest

from service.domain.pairing import PairingState
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, scene


@pytest.mark.parametrize(("hanging", "slow"), [(ONE, OTHER), (OTHER, ONE)])
def test_who_stops_calls_nobody_any_more_whichever_side_holds_it_up(
    hanging: str, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene() as here:
        # What is slow is over within the time that the hanging call gets.
        chance = here.stage.air.rng
        monkeypatch.setattr(chance, "uniform", lambda low, high: min(2.0, (low + high) / 2))
        here.befall(hanging, "POST", "/sites", CallFault.HANGS)
        here.befall(slow, "GET", "/sites", CallFault.SLOW, times=1)
        here.until(lambda: here.calls(hanging, "POST") == 1)
        began = here.loop.instant
        here.stop()
        assert here.loop.instant - began < POLICY.grace_s + 1
        assert here.calls(slow, "POST") == 0


@pytest.mark.parametrize("tenths", range(0, 60, 2))
def test_who_is_told_to_stop_while_it_winds_up_as_dead_stops_and_is_not_born_again(
    tenths: int,
) -> None:
    with scene(task_ms=(60_000, 60_000)) as here:
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        (worker,) = here.stage.living
        task = worker.task
        assert task is not None
        here.tables.workers.clear()  # Others thought it dead.
        here.stage.air.weather.store_way_s = 2.0
        here.loop.post(worker.node, tenths / 10, task.cancel)
        here.until(task.done, within_s=POLICY.grace_s + 20)
        assert task.cancelled()


def test_what_is_under_way_is_handed_back_and_counted() -> None:
    with scene(task_ms=(60_000, 60_000)) as here:
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        worker = here.stop()
        assert here.events[-1] == "PairingHandedBack"
        assert not here.is_claimed
        assert worker.succession is not None
        assert worker.succession.current.handed_back == 1


def test_a_database_that_hangs_keeps_nobody_from_stopping() -> None:
    with scene() as here:
        assert here.until_over().state is PairingState.SUCCEEDED
        here.stage.air.weather.store_way_s = 100.0
        began = here.loop.instant
        here.stop()
        assert here.loop.instant - began < POLICY.grace_s + 1


def test_nor_does_one_that_is_not_there() -> None:
    with scene() as here:
        assert here.until_over().state is PairingState.SUCCEEDED
        here.loop.run_until(lambda: False, here.loop.instant + 1)  # Its end is written, and heard.
        here.stage.database.is_down = True
        here.stop()


def test_who_was_declared_dead_is_born_again_and_goes_on() -> None:
    with scene(task_ms=(60_000, 60_000)) as here:
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        (worker,) = here.stage.living
        here.tables.workers.clear()
        here.until(lambda: len(worker.workers) == 2, within_s=2 * POLICY.beat_s)
        assert worker.is_up
