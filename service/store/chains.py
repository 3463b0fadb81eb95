"""Reads every chain from its first event to its head, to find what does not fit.

A chain and its head are read from one snapshot, so one that is being written does not look broken.
Each stretch of chains has a snapshot of its own: held for all of them, it would keep the database
from clearing away what was replaced meanwhile. Stretch and page bound the memory.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DateTime,
    Result,
    Row,
    Select,
    Text,
    cast,
    extract,
    func,
    literal,
    null,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.chain import Verdict, Walk, is_about_registration, spelt
from service.domain.events import Entry
from service.domain.ids import ApplianceName
from service.domain.pairing import ChainPosition
from service.store.columns import Xid8
from service.store.database import Database
from service.store.tables import appliance, event, pairing

CHAINS = 500
"""How many owners of chains a stretch has at most."""
PAGE = 1000
"""How many events are read at once."""
NO_TIME = -1
"""Stands for a time that is not one of ours: before the epoch, without end, or finer than ms."""

_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
_SNAPSHOT = text("set transaction isolation level repeatable read, read only")
# Before the snapshot is taken, for a month that is dropped is dropped for old snapshots, too.
_NO_DROP = text("lock table event in access share mode")

# No hash covers an event's transaction, and `store/audit.py` shows none that may come yet.
_NOT_BEGUN = func.pg_snapshot_xmax(func.pg_current_snapshot(), type_=Xid8)


class Chains:
    """The chains of pairings and of registrations, as they are stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def verify(self, only: UUID | None = None) -> AsyncGenerator[Verdict, None]:
        """What was found of each chain, in no order to rely on, or of `only` that one.

        Raises StoreUnavailable.
        """
        stretch = Stretch(_FIRST, _LAST) if only is None else Stretch(only, only)
        while True:
            async with self._database.transaction(takes_long=True) as connection:
                await connection.execute(_SNAPSHOT)
                await connection.execute(_NO_DROP)
                owners = {row.id: _Owner.of(row) for row in await _rows(connection, heads(stretch))}
                here = stretch.up_to(max(owners)) if len(owners) == CHAINS else stretch
                async for verdict in _verdicts(connection, here, owners):
                    yield verdict
            if here.last == stretch.last:
                return
            stretch = Stretch(UUID(int=here.last.int + 1), stretch.last)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The chains from `first` to `last`, both included."""

    first: UUID
    last: UUID

    def up_to(self, last: UUID) -> "Stretch":
        """It without what comes after `last`."""
        return Stretch(self.first, last)


@dataclass(frozen=True, slots=True)
class _Owner:
    """A pairing, or the appliance of this name, and where it says that its chain ends."""

    appliance: ApplianceName | None
    head: ChainPosition

    @classmethod
    def of(cls, row: Row[Any]) -> "_Owner":
        return cls(row.name, ChainPosition(row.seq, row.head))


async def _verdicts(
    connection: AsyncConnection, stretch: Stretch, owners: dict[UUID, _Owner]
) -> AsyncIterator[Verdict]:
    chain: _Chain | None = None
    async for row in _events(connection, stretch):
        if chain is None or chain.id != row.chain:
            if chain is not None:
                yield chain.verdict()
            chain = _Chain(row.chain, owners.pop(row.chain, None))
        chain.step(_entry(row), is_shown=row.is_shown)
    if chain is not None:
        yield chain.verdict()
    for id_, owner in owners.items():
        yield _Chain(id_, owner).verdict()


class _Chain:
    """One chain, on its way through the pages."""

    def __init__(self, id_: UUID, owner: _Owner | None) -> None:
        self.id = id_
        self._walk = Walk(owner.head if owner is not None else None)
        self._appliance = owner.appliance if owner is not None else None
        self._is_owned = owner is not None

    def step(self, entry: Entry, *, is_shown: bool) -> None:
        if not self._is_owned and is_about_registration(entry):
            self._appliance = entry.appliance
        self._walk.step(entry, is_shown=is_shown)

    def verdict(self) -> Verdict:
        return Verdict(self.id, self._appliance, self._walk.steps, self._walk.end())


async def _events(connection: AsyncConnection, stretch: Stretch) -> AsyncIterator[Row[Any]]:
    """The rows of the stretch's chains, each chain in stored order."""
    after: tuple[UUID, int, str] | None = None
    while True:
        rows = await _rows(connection, page(stretch, after))
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        after = rows[-1].chain, rows[-1].seq, rows[-1].stored_at


async def _rows(connection: AsyncConnection, query: Select[Any]) -> Sequence[Row[Any]]:
    result: Result[Any] = await connection.execute(query)
    return result.all()


def heads(stretch: Stretch) -> Select[Any]:
    """The statement that finds the first owners of a stretch."""
    pairings = select(pairing.c.id, null().label("name"), pairing.c.seq, pairing.c.head)
    appliances = select(appliance.c.id, appliance.c.name, appliance.c.seq, appliance.c.head)
    first = [
        query.where(table.c.id.between(stretch.first, stretch.last))
        .order_by(table.c.id)
        .limit(CHAINS)
        .subquery()
        for query, table in ((pairings, pairing), (appliances, appliance))
    ]
    both = union_all(*(select(each) for each in first)).subquery()
    return select(both).order_by(both.c.id).limit(CHAINS)


def page(stretch: Stretch, after: tuple[UUID, int, str] | None) -> Select[Any]:
    """The statement that reads a page of events, from the one after `after` on, which is its chain,
    number and time as stored.

    Time and detail come as they are stored: a time that Python cannot hold, or a detail that it
    cannot parse, is something to be named and not to stumble over.
    """
    query = select(
        event.c.chain,
        event.c.seq,
        (extract("epoch", event.c.at) * 1000).label("ms"),
        cast(event.c.at, Text).label("stored_at"),
        event.c.type,
        event.c.appliance,
        event.c.actor,
        event.c.operation_id,
        event.c.detail,
        event.c.hash,
        (event.c.xid < _NOT_BEGUN).label("is_shown"),
    )
    key = (event.c.chain, event.c.seq, event.c.at)
    # One lower bound only: given both, PostgreSQL may begin at the stretch's and skip to the page.
    if after is None:
        query = query.where(event.c.chain >= stretch.first)
    else:
        chain, seq, stored_at = after
        at = cast(literal(stored_at, Text), DateTime(timezone=True))
        query = query.where(tuple_(*key) > tuple_(literal(chain), literal(seq), at))
    return query.where(event.c.chain <= stretch.last).order_by(*key).limit(PAGE)


def _entry(row: Row[Any]) -> Entry:
    """The row as an entry; as one whose hash cannot be right if it is not as we write them."""
    return Entry(
        chain=row.chain,
        seq=row.seq,
        at=int(row.ms) if row.ms.is_finite() and row.ms % 1 == 0 else NO_TIME,
        type=row.type,
        appliance=row.appliance,
        actor=row.actor,
        operation_id=row.operation_id,
        detail=_detail(row.detail),
        hash=row.hash,
    )


def _detail(stored: str) -> str:
    """Whatever its spelling in the table: that of a release before this one differs."""
    try:
        detail = json.loads(stored, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        detail = None
    return spelt(detail if isinstance(detail, dict) else {"unreadable": stored})


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")  # Readers differ in which of them they take.
    return found
