"""It is known under which URL an appliance was told of its peer, so that what came of it is found
again however often that was registered anew since.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_29_asked"
down_revision: str | None = "2026_11_29_words_validated"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Of what was asked before, it is not known."""
    op.execute("ALTER TABLE side ADD COLUMN asked_url text")


def downgrade() -> None:
    """It is not known any more."""
    op.execute("ALTER TABLE side DROP COLUMN asked_url")
