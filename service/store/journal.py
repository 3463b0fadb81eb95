"""The only writer of pairing state. Only `retries` carries out its statement as well, in a
transaction of its own."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import TextClause

from service.domain.advance import Change
from service.domain.errors import LeaseLost, Unwanted
from service.observe.events import JournalUnsure
from service.observe.figures import JournalFigures
from service.observe.logging import emit
from service.store.folds import Fold, FoldKey, folded, parameters, standing_parameters
from service.store.group import GroupCommit
from service.store.patience import Patience
from service.store.statements import statement

PATIENCE_S = 15.0
REST_S = 0.08
"""How long after one group the next one begins while many pairings move. It is half of the time of
an appliance's task, and spares the database most of its commits."""

PRESSING_S = 0.022
"""How long an intent waits at most for its group to begin then: its call waits with it. Most of
those that begin at the same beat of the rounds have come by then."""

_TRIES = 5
"""How often a change that was refused is written again if the look-up says that it would fit. That
takes a database that went back in time, by a failover."""


class Statements(Protocol):
    """Who carries out statements, each as a transaction of its own: a lane of the database, or its
    second self in simulation."""

    async def run(
        self, statement: TextClause, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Any]:
        """The rows. Raises StoreUnavailable; then the effect is not known."""

    async def close(self) -> None:
        """Let go of the connection."""


class Journal:
    """Commits changes in groups, on a connection of its own.

    Entries and state of a change are one transaction, which is bound to the epoch that the
    pairing was claimed under. A pairing that is over belongs to nobody any more.

    *A commit whose outcome is not known is looked up.* A statement that was cut off may have been
    committed, or be under way still. The same statement is sent again, as soon as the database
    answers:

    1. The first one was not committed, and will not be: the second one is granted.
    2. It was committed: the chain has moved on, so the second one is refused, and the entries are
       found in the chain.
    3. It is under way: the second one waits for it at the pairing's row, and goes on as 1 or 2.
    4. It has not begun yet, somewhere on its way to the server: the second one is granted, and
       when the first one comes it is refused.

    A change that is refused is therefore looked up before it counts as lost, each time.
    """

    def __init__(
        self,
        lane: Statements,
        *,
        patience_s: float = PATIENCE_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """The `lane` is the journal's own, and closed with it. For `patience_s` after trouble
        began the journal tries again before it tells its callers. `jitter` gives [0, 1)."""
        self._lane = lane
        self._patience = Patience("writing the journal", patience_s, jitter)
        self._groups = self._changes = 0
        self._group: GroupCommit[Change, None] = GroupCommit(
            self._commit, lane.close, rest_s=REST_S, pressing_s=PRESSING_S
        )

    @property
    def figures(self) -> JournalFigures:
        """What it has done so far."""
        return JournalFigures(self._groups, self._changes, self._patience.repeats)

    async def append(self, change: Change, *, is_pressing: bool = False) -> None:
        """Return when `change` is durable; changes of one pairing take effect in their order. One
        that is pressing waits less for others to share its transaction.

        Raises LeaseLost when the pairing's epoch is no longer the change's, or the change does not
        follow on its chain; Unwanted when it is its end, and there is a wish to cancel that is not
        in its chain; StoreUnavailable when the outcome could not be learnt.
        """
        await self._group.submit(change, is_pressing=is_pressing)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Write until stopped."""
        await self._group.run(ready)

    async def stop(self) -> None:
        """Take nothing more, write what is there, return when `run` is through."""
        await self._group.stop()

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Exception | None]:
        folds, fold_of = folded(changes)
        durable, unwanted = await self._patience.see_through(
            lambda: self._write(folds), lambda error: emit(JournalUnsure(len(folds), error))
        )
        self._groups += 1
        self._changes += len(changes)

        def answer(change: Change, fold: Fold | None) -> Exception | None:
            if fold is not None and fold.key in durable:
                return None
            is_unwanted = fold is not None and fold.key in unwanted
            return (Unwanted if is_unwanted else LeaseLost)(change.pairing.id)

        return list(map(answer, changes, fold_of))

    async def _write(self, folds: Sequence[Fold]) -> tuple[set[FoldKey], set[FoldKey]]:
        """Those that are durable, and those that were refused because they are unwanted."""
        durable, unwanted = set[FoldKey](), set[FoldKey]()
        for _ in range(_TRIES):
            rows = await self._lane.run(statement("journal"), parameters(folds))
            durable.update((row.id, row.epoch) for row in rows)
            refused = [fold for fold in folds if fold.key not in durable]
            if not refused:
                break
            standing = await self._lane.run(
                statement("journal_standing"), standing_parameters(refused)
            )
            found = {(row.id, row.asked_epoch): row for row in standing}
            durable.update(fold.key for fold in refused if _is_durable(fold, found.get(fold.key)))
            folds = [fold for fold in refused if _may_be_written(fold, found.get(fold.key))]
            unwanted.update(fold.key for fold in folds if _is_unwanted(fold, found[fold.key]))
            folds = [fold for fold in folds if fold.key not in unwanted]
            if not folds:
                break
        return durable, unwanted


def _is_durable(fold: Fold, row: Any) -> bool:
    """Whether the fold is in the chain. Not if its writer expects to own the pairing afterwards and
    does not any more: then it has to stop, whatever was written."""
    if row is None or not row.is_recorded:
        return False
    return row.epoch == fold.pairing.epoch or not fold.leaves_an_owner


def _may_be_written(fold: Fold, row: Any) -> bool:
    if row is None or row.is_recorded:
        return False
    return bool(row.epoch == fold.pairing.epoch and row.seq == fold.followed)


def _is_unwanted(fold: Fold, row: Any) -> bool:
    return bool(fold.pairing.is_over and not fold.pairing.is_canceling and row.is_unwanted)
