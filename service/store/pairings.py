"""Reading pairings. Each question is one statement, so what it returns is of one moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    exists,
    literal_column,
    or_,
    select,
    text,
    union_all,
)

from service.domain.errors import UnknownPairing
from service.domain.events import Entry
from service.domain.ids import ApplianceName, BatchId, OperationId, PairingId
from service.domain.pairing import OVER, ChainPosition, Pairing, PairingState, Side
from service.store.database import Database
from service.store.rows import entry_from, pairing_from
from service.store.tables import ACTIVE, UNSUCCESSFUL, event, pairing, side

_FEW = frozenset(PairingState) - {PairingState.SUCCEEDED}
_A = side.alias("a")
_B = side.alias("b")


@dataclass(frozen=True, slots=True)
class PairingFilter:
    """What a listing is narrowed to; None means any."""

    state: PairingState | None = None
    appliance: ApplianceName | None = None
    operation_id: OperationId | None = None
    batch: BatchId | None = None


class Pairings:
    """Pairings as they are stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, pairing_id: PairingId) -> Pairing:
        """Raises UnknownPairing, StoreUnavailable."""
        rows = await self._database.run(one(pairing_id))
        if not rows:
            raise UnknownPairing
        return pairing_from(rows[0])

    async def page(
        self, narrowed: PairingFilter, limit: int, before: PairingId | None = None
    ) -> Sequence[Pairing]:
        """Up to `limit`, newest first, from the one after `before` on. Raises StoreUnavailable."""
        return [
            pairing_from(row) for row in await self._database.run(page(narrowed, limit, before))
        ]

    async def events(self, pairing_id: PairingId) -> Sequence[Entry]:
        """The pairing's chain from its first event on. Raises UnknownPairing, StoreUnavailable."""
        rows = await self._database.run(chain(pairing_id))
        if not rows:
            raise UnknownPairing
        return [entry_from(row) for row in rows]


def one(pairing_id: PairingId) -> Select[Any]:
    """The statement behind `Pairings.get`."""
    return _whole().where(pairing.c.id == pairing_id)


def active(pairing_like: Pairing) -> Select[Any]:
    """The pairing of the same two appliances that is not over, if there is one."""
    low, high = sorted(side.appliance for side in pairing_like.sides)
    couple = and_(pairing.c.couple_low == low, pairing.c.couple_high == high)
    return select(pairing.c.id).where(couple, text(ACTIVE))


def succeeded_since(over: Pairing) -> Select[Any]:
    """A pairing of the same two appliances that succeeded after `over` ended, if there is one.

    Their times are of different processes' clocks: after it is what the trail has after it, too. Of
    a database that was restored the trail is no longer in its order, and the times tell still.
    Reads what there is of one of the two, newest first: for questions that are asked seldom.
    """
    one, _ = over.sides
    end, last = event.alias("end"), event.alias("last")
    ended = select(end.c.xid).where(end.c.chain == over.id, end.c.seq == over.position.seq)
    is_after = or_(pairing.c.end_time >= over.end_time, last.c.xid > ended.scalar_subquery())
    return (
        select(pairing.c.id)
        .join(side, side.c.pairing_id == pairing.c.id)
        .outerjoin(last, and_(last.c.chain == pairing.c.id, last.c.seq == pairing.c.seq))
        .where(side.c.appliance == one.appliance, side.c.peer == one.peer)
        .where(pairing.c.state == "SUCCEEDED", is_after)
        .order_by(side.c.pairing_id.desc())
        .limit(1)
    )


def chain(pairing_id: PairingId) -> Select[Any]:
    """The statement behind `Pairings.events`: appliances have chains too, which are not meant."""
    is_pairing = exists().where(pairing.c.id == pairing_id)
    return select(event).where(event.c.chain == pairing_id, is_pairing).order_by(event.c.seq)


def page(narrowed: PairingFilter, limit: int, before: PairingId | None) -> Select[Any]:
    """The statement behind `Pairings.page`.

    Each filter has an index that ends in the id, so that a page costs its own length. The sides
    join what is on the page: joined before, they would be read from the newest one on. An
    appliance's pairings in one of the states that few are in are looked for among those few, by
    either name of the couple.
    """
    if narrowed.appliance is not None and narrowed.state in _FEW:
        halves = [
            _newest(select(pairing).where(one == narrowed.appliance), narrowed, limit, before)
            for one in (pairing.c.couple_low, pairing.c.couple_high)
        ]
        either = union_all(*[select(half.subquery()) for half in halves]).subquery()
        query = select(either).order_by(either.c.id.desc()).limit(limit)
    elif narrowed.appliance is not None:
        of_it = select(pairing).join(side, side.c.pairing_id == pairing.c.id)
        of_it = of_it.where(side.c.appliance == narrowed.appliance)
        query = _newest(of_it, narrowed, limit, before, side.c.pairing_id)
    else:
        query = _newest(select(pairing), narrowed, limit, before)
    on_page = query.subquery("on_page")
    return _whole(on_page).order_by(on_page.c.id.desc())


def _newest(
    query: Select[Any],
    narrowed: PairingFilter,
    limit: int,
    before: PairingId | None,
    newest: ColumnElement[Any] = pairing.c.id,
) -> Select[Any]:
    """The first of `query`, in the order of `newest`, which is the pairing's id."""
    if narrowed.state is not None:
        query = query.where(pairing.c.state == str(narrowed.state))
        # The partial indexes ask for it, spelt out.
        if narrowed.state is not PairingState.SUCCEEDED:
            query = query.where(pairing.c.state != literal_column("'SUCCEEDED'"))
        if narrowed.appliance is not None and narrowed.state in _FEW:
            query = query.where(text(ACTIVE if narrowed.state not in OVER else UNSUCCESSFUL))
    if narrowed.operation_id is not None:
        query = query.where(pairing.c.operation_id == narrowed.operation_id)
    if narrowed.batch is not None:
        query = query.where(pairing.c.batch == narrowed.batch)
    if before is not None:
        query = query.where(newest < before, pairing.c.id < before)
    return query.order_by(newest.desc()).limit(limit)


async def as_accepted(database: Database, ids: Sequence[PairingId]) -> dict[PairingId, Pairing]:
    """The pairings of `ids` as they were when they were accepted. Raises StoreUnavailable."""
    first = event.alias("first")
    query = (
        _whole()
        .add_columns(first.c.hash.label("first_hash"))
        .join(first, and_(first.c.chain == pairing.c.id, first.c.seq == 1))
        .where(pairing.c.id.in_(ids))
    )
    return {
        row.id: _at_first(pairing_from(row), row.first_hash) for row in await database.run(query)
    }


def _at_first(now: Pairing, first_hash: bytes) -> Pairing:
    one, other = now.sides
    return replace(
        now,
        sides=(Side(one.appliance, one.peer), Side(other.appliance, other.peer)),
        state=PairingState.QUEUED,
        phase=None,
        last_updated=now.start_time,
        deadline=now.start_time + now.timeout_s * 1000,
        end_time=None,
        error=None,
        warnings=(),
        is_canceling=False,
        is_unwanted=False,
        epoch=0,
        position=ChainPosition(1, first_hash),
    )


def _whole(pairings: FromClause = pairing) -> Select[Any]:
    return (
        select(pairings, *_labelled(_A, "a_"), *_labelled(_B, "b_"))
        .join(_A, and_(_A.c.pairing_id == pairings.c.id, _A.c.ordinal == 0))
        .join(_B, and_(_B.c.pairing_id == pairings.c.id, _B.c.ordinal == 1))
    )


def _labelled(table: FromClause, prefix: str) -> list[ColumnElement[Any]]:
    skipped = {"pairing_id", "ordinal"}
    return [column.label(prefix + column.name) for column in table.c if column.name not in skipped]
