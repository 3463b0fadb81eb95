"""A side is not looked up any more: its foreign key took a quarter of the time that a batch is
accepted in. A pairing and its sides are written, and removed, in one transaction.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_28_sides"
down_revision: str | None = "2026_11_28_plain_validated"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "fk_side_pairing_id"


def upgrade() -> None:
    """Leave it to who writes and removes them."""
    # In the order in which everybody takes them.
    op.execute("LOCK TABLE pairing, side IN ACCESS EXCLUSIVE MODE")
    op.execute(f"-- squawk-ignore ban-drop-constraint\nALTER TABLE side DROP CONSTRAINT {NAME}")


def downgrade() -> None:
    """As it was, without the sides that an older release left when it removed their pairing."""
    op.execute("DELETE FROM side WHERE NOT EXISTS (SELECT FROM pairing WHERE id = pairing_id)")
    op.execute(
        f"ALTER TABLE side ADD CONSTRAINT {NAME}"
        " FOREIGN KEY (pairing_id) REFERENCES pairing (id) ON DELETE CASCADE NOT VALID"
    )
    op.execute(f"ALTER TABLE side VALIDATE CONSTRAINT {NAME}")
