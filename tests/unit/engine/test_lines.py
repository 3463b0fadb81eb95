"""Who wants to change something on an appliance with which many want to."""

from service.domain.ids import ApplianceName
from service.domain.pairing import PairingState, SideState
from simulator import fault
from tests.simulation.tables import Written
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, Scene, a_pairing, scene

MANY = 20
ABOUT_TO = 16
"""Four times as many as may change something at once."""


def sides_of_one(here: Scene) -> list[SideState]:
    """The states of all sides on the appliance that everybody wants something of."""
    rows = here.tables.pairings.values()
    return [row.pairing.side(ApplianceName(ONE)).state for row in rows]


def test_an_intent_is_on_record_only_when_its_call_is_near() -> None:
    wanted = [a_pairing(0, other) for other in range(1, MANY)]
    with scene(*wanted, appliances=MANY) as here:
        here.befall(ONE, "POST", "/sites", CallFault.HANGS)
        most: list[int] = []

        def count(_: Written) -> None:
            most.append(sides_of_one(here).count(SideState.REQUESTED))

        here.on_written = count
        here.until(lambda: here.loop.instant > 5)
        assert max(most) == ABOUT_TO


def test_a_way_back_is_not_kept_waiting_by_those_who_go_forward() -> None:
    wanted = [a_pairing(0, other) for other in range(1, 80)]
    with scene(*wanted, appliances=80) as here:
        refusing = [f"site-{number}" for number in range(2, 10)]
        for name in refusing:
            here.befall(name, "POST", "/sites", CallFault.REFUSED)
        here.befall(ONE, "POST", "/sites", CallFault.SLOW)

        def is_somebody_on_the_way_back() -> bool:
            rows = here.tables.pairings.values()
            return "RollbackRequested" in [entry.type for row in rows for entry in row.entries]

        here.until(is_somebody_on_the_way_back)
        rows = here.tables.pairings.values()
        forward = [row.pairing for row in rows if row.pairing.failed_side is None]
        one = ApplianceName(ONE)
        assert [each for each in forward if each.side(one).state is SideState.PENDING]


def test_who_is_canceled_in_line_calls_nobody() -> None:
    wanted = [a_pairing(0, other, cancel_s=5.0) for other in range(1, MANY)]
    with scene(*wanted, appliances=MANY) as here:
        here.befall(ONE, "POST", "/sites", CallFault.HANGS, when=lambda: here.loop.instant < 10)
        assert here.until_over().state is PairingState.CANCELED
        assert here.calls(ONE, "POST") == ABOUT_TO
        sides = [row.pairing.side(ApplianceName(ONE)) for row in here.tables.pairings.values()]
        assert [side.attempts for side in sides].count(0) == MANY - 1 - ABOUT_TO


def test_a_deadline_ends_the_wait_in_line() -> None:
    wanted = [a_pairing(0, other, timeout_s=2) for other in range(1, MANY)]
    with scene(*wanted, appliances=MANY) as here:
        here.befall(ONE, "POST", "/sites", CallFault.HANGS)
        in_line = MANY - 1 - ABOUT_TO
        here.until(lambda: sides_of_one(here).count(SideState.FAILED) == in_line, 4)


def test_who_has_been_undone_makes_room_for_the_next() -> None:
    wanted = [a_pairing(0, other) for other in range(1, MANY)]
    with scene(*wanted, appliances=MANY) as here:
        for number in range(2, MANY + 1):
            # By then all have called.
            here.turn(f"site-{number}", task_ms=(5_000, 5_000))
            here.spoil(f"site-{number}", fault("task_fails", method="POST", path="/sites"))
        here.until_over(60.0)
        assert sides_of_one(here) == [SideState.ROLLED_BACK] * len(wanted)
