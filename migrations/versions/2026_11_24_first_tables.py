"""The first tables.

`service/store/tables.py` says what they are for.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "2026_11_24_first_tables"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

STATEMENTS = (
    """
    CREATE TABLE appliance (
        id UUID NOT NULL,
        name TEXT COLLATE "C" NOT NULL,
        management_url TEXT NOT NULL,
        api_url TEXT NOT NULL,
        api_url_normalized TEXT NOT NULL,
        thumbprint TEXT,
        api_thumbprint TEXT NOT NULL,
        credentials BYTEA NOT NULL,
        description TEXT NOT NULL,
        max_in_flight BIGINT NOT NULL,
        version BIGINT NOT NULL,
        created BIGINT NOT NULL,
        last_updated BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        head BYTEA NOT NULL,
        CONSTRAINT pk_appliance PRIMARY KEY (id),
        CONSTRAINT uq_appliance_name UNIQUE (name),
        CONSTRAINT uq_appliance_api_url_normalized UNIQUE (api_url_normalized),
        CONSTRAINT ck_appliance_name CHECK (name ~ '^[a-z0-9-]{1,63}$'),
        CONSTRAINT ck_appliance_urls
            CHECK (management_url ~* '^https://' and api_url ~* '^https://'),
        CONSTRAINT ck_appliance_thumbprint CHECK (thumbprint ~ '^SHA-256(:[0-9A-F]{2}){32}$'),
        CONSTRAINT ck_appliance_api_thumbprint
            CHECK (api_thumbprint ~ '^SHA-256(:[0-9A-F]{2}){32}$'),
        CONSTRAINT ck_appliance_max_in_flight CHECK (max_in_flight > 0),
        CONSTRAINT ck_appliance_version CHECK (version > 0),
        CONSTRAINT ck_appliance_times CHECK (created > 0 and last_updated >= created),
        CONSTRAINT ck_appliance_chain CHECK (seq > 0 and octet_length(head) = 32)
    )
    """,
    """
    CREATE TABLE pairing (
        id UUID NOT NULL,
        operation TEXT NOT NULL,
        state TEXT NOT NULL,
        phase TEXT,
        couple_low TEXT COLLATE "C" NOT NULL,
        couple_high TEXT COLLATE "C" NOT NULL,
        operation_id TEXT COLLATE "C" NOT NULL,
        user_name TEXT NOT NULL,
        description TEXT NOT NULL,
        priority BIGINT NOT NULL,
        timeout_s BIGINT NOT NULL,
        start_time BIGINT NOT NULL,
        last_updated BIGINT NOT NULL,
        end_time BIGINT,
        error JSON,
        worker UUID,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        head BYTEA NOT NULL,
        CONSTRAINT pk_pairing PRIMARY KEY (id),
        CONSTRAINT ck_pairing_operation CHECK (operation in ('pair')),
        CONSTRAINT ck_pairing_state
            CHECK (state in ('CANCELED', 'FAILED', 'QUEUED', 'RUNNING', 'SUCCEEDED')),
        CONSTRAINT ck_pairing_phase CHECK (phase in ('PAIRING', 'VERIFYING')),
        CONSTRAINT ck_pairing_phase_while_running CHECK ((state = 'RUNNING') = (phase is not null)),
        CONSTRAINT ck_pairing_end_when_over
            CHECK ((state in ('CANCELED', 'FAILED', 'SUCCEEDED')) = (end_time is not null)),
        CONSTRAINT ck_pairing_error_when_failed CHECK (state <> 'FAILED' or error is not null),
        CONSTRAINT ck_pairing_no_error_when_succeeded CHECK (state <> 'SUCCEEDED' or error is null),
        CONSTRAINT ck_pairing_nobody_holds_what_is_over CHECK (end_time is null or worker is null),
        CONSTRAINT ck_pairing_claimed_under_an_epoch CHECK (worker is null or epoch > 0),
        CONSTRAINT ck_pairing_epoch CHECK (epoch >= 0),
        CONSTRAINT ck_pairing_couple
            CHECK (couple_low < couple_high
                and couple_low ~ '^[a-z0-9-]{1,63}$'
                and couple_high ~ '^[a-z0-9-]{1,63}$'),
        CONSTRAINT ck_pairing_operation_id CHECK (operation_id ~ '^[A-Za-z0-9._:-]{1,64}$'),
        CONSTRAINT ck_pairing_timeout CHECK (timeout_s > 0),
        CONSTRAINT ck_pairing_times
            CHECK (start_time > 0 and last_updated >= start_time and end_time >= start_time),
        CONSTRAINT ck_pairing_chain CHECK (seq > 0 and octet_length(head) = 32)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE INDEX ix_pairing_due ON pairing (priority desc, id)
        WHERE worker is null and state in ('QUEUED', 'RUNNING')
    """,
    """
    CREATE INDEX ix_pairing_operation_id_id ON pairing (operation_id, id)
    """,
    """
    CREATE INDEX ix_pairing_state_id ON pairing (state, id) WHERE state <> 'SUCCEEDED'
    """,
    """
    CREATE UNIQUE INDEX uq_pairing_active_couple ON pairing (couple_low, couple_high)
        WHERE state in ('QUEUED', 'RUNNING')
    """,
    """
    CREATE TABLE side (
        pairing_id UUID NOT NULL,
        ordinal BIGINT NOT NULL,
        appliance TEXT COLLATE "C" NOT NULL,
        peer TEXT COLLATE "C" NOT NULL,
        state TEXT NOT NULL,
        task_id TEXT,
        attempts BIGINT NOT NULL,
        start_time BIGINT,
        end_time BIGINT,
        result JSON,
        error JSON,
        CONSTRAINT pk_side PRIMARY KEY (pairing_id, ordinal),
        CONSTRAINT ck_side_ordinal CHECK (ordinal in (0, 1)),
        CONSTRAINT ck_side_names
            CHECK (appliance <> peer and appliance ~ '^[a-z0-9-]{1,63}$'
                and peer ~ '^[a-z0-9-]{1,63}$'),
        CONSTRAINT ck_side_state
            CHECK (state in (
                'ACCEPTED', 'ALREADY_PAIRED', 'FAILED', 'PENDING', 'REQUESTED', 'SUCCEEDED')),
        CONSTRAINT ck_side_attempts CHECK (attempts >= 0),
        CONSTRAINT ck_side_begun_unless_pending CHECK (state = 'PENDING' or start_time is not null),
        CONSTRAINT ck_side_end_when_over
            CHECK ((state in ('ALREADY_PAIRED', 'FAILED', 'SUCCEEDED')) = (end_time is not null)),
        CONSTRAINT ck_side_task_when_accepted CHECK (state <> 'ACCEPTED' or task_id is not null),
        CONSTRAINT ck_side_error_when_failed CHECK (state <> 'FAILED' or error is not null),
        CONSTRAINT ck_side_times CHECK (end_time >= start_time),
        CONSTRAINT fk_side_pairing_id
            FOREIGN KEY (pairing_id) REFERENCES pairing (id) ON DELETE CASCADE
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE INDEX ix_side_appliance_pairing_id ON side (appliance, pairing_id)
    """,
    """
    CREATE TABLE event (
        chain UUID NOT NULL,
        seq BIGINT NOT NULL,
        at TIMESTAMP WITH TIME ZONE NOT NULL,
        type TEXT NOT NULL,
        appliance TEXT COLLATE "C",
        actor TEXT NOT NULL,
        operation_id TEXT COLLATE "C" NOT NULL,
        detail JSON NOT NULL,
        hash BYTEA NOT NULL,
        xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
        CONSTRAINT pk_event PRIMARY KEY (chain, seq, at),
        CONSTRAINT ck_event_seq CHECK (seq > 0),
        CONSTRAINT ck_event_type CHECK (type ~ '^[A-Z][A-Za-z]+$'),
        CONSTRAINT ck_event_appliance CHECK (appliance ~ '^[a-z0-9-]{1,63}$'),
        CONSTRAINT ck_event_operation_id CHECK (operation_id ~ '^[A-Za-z0-9._:-]{1,64}$'),
        CONSTRAINT ck_event_hash CHECK (octet_length(hash) = 32)
    ) PARTITION BY RANGE (at)
    """,
    """
    CREATE INDEX ix_event_appliance_at ON event (appliance, at) WHERE appliance is not null
    """,
    """
    CREATE INDEX ix_event_operation_id_at ON event (operation_id, at)
    """,
    """
    CREATE TABLE idempotency (
        principal TEXT NOT NULL,
        key TEXT NOT NULL,
        fingerprint BYTEA NOT NULL,
        pairing_id UUID NOT NULL,
        created BIGINT NOT NULL,
        CONSTRAINT pk_idempotency PRIMARY KEY (principal, key),
        CONSTRAINT ck_idempotency_key CHECK (length(key) between 1 and 255),
        CONSTRAINT fk_idempotency_pairing_id
            FOREIGN KEY (pairing_id) REFERENCES pairing (id) ON DELETE CASCADE
    )
    """,
    # For what no month was made for: a row is never refused for its date.
    "CREATE TABLE event_default PARTITION OF event DEFAULT",
)


def upgrade() -> None:
    """Make them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, with all that is in them."""
    for table in ("idempotency", "event", "side", "pairing", "appliance"):
        op.execute(f"DROP TABLE {table}")
