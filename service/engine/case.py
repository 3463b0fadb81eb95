"""One pairing in a worker's hands: its current value, and the only way to change it."""

import asyncio
from collections.abc import Callable

from service.domain import chain, transitions
from service.domain.appliance import ApiError, Endpoint
from service.domain.decisions import deadline_exceeded
from service.domain.events import Entry, PairingEvent, SideEvent
from service.domain.ids import ApplianceName
from service.domain.pairing import Assignment, ChainPosition, Pairing, Side
from service.engine.ports import Change, Journal
from service.observe.events import PairingMoved
from service.observe.logging import emit


class Case:
    """Both sides of a saga share one case, so that their events form one chain.

    `record` changes the value at once and returns when the change is durable. If it raises, the
    value is ahead of the store and the case must not be used any more.
    """

    def __init__(
        self,
        assignment: Assignment,
        journal: Journal,
        *,
        actor: str,
        clock: Callable[[], int],
    ) -> None:
        """`clock` gives the time in ms; the deadline runs on the event loop's clock."""
        self.pairing: Pairing = assignment.pairing
        self.deadline: float = asyncio.get_running_loop().time() + assignment.remaining_s
        self._endpoints = {endpoint.name: endpoint for endpoint in assignment.endpoints}
        self._journal = journal
        self._actor = actor
        self._clock = clock

    def side(self, appliance: ApplianceName) -> Side:
        """The side that runs on `appliance`, as it is now."""
        return self.pairing.side(appliance)

    def endpoint(self, appliance: ApplianceName) -> Endpoint:
        """How `appliance` is reached by its peers."""
        return self._endpoints[appliance]

    def peer_of(self, appliance: ApplianceName) -> Endpoint:
        """The endpoint that `appliance` is to be paired with."""
        return self._endpoints[self.side(appliance).peer]

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; negative when it is over."""
        return self.deadline - asyncio.get_running_loop().time()

    def out_of_time(self, doing: str) -> ApiError:
        """The error of a step that the deadline cut off."""
        return deadline_exceeded(doing, self.pairing.timeout_s)

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past the deadline."""
        await asyncio.sleep(max(0.0, min(seconds, self.left_s)))

    async def record(self, *events: PairingEvent | SideEvent, release: bool = False) -> None:
        """Apply `events` in their order and wait until they are durable, together.

        Raises LeaseLost, StoreUnavailable, IllegalTransition.
        """
        entries = tuple([self._enter(event) for event in events])
        await self._journal.append(Change(self.pairing, entries, release))
        for entry in entries:
            emit(self._line(entry))

    def _enter(self, event: PairingEvent | SideEvent) -> Entry:
        before = self.pairing
        at = max(self._clock(), before.last_updated)
        entry = chain.append(
            event,
            before.position,
            chain=before.id,
            at=at,
            actor=self._actor,
            operation_id=before.operation_id,
        )
        after = transitions.apply(before, event, at)
        self.pairing = after.at_position(ChainPosition(entry.seq, entry.hash))
        return entry

    def _line(self, entry: Entry) -> PairingMoved:
        error = entry.detail.get("error")
        return PairingMoved(
            type=entry.type,
            side=entry.appliance,
            state=self.side(entry.appliance).state if entry.appliance else self.pairing.state,
            code=str(error["code"]) if isinstance(error, dict) else None,
        )
