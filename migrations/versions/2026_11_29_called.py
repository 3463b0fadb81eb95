"""It is known at which URL an appliance was called, so that nothing is undone on another machine
that its name came to mean since.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_29_called"
down_revision: str | None = "2026_11_29_asked"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Of what was called before, it is not known."""
    op.execute("ALTER TABLE side ADD COLUMN called_url text")


def downgrade() -> None:
    """It is not known any more."""
    op.execute("ALTER TABLE side DROP COLUMN called_url")
