"""${message}.

Rules: old and new code run side by side while this runs, so first add, let the code follow, then
remove, in migrations of their own. On a table with rows: no column with a volatile default, no
NOT NULL or CHECK or foreign key except NOT VALID first and VALIDATE in a later migration, indexes
CONCURRENTLY in an `op.get_context().autocommit_block()`. One transaction, five seconds for a
lock. `downgrade` undoes it. The tables in `service/store/tables.py` say the same.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    """Do it."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo it."""
    ${downgrades if downgrades else "pass"}
