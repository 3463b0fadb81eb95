"""A way back on which both appliances are closed goes on as soon as either of them answers."""

import pytest

from service.domain.pairing import PairingState, SideState
from tests.unit.engine.scene import ONE, OTHER, a_pairing, scene

RUNNING_MS = 5_000


@pytest.mark.parametrize("is_awaited", [True, False])
def test_what_can_be_undone_is_though_the_other_appliance_stays_away(*, is_awaited: bool) -> None:
    with scene(a_pairing(cancel_s=1.0)) as here:
        for name in (ONE, OTHER):
            here.turn(name, task_ms=(RUNNING_MS, RUNNING_MS))
        here.until(lambda: "RollbackStarted" in here.events)
        here.stage.air.down |= {ONE, OTHER}
        here.until(lambda: here.waits_for is not None)
        comes_back = ONE if (here.waits_for == ONE) is is_awaited else OTHER
        here.until(lambda: len(here.tables.closed()) == 2)
        here.stage.air.down.discard(comes_back)
        here.until(lambda: "SideRolledBack" in here.events, within_s=60.0)
        pairing = here.until_over()
        assert pairing.state is PairingState.CANCELED
        left = {side.appliance: side.state for side in pairing.sides}
        assert left.pop(comes_back) is SideState.ROLLED_BACK
        assert list(left.values()) == [SideState.ROLLBACK_FAILED]
