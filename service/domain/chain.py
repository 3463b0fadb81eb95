"""The chain of a pairing's events: each carries the hash of the one before it.

An event that is changed, removed, inserted or moved no longer fits the hash of its successor. The
last one has no successor: where the chain ends, its head, is kept with who owns it, which is the
pairing or the appliance's registration.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from json.encoder import encode_basestring_ascii as quoted
from typing import get_args
from uuid import UUID

from msgspec.structs import replace

from service.domain.events import (
    ApplianceEvent,
    ApplianceRemoved,
    Entry,
    Event,
    appliance_of,
    detail_of,
    type_of,
)
from service.domain.ids import ApplianceName, OperationId
from service.domain.pairing import ChainPosition

_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False
)


def append(
    event: Event | ApplianceEvent,
    position: ChainPosition,
    *,
    chain: UUID,
    at: int,
    actor: str,
    operation_id: OperationId,
) -> Entry:
    """`event` as the next entry of the chain that stands at `position`."""
    entry = Entry(
        chain,
        position.seq + 1,
        at,
        type_of(event),
        appliance_of(event),
        actor,
        operation_id,
        spelt(detail_of(event)),
        hash=b"",
    )
    return replace(entry, hash=entry_hash(entry, position.hash))


def entry_hash(entry: Entry, before: bytes) -> bytes:
    """SHA-256 over the hash of the entry before and the canonical content of this one."""
    return hashlib.sha256(before + canonical(entry)).digest()


def spelt(detail: Mapping[str, object]) -> str:
    """The one spelling of a detail: JSON, keys sorted, no spaces, ASCII only."""
    return _CANONICAL.encode(detail)


def canonical(entry: Entry) -> bytes:
    """The one spelling of an entry's content, if its detail is spelt so."""
    # Put together by hand, because it is made for each event: a third of the time.
    appliance = "null" if entry.appliance is None else quoted(entry.appliance)
    text = (
        f'{{"actor":{quoted(entry.actor)},"appliance":{appliance},"at":{entry.at},'
        f'"chain":"{entry.chain}","detail":{entry.detail},'
        f'"operationID":{quoted(entry.operation_id)},"seq":{entry.seq},'
        f'"type":{quoted(entry.type)}}}'
    )
    return text.encode()


class Openings:
    """Hashes the first entries of many chains that begin alike: by the same actor, at the same
    time, with the same type of event. What `append` would say, in a tenth of the time."""

    def __init__(self, kind: str, *, at: int, actor: str, operation_id: OperationId) -> None:
        by, operation, type_ = map(quoted, (actor, operation_id, kind))
        start = f'{{"actor":{by},"appliance":null,"at":{at},"chain":"'
        self._start = hashlib.sha256(ChainPosition().hash + start.encode())
        self._end = f',"operationID":{operation},"seq":1,"type":{type_}}}'

    def hash(self, chain: str, detail: str) -> bytes:
        """The hash of the first entry of the chain of this id; `detail` is its detail in canonical
        spelling."""
        digest = self._start.copy()
        digest.update(f'{chain}","detail":{detail}{self._end}'.encode())
        return digest.digest()


class Wrong(StrEnum):
    """Why an event does not fit. What was done to the chain may have been done before it."""

    CHANGED = "CHANGED"
    """Its hash is not that of its content and of the event before: it was changed, inserted or
    moved, or the one before it was."""
    MISSING_BEFORE = "MISSING_BEFORE"
    """Its number does not follow on the one before."""
    MISSING_AFTER = "MISSING_AFTER"
    """It is the last one, and the head is further on."""
    HEAD_DIFFERS = "HEAD_DIFFERS"
    """The head is at another event of this number, or was at an earlier one."""
    NO_HEAD = "NO_HEAD"
    """It is the last one, nobody owns the chain, and it is not ApplianceRemoved."""
    NO_EVENTS = "NO_EVENTS"
    """There is none, and the chain has an owner."""
    NOT_SHOWN = "NOT_SHOWN"
    """It fits, but the trail leaves it out: its transaction is said to be yet to come."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """The first event of a chain that does not fit. `entry` is None when the chain has none."""

    wrong: Wrong
    entry: Entry | None


class Walk:
    """One chain, gone along entry by entry in stored order."""

    def __init__(self, head: ChainPosition | None) -> None:
        """`head` is where the chain ends by its owner's account; None if it has no owner."""
        self.steps = 0
        self.misfit: Misfit | None = None
        """The first one so far."""
        self._head = head
        self._position = ChainPosition()
        self._last: Entry | None = None

    def step(self, entry: Entry, *, is_shown: bool = True) -> None:
        """`entry` is the next one; `is_shown`: it stands where the trail comes by."""
        self.steps += 1
        if self.misfit is not None:
            return
        wrong = self._wrong(entry) or (None if is_shown else Wrong.NOT_SHOWN)
        self.misfit = Misfit(wrong, entry) if wrong is not None else None
        self._position = ChainPosition(entry.seq, entry.hash)
        self._last = entry

    def end(self) -> Misfit | None:
        """There are no more: the first misfit, that the chain should go on being one too."""
        if self.misfit is not None:
            return self.misfit
        if self._last is None:
            return Misfit(Wrong.NO_EVENTS, None)
        if self._head is None:
            is_removed = self._last.type == ApplianceRemoved.__name__
            return None if is_removed else Misfit(Wrong.NO_HEAD, self._last)
        if self._position.seq < self._head.seq:
            return Misfit(Wrong.MISSING_AFTER, self._last)
        return None

    def _wrong(self, entry: Entry) -> Wrong | None:
        before, head = self._position, self._head
        if entry.seq > before.seq + 1:
            return Wrong.MISSING_BEFORE
        if entry.seq <= before.seq or entry.hash != entry_hash(entry, before.hash):
            return Wrong.CHANGED
        if head is None or entry.seq < head.seq or ChainPosition(entry.seq, entry.hash) == head:
            return None
        return Wrong.HEAD_DIFFERS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one chain: of a pairing, or of an appliance's registration."""

    chain: UUID
    appliance: ApplianceName | None
    """None if it is a pairing's."""
    events: int
    misfit: Misfit | None


REGISTRATION_TYPES = frozenset(kind.__name__ for kind in get_args(ApplianceEvent))


def is_about_registration(entry: Entry) -> bool:
    """Whether `entry` belongs to the chain of an appliance's registration, not of a pairing."""
    return entry.type in REGISTRATION_TYPES
