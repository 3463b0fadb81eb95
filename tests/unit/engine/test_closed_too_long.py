"""An appliance is closed until the time of a pairing is over that nobody could begin."""

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState, SideState
from tests.unit.engine.scene import ONE, OTHER, a_pairing, scene


@pytest.mark.parametrize("away", [ONE, OTHER])
def test_the_error_names_it_and_its_last_failure(away: str) -> None:
    with scene(a_pairing(timeout_s=60), a_pairing(at_s=100.0, timeout_s=30)) as here:
        here.stage.air.down.add(away)
        here.until(lambda: len(here.tables.pairings) == 2)
        here.until(lambda: here.waits_for == away)
        pairing = here.until_over()
        assert (pairing.state, here.events[1]) == (PairingState.FAILED, "PairingStarted")
        assert pairing.error is not None
        assert pairing.error.code == "DeadlineExceeded"
        assert f"'{away}' does not answer" in pairing.error.msg
        assert pairing.side(ApplianceName(away)).state is SideState.FAILED
        answers = OTHER if away == ONE else ONE
        assert pairing.side(ApplianceName(answers)).state is SideState.PENDING
