"""Leases, rollback, cancellation, repair and unpair.

Stop the workers of the release before this one first: they have no heartbeat, so that whatever
they hold is taken from them. Its API may go on meanwhile.

Constraints that admit more than before, and new ones on tables with rows, come NOT VALID; the
next migration validates them. The way down is refused as long as there are pairings that the
older tables have no words for.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_leases_and_rollback"
down_revision: str | None = "2026_11_24_first_tables"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = (
    """
    CREATE TABLE appliance_health (
        appliance_id UUID NOT NULL,
        closed_since BIGINT,
        closed_error JSON,
        probe_time TIMESTAMP WITH TIME ZONE,
        login_worker UUID,
        login_until TIMESTAMP WITH TIME ZONE,
        refused_version BIGINT,
        refused_status BIGINT,
        refused_error JSON,
        last_contact BIGINT,
        CONSTRAINT pk_appliance_health PRIMARY KEY (appliance_id),
        CONSTRAINT ck_appliance_health_closed
            CHECK ((closed_since is null) = (closed_error is null)
                and (closed_since is null) = (probe_time is null)),
        CONSTRAINT ck_appliance_health_login
            CHECK ((login_worker is null) = (login_until is null)),
        CONSTRAINT ck_appliance_health_refused
            CHECK ((refused_version is null) = (refused_error is null)
                and (refused_version is null) = (refused_status is null)),
        CONSTRAINT fk_appliance_health_appliance_id
            FOREIGN KEY (appliance_id) REFERENCES appliance (id) ON DELETE CASCADE
    )
    """,
    """
    CREATE TABLE worker (
        id UUID NOT NULL,
        lease_ms BIGINT NOT NULL,
        seen TIMESTAMP WITH TIME ZONE NOT NULL,
        steady_since TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_worker PRIMARY KEY (id),
        CONSTRAINT ck_worker_lease CHECK (lease_ms > 0)
    ) WITH (fillfactor = 50)
    """,
)

COLUMNS = {
    "appliance": (
        "credentials_version BIGINT DEFAULT 1 NOT NULL",
        "former_api_url TEXT",
    ),
    "pairing": (
        "on_failure TEXT DEFAULT 'rollback' NOT NULL",
        "deadline BIGINT",
        "warnings JSON DEFAULT '[]' NOT NULL",
        "is_canceling BOOLEAN DEFAULT false NOT NULL",
        "cancel_user TEXT",
        'cancel_operation_id TEXT COLLATE "C"',
        'waits_for TEXT COLLATE "C"',
    ),
    "side": (
        "call TEXT",
        "losses BIGINT DEFAULT 0 NOT NULL",
        "asked_thumbprint TEXT",
    ),
}

SIDE_OVER = "('ALREADY_PAIRED', 'FAILED', 'ROLLBACK_FAILED', 'ROLLED_BACK', 'SUCCEEDED')"
SIDE_STATES = (
    "('ACCEPTED', 'ALREADY_PAIRED', 'FAILED', 'PENDING', 'REQUESTED', 'ROLLBACK_FAILED',"
    " 'ROLLED_BACK', 'SUCCEEDED')"
)

# Table, constraint, what it checks from now on, what it checked before (None: it is new).
CHECKS = (
    ("appliance", "credentials_version", "credentials_version > 0", None),
    ("pairing", "operation", "operation in ('pair', 'repair', 'unpair')", "operation in ('pair')"),
    (
        "pairing",
        "phase",
        "phase in ('PAIRING', 'ROLLING_BACK', 'VERIFYING')",
        "phase in ('PAIRING', 'VERIFYING')",
    ),
    ("pairing", "on_failure", "on_failure in ('keep', 'rollback')", None),
    ("pairing", "deadline", "deadline > start_time", None),
    ("pairing", "cancel", "(cancel_user is null) = (cancel_operation_id is null)", None),
    (
        "pairing",
        "nobody_holds_what_waits",
        "waits_for is null or (worker is null and end_time is null and deadline is not null)",
        None,
    ),
    (
        "side",
        "state",
        f"state in {SIDE_STATES}",
        "state in ('ACCEPTED', 'ALREADY_PAIRED', 'FAILED', 'PENDING', 'REQUESTED', 'SUCCEEDED')",
    ),
    (
        "side",
        "end_when_over",
        f"(state in {SIDE_OVER}) = (end_time is not null)",
        "(state in ('ALREADY_PAIRED', 'FAILED', 'SUCCEEDED')) = (end_time is not null)",
    ),
    (
        "side",
        "error_when_failed",
        "state not in ('FAILED', 'ROLLBACK_FAILED') or error is not null",
        "state <> 'FAILED' or error is not null",
    ),
    ("side", "call", "call in ('pair', 'repair', 'unpair')", None),
    ("side", "losses", "losses >= 0", None),
    (
        "side",
        "asked_thumbprint",
        "asked_thumbprint ~ '^SHA-256(:[0-9A-F]{2}){32}$'",
        None,
    ),
)

# What is under way knows nothing yet of the calls that it has made.
CALLS_MADE = """
    UPDATE side SET call = 'pair'
    FROM pairing
    WHERE pairing.id = side.pairing_id
        AND pairing.state in ('QUEUED', 'RUNNING')
        AND side.attempts > 0 AND side.state not in ('PENDING', 'ALREADY_PAIRED')
"""


def upgrade() -> None:
    """Add them."""
    for statement in TABLES:
        op.execute(statement)
    for table, columns in COLUMNS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    for table, name, after, before in CHECKS:
        if before is not None:
            # In the same transaction comes what admits no less of what there is.
            op.execute(
                "-- squawk-ignore ban-drop-constraint\n"
                f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}"
            )
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{name} CHECK ({after}) NOT VALID"
        )
    op.execute(CALLS_MADE)


def downgrade() -> None:
    """Remove them, unless a pairing was repaired, unpaired or rolled back."""
    for table, name, _, before in reversed(CHECKS):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}")
        if before is not None:
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{name} CHECK ({before})")
    for table, columns in COLUMNS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
    for table in ("worker", "appliance_health"):
        op.execute(f"DROP TABLE {table}")
