"""Where batches come in: all that can be accepted of one, in one transaction.

The items are read when the transaction is open, so whoever hands them over has them all by then: a
slow caller holds nothing up. While the database writes some, the next ones are made.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import uuid_utils.compat
from sqlalchemy import Row, TextClause, text

from service.domain.author import Author
from service.domain.batch import Rejection
from service.domain.errors import (
    BatchRejected,
    DuplicateInBatch,
    PairingActive,
    SitepairError,
    UnknownAppliance,
)
from service.domain.ids import ApplianceName, BatchId, PairingId
from service.observe.events import BatchAccepted
from service.observe.logging import emit
from service.store.batchrecord import BatchAcceptance, Opening, close, opened, standing
from service.store.bulkrows import EVENT, PAIRING, REJECTION, SIDE, Candidate, Couple, Record, Rows
from service.store.database import ANSWER_TIMEOUT_S, Database, Filling
from service.store.errors import UNIQUE_VIOLATION, RolledBack, sqlstate
from service.store.intake import IdempotencyKey, PairingRequest
from service.store.patience import CALLERS_S, Patience
from service.store.rejections import Rejections, stored_pieces
from service.store.statements import statement

CHUNK = 2000
"""How many items are written at once. Each time is a savepoint: more than 64 in one transaction
make everybody's snapshots slow."""
_BREATH = 50
"""After so many items made, everybody else of this process gets a turn; at once after one that is
refused, for to find its faults takes a thousand times as long."""
_SILENCE_S = ANSWER_TIMEOUT_S
"""How long the database may take for the next step of a batch, of which there are many."""
_AT_ONCE = 2
"""How many batches this process writes at the same time: each keeps two chunks in memory."""

# Two batches that want the same couples in different orders come to wait for each other, and the
# database undoes one of them: time and again, unless that one goes on when the other is through.
_LOCK = 7_268_340_153
_AMONG_OTHERS = text("select pg_advisory_xact_lock_shared(:lock)")
_ALONE = text("select pg_advisory_xact_lock(:lock)")


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """An item that is no request, whatever the database says."""

    code: str
    detail: str


Item = PairingRequest | Unacceptable


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a caller asks for. `items` gives the items from the first one on, each time it is
    called; `total` is how many. `is_atomic`: all of them, or none."""

    items: Callable[[], Iterator[Item]]
    total: int
    is_atomic: bool = False


class BulkIntake:
    """Accepts batches."""

    def __init__(
        self, database: Database, clock: Callable[[], int], *, patience_s: float = CALLERS_S
    ) -> None:
        """`clock` gives the time in ms. For `patience_s` after trouble began a batch is looked
        for, and written again if it is not there."""
        self._database = database
        self._clock = clock
        self._patience_s = patience_s
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def accept(
        self, request: BatchRequest, author: Author, key: IdempotencyKey | None = None
    ) -> BatchAcceptance:
        """Promise an end to each pairing that can be accepted; they are durable, and due, when this
        returns.

        Raises BatchRejected when it was to be all of them, IdempotencyKeyReused when the key came
        with another fingerprint before, StoreUnavailable when it could not be learnt whether the
        batch was accepted.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        batch_id = BatchId(uuid_utils.compat.uuid7())
        opening = Opening(batch_id, request.total, author, self._clock(), key)
        patience = Patience("accepting a batch", self._patience_s)
        async with self._turns:
            acceptance = await patience.see_through(
                lambda: self._attempt(
                    request, opening, _ALONE if patience.repeats else _AMONG_OTHERS
                )
            )
        if not acceptance.replayed:
            emit(_told_of(acceptance, clock() - began))
        return acceptance

    def rejected(self, batch_id: BatchId) -> AsyncIterator[bytes]:
        """What of a batch was not accepted, if that is long: JSON arrays, which make up the whole
        in their order. Raises StoreUnavailable."""
        return stored_pieces(self._database, batch_id)

    async def _attempt(
        self, request: BatchRequest, opening: Opening, turn: TextClause
    ) -> BatchAcceptance:
        try:
            async with self._database.filling(_SILENCE_S) as filling:
                await filling.connection.execute(turn, {"lock": _LOCK})
                filling.gets_on()
                return await _accept(filling, request, opening)
        except Exception as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
            # One of the couples was taken meanwhile: what was committed is seen now.
            raise RolledBack("a couple was taken meanwhile") from error


def _told_of(acceptance: BatchAcceptance, seconds: float) -> BatchAccepted:
    return BatchAccepted(
        batch=str(acceptance.id),
        total=acceptance.total,
        accepted=acceptance.accepted,
        rejected=acceptance.total - acceptance.accepted,
        seconds=round(seconds, 3),
    )


async def _accept(filling: Filling, request: BatchRequest, opening: Opening) -> BatchAcceptance:
    connection = filling.connection
    # Whoever sent the same key before us is waited for here.
    if not await opened(connection, opening):
        return await standing(connection, opening)
    writing = _Writing(filling, opening, is_atomic=request.is_atomic)
    await writing.write(request.items())
    rejections = writing.rejections
    if request.is_atomic and rejections.count:
        raise BatchRejected(request.total, rejections.count, rejections.first)
    filling.gets_on()
    rejected = await writing.finish()
    await close(connection, opening.id, writing.accepted, rejected)
    return BatchAcceptance(opening.id, request.total, writing.accepted, rejected)


# Whoever deletes an appliance holds its row and looks for active pairings afterwards: either we
# find it gone, or they find our pairing.
_KNOWN = text(
    """
    select name from appliance where name = any(cast(:names as text[])) order by name
    for key share
    """
)


@dataclass(slots=True)
class _Chunk:
    """Items that follow one another: those that are requests, and why the others are refused."""

    candidates: list[Candidate] = field(default_factory=list)
    unfit: list[Rejection] = field(default_factory=list)


class _Writing:
    """The items of one batch on their way into the tables.

    One that `is_atomic`, and of which something was refused, is lost: the rest is judged, to be
    told, but not written.
    """

    def __init__(self, filling: Filling, opening: Opening, *, is_atomic: bool) -> None:
        self.accepted = 0
        self.rejections = Rejections()
        self._is_atomic = is_atomic
        self._filling = filling
        self._connection = filling.connection
        self._batch = opening.id
        self._rows = Rows(opening.id, opening.author, opening.now)
        self._known: set[ApplianceName] = set()
        self._unwritten: set[Couple] = set()

    async def write(self, items: Iterator[Item]) -> None:
        """Write all that can be accepted. Raises what the database does."""
        numbered = enumerate(items)
        chunk = await self._next(numbered)
        while chunk is not None:
            self._filling.gets_on()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._store(chunk))
                    following = group.create_task(self._next(numbered))
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from failed
            chunk = following.result()

    async def finish(self) -> bytes | None:
        """Write what is left. What was rejected as a JSON array; None if it is stored in pieces."""
        if self.rejections.pieces:
            await self._put_down(self.rejections.take_piece(is_last=True))
        return self.rejections.spelt()

    async def _next(self, numbered: Iterator[tuple[int, Item]]) -> _Chunk | None:
        """The next items; None if there are no more."""
        chunk = _Chunk()
        count = 0
        for count, (index, item) in enumerate(islice(numbered, CHUNK), start=1):
            if isinstance(item, Unacceptable):
                chunk.unfit.append(Rejection(index, item.code, item.detail))
            else:
                chunk.candidates.append(self._rows.candidate(index, item))
            if count % _BREATH == 0 or isinstance(item, Unacceptable):
                await asyncio.sleep(0)
        return chunk if count else None

    async def _store(self, chunk: _Chunk) -> None:
        candidates = chunk.candidates
        await self._learn(candidates)
        # As if no couple were taken, which would be found out in any case: to ask for each is work
        # that is nearly always in vain.
        free, refused = self._judged(candidates, {})
        is_lost = self._is_lost(chunk.unfit, refused)
        if is_lost or not await self._took(free):
            free, refused = self._judged(candidates, await self._rivals(candidates))
            is_lost = self._is_lost(chunk.unfit, refused)
            if not is_lost:
                await self._copy("pairing", PAIRING, [each.records[0] for each in free])
        if is_lost:
            self._unwritten.update(each.couple for each in free)
        else:
            await self._copy("side", SIDE, [side for each in free for side in each.records[1:3]])
            await self._copy("event", EVENT, [each.records[3] for each in free])
            self.accepted += len(free)
        refused += chunk.unfit
        self.rejections.add(sorted(refused, key=lambda each: each.index))
        await self._put_down(self.rejections.take_piece())

    async def _put_down(self, piece: str | None) -> None:
        # Of one that is atomic nothing will be there.
        if piece is not None and not self._is_atomic:
            record = (self._batch, self.rejections.pieces, piece)
            await self._copy("batch_rejection", REJECTION, [record])

    def _is_lost(self, *refused: Sequence[Rejection]) -> bool:
        return self._is_atomic and (self.rejections.count > 0 or any(refused))

    def _judged(
        self, candidates: Sequence[Candidate], rivals: Mapping[int, Row[Any]]
    ) -> tuple[list[Candidate], list[Rejection]]:
        """Those that nothing is against, as far as is known, and why the others are refused."""
        free: list[Candidate] = []
        refused: list[Rejection] = []
        taken: set[Couple] = set()
        for place, each in enumerate(candidates, start=1):
            refusal = self._refusal(each, rivals.get(place), taken)
            if refusal is None:
                free.append(each)
                taken.add(each.couple)
            else:
                refused.append(Rejection(each.index, type(refusal).__name__, str(refusal)))
        return free, refused

    def _refusal(
        self, candidate: Candidate, rival: Row[Any] | None, taken: set[Couple]
    ) -> SitepairError | None:
        unknown = [name for name in candidate.names if name not in self._known]
        if unknown:
            return UnknownAppliance(*unknown)
        couple = candidate.couple
        is_ours = rival is not None and rival.batch == self._batch
        if is_ours or couple in taken or couple in self._unwritten:
            return DuplicateInBatch()
        return PairingActive(PairingId(rival.id)) if rival is not None else None

    async def _learn(self, candidates: Sequence[Candidate]) -> None:
        """Which of the appliances are registered, and will be until this is committed."""
        names = {name for each in candidates for name in each.names} - self._known
        if names:
            rows = await self._connection.execute(_KNOWN, {"names": sorted(names)})
            self._known.update(row.name for row in rows)

    async def _rivals(self, candidates: Sequence[Candidate]) -> dict[int, Row[Any]]:
        couples = {
            "lows": [each.couple[0] for each in candidates],
            "highs": [each.couple[1] for each in candidates],
        }
        rows = await self._connection.execute(statement("rivals"), couples)
        return {row.place: row for row in rows}

    async def _took(self, free: Sequence[Candidate]) -> bool:
        """Whether their couples were free; then their pairings are written, else none of them."""
        try:
            async with self._connection.begin_nested():
                await self._copy("pairing", PAIRING, [each.records[0] for each in free])
        except Exception as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
            return False
        return True

    async def _copy(self, table: str, columns: Sequence[str], records: Sequence[Record]) -> None:
        driver = (await self._connection.get_raw_connection()).driver_connection
        if records and driver is not None:
            await driver.copy_records_to_table(table, records=records, columns=columns)
