"""An index for finding what waits on its way back, among all that waits.

Nobody waits for it, so it may take its time. What was interrupted is begun anew.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_30_way_back"
down_revision: str | None = "2026_11_30_rejections"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX = "ix_pairing_way_back"
FOREVER = ("SET lock_timeout = 0", "SET statement_timeout = 0")
GUARD_RAILS = ("SET lock_timeout = '5s'", "SET statement_timeout = '60s'")


def upgrade() -> None:
    """Build it."""
    with op.get_context().autocommit_block():
        _drop()
        _all(*FOREVER)
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON pairing (waits_for)"
            " WHERE waits_for is not null and error is not null"
        )
        _all(*GUARD_RAILS)


def downgrade() -> None:
    """Drop it."""
    with op.get_context().autocommit_block():
        _drop()


def _drop() -> None:
    # Begun before and not finished, it is there all the same, and of no use.
    _all(*FOREVER, f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}", *GUARD_RAILS)


def _all(*statements: str) -> None:
    for statement in statements:
        op.execute(statement)
