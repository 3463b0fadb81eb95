"""What of a batch was rejected is stored in pieces, if it is long.

Processes of the release before this one tell none of them when the batch's key comes again.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_30_rejections"
down_revision: str | None = "2026_11_30_relapses"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLE = """
    CREATE TABLE batch_rejection (
        batch UUID NOT NULL,
        place BIGINT NOT NULL,
        items JSON NOT NULL,
        CONSTRAINT pk_batch_rejection PRIMARY KEY (batch, place),
        CONSTRAINT fk_batch_rejection_batch
            FOREIGN KEY (batch) REFERENCES batch (id) ON DELETE CASCADE
    )
"""


def upgrade() -> None:
    """What is stored already stays with its batch, however long."""
    op.execute(TABLE)


def downgrade() -> None:
    """They are not known any more."""
    op.execute("DROP TABLE batch_rejection")
