"""Names and operationIDs are held to their pattern where they come in: at the API, and a name in
`appliance`. Where they are only repeated the pattern was gone through for each row that is written,
however little of it had changed: a seventh of what the database did.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_29_words"
down_revision: str | None = "2026_11_29_owners"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

Conditions = dict[tuple[str, str], str]
"""By table and name of the constraint."""


def _are_names(*columns: str) -> str:
    conditions = [f"{it} !~ '[^a-z0-9-]' and length({it}) between 1 and 63" for it in columns]
    return " and ".join(conditions)


_IS_OPERATION_ID = "operation_id !~ '[^A-Za-z0-9._:-]' and length(operation_id) between 1 and 64"
_PAIRING, _SIDE = ("pairing", "ck_pairing_couple"), ("side", "ck_side_names")

BEFORE: Conditions = {
    _PAIRING: f"couple_low < couple_high and {_are_names('couple_low', 'couple_high')}",
    _SIDE: f"appliance <> peer and {_are_names('appliance', 'peer')}",
    ("pairing", "ck_pairing_operation_id"): _IS_OPERATION_ID,
    ("event", "ck_event_type"): "type ~ '^[A-Z][A-Za-z]+$'",
    ("event", "ck_event_appliance"): _are_names("appliance"),
    ("event", "ck_event_operation_id"): _IS_OPERATION_ID,
}
AFTER: Conditions = {_PAIRING: "couple_low < couple_high", _SIDE: "appliance <> peer"}


def upgrade() -> None:
    """For what is written from now on."""
    _drop(BEFORE)
    _check(AFTER)


def downgrade() -> None:
    """As it was; what was written meanwhile came in by the same doors."""
    _drop(AFTER)
    _check(BEFORE)
    for table, name in BEFORE:
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def _drop(conditions: Conditions) -> None:
    for table, name in conditions:
        op.execute(
            f"-- squawk-ignore ban-drop-constraint\nALTER TABLE {table} DROP CONSTRAINT {name}"
        )


def _check(conditions: Conditions) -> None:
    for (table, name), condition in conditions.items():
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
