"""All URLs are known under which an appliance was registered, however often that was changed: some
of its peers know it by no other.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_29_formers"
down_revision: str | None = "2026_11_29_called"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Of what was registered until now, the last two are known."""
    op.execute("ALTER TABLE appliance ADD COLUMN older_api_urls text[] NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    """The last two are."""
    op.execute("ALTER TABLE appliance DROP COLUMN older_api_urls")
