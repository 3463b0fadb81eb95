"""Events written behind the store's back, in transactions that the test holds in its hand."""

import json
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_INSERT = """
    insert into event (chain, seq, at, type, appliance, actor, operation_id, detail, hash)
    values ($1, $2, now(), $3, $4, 'test', $5, $6, $7)
"""


async def record(
    sql: "Connection",
    *,
    chain: UUID | None = None,
    seq: int = 1,
    kind: str = "PairingStarted",
    appliance: str | None = None,
    operation_id: str = "test",
    detail: object = None,
) -> UUID:
    """Write one event in the transaction that is open, or in one of its own; its chain."""
    chain = chain or uuid4()
    text = json.dumps(detail if detail is not None else {})
    await sql.execute(_INSERT, chain, seq, kind, appliance, operation_id, text, bytes(32))
    return chain
