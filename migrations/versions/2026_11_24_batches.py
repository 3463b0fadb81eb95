"""Batches: many pairings asked for at once, and how many of them stand where.

Names are checked for the same as before in a tenth of the time, which is half of what it takes to
write a pairing: a bound within a pattern is slow. What was checked in the old words fits the new
ones, which the next migration but one validates.

Stop the workers of the release before this one first: they do not count, so that what they did with
a batch's pairings would be missing in its counts. Its API may go on meanwhile, and asks for no
batches.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_batches"
down_revision: str | None = "2026_11_24_room"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = (
    """
    CREATE TABLE batch (
        id UUID NOT NULL,
        operation_id TEXT COLLATE "C" NOT NULL,
        user_name TEXT NOT NULL,
        total BIGINT NOT NULL,
        accepted BIGINT NOT NULL,
        rejected JSON NOT NULL,
        start_time BIGINT NOT NULL,
        key TEXT,
        fingerprint BYTEA,
        CONSTRAINT pk_batch PRIMARY KEY (id),
        CONSTRAINT uq_batch_user_name_key UNIQUE (user_name, key),
        CONSTRAINT ck_batch_operation_id CHECK (operation_id !~ '[^A-Za-z0-9._:-]'
            and length(operation_id) between 1 and 64),
        CONSTRAINT ck_batch_total CHECK (total > 0 and accepted between 0 and total),
        CONSTRAINT ck_batch_start_time CHECK (start_time > 0),
        CONSTRAINT ck_batch_key CHECK (length(key) between 1 and 255
            and (key is null) = (fingerprint is null))
    )
    """,
    """
    CREATE TABLE batch_tally (
        batch UUID NOT NULL,
        slot BIGINT NOT NULL,
        queued BIGINT NOT NULL,
        running BIGINT NOT NULL,
        succeeded BIGINT NOT NULL,
        failed BIGINT NOT NULL,
        canceled BIGINT NOT NULL,
        last_end BIGINT NOT NULL,
        CONSTRAINT pk_batch_tally PRIMARY KEY (batch, slot),
        CONSTRAINT fk_batch_tally_batch
            FOREIGN KEY (batch) REFERENCES batch (id) ON DELETE CASCADE
    ) WITH (fillfactor = 50)
    """,
)

COLUMNS = (
    "batch UUID",
    "line TEXT COLLATE \"C\" DEFAULT '' NOT NULL",
    "state_before TEXT",
)

# Table, constraint, what it says with {} for what it says of each of the columns.
CHECKS = (
    ("appliance", "name", "{}", "name", ("name",)),
    ("pairing", "couple", "couple_low < couple_high and {}", "name", ("couple_low", "couple_high")),
    ("pairing", "operation_id", "{}", "operation_id", ("operation_id",)),
    ("side", "names", "appliance <> peer and {}", "name", ("appliance", "peer")),
    ("event", "appliance", "{}", "name", ("appliance",)),
    ("event", "operation_id", "{}", "operation_id", ("operation_id",)),
)
AFTER = {
    "name": "{0} !~ '[^a-z0-9-]' and length({0}) between 1 and 63",
    "operation_id": "{0} !~ '[^A-Za-z0-9._:-]' and length({0}) between 1 and 64",
}
BEFORE = {
    "name": "{0} ~ '^[a-z0-9-]{{1,63}}$'",
    "operation_id": "{0} ~ '^[A-Za-z0-9._:-]{{1,64}}$'",
}


def upgrade() -> None:
    """Add them."""
    for statement in TABLES:
        op.execute(statement)
    for column in COLUMNS:
        op.execute(f"ALTER TABLE pairing ADD COLUMN {column}")
    _check(AFTER, " NOT VALID")


def downgrade() -> None:
    """Remove them; pairings of batches stay, as pairings."""
    _check(BEFORE, "")
    for column in COLUMNS:
        op.execute(f"ALTER TABLE pairing DROP COLUMN {column.split()[0]}")
    for table in ("batch_tally", "batch"):
        op.execute(f"DROP TABLE {table}")


def _check(words: dict[str, str], validity: str) -> None:
    for table, name, whole, kind, columns in CHECKS:
        condition = whole.format(" and ".join(words[kind].format(column) for column in columns))
        # In the same transaction comes what admits no less and no more.
        op.execute(
            "-- squawk-ignore ban-drop-constraint\n"
            f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}"
        )
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{name} CHECK ({condition}){validity}"
        )
