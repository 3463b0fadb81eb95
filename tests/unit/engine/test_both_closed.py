"""A way back on which an appliance is closed, or both, goes on as soon as one answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState, SideState
from tests.support.arrays import elements
from tests.unit.engine.scene import ONE, OTHER, Scene, a_pairing, scene

RUNNING_MS = 5_000


@contextmanager
def on_its_way_back() -> Iterator[Scene]:
    """A pairing that was canceled while the tasks of both its sides ran."""
    with scene(a_pairing(cancel_s=1.0), task_ms=(RUNNING_MS, RUNNING_MS)) as here:
        here.until(lambda: "RollbackStarted" in here.events)
        yield here


@pytest.mark.parametrize("is_awaited", [True, False])
def test_what_can_be_undone_is_though_the_other_appliance_stays_away(*, is_awaited: bool) -> None:
    with on_its_way_back() as here:
        here.stage.air.down |= {ONE, OTHER}
        here.until(lambda: here.waits_for is not None)
        comes_back = ONE if (here.waits_for == ONE) is is_awaited else OTHER
        here.until(lambda: len(here.tables.closed()) == 2)
        here.stage.air.down.discard(comes_back)
        here.until(lambda: "SideRolledBack" in here.events, within_s=60.0)
        pairing = here.until_over()
        assert pairing.state is PairingState.CANCELED
        left = {str(side.appliance): side.state for side in pairing.sides}
        assert left.pop(comes_back) is SideState.ROLLED_BACK
        assert list(left.values()) == [SideState.ROLLBACK_FAILED]


def test_what_opens_while_the_other_side_is_undone_is_undone_meanwhile() -> None:
    with on_its_way_back() as here:
        here.turn(OTHER, task_ms=(1_000_000, 1_000_000))
        here.stage.air.down.add(ONE)
        here.until(lambda: ONE in here.tables.closed())
        here.stage.air.down.discard(ONE)
        pairing = here.until_over()
        left = {str(side.appliance): side.state for side in pairing.sides}
        assert left == {ONE: SideState.ROLLED_BACK, OTHER: SideState.ROLLBACK_FAILED}


def test_where_the_time_is_over_meanwhile_it_is_the_end() -> None:
    """A side that waited for the other one, and not for its own appliance, is not set aside."""
    with on_its_way_back() as here:
        here.turn(OTHER, task_ms=(1_000_000, 1_000_000))
        here.stage.air.down.add(ONE)
        pairing = here.until_over()
        assert [side.state for side in pairing.sides] == [SideState.ROLLBACK_FAILED] * 2
        assert here.events.count("RollbackFailed") == 2
        assert "PairingParked" not in here.events


def test_what_is_set_aside_for_one_while_the_other_opens_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with on_its_way_back() as here:
        usual = here.tables.journal
        opened: list[str] = []

        def journal(given: Mapping[str, Any]) -> Sequence[Any]:
            both = {str(name) for name in here.tables.closed()}
            if "PairingParked" in given["types"] and not opened and len(both) == 2:
                opened.extend(both - set(elements(given["waits_for"])))
                here.stage.air.down.difference_update(opened)
                here.tables.reopen(ApplianceName(opened[0]))  # By another worker.
            return usual(given)

        monkeypatch.setattr(here.tables, "journal", journal)
        here.turn(OTHER, task_ms=(1_000_000, 1_000_000))
        here.stage.air.down.add(ONE)
        here.until(lambda: ONE in here.tables.closed())
        here.stage.air.down.add(OTHER)
        here.until(lambda: bool(opened))
        here.turn(OTHER, task_ms=(RUNNING_MS, RUNNING_MS))
        here.until(lambda: "SideRolledBack" in here.events, within_s=30.0)
        assert here.pairing.side(ApplianceName(opened[0])).state is SideState.ROLLED_BACK
        here.until(lambda: here.waits_for is not None and here.waits_for not in opened)
        parked = here.events.count("PairingParked")
        here.until_over()
        assert here.events.count("PairingParked") == parked
