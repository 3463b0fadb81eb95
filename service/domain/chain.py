"""The chain of a pairing's events: each carries the hash of the one before it.

An event that is changed, removed, inserted or moved no longer fits the hash of its successor.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from service.domain.events import (
    ApplianceEvent,
    Entry,
    Event,
    appliance_of,
    detail_of,
    type_of,
)
from service.domain.ids import OperationId
from service.domain.pairing import ChainPosition

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


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
        chain=chain,
        seq=position.seq + 1,
        at=at,
        type=type_of(event),
        appliance=appliance_of(event),
        actor=actor,
        operation_id=operation_id,
        detail=detail_of(event),
        hash=b"",
    )
    return replace(entry, hash=entry_hash(entry, position.hash))


def entry_hash(entry: Entry, before: bytes) -> bytes:
    """SHA-256 over the hash of the entry before and the canonical content of this one."""
    return hashlib.sha256(before + canonical(entry)).digest()


def canonical(entry: Entry) -> bytes:
    """The one spelling of an entry's content: JSON, keys sorted, no spaces, ASCII only."""
    content = {
        "chain": str(entry.chain),
        "seq": entry.seq,
        "at": entry.at,
        "type": entry.type,
        "appliance": entry.appliance,
        "actor": entry.actor,
        "operationID": entry.operation_id,
        "detail": entry.detail,
    }
    return _CANONICAL.encode(content).encode()


def first_misfit(entries: Sequence[Entry]) -> Entry | None:
    """The first of a chain's entries, in stored order, that does not fit; None if all do."""
    position = ChainPosition()
    for entry in entries:
        if entry.seq != position.seq + 1 or entry.hash != entry_hash(entry, position.hash):
            return entry
        position = ChainPosition(entry.seq, entry.hash)
    return None
