"""Changes of one group, folded into what one statement writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.advance import Change
from service.domain.events import Entry
from service.domain.ids import ApplianceName, PairingId
from service.domain.pairing import Pairing, PairingState, Side
from service.store.arrays import array
from service.store.rows import (
    error_to_json,
    errors_to_json,
    result_to_json,
    to_text,
    to_time,
)

FoldKey = tuple[PairingId, int]
"""A pairing, and the epoch under which it was changed."""


@dataclass(slots=True)
class Fold:
    """What a group holds of one pairing under one epoch: its last state, all of its entries."""

    pairing: Pairing
    followed: int
    entries: list[Entry] = field(default_factory=list)
    release: bool = False
    waits_for: ApplianceName | None = None

    @property
    def key(self) -> FoldKey:
        """What tells it from the others of its group."""
        return self.pairing.id, self.pairing.epoch

    @property
    def is_given_up(self) -> bool:
        """Whether nobody holds the pairing afterwards."""
        return self.release or self.pairing.is_over

    @property
    def leaves_an_owner(self) -> bool:
        """Whether whoever wrote it expects to hold the pairing afterwards."""
        return not self.is_given_up and self.pairing.state is PairingState.RUNNING

    def add(self, change: Change) -> bool:
        """Whether `change` follows on what is there."""
        if change.entries[0].seq != self.followed + len(self.entries) + 1:
            return False
        self.pairing = change.pairing
        self.entries.extend(change.entries)
        self.release = change.release
        self.waits_for = change.waits_for
        return True

    def moved_sides(self) -> list[tuple[int, Side]]:
        """The sides that the entries are about; nothing else changes a side."""
        named = {entry.appliance for entry in self.entries}
        return [pair for pair in enumerate(self.pairing.sides) if pair[1].appliance in named]


def folded(changes: Sequence[Change]) -> tuple[list[Fold], list[Fold | None]]:
    """The folds, in the order in which their rows are locked, and the one of each change; none
    for a change that does not follow on the one before it."""
    folds: dict[FoldKey, Fold] = {}
    fold_of: list[Fold | None] = []
    for change in changes:
        fresh = Fold(change.pairing, change.entries[0].seq - 1)
        fold = folds.setdefault(fresh.key, fresh)
        fold_of.append(fold if fold.add(change) else None)
    return sorted(folds.values(), key=lambda fold: fold.pairing.id), fold_of


def parameters(folds: Sequence[Fold]) -> dict[str, object]:
    """What the statement `journal` takes."""
    return _of_pairings(folds) | _of_sides(folds) | _of_entries(folds)


def standing_parameters(folds: Sequence[Fold]) -> dict[str, object]:
    """What the statement `journal_standing` takes: the last entry of each."""
    last = [fold.entries[-1] for fold in folds]
    return {
        "ids": [fold.pairing.id for fold in folds],
        "epochs": [fold.pairing.epoch for fold in folds],
        "seqs": [entry.seq for entry in last],
        "ats": [to_time(entry.at) for entry in last],
        "heads": [entry.hash for entry in last],
    }


def _of_pairings(folds: Sequence[Fold]) -> dict[str, object]:
    pairings = [fold.pairing for fold in folds]
    return {
        "places": array(list(range(1, len(folds) + 1))),
        "ids": array([pairing.id for pairing in pairings]),
        "epochs": array([pairing.epoch for pairing in pairings]),
        "followed": array([fold.followed for fold in folds]),
        "states": array([str(pairing.state) for pairing in pairings]),
        "phases": array([pairing.phase and str(pairing.phase) for pairing in pairings]),
        "last_updated": array([pairing.last_updated for pairing in pairings]),
        "end_times": array([pairing.end_time for pairing in pairings]),
        "errors": array([error_to_json(pairing.error) for pairing in pairings]),
        "deadlines": array([pairing.deadline for pairing in pairings]),
        "warnings": array([errors_to_json(pairing.warnings) for pairing in pairings]),
        "cancelings": array([pairing.is_canceling for pairing in pairings]),
        "seqs": array([pairing.position.seq for pairing in pairings]),
        "heads": [pairing.position.hash for pairing in pairings],
        "given_up": array([fold.is_given_up for fold in folds]),
        "waits_for": array([fold.waits_for for fold in folds]),
    }


def _of_sides(folds: Sequence[Fold]) -> dict[str, object]:
    moved = [
        (place, *sided) for place, fold in enumerate(folds, start=1) for sided in fold.moved_sides()
    ]
    sides = [side for _, _, side in moved]
    return {
        "side_places": array([place for place, _, _ in moved]),
        "side_ordinals": array([ordinal for _, ordinal, _ in moved]),
        "side_states": array([str(side.state) for side in sides]),
        "side_tasks": array([side.task_id and to_text(side.task_id) for side in sides]),
        "side_attempts": array([side.attempts for side in sides]),
        "side_starts": array([side.start_time for side in sides]),
        "side_ends": array([side.end_time for side in sides]),
        "side_results": [result_to_json(side.result) for side in sides],
        "side_errors": array([error_to_json(side.error) for side in sides]),
        "side_calls": array([side.call and str(side.call) for side in sides]),
        "side_losses": array([side.losses for side in sides]),
        "side_thumbprints": array([side.asked_thumbprint for side in sides]),
        "side_urls": array([side.asked_url for side in sides]),
        "side_called": array([side.called_url for side in sides]),
    }


def _of_entries(folds: Sequence[Fold]) -> dict[str, object]:
    placed = [(place, entry) for place, fold in enumerate(folds, start=1) for entry in fold.entries]
    entries = [entry for _, entry in placed]
    return {
        "entry_places": array([place for place, _ in placed]),
        "entry_seqs": array([entry.seq for entry in entries]),
        "ats": array([entry.at for entry in entries]),
        "types": array([entry.type for entry in entries]),
        "appliances": array([entry.appliance for entry in entries]),
        "actors": array([entry.actor for entry in entries]),
        "operation_ids": array([entry.operation_id for entry in entries]),
        "details": [entry.detail for entry in entries],
        "hashes": [entry.hash for entry in entries],
    }
