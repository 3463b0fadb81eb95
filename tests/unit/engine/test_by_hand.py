"""What somebody did by hand, where no look could recognize it before the call: it is not ours."""

import pytest

from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState, SideState
from simulator import fault
from tests.simulation.tables import Written
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, THIRD, a_pairing, scene


@pytest.mark.parametrize("late", [ONE, OTHER])
def test_a_record_that_a_call_only_brought_up_to_date_stays(
    late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = OTHER if late == ONE else ONE
    with scene(a_pairing(at_s=10.0), already_paired="succeeds") as here:
        here.stage.call_by_hand(late, quick, pairs=True)
        here.loop.run_until(lambda: False, 5.0)
        here.world.settle(here.stage.now_ms)
        # At an address that nobody registered: appliances know each other by their ids.
        record = here.world.appliances[late].peers[here.world.appliances[quick].site_id]
        record.url, record.shown = "https://10.0.0.1/elsewhere", None
        # It is listed only after the call to the other appliance.
        monkeypatch.setattr(here.stage.air.rng, "uniform", lambda low, high: (low + high) / 2)
        here.befall(late, "GET", "/sites", CallFault.SLOW, times=1)
        here.turn(quick, task_ms=(30_000, 30_000))
        here.spoil(quick, fault("task_fails", method="POST", path="/sites"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert here.calls(late, "POST") == 1
        assert pairing.side(ApplianceName(late)).state is SideState.ALREADY_PAIRED
        assert here.world.appliances[late].peers


def test_a_refusal_is_told_in_its_own_words_though_the_list_has_another_reason_by_then() -> None:
    with scene(a_pairing(at_s=10.0)) as here:
        here.stage.call_by_hand(ONE, OTHER, pairs=True)
        here.loop.run_until(lambda: False, 5.0)
        here.world.settle(here.stage.now_ms)
        peers = here.world.appliances[ONE].peers
        ((site, record),) = peers.items()
        peers.clear()

        def pair_by_hand(written: Written) -> None:
            if "PairRequested" in [entry.type for entry in written.entries]:
                record.thumbprint, record.shown = here.world.appliances[THIRD].thumbprint, None
                peers[site] = record

        here.on_written = pair_by_hand
        here.befall(ONE, "POST", "/sites", CallFault.REFUSED)
        pairing = here.until_over()
        assert pairing.error is not None
        assert pairing.error.code == "Forbidden"


def test_what_a_failed_task_may_have_left_stays_and_is_said_where_it_is_not_as_it_was_told() -> (
    None
):
    with scene() as here:
        here.turn(ONE, task_ms=(1_000, 1_000))
        here.spoil(ONE, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "TaskAccepted" in here.events)
        here.stage.call_by_hand(ONE, OTHER, pairs=True)
        here.until(lambda: bool(here.world.appliances[ONE].peers))
        (record,) = here.world.appliances[ONE].peers.values()
        record.thumbprint, record.shown = here.world.appliances[THIRD].thumbprint, None
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.code == "PeerThumbprintDiffers"
        assert here.calls(ONE, "DELETE") == 0
