"""The tables, and what their rows may never say.

Times are milliseconds since the epoch, as the API and the journal's arrays have them; only
`event.at` is a timestamp, because partitions by month want one. Columns that hold an appliance's
words are `json`, not `jsonb`: that would refuse `\\u0000` and respell numbers, and the chain's
hashes are over what was said. `pairing` and `side` name appliances rather than refer to them, so
that history outlives an appliance. Names collate as bytes, so that the database orders a couple
as Python does.
"""

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from service.domain.pairing import (
    OVER,
    SIDE_OVER,
    OnFailure,
    Operation,
    PairingState,
    Phase,
    SideState,
    SiteCall,
)
from service.store.columns import JsonText, Xid8

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

ACTIVE = "state in ('QUEUED', 'RUNNING')"
UNSUCCESSFUL = "state in ('CANCELED', 'FAILED')"
WAITING = "waits_for is not null"
TURNED_BACK = f"{WAITING} and error is not null"
TO_CANCEL = f"cancel_user is not null and not is_canceling and {ACTIVE}"
_THUMBPRINT = "~ '^SHA-256(:[0-9A-F]{2}){32}$'"
_ASKED_ONE = "substr(asked_thumbprint, 1, 8) = 'SHA-256:' and length(asked_thumbprint) = 103"


def _name() -> Text:
    return Text(collation="C")


def _is_name(column: str) -> str:
    # Asked where a name comes in. Where it is only repeated, each row written would pay for it.
    return f"{column} !~ '[^a-z0-9-]' and length({column}) between 1 and 63"


def _is_operation_id(column: str) -> str:
    return f"{column} !~ '[^A-Za-z0-9._:-]' and length({column}) between 1 and 64"


def _one_of(words: Iterable[StrEnum]) -> str:
    return "in (" + ", ".join(sorted(f"'{word}'" for word in words)) + ")"


def _check(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


appliance = Table(
    "appliance",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", _name(), nullable=False),
    Column("management_url", Text, nullable=False),
    Column("api_url", Text, nullable=False),
    Column("api_url_normalized", Text, nullable=False),
    Column("thumbprint", Text),
    Column("api_thumbprint", Text, nullable=False),
    Column("credentials", LargeBinary, nullable=False),
    Column("description", Text, nullable=False),
    Column("max_in_flight", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("last_updated", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    # Grows when the credentials change, and only then: refused ones are not tried again.
    Column("credentials_version", BigInteger, nullable=False, server_default=text("1")),
    # The one before this, normalized, and those before that one, the last one first: some peers
    # know it by no other.
    Column("former_api_url", Text),
    Column("older_api_urls", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    UniqueConstraint("name"),
    UniqueConstraint("api_url_normalized"),
    _check("name", _is_name("name")),
    _check("urls", "management_url ~* '^https://' and api_url ~* '^https://'"),
    _check("thumbprint", f"thumbprint {_THUMBPRINT}"),
    _check("api_thumbprint", f"api_thumbprint {_THUMBPRINT}"),
    _check("max_in_flight", "max_in_flight > 0"),
    _check("version", "version > 0"),
    _check("times", "created > 0 and last_updated >= created"),
    _check("chain", "seq > 0 and octet_length(head) = 32"),
    _check("credentials_version", "credentials_version > 0"),
)

# What is known of an appliance's ability to answer. Written seldom: when a breaker opens or closes,
# when a probe is taken, and around each login.
appliance_health = Table(
    "appliance_health",
    metadata,
    Column("appliance_id", Uuid, ForeignKey("appliance.id", ondelete="CASCADE"), primary_key=True),
    Column("closed_since", BigInteger),
    Column("closed_error", JSON(none_as_null=True)),
    Column("probe_time", DateTime(timezone=True)),
    # The turn, one for each login, whatever the name says; `login_owner` is the worker that has it.
    Column("login_worker", Uuid),
    Column("login_until", DateTime(timezone=True)),
    Column("login_owner", Uuid),
    Column("refused_version", BigInteger),
    Column("refused_status", BigInteger),
    Column("refused_error", JSON(none_as_null=True)),
    Column("last_contact", BigInteger),
    # When it was opened last, and since when it had been closed then.
    Column("away_since", BigInteger),
    Column("back_since", BigInteger),
    _check(
        "closed",
        "(closed_since is null) = (closed_error is null)"
        " and (closed_since is null) = (probe_time is null)",
    ),
    _check("login", "(login_worker is null) = (login_until is null)"),
    _check(
        "refused",
        "(refused_version is null) = (refused_error is null)"
        " and (refused_version is null) = (refused_status is null)",
    ),
)

# One row for each worker that lives, and a witness that who has left has left behind. Beaten every
# few seconds: no index but the key, and room on the page: a beat touches nothing else. Times
# may go back, when the database's clock does.
worker = Table(
    "worker",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("lease_ms", BigInteger, nullable=False),
    Column("seen", DateTime(timezone=True), nullable=False),
    # Since when it has beaten without a gap: it may judge others by their beats after a lease.
    Column("steady_since", DateTime(timezone=True), nullable=False),
    _check("lease", "lease_ms > 0"),
    postgresql_with={"fillfactor": 50},
)

pairing = Table(
    "pairing",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("operation", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text),
    Column("couple_low", _name(), nullable=False),
    Column("couple_high", _name(), nullable=False),
    Column("operation_id", _name(), nullable=False),
    Column("user_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("timeout_s", BigInteger, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("last_updated", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Column("error", JSON(none_as_null=True)),
    # Who may write it: the worker that holds it, under the epoch that its claim raised.
    Column("worker", Uuid),
    Column("epoch", BigInteger, nullable=False),
    # Where its chain stands. A change that does not follow on `seq` is refused.
    Column("seq", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("on_failure", Text, nullable=False, server_default=OnFailure.ROLLBACK.value),
    # Null as long as it is what was accepted: `start_time` and `timeout_s`.
    Column("deadline", BigInteger),
    Column("warnings", JSON, nullable=False, server_default=text("'[]'")),
    Column("is_canceling", Boolean, nullable=False, server_default=text("false")),
    # A caller's wish, which the worker that drives it takes into the chain.
    Column("cancel_user", Text),
    Column("cancel_operation_id", _name()),
    # Set aside until this appliance answers again.
    Column("waits_for", _name()),
    # What it was asked for with. No foreign key: that would look the batch up for each row.
    Column("batch", Uuid),
    # What takes turns with others of its kind when pairings are claimed (`rows.line_of`).
    Column("line", _name(), nullable=False, server_default=text("''")),
    # What the last change of `state` found: it is counted, and RETURNING knows the new row only.
    Column("state_before", Text),
    _check("operation", f"operation {_one_of(Operation)}"),
    _check("state", f"state {_one_of(PairingState)}"),
    _check("phase", f"phase {_one_of(Phase)}"),
    _check("phase_while_running", "(state = 'RUNNING') = (phase is not null)"),
    _check("end_when_over", f"(state {_one_of(OVER)}) = (end_time is not null)"),
    _check("error_when_failed", "state <> 'FAILED' or error is not null"),
    _check("no_error_when_succeeded", "state <> 'SUCCEEDED' or error is null"),
    _check("nobody_holds_what_is_over", "end_time is null or worker is null"),
    _check("claimed_under_an_epoch", "worker is null or epoch > 0"),
    _check("epoch", "epoch >= 0"),
    _check("couple", "couple_low < couple_high"),
    _check("timeout", "timeout_s > 0"),
    _check("times", "start_time > 0 and last_updated >= start_time and end_time >= start_time"),
    _check("chain", "seq > 0 and octet_length(head) = 32"),
    _check("on_failure", f"on_failure {_one_of(OnFailure)}"),
    _check("deadline", "deadline > start_time"),
    _check("cancel", "(cancel_user is null) = (cancel_operation_id is null)"),
    _check(
        "nobody_holds_what_waits",
        "waits_for is null or (worker is null and end_time is null and deadline is not null)",
    ),
    Index(
        "uq_pairing_active_couple",
        "couple_low",
        "couple_high",
        unique=True,
        postgresql_where=text(ACTIVE),
    ),
    # The claim's order. Its size follows the backlog.
    Index(
        "ix_pairing_due",
        "line",
        "id",
        postgresql_where=text(f"worker is null and waits_for is null and {ACTIVE}"),
    ),
    # What a worker holds: to be freed when it is dead.
    Index("ix_pairing_held", "worker", postgresql_where=text("worker is not null")),
    Index("ix_pairing_waiting", "waits_for", "deadline", postgresql_where=text(WAITING)),
    # What waits on its way back. Only there is an error, so that no update of a pairing that goes
    # well has to change an index for it.
    Index("ix_pairing_way_back", "waits_for", postgresql_where=text(TURNED_BACK)),
    Index("ix_pairing_to_cancel", "worker", postgresql_where=text(TO_CANCEL)),
    Index("ix_pairing_operation_id_id", "operation_id", "id"),
    # Nearly all pairings succeeded: whoever lists those reads the primary key backwards.
    Index("ix_pairing_state_id", "state", "id", postgresql_where=text("state <> 'SUCCEEDED'")),
    Index("ix_pairing_batch_id", "batch", "id", postgresql_where=text("batch is not null")),
    # Those of an appliance, by its place in the couple. Written to only by what ends badly.
    *[
        Index(
            f"ix_pairing_{name}_state_id", name, "state", "id", postgresql_where=text(UNSUCCESSFUL)
        )
        for name in ("couple_low", "couple_high")
    ],
    # Room on each page for the next versions of its rows, so that no index has to change.
    postgresql_with={"fillfactor": 50},
)

# Many pairings that were asked for together. Written once: what becomes of them is in their rows.
batch = Table(
    "batch",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("operation_id", _name(), nullable=False),
    Column("user_name", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("accepted", BigInteger, nullable=False),
    Column("rejected", JSON, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("key", Text),
    Column("fingerprint", LargeBinary),
    UniqueConstraint("user_name", "key"),
    _check("operation_id", _is_operation_id("operation_id")),
    _check("total", "total > 0 and accepted between 0 and total"),
    _check("start_time", "start_time > 0"),
    _check("key", "length(key) between 1 and 255 and (key is null) = (fingerprint is null)"),
)

# How many of a batch's pairings are in each state, and when the last one ended: the sums over its
# rows, of which each may be negative. Whoever changes a state adds the difference in the same
# transaction, to the row of the slot that its connection has, so that few wait for one another.
batch_tally = Table(
    "batch_tally",
    metadata,
    Column("batch", Uuid, ForeignKey("batch.id", ondelete="CASCADE"), nullable=False),
    Column("slot", BigInteger, nullable=False),
    *(Column(str(state).lower(), BigInteger, nullable=False) for state in PairingState),
    Column("last_end", BigInteger, nullable=False),
    PrimaryKeyConstraint("batch", "slot"),
    postgresql_with={"fillfactor": 50},
)

# What of a batch was rejected, if that is long; else it is in `batch.rejected`.
batch_rejection = Table(
    "batch_rejection",
    metadata,
    Column("batch", Uuid, ForeignKey("batch.id", ondelete="CASCADE"), nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("items", JsonText, nullable=False),
    PrimaryKeyConstraint("batch", "place"),
)

side = Table(
    "side",
    metadata,
    # Written and removed with its pairing, in one transaction each. No foreign key: that would look
    # the pairing up for each row, a quarter of the time in which a batch is accepted.
    Column("pairing_id", Uuid, nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("appliance", _name(), nullable=False),
    Column("peer", _name(), nullable=False),
    Column("state", Text, nullable=False),
    Column("task_id", Text),
    Column("attempts", BigInteger, nullable=False),
    Column("start_time", BigInteger),
    Column("end_time", BigInteger),
    Column("result", JsonText),
    Column("error", JSON(none_as_null=True)),
    Column("call", Text),
    Column("losses", BigInteger, nullable=False, server_default=text("0")),
    Column("asked_thumbprint", Text),
    Column("asked_url", Text),
    Column("called_url", Text),
    PrimaryKeyConstraint("pairing_id", "ordinal"),
    _check("ordinal", "ordinal in (0, 1)"),
    _check("names", "appliance <> peer"),
    _check("state", f"state {_one_of(SideState)}"),
    _check("attempts", "attempts >= 0"),
    _check("begun_unless_pending", "state = 'PENDING' or start_time is not null"),
    _check("end_when_over", f"(state {_one_of(SIDE_OVER)}) = (end_time is not null)"),
    _check("task_when_accepted", "state <> 'ACCEPTED' or task_id is not null"),
    _check("error_when_failed", "state not in ('FAILED', 'ROLLBACK_FAILED') or error is not null"),
    _check("times", "end_time >= start_time"),
    _check("call", f"call {_one_of(SiteCall)}"),
    _check("losses", "losses >= 0"),
    _check("asked_thumbprint", _ASKED_ONE),
    Index("ix_side_appliance_pairing_id", "appliance", "pairing_id"),
    # Its rows grow to a multiple of what they begin as: the room is used up in the end.
    postgresql_with={"fillfactor": 50},
)

event = Table(
    "event",
    metadata,
    Column("chain", Uuid, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("type", Text, nullable=False),
    Column("appliance", _name()),
    Column("actor", Text, nullable=False),
    Column("operation_id", _name(), nullable=False),
    Column("detail", JsonText, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # The order of commits is not the order of numbers: who follows the table needs to know which
    # transactions are through.
    Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    # A key of a partitioned table has to hold its partition's column.
    PrimaryKeyConstraint("chain", "seq", "at"),
    _check("seq", "seq > 0"),
    _check("hash", "octet_length(hash) = 32"),
    # The order of the audit trail: of all, of an operation, of an appliance.
    Index("ix_event_xid_chain_seq", "xid", "chain", "seq"),
    Index("ix_event_operation_id_xid", "operation_id", "xid", "chain", "seq"),
    Index(
        "ix_event_appliance_xid",
        "appliance",
        "xid",
        "chain",
        "seq",
        postgresql_where=text("appliance is not null"),
    ),
    postgresql_partition_by="RANGE (at)",
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("principal", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("pairing_id", Uuid, ForeignKey("pairing.id", ondelete="CASCADE"), nullable=False),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("principal", "key"),
    _check("key", "length(key) between 1 and 255"),
    # For a pairing that is removed: the foreign key looks for what refers to it, each time.
    Index("ix_idempotency_pairing_id", "pairing_id"),
)
