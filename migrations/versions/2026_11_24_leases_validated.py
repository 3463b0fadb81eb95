"""The constraints of the migration before hold for the rows of before, too."""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_leases_validated"
down_revision: str | None = "2026_11_24_leases_and_rollback"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

CHECKS = {
    "appliance": ("credentials_version",),
    "pairing": (
        "operation",
        "phase",
        "on_failure",
        "deadline",
        "cancel",
        "nobody_holds_what_waits",
    ),
    "side": ("state", "end_when_over", "error_when_failed", "call", "losses", "asked_thumbprint"),
}


def upgrade() -> None:
    """Validate them."""
    for table, names in CHECKS.items():
        for name in names:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{name}")


def downgrade() -> None:
    """What is valid may stay so."""
