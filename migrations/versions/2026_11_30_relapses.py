"""It is known when an appliance came back last, and since when it had been away, so that one that
answers now and then is probed as seldom as one that never does.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_30_relapses"
down_revision: str | None = "2026_11_29_formers"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Of the times before, it is not known."""
    op.execute("ALTER TABLE appliance_health ADD COLUMN away_since bigint")
    op.execute("ALTER TABLE appliance_health ADD COLUMN back_since bigint")


def downgrade() -> None:
    """It is not known any more."""
    op.execute("ALTER TABLE appliance_health DROP COLUMN back_since")
    op.execute("ALTER TABLE appliance_health DROP COLUMN away_since")
