"""The checks of names, in their new words, hold for the rows of before, too."""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_batches_validated"
down_revision: str | None = "2026_11_24_batches_indexed"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

CHECKS = {
    "appliance": ("name",),
    "pairing": ("couple", "operation_id"),
    "side": ("names",),
    "event": ("appliance", "operation_id"),
}


def upgrade() -> None:
    """Validate them."""
    for table, names in CHECKS.items():
        for name in names:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{name}")


def downgrade() -> None:
    """What is valid may stay so."""
