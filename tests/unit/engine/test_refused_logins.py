"""An appliance is known to refuse its login: its peers are not called for what cannot succeed."""

from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState
from tests.unit.engine.scene import ONE, OTHER, a_pairing, scene

MANY = 6


def test_its_peers_are_left_alone_from_then_on() -> None:
    wanted = [a_pairing(at_s=100.0 * number) for number in range(MANY)]
    with scene(*wanted) as here:
        # The gate, too, is asked over it: it may tell later than the other side is ready to call.
        here.stage.weather.store_way_s = 0.5
        here.stage.register(OTHER, "wrong")
        here.until(lambda: len(here.tables.pairings) == 2)
        before = here.calls(ONE, "POST")
        here.until(lambda: len(here.tables.pairings) == MANY)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert pairing.side(ApplianceName(ONE)).attempts == 0
        assert here.calls(ONE, "POST") == before
        assert here.calls(OTHER, "POST", "/sessions") == 1
