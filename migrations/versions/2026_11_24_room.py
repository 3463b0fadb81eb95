"""More room on the pages to come for the next versions of their rows, so that fewer updates have to
reach the indexes too.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_room"
down_revision: str | None = "2026_11_24_history"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = ("pairing", "side")


def upgrade() -> None:
    """Leave it."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")


def downgrade() -> None:
    """Leave less."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 70)")
