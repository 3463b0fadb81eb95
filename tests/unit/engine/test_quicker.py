"""Somebody else does what is asked for between the look and the call, which is refused then."""

from service.domain.pairing import Operation, PairingState, SideState
from simulator import fault
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, Scene, a_pairing, scene

PAIR = a_pairing()
UNPAIR = a_pairing(at_s=100.0, operation=Operation.UNPAIR)


def be_quicker(here: Scene, method: str) -> None:
    """Somebody pairs, or unpairs, ONE by hand as the call to it is on its way."""
    wanted = iter([True])

    def done_by_hand() -> bool:
        if next(wanted, False):
            here.turn(ONE, task_ms=(1, 1), queued_ms=0)
            here.stage.call_by_hand(ONE, OTHER, pairs=method == "POST")
        return False

    here.befall(ONE, method, "/sites.*", CallFault.LOST, when=done_by_hand)


def is_called(here: Scene) -> bool:
    """Whether the call was made, and what became of it is looked at."""
    return here.calls(ONE, "POST") > 0


def test_who_was_paired_meanwhile_stays_so_whatever_becomes_of_the_other_side() -> None:
    with scene(already_paired="rejected") as here:
        be_quicker(here, "POST")
        here.befall(ONE, "GET", "/sites", CallFault.BUSY, times=1, when=lambda: is_called(here))
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        side, _ = here.until_over().sides
        assert side.state is SideState.ALREADY_PAIRED
        assert here.world.appliances[ONE].peers
        assert here.calls(ONE, "DELETE") == 0


def test_who_was_unpaired_meanwhile_is_gone() -> None:
    with scene(PAIR, UNPAIR) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        be_quicker(here, "DELETE")
        pairing = here.until_over()
        assert pairing.state is PairingState.SUCCEEDED
        assert [each.code for each in pairing.warnings] == ["AlreadyUnpaired"]
