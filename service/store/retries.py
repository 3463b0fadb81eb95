"""Trying a pairing again that did not succeed: the one change of state that no worker makes."""

import asyncio
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service.domain.advance import Change, advance
from service.domain.author import Author
from service.domain.errors import (
    LeaseLost,
    NotRetryable,
    PairingActive,
    Superseded,
    UnknownAppliance,
)
from service.domain.events import Entry, PairingEvent, PairingRetried, SideEvent, SideReopened
from service.domain.ids import PairingId
from service.domain.pairing import ROLLBACK_S, Pairing, PairingState
from service.store.database import ANSWER_TIMEOUT_S, Database
from service.store.errors import UNIQUE_VIOLATION, following, sqlstate, translated
from service.store.folds import folded, parameters
from service.store.journal import Journal
from service.store.pairings import Pairings, active, succeeded_since
from service.store.patience import CALLERS_S, Patience
from service.store.statements import statement
from service.store.tables import appliance


class Retries:
    """Begins pairings again, under their ids."""

    def __init__(self, database: Database, journal: Journal, clock: Callable[[], int]) -> None:
        """`clock` gives the time in ms."""
        self._database = database
        self._journal = journal
        self._pairings = Pairings(database)
        self._clock = clock
        self._patience = Patience("trying a pairing again", CALLERS_S)

    async def retry(self, pairing_id: PairingId, author: Author) -> Pairing:
        """Have it tried again: what is left of its rollback, else all of it. It is due when this
        returns.

        Raises UnknownPairing, NotRetryable if it is not over or succeeded, PairingActive if
        another one of the two appliances is, Superseded if one has succeeded since and this one's
        rollback is not through, UnknownAppliance, StoreUnavailable.
        """
        with translated("trying a pairing again"):
            # The journal is more patient than callers are.
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await self._retried(pairing_id, author)

    async def _retried(self, pairing_id: PairingId, author: Author) -> Pairing:
        before = await self._pairings.get(pairing_id)
        if before.state not in {PairingState.FAILED, PairingState.CANCELED}:
            raise NotRetryable(pairing_id, before.state.value)
        await self._need_appliances(before)
        reopening = _reopened(before, author, self._clock())
        try:
            if before.left_behind:
                await self._patience.see_through(lambda: self._take_up(before, reopening))
            with following(in_doubt=bool(before.left_behind)):
                await self._journal.append(reopening, is_pressing=True)
        except LeaseLost:
            # Somebody else was quicker.
            now = await self._pairings.get(pairing_id)
            raise NotRetryable(pairing_id, now.state.value) from None
        except IntegrityError as error:
            if sqlstate(error) != UNIQUE_VIOLATION:
                raise
            rows = await self._database.run(active(before))
            raise PairingActive(rows[0].id if rows else pairing_id) from error
        return reopening.pairing

    async def _take_up(self, left: Pairing, reopening: Change) -> None:
        """What was left behind, and then found there by a pairing that succeeded, is part of what
        that one promised.

        Whether one has succeeded is asked when the couple is ours, and before anybody sees that it
        is: no other pairing of the two is active then (uq_pairing_active_couple), nor can be until
        this one is over. Whether it was written, by whomever, the journal finds out.
        """
        folds, _ = folded([reopening])
        async with self._database.transaction() as connection:
            await connection.execute(statement("journal"), parameters(folds))
            rival = (await connection.execute(succeeded_since(left))).one_or_none()
            if rival is not None:
                raise Superseded(left.id, rival.id)

    async def _need_appliances(self, pairing: Pairing) -> None:
        names = [side.appliance for side in pairing.sides]
        known = select(appliance.c.name).where(appliance.c.name.in_(names))
        found = {row.name for row in await self._database.run(known)}
        unknown = [name for name in names if name not in found]
        if unknown:
            raise UnknownAppliance(*unknown)


def _reopened(before: Pairing, author: Author, now: int) -> Change:
    timeout_s = ROLLBACK_S if before.left_behind else before.timeout_s
    events: list[PairingEvent | SideEvent] = [
        PairingRetried(author.user, author.operation_id, timeout_s)
    ]
    if not before.left_behind:
        events += [SideReopened(side.appliance) for side in before.sides]
    after = before
    entries: list[Entry] = []
    for event in events:
        after, entry = advance(after, event, at=now, actor=author.user)
        entries.append(entry)
    return Change(after, tuple(entries))
