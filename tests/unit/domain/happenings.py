"""Every event there is, one of each kind for each side, and all that they can lead to."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from msgspec.structs import replace

from service.domain import events as e
from service.domain.errors import IllegalTransition
from service.domain.ids import OperationId, TaskId
from service.domain.pairing import OnFailure, Operation, Pairing, PairingState, Side
from service.domain.transitions import PAIRING, SIDE, apply
from tests.unit.domain.values import ERROR, A, B, a_pairing

AnyEvent = e.PairingEvent | e.SideEvent

PAIRING_EVENTS: list[e.PairingEvent] = [
    e.PairingStarted("worker-1", 1),
    e.PairingHandedBack("worker-1"),
    e.PairingParked(A, ERROR),
    e.CancelRequested("admin", OperationId("op-2")),
    e.VerificationStarted(),
    e.RollbackStarted(ERROR, 300),
    e.PairingSucceeded(),
    e.PairingFailed(ERROR),
    e.PairingCanceled(),
    e.PairingRetried("admin", OperationId("op-3"), 900),
]
SIDE_EVENTS: list[e.SideEvent] = [
    event
    for side in (A, B)
    for event in (
        e.PeerFound(side, b'{"id": "1"}'),
        e.PeerGone(side),
        e.PairRequested(side, 1),
        e.RepairRequested(side, 1),
        e.UnpairRequested(side, 1),
        e.AnswerLost(side, ERROR),
        e.RequestDeferred(side, ERROR, 250),
        e.CallLost(side, ERROR, 250),
        e.TaskAccepted(side, TaskId("t-1")),
        e.SidePaired(side, b'{"id": "1"}'),
        e.SideUnpaired(side),
        e.SideFailed(side, ERROR),
        e.SideFailed(side, ERROR, refused=True),
        e.PeerVerified(side, b'{"id": "1"}'),
        e.AbsenceVerified(side),
        e.RollbackRequested(side, "unpair", 1),
        e.RollbackDelayed(side, ERROR, 250),
        e.SideRolledBack(side),
        e.NothingToUndo(side),
        e.RollbackFailed(side, ERROR),
        e.SideReopened(side),
    )
]
EVENTS: list[AnyEvent] = [*PAIRING_EVENTS, *SIDE_EVENTS]

Standing = tuple[object, ...]
"""All of a pairing that decides what may follow; its sides are alike: in any order."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A pairing, and how it came there."""

    pairing: Pairing
    story: tuple[str, ...] = ()

    def then(self, event: AnyEvent) -> "Reached | None":
        """After `event`; None if it does not fit."""
        if not _is_in_table(self.pairing, event):
            return None
        try:
            after = apply(self.pairing, event, self.pairing.last_updated + 1)
        except IllegalTransition:
            return None
        side = f" {event.side}" if isinstance(event, e.SideEvent) else ""
        return Reached(after, (*self.story, e.type_of(event) + side))


@dataclass(frozen=True, slots=True)
class Everything:
    """Every standing that a pairing can be brought to, and the ones that can follow each."""

    reached: Mapping[Standing, Reached]
    following: Mapping[Standing, frozenset[Standing]]


def accepted(operation: Operation, on_failure: OnFailure) -> Pairing:
    """A pairing that nobody has taken up yet."""
    queued = a_pairing(state=PairingState.QUEUED)
    return replace(queued, operation=operation, on_failure=on_failure)


@cache
def everything(operation: Operation, on_failure: OnFailure) -> Everything:
    """All that can become of such a pairing, however long its story is."""
    begin = Reached(accepted(operation, on_failure))
    reached = {standing_of(begin.pairing): begin}
    following: dict[Standing, frozenset[Standing]] = {}
    waiting = deque([begin])
    while waiting:
        here = waiting.popleft()
        nexts = {standing_of(there.pairing): there for there in _after(here)}
        following[standing_of(here.pairing)] = frozenset(nexts)
        fresh = {each: there for each, there in nexts.items() if each not in reached}
        reached.update(fresh)
        waiting.extend(fresh.values())
    return Everything(reached, following)


def standing_of(pairing: Pairing) -> Standing:
    """What `transitions` looks at."""
    error = pairing.error is None
    sides = sorted((_standing_of(side) for side in pairing.sides), key=repr)
    return (pairing.state, pairing.phase, pairing.is_canceling, error, *sides)


def _standing_of(side: Side) -> Standing:
    return (side.state, side.call, side.losses > 0, side.is_verified)


def _after(here: Reached) -> Iterator[Reached]:
    for event in EVENTS:
        there = here.then(event)
        if there is not None:
            yield there


def _is_in_table(pairing: Pairing, event: AnyEvent) -> bool:
    """Spares the search from asking for what the table plainly has not."""
    if isinstance(event, e.SideEvent):
        return pairing.side(event.side).state in SIDE[type(event)]
    return pairing.state in PAIRING[type(event)]
