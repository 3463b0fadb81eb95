"""An appliance that answers now and then: nothing is done, and told, without end."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.pairing import PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene

RUNNING_MS = 5_000


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
