"""Those who ask for pairings, cancel them, and try them again."""

import random
from functools import partial
from uuid import UUID

from service.domain.advance import Change, advance
from service.domain.author import Author
from service.domain.errors import LeaseLost, RequestError, StoreUnavailable
from service.domain.events import Entry, PairingAccepted, PairingRetried, SideReopened
from service.domain.ids import ApplianceName, BatchId, OperationId, PairingId
from service.domain.pairing import OnFailure, Operation, Pairing, Side
from service.store.journal import Journal
from tests.simulation.database import Lane
from tests.simulation.schedule import Wanted
from tests.simulation.stage import Stage
from tests.simulation.tables import Written

RETRY_S = 300
"""The time that a rollback gets which is tried again."""


class Callers:
    """What is asked of the service, through an API process that does not fail."""

    def __init__(self, stage: Stage) -> None:
        self.refused = 0
        self._stage = stage
        self._tables = stage.database.tables
        self._rng = random.Random(f"callers {stage.schedule.seed}")
        self._node = stage.loop.node("api")
        lane = Lane(stage.database, self._node)
        self._journal = Journal(lane, jitter=self._rng.random)
        self._retries: dict[PairingId, int] = {}
        self._cancels_rollback: set[PairingId] = set()
        self._asking = 0

    def arrange(self) -> None:
        """Put all of it into the loop's agenda."""
        loop = self._stage.loop
        loop.start(self._node, self._journal.run())
        for wanted in self._stage.schedule.wanted:
            loop.at(wanted.at_s, partial(self._ask, wanted))

    @property
    def are_content(self) -> bool:
        """Whether nothing that was accepted is still under way, nor will be tried again."""
        rows = self._tables.pairings.values()
        is_over = all(row.pairing.is_over for row in rows)
        return is_over and not self._retries and not self._asking

    def prove(self, operation: Operation) -> PairingId:
        """Ask for something that has to succeed, now that nothing stands in its way."""
        one, other = self._couple
        wanted = Wanted(
            at_s=self._stage.loop.instant,
            one=one,
            other=other,
            operation=operation,
            on_failure=OnFailure.ROLLBACK,
            timeout_s=900,
        )
        return self._accept(wanted)

    @property
    def _couple(self) -> tuple[int, int]:
        first = self._stage.schedule.wanted[0]
        return first.one, first.other

    def saw(self, written: Written) -> None:
        """Something became of a pairing."""
        pairing = written.row.pairing
        if pairing.is_over:
            self._may_retry(pairing)
        begins_to_undo = any(entry.type == "RollbackStarted" for entry in written.entries)
        if begins_to_undo and pairing.id in self._cancels_rollback:
            loop = self._stage.loop
            after_s = self._rng.uniform(0.0, 1.0)
            loop.at(loop.instant + after_s, lambda: self._cancel(pairing.id))

    def _may_retry(self, pairing: Pairing) -> None:
        left = self._retries.pop(pairing.id, 0)
        if left and pairing.state != "SUCCEEDED":
            self._retries[pairing.id] = left
            loop = self._stage.loop
            after_s = self._rng.uniform(0.0, 5.0)
            loop.at(
                loop.instant + after_s,
                lambda: loop.start(self._node, self._retry(pairing.id)),
            )

    def _ask(self, wanted: Wanted) -> None:
        try:
            pairing_id = self._accept(wanted)
        except RequestError as refusal:
            self.refused += 1
            self._stage.trace.tell("caller", f"is refused: {refusal}")
            return
        if wanted.cancels_rollback:
            self._cancels_rollback.add(pairing_id)
        if wanted.retries:
            self._retries[pairing_id] = wanted.retries
        if wanted.cancel_s is not None:
            loop = self._stage.loop
            loop.at(loop.instant + wanted.cancel_s, lambda: self._cancel(pairing_id))

    def _accept(self, wanted: Wanted) -> PairingId:
        number, stage = len(self._tables.pairings) + 1, self._stage
        a, b = (ApplianceName(stage.names[index]) for index in (wanted.one, wanted.other))
        now = stage.now_ms
        pairing = Pairing(
            id=PairingId(UUID(int=number, version=4)),
            operation=wanted.operation,
            sides=(Side(a, b), Side(b, a)),
            operation_id=OperationId(wanted.operation_id or f"op-{number}"),
            user="caller",
            start_time=now,
            last_updated=now,
            timeout_s=wanted.timeout_s,
            deadline=now + wanted.timeout_s * 1000,
            on_failure=wanted.on_failure,
            batch=None if wanted.batch is None else BatchId(UUID(int=wanted.batch, version=4)),
        )
        self._tables.accept(
            pairing,
            PairingAccepted((a, b), wanted.operation, "", wanted.timeout_s, 0, wanted.on_failure),
        )
        stage.database.settle()
        stage.trace.tell(
            "caller",
            f"wants {wanted.operation} of {a} and {b} ({pairing.operation_id}), on failure "
            f"{wanted.on_failure}, within {wanted.timeout_s} s",
        )
        return pairing.id

    def _cancel(self, pairing_id: PairingId) -> None:
        pairing = self._tables.pairings[pairing_id].pairing
        if not pairing.is_over:
            self._stage.trace.tell("caller", f"cancels {pairing.operation_id}")
            self._tables.cancel(
                pairing_id, Author("caller", OperationId(f"{pairing.operation_id}.cancel"))
            )
            self._stage.database.settle()

    async def _retry(self, pairing_id: PairingId) -> None:
        left = self._retries.pop(pairing_id)
        self._asking += 1
        try:
            pairing = self._tables.may_retry(pairing_id)
            self._stage.trace.tell("caller", f"tries {pairing.operation_id} again")
            if left > 1:
                self._retries[pairing_id] = left - 1
            author = Author(pairing.user, OperationId(f"{pairing.operation_id}.retry"))
            await self._journal.append(reopened(pairing, author, self._stage.now_ms))
        except (RequestError, LeaseLost, StoreUnavailable) as refusal:
            self._retries.pop(pairing_id, None)
            self._stage.trace.tell("caller", f"is refused: {refusal}")
        finally:
            self._asking -= 1


def reopened(pairing: Pairing, author: Author, now: int) -> Change:
    """What makes of a pairing that is over one that is tried again."""
    timeout_s = RETRY_S if pairing.left_behind else pairing.timeout_s
    events: list[PairingRetried | SideReopened] = [
        PairingRetried(author.user, author.operation_id, timeout_s)
    ]
    if not pairing.left_behind:
        events += [SideReopened(side.appliance) for side in pairing.sides]
    entries: list[Entry] = []
    for event in events:
        pairing, entry = advance(pairing, event, at=now, actor=author.user)
        entries.append(entry)
    return Change(pairing, tuple(entries), release=True)
