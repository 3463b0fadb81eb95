"""A wish to cancel that comes in the last moment."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from service.domain.author import Author
from service.domain.ids import OperationId
from service.domain.pairing import PairingState
from service.observe.events import LogEvent
from service.observe.logging import listening
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, a_pairing, scene

WISH = Author("caller", OperationId("late-1"))


def test_who_was_told_that_it_will_be_canceled_is_heard_before_its_end_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[LogEvent] = []
    with scene() as here, listening(told.append):
        usual = here.tables.journal
        wishes: list[float] = []

        def journal(given: Mapping[str, Any]) -> Sequence[Any]:
            if here.tables.pairings and "PairingSucceeded" in given["types"] and not wishes:
                wishes.append(here.loop.instant)
                here.tables.cancel(here.pairing.id, WISH)
            return usual(given)

        monkeypatch.setattr(here.tables, "journal", journal)
        assert here.until_over().state is PairingState.CANCELED
        assert wishes
        assert here.events.count("CancelRequested") == 1
        assert [here.calls(name, "DELETE") for name in (ONE, OTHER)] == [1, 1]
    # Nobody is to be woken for it.
    assert {event.level for event in told} == {"info"}


def test_who_pauses_before_the_next_try_hears_it_at_once() -> None:
    """The pauses double: one begins after half a minute, and lasts for fifteen seconds."""
    canceled_s = 32.0
    with scene(a_pairing(cancel_s=canceled_s)) as here:
        here.befall(ONE, "GET", "/sites", CallFault.FAILS_AFTERWARDS)
        assert here.until_over(canceled_s + 5).state is PairingState.CANCELED
