"""Indexes for what workers ask: what is due, held, set aside, to be canceled; and for the audit
trail in its order: of all, of an operation, of an appliance.

Nobody waits for any of them, so they may take their time. What was interrupted is begun anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from alembic import context, op

revision: str = "2026_11_24_leases_indexed"
down_revision: str | None = "2026_11_24_leases_validated"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ACTIVE = "state in ('QUEUED', 'RUNNING')"
DUE = f"(priority desc, id) WHERE worker is null and waits_for is null and {ACTIVE}"
FORMERLY_DUE = f"(priority desc, id) WHERE worker is null and {ACTIVE}"
NEW = {
    "ix_pairing_held": "(worker) WHERE worker is not null",
    "ix_pairing_waiting": "(waits_for, deadline) WHERE waits_for is not null",
    "ix_pairing_to_cancel": (
        f"(worker) WHERE cancel_user is not null and not is_canceling and {ACTIVE}"
    ),
}

ON_EVENTS = {
    "ix_event_xid_chain_seq": "(xid, chain, seq)",
    "ix_event_operation_id_xid": "(operation_id, xid, chain, seq)",
    "ix_event_appliance_xid": "(appliance, xid, chain, seq) WHERE appliance is not null",
}
FORMERLY_ON_EVENTS = {
    "ix_event_operation_id_at": "(operation_id, at)",
    "ix_event_appliance_at": "(appliance, at) WHERE appliance is not null",
}

PARTS_WITHOUT = """
    SELECT part.inhrelid::regclass::text FROM pg_inherits AS part
    WHERE part.inhparent = 'event'::regclass AND NOT EXISTS (
        SELECT FROM pg_inherits AS piece JOIN pg_index ON indexrelid = piece.inhrelid
        WHERE piece.inhparent = '{index}'::regclass AND indrelid = part.inhrelid
    )
"""

# Whoever writes the SQL down does not know the partitions: each gets its piece in one go.
PIECES = """
    DO $$
    DECLARE
        part text;
    BEGIN
        FOR part IN {parts_without} LOOP
            EXECUTE 'CREATE INDEX ' || part || '{suffix} ON ' || part || ' {definition}';
            EXECUTE 'ALTER INDEX {index} ATTACH PARTITION ' || part || '{suffix}';
        END LOOP;
    END $$
"""


def upgrade() -> None:
    """Build them, and drop those whose place they take."""
    with op.get_context().autocommit_block():
        for index, definition in NEW.items():
            _build(index, f"pairing {definition}")
        _replace("ix_pairing_due", DUE)
        _replace_on_events(FORMERLY_ON_EVENTS, ON_EVENTS)


def downgrade() -> None:
    """Drop them, once those are back whose place they took."""
    with op.get_context().autocommit_block():
        _replace_on_events(ON_EVENTS, FORMERLY_ON_EVENTS)
        _replace("ix_pairing_due", FORMERLY_DUE)
        for index in NEW:
            _drop(index)


def _build(index: str, on: str) -> None:
    # Begun before and not finished, it is there all the same, and of no use.
    _drop(index)
    with _taking_its_time():
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {on}")


def _drop(index: str) -> None:
    with _taking_its_time():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")


def _replace(index: str, definition: str) -> None:
    """At no moment is there none."""
    _build(f"{index}_next", f"pairing {definition}")
    _drop(index)
    op.execute(
        f"-- squawk-ignore renaming-object\nALTER INDEX IF EXISTS {index}_next RENAME TO {index}"
    )


def _replace_on_events(old: Iterable[str], new: dict[str, str]) -> None:
    """At no moment is the trail without: the old ones go when all the new ones stand."""
    for index, definition in new.items():
        _build_on_events(index, definition)
    # At once, for the lock is on the whole table. There is no CONCURRENTLY for it either.
    op.execute(
        f"-- squawk-ignore require-concurrent-index-deletion\nDROP INDEX IF EXISTS {', '.join(old)}"
    )


def _build_on_events(index: str, definition: str) -> None:
    """There is no CONCURRENTLY for a partitioned table: its pieces are built so, then attached.

    As long as one is missing the whole is not valid; a new month's comes with the month.
    """
    op.execute(
        "-- squawk-ignore require-concurrent-index-creation\n"
        f"CREATE INDEX IF NOT EXISTS {index} ON ONLY event {definition}"
    )
    suffix, parts_without = _suffix(definition), PARTS_WITHOUT.format(index=index)
    if context.is_offline_mode():
        op.execute(
            PIECES.format(
                index=index, definition=definition, suffix=suffix, parts_without=parts_without
            )
        )
        return
    for part in op.get_bind().exec_driver_sql(parts_without).scalars().all():
        _build(f"{part}{suffix}", f"{part} {definition}")
        op.execute(f"ALTER INDEX {index} ATTACH PARTITION {part}{suffix}")


def _suffix(definition: str) -> str:
    """What PostgreSQL itself, where it makes a month's piece, adds to the month's name."""
    columns = definition[1 : definition.index(")")]
    return f"_{columns.replace(', ', '_')}_idx"


@contextmanager
def _taking_its_time() -> Iterator[None]:
    """Waits for others and blocks nobody."""
    op.execute("SET lock_timeout = 0")
    op.execute("SET statement_timeout = 0")
    yield
    op.execute("SET lock_timeout = '5s'")
    op.execute("SET statement_timeout = '60s'")
