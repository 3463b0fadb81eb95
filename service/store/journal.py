"""The only writer of pairing state."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.domain.errors import LeaseLost
from service.domain.events import Entry
from service.domain.ids import PairingId
from service.domain.pairing import Pairing, Side
from service.store.database import Database
from service.store.group import GroupCommit
from service.store.rows import error_to_json, result_to_json, to_json, to_text, to_time
from service.store.statements import statement


class Change(Protocol):
    """What the engine hands over: a pairing as it is after `entries`, appended one after another.

    `release` gives the pairing up: any worker may claim it from then on.
    """

    @property
    def pairing(self) -> Pairing:
        """The new state."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What led to it; at least one."""

    @property
    def release(self) -> bool:
        """Whether its worker lets go of it."""


class Journal:
    """Commits changes in groups, on a connection of its own.

    Entries and state of a change are one transaction, which is bound to the epoch that the
    pairing was claimed under. A pairing that is over belongs to nobody any more.
    """

    def __init__(self, database: Database) -> None:
        self._lane = database.lane()
        self._group: GroupCommit[Change, None] = GroupCommit(self._commit, self._lane.close)

    async def append(self, change: Change) -> None:
        """Return when `change` is durable; changes of one pairing take effect in their order.

        Raises LeaseLost when the pairing's epoch is no longer the change's, StoreUnavailable when
        the outcome is not known.
        """
        await self._group.submit(change)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Write until stopped."""
        await self._group.run(ready)

    async def stop(self) -> None:
        """Take nothing more, write what is there, return when `run` is through."""
        await self._group.stop()

    async def _commit(self, changes: Sequence[Change]) -> Sequence[Exception | None]:
        folds, fold_of = _folded(changes)
        rows = await self._lane.run(statement("journal"), _parameters(folds))
        granted = {(row.id, row.epoch) for row in rows}
        return [
            None if fold is not None and fold.key in granted else LeaseLost(change.pairing.id)
            for change, fold in zip(changes, fold_of, strict=True)
        ]


@dataclass(slots=True)
class _Fold:
    """What a group holds of one pairing under one epoch: its last state, all of its entries."""

    pairing: Pairing
    followed: int
    entries: list[Entry] = field(default_factory=list)
    release: bool = False

    @property
    def key(self) -> tuple[PairingId, int]:
        return self.pairing.id, self.pairing.epoch

    def add(self, change: Change) -> bool:
        """Whether `change` follows on what is there."""
        if change.entries[0].seq != self.followed + len(self.entries) + 1:
            return False
        self.pairing = change.pairing
        self.entries.extend(change.entries)
        self.release = change.release
        return True

    def moved_sides(self) -> list[tuple[int, Side]]:
        """The sides that the entries are about; nothing else changes a side."""
        named = {entry.appliance for entry in self.entries}
        return [pair for pair in enumerate(self.pairing.sides) if pair[1].appliance in named]


def _folded(changes: Sequence[Change]) -> tuple[list[_Fold], list[_Fold | None]]:
    """The folds, in the order in which their rows are locked, and the one of each change; none
    for a change that does not follow on the one before it."""
    folds: dict[tuple[PairingId, int], _Fold] = {}
    fold_of: list[_Fold | None] = []
    for change in changes:
        fresh = _Fold(change.pairing, change.entries[0].seq - 1)
        fold = folds.setdefault(fresh.key, fresh)
        fold_of.append(fold if fold.add(change) else None)
    return sorted(folds.values(), key=lambda fold: fold.pairing.id), fold_of


def _parameters(folds: Sequence[_Fold]) -> dict[str, object]:
    return _of_pairings(folds) | _of_sides(folds) | _of_entries(folds)


def _of_pairings(folds: Sequence[_Fold]) -> dict[str, object]:
    pairings = [fold.pairing for fold in folds]
    return {
        "ids": [pairing.id for pairing in pairings],
        "epochs": [pairing.epoch for pairing in pairings],
        "followed": [fold.followed for fold in folds],
        "states": [str(pairing.state) for pairing in pairings],
        "phases": [pairing.phase and str(pairing.phase) for pairing in pairings],
        "last_updated": [pairing.last_updated for pairing in pairings],
        "end_times": [pairing.end_time for pairing in pairings],
        "errors": [error_to_json(pairing.error) for pairing in pairings],
        "seqs": [pairing.position.seq for pairing in pairings],
        "heads": [pairing.position.hash for pairing in pairings],
        "given_up": [fold.release or fold.pairing.is_over for fold in folds],
    }


def _of_sides(folds: Sequence[_Fold]) -> dict[str, object]:
    moved = [(fold.key, *sided) for fold in folds for sided in fold.moved_sides()]
    sides = [side for _, _, side in moved]
    return {
        "side_pairings": [pairing_id for (pairing_id, _), _, _ in moved],
        "side_epochs": [epoch for (_, epoch), _, _ in moved],
        "side_ordinals": [ordinal for _, ordinal, _ in moved],
        "side_states": [str(side.state) for side in sides],
        "side_tasks": [side.task_id and to_text(side.task_id) for side in sides],
        "side_attempts": [side.attempts for side in sides],
        "side_starts": [side.start_time for side in sides],
        "side_ends": [side.end_time for side in sides],
        "side_results": [result_to_json(side.result) for side in sides],
        "side_errors": [error_to_json(side.error) for side in sides],
    }


def _of_entries(folds: Sequence[_Fold]) -> dict[str, object]:
    entries = [(fold.pairing.epoch, entry) for fold in folds for entry in fold.entries]
    return {"chain_epochs": [epoch for epoch, _ in entries]} | entry_columns(
        [entry for _, entry in entries]
    )


def entry_columns(entries: Sequence[Entry]) -> dict[str, object]:
    """Entries as the arrays that a statement unnests."""
    return {
        "chains": [entry.chain for entry in entries],
        "entry_seqs": [entry.seq for entry in entries],
        "ats": [to_time(entry.at) for entry in entries],
        "types": [entry.type for entry in entries],
        "appliances": [entry.appliance for entry in entries],
        "actors": [entry.actor for entry in entries],
        "operation_ids": [entry.operation_id for entry in entries],
        "details": [to_json(entry.detail) for entry in entries],
        "hashes": [entry.hash for entry in entries],
    }
