"""Looking at the database behind the store's back."""

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_OURS = "from pg_stat_activity where application_name = 'sitepair' and datname = current_database()"


async def until(sql: "Connection", condition: str) -> None:
    """Return when the query `condition` says true."""
    while not await sql.fetchval(condition):
        # Within a transaction the statistics stand still otherwise.
        await sql.execute("select pg_stat_clear_snapshot()")


async def until_blocked(sql: "Connection", statements: int = 1) -> None:
    """Return when so many statements of the store wait for a lock."""
    await until(sql, f"select count(*) >= {statements} {_OURS} and wait_event_type = 'Lock'")


async def until_unblocked(sql: "Connection") -> None:
    """Return when no statement of the store waits for a lock."""
    await until(sql, f"select count(*) = 0 {_OURS} and wait_event_type = 'Lock'")


async def until_gone(sql: "Connection") -> None:
    """Return when the store has no connection."""
    await until(sql, f"select count(*) = 0 {_OURS}")


async def connections(sql: "Connection") -> dict[str, int]:
    """How many of the store's connections are in which state."""
    rows = await sql.fetch(f"select state, count(*) {_OURS} group by state")
    return {row["state"]: row["count"] for row in rows}


async def transactions(sql: "Connection") -> int:
    """How many transactions have written events so far."""
    return int(await sql.fetchval("select count(distinct xid) from event"))


async def insert_rival(sql: "Connection", low: str, high: str) -> UUID:
    """Insert a pairing of this couple by hand; its id."""
    pairing_id = uuid4()
    await sql.execute(
        "insert into pairing (id, operation, state, couple_low, couple_high, operation_id,"
        " user_name, description, priority, timeout_s, start_time, last_updated, epoch, seq, head)"
        " values ($1, 'pair', 'QUEUED', $2, $3, 'x', '', '', 0, 1, 1, 1, 0, 1, $4)",
        pairing_id,
        low,
        high,
        bytes(32),
    )
    return pairing_id
