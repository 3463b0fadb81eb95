"""What events make of a pairing: its next state, and their entries in its chain."""

from msgspec import Struct

from service.domain import chain, transitions
from service.domain.events import CancelRequested, Entry, PairingEvent, PairingRetried, SideEvent
from service.domain.ids import ApplianceName
from service.domain.pairing import ChainPosition, Pairing

_ASKED_LATER = (CancelRequested, PairingRetried)


class Change(Struct, frozen=True):
    """A pairing as it is after `entries`, which were appended to its chain one after another; at
    least one. This is what the journal writes.

    `release` gives the pairing up: any worker may claim it from then on, or, with `waits_for`,
    once that appliance is open again.
    """

    pairing: Pairing
    entries: tuple[Entry, ...]
    release: bool = False
    waits_for: ApplianceName | None = None


def advance(
    pairing: Pairing, event: PairingEvent | SideEvent, *, at: int, actor: str
) -> tuple[Pairing, Entry]:
    """`pairing` after `event`, and the event as the next one of its chain.

    `at` (ms) moves up to the last event's time if that is later. What a caller asks for later on
    carries the operationID of that request, all else the pairing's own. Raises IllegalTransition.
    """
    operation_id = pairing.operation_id
    if isinstance(event, _ASKED_LATER):
        operation_id = event.operation_id
    at = max(at, pairing.last_updated)
    entry = chain.append(
        event,
        pairing.position,
        chain=pairing.id,
        at=at,
        actor=actor,
        operation_id=operation_id,
    )
    after = transitions.apply(pairing, event, at)
    return after.at_position(ChainPosition(entry.seq, entry.hash)), entry
