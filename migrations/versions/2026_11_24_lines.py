"""Claims serve one line after the other: the index of what is due has them in that order.

Nobody waits for it, so it may take its time. What was interrupted is begun anew. Workers of the
release before go on meanwhile; once the old index is gone their claims sort the backlog.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_lines"
down_revision: str | None = "2026_11_24_batches_validated"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX = "ix_pairing_due"
DUE = "WHERE worker is null and waits_for is null and state in ('QUEUED', 'RUNNING')"
FOREVER = ("SET lock_timeout = 0", "SET statement_timeout = 0")
GUARD_RAILS = ("SET lock_timeout = '5s'", "SET statement_timeout = '60s'")


def upgrade() -> None:
    """Build it, then drop the one whose place it takes."""
    _replace(f"(line, id) {DUE}")


def downgrade() -> None:
    """Put the one before back."""
    _replace(f"(priority desc, id) {DUE}")


def _replace(definition: str) -> None:
    """At no moment is there none."""
    with op.get_context().autocommit_block():
        _all(
            *FOREVER,
            f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}_next",
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX}_next ON pairing {definition}",
            f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}",
            *GUARD_RAILS,
            "-- squawk-ignore renaming-object\n"
            f"ALTER INDEX IF EXISTS {INDEX}_next RENAME TO {INDEX}",
        )


def _all(*statements: str) -> None:
    for statement in statements:
        op.execute(statement)
