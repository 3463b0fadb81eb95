"""Indexes for what refers to a pairing, so that old ones can be removed, and for what ended badly
on an appliance, so that it is found without going through all that went well.

They take their time, and nobody waits for them. What was interrupted is begun anew.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_history"
down_revision: str | None = "2026_11_24_leases_indexed"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BADLY = "WHERE state in ('CANCELED', 'FAILED')"
INDEXES = {
    "ix_idempotency_pairing_id": "idempotency (pairing_id)",
    "ix_pairing_couple_low_state_id": f"pairing (couple_low, state, id) {BADLY}",
    "ix_pairing_couple_high_state_id": f"pairing (couple_high, state, id) {BADLY}",
}


def upgrade() -> None:
    """Build them."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        for index, definition in INDEXES.items():
            # Begun before and not finished, it is there all the same, and of no use.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {definition}")
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")


def downgrade() -> None:
    """Drop them."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        for index in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
        op.execute("SET lock_timeout = '5s'")
        op.execute("SET statement_timeout = '60s'")
