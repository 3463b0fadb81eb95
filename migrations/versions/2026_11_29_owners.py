"""Who has the turn to log in is known, so that it ends with its worker."""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_29_owners"
down_revision: str | None = "2026_11_28_sides"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Turns that were taken before last for their time."""
    op.execute("ALTER TABLE appliance_health ADD COLUMN login_owner uuid")


def downgrade() -> None:
    """All do again."""
    op.execute("ALTER TABLE appliance_health DROP COLUMN login_owner")
