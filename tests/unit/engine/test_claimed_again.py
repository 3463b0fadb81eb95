"""A pairing that its worker let go of, and claims again before it heard that it has."""

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState
from tests.simulation.tables import Written
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, scene

ANSWER_S = 1.0


def test_the_one_who_let_go_takes_nothing_from_the_one_who_drives_it_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scene() as here:
        database = here.stage.database
        ways: list[float] = []
        usual = database.way_s
        monkeypatch.setattr(database, "way_s", lambda: ways.pop() if ways else usual())
        parked: list[float] = []

        def be_due_at_once() -> None:
            here.tables.reopen(ApplianceName(ONE))
            database.settle()

        def let_the_answer_be_late(written: Written) -> None:
            if written.entries[-1].type == "PairingParked" and not parked:
                parked.append(here.loop.instant)
                ways.append(ANSWER_S)
                here.loop.at(here.loop.instant + 0.001, be_due_at_once)

        here.on_written = let_the_answer_be_late
        here.befall(ONE, "GET", "/sites", CallFault.UNREACHABLE, when=lambda: not parked)
        here.until(lambda: bool(parked) and here.is_claimed)
        assert here.loop.instant < parked[0] + ANSWER_S / 2
        (worker,) = here.stage.living
        assert here.until_over().state is PairingState.SUCCEEDED
        assert worker.is_up
        assert len(worker.workers) == 1
