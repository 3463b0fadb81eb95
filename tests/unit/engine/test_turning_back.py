"""A side failed, and the other one is not undone yet: that waits for nobody who is not asked."""

from dataclasses import replace

import pytest

from service.domain.appliance import ApiError
from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState, SideState
from simulator import fault
from tests.simulation.tables import Written
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, THIRD, a_pairing, scene

DOWN = ApiError("ConnectionRefused", "Nobody listens.")


@pytest.mark.parametrize("failing", [ONE, OTHER])
@pytest.mark.parametrize("last", ["SideFailed", "RollbackStarted"])
def test_what_can_be_reached_is_undone_at_once_though_the_other_appliance_is_closed(
    failing: str, last: str
) -> None:
    standing = OTHER if failing == ONE else ONE
    with scene() as here:
        here.spoil(failing, fault("task_fails", method="POST", path="/sites"))
        (worker,) = here.stage.living

        def kill(written: Written) -> None:
            if last in [entry.type for entry in written.entries]:
                here.stage.air.down.add(failing)
                here.tables.report({ApplianceName(failing): DOWN})
                here.loop.at(here.loop.instant, lambda: here.loop.crash(worker.node))

        here.on_written = kill
        here.until(lambda: worker.node.is_crashed)
        assert here.events[-1] == last
        here.stage.start_another(worker)
        here.until(lambda: "SideRolledBack" in here.events, within_s=60.0)
        assert here.pairing.side(ApplianceName(standing)).state is SideState.ROLLED_BACK
        assert not here.world.appliances[standing].peers


def test_what_was_left_behind_is_undone_by_a_retry_though_the_other_appliance_is_closed() -> None:
    with scene(a_pairing(retries=1)) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        refusal = fault("task_fails", method="DELETE", path="/sites/.*", times=POLICY.max_losses)
        here.spoil(ONE, refusal)
        here.until(lambda: "RollbackFailed" in here.events)
        here.stage.air.down.add(OTHER)
        here.tables.report({ApplianceName(OTHER): DOWN})
        here.until(lambda: "PairingRetried" in here.events)
        here.until(lambda: "SideRolledBack" in here.events, within_s=60.0)
        assert not here.world.appliances[ONE].peers


def test_nor_does_it_wait_for_the_next_try_of_a_side_that_has_nothing_to_try_for_any_more() -> None:
    with scene(task_ms=[60_000, 60_000]) as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.befall(ONE, "POST", "/sites", CallFault.BUSY)
        here.until(lambda: "SideFailed" in here.events)
        failed_at = here.loop.instant
        here.until(lambda: "RollbackStarted" in here.events)
        assert here.loop.instant < failed_at + 1.0


def test_what_is_not_called_yet_stays_uncalled_once_the_other_side_has_failed() -> None:
    """Not even if it was about to be, as its list had been read for somebody else."""
    busy = replace(POLICY, window=1)
    wanted = [a_pairing(1, 2, at_s=20.0), a_pairing(0, 2, at_s=50.0), a_pairing(at_s=50.1)]
    with scene(*wanted, policy=busy) as here:
        here.stage.weather.store_way_s = 0.1  # The intent takes longer than a look.
        here.befall(OTHER, "GET", "/sites", CallFault.REFUSED)
        here.until(lambda: len(here.tables.pairings) == len(wanted))
        first, _ = here.until_over().sides
        assert here.events.count("PairRequested") == 1
        assert first.appliance == ONE
        assert first.state is SideState.PENDING
        assert first.error is not None
        assert first.error.code == "CallWithdrawn"
        assert here.calls(ONE, "POST") == 1  # For the one with THIRD.
        assert [record.site for record in here.world.appliances[ONE].peers.values()] == [THIRD]


def test_when_it_is_undone_it_is_over_though_the_other_appliance_is_closed_by_then() -> None:
    with scene(a_pairing(cancel_s=8.0)) as here:
        here.turn(ONE, task_ms=[20_000, 20_000])
        here.stage.air.down.add(OTHER)
        pairing = here.until_over(60.0)
        assert pairing.state is PairingState.CANCELED
        assert pairing.side(ApplianceName(ONE)).state is SideState.ROLLED_BACK
        assert "PairingParked" not in here.events
