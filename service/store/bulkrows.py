"""Items of a batch as the rows that are copied into the tables."""

from dataclasses import dataclass

import uuid_utils

from service.domain.author import Author
from service.domain.chain import Openings
from service.domain.events import PairingAccepted
from service.domain.ids import ApplianceName, BatchId
from service.domain.pairing import PairingState, SideState
from service.store.intake import PairingRequest, accepted_detail
from service.store.rows import line_of, to_text, to_time

PAIRING = (
    "id", "operation", "state", "couple_low", "couple_high", "operation_id", "user_name",
    "description", "priority", "timeout_s", "start_time", "last_updated", "epoch", "seq", "head",
    "on_failure", "batch", "line",
)  # fmt: skip
SIDE = ("pairing_id", "ordinal", "appliance", "peer", "state", "attempts")
REJECTION = ("batch", "place", "items")
EVENT = ("chain", "seq", "at", "type", "actor", "operation_id", "detail", "hash")

_KIND = PairingAccepted.__name__
_QUEUED, _PENDING = str(PairingState.QUEUED), str(SideState.PENDING)

Record = tuple[object, ...]
Couple = tuple[ApplianceName, ApplianceName]
"""Two appliances in the order of their names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item that can be accepted unless something in the database is against it."""

    index: int
    names: tuple[ApplianceName, ApplianceName]
    """In the order in which the caller named them."""
    couple: Couple
    records: tuple[Record, Record, Record, Record]
    """Of the pairing, of its sides, of its first event."""


class Rows:
    """Makes the rows of one batch; what they have in common is made once."""

    def __init__(self, batch: BatchId, author: Author, now: int) -> None:
        """`now` (ms) is when all of them are accepted."""
        self._batch = batch
        self._batch_text = str(batch)
        self._author = author
        self._now = now
        self._at = to_time(now)
        self._openings = Openings(
            _KIND, at=now, actor=author.user, operation_id=author.operation_id
        )
        self._lines: dict[int, str] = {}

    def candidate(self, index: int, request: PairingRequest) -> Candidate:
        """What `request`, the item at `index`, becomes if nothing is against it."""
        one, other = request.appliances
        couple = (one, other) if one < other else (other, one)
        # Not the standard library's kind, which takes ten times as long to make and to spell.
        id_ = uuid_utils.uuid7()
        description = to_text(request.description)
        detail = accepted_detail(request, description, self._batch_text)
        hash_ = self._openings.hash(str(id_), detail)
        user, operation_id = self._author.user, self._author.operation_id
        pairing = (
            id_, str(request.operation), _QUEUED, *couple, operation_id, user,
            description, request.priority, request.timeout_s, self._now, self._now, 0, 1, hash_,
            str(request.on_failure), self._batch, self._line(request.priority),
        )  # fmt: skip
        records = (
            pairing,
            (id_, 0, one, other, _PENDING, 0),
            (id_, 1, other, one, _PENDING, 0),
            (id_, 1, self._at, _KIND, user, operation_id, detail, hash_),
        )
        return Candidate(index, request.appliances, couple, records)

    def _line(self, priority: int) -> str:
        line = self._lines.get(priority)
        if line is None:
            line = self._lines[priority] = line_of(priority, self._batch)
        return line
