"""An index for what refers to a pairing, so that old ones can be removed.

It takes its time, and nobody waits for it. What was interrupted is begun anew.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_history"
down_revision: str | None = "2026_11_24_leases_indexed"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX = "ix_idempotency_pairing_id"


def upgrade() -> None:
    """Build it."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON idempotency (pairing_id)")
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")


def downgrade() -> None:
    """Drop it."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}")
        op.execute("SET lock_timeout = '5s'")
