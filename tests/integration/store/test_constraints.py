"""Rows refuse nonsense (style 9): each of these was a state that code could not explain."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest
from sqlalchemy import CheckConstraint

from service.store.database import Database
from service.store.tables import metadata
from tests.integration.store.values import accepted
from tests.support.database import TEMPLATE, database_like

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

WAITS = "waits_for = 'a', deadline = start_time + 1"
OVER = "state = 'FAILED', phase = null, error = '{}', end_time = start_time"

NONSENSE = [
    ("appliance", "name = 'Upper'", "ck_appliance_name"),
    ("appliance", "name = ''", "ck_appliance_name"),
    ("appliance", "api_url = 'http://plain.example'", "ck_appliance_urls"),
    ("appliance", "management_url = 'ftp://x'", "ck_appliance_urls"),
    ("appliance", "thumbprint = 'SHA-1:00'", "ck_appliance_thumbprint"),
    ("appliance", "api_thumbprint = lower(api_thumbprint)", "ck_appliance_api_thumbprint"),
    ("appliance", "max_in_flight = 0", "ck_appliance_max_in_flight"),
    ("appliance", "version = 0", "ck_appliance_version"),
    ("appliance", "credentials_version = 0", "ck_appliance_credentials_version"),
    ("appliance", "last_updated = created - 1", "ck_appliance_times"),
    ("appliance", "head = 'short'", "ck_appliance_chain"),
    ("appliance", "seq = 0", "ck_appliance_chain"),
    ("appliance", "name = 'same'", "uq_appliance_name"),
    ("appliance", "api_url_normalized = 'same'", "uq_appliance_api_url_normalized"),
    ("pairing", "operation = 'marry'", "ck_pairing_operation"),
    ("pairing", "state = 'DONE'", "ck_pairing_state"),
    ("pairing", "state = 'RUNNING', phase = 'SLEEPING'", "ck_pairing_phase"),
    ("pairing", "state = 'RUNNING'", "ck_pairing_phase_while_running"),
    ("pairing", "phase = 'PAIRING'", "ck_pairing_phase_while_running"),
    ("pairing", "state = 'SUCCEEDED'", "ck_pairing_end_when_over"),
    ("pairing", "end_time = start_time", "ck_pairing_end_when_over"),
    ("pairing", OVER.replace("error = '{}', ", ""), "error_when_failed"),
    ("pairing", OVER.replace("FAILED", "SUCCEEDED"), "ck_pairing_no_error_when_succeeded"),
    ("pairing", f"{OVER}, epoch = 1, worker = gen_random_uuid()", "nobody_holds_what_is_over"),
    ("pairing", "worker = gen_random_uuid()", "ck_pairing_claimed_under_an_epoch"),
    ("pairing", "epoch = -1", "ck_pairing_epoch"),
    ("pairing", "couple_low = couple_high", "ck_pairing_couple"),
    ("pairing", "couple_low = 'z'", "ck_pairing_couple"),
    ("pairing", "timeout_s = 0", "ck_pairing_timeout"),
    ("pairing", "last_updated = start_time - 1", "ck_pairing_times"),
    ("pairing", OVER.replace("= start_time", "= start_time - 1"), "ck_pairing_times"),
    ("pairing", "head = repeat('x', 31)::bytea", "ck_pairing_chain"),
    ("pairing", "couple_low = 'a', couple_high = 'b'", "uq_pairing_active_couple"),
    ("pairing", "on_failure = 'ignore'", "ck_pairing_on_failure"),
    ("pairing", "deadline = start_time", "ck_pairing_deadline"),
    ("pairing", "cancel_user = 'eve'", "ck_pairing_cancel"),
    ("pairing", "waits_for = 'a'", "ck_pairing_nobody_holds_what_waits"),
    ("pairing", f"{WAITS}, epoch = 1, worker = gen_random_uuid()", "nobody_holds_what_waits"),
    ("pairing", f"{WAITS}, {OVER}", "ck_pairing_nobody_holds_what_waits"),
    ("side", "ordinal = 2", "ck_side_ordinal"),
    ("side", "ordinal = 0", "pk_side"),
    ("side", "peer = appliance", "ck_side_names"),
    ("side", "state = 'ROLLED', start_time = 1", "ck_side_state"),
    ("side", "attempts = -1", "ck_side_attempts"),
    ("side", "call = 'marry'", "ck_side_call"),
    ("side", "losses = -1", "ck_side_losses"),
    ("side", "asked_thumbprint = 'SHA-1:00'", "ck_side_asked_thumbprint"),
    ("side", "state = 'REQUESTED'", "ck_side_begun_unless_pending"),
    ("side", "state = 'SUCCEEDED', start_time = 1", "ck_side_end_when_over"),
    ("side", "end_time = 1", "ck_side_end_when_over"),
    ("side", "state = 'ACCEPTED', start_time = 1", "ck_side_task_when_accepted"),
    ("side", "state = 'ROLLED_BACK', start_time = 1", "ck_side_end_when_over"),
    ("side", "state = 'FAILED', start_time = 1, end_time = 1", "ck_side_error_when_failed"),
    ("side", "state = 'ROLLBACK_FAILED', start_time = 1, end_time = 1", "error_when_failed"),
    ("side", "state = 'SUCCEEDED', start_time = 2, end_time = 1", "ck_side_times"),
    ("event", "seq = 0", "ck_event_seq"),
    ("event", "hash = 'short'", "ck_event_hash"),
    # Each partition has an index of its own name below the key of the whole.
    ("event", "chain = (select id from pairing limit 1), at = 'epoch'", "event_default_pkey"),
    ("idempotency", "key = ''", "ck_idempotency_key"),
    ("idempotency", "key = repeat('x', 256)", "ck_idempotency_key"),
    ("idempotency", "key = 'same'", "pk_idempotency"),
    ("idempotency", "pairing_id = gen_random_uuid()", "fk_idempotency_pairing_id"),
    ("batch", "operation_id = 'two words'", "ck_batch_operation_id"),
    ("batch", "total = 0, accepted = 0", "ck_batch_total"),
    ("batch", "accepted = total + 1", "ck_batch_total"),
    ("batch", "accepted = -1", "ck_batch_total"),
    ("batch", "start_time = 0", "ck_batch_start_time"),
    ("batch", "key = 'k'", "ck_batch_key"),
    ("batch", "key = '', fingerprint = 'f'", "ck_batch_key"),
    ("batch", "key = 'same', fingerprint = 'f'", "uq_batch_user_name_key"),
    ("batch_tally", "slot = 1", "pk_batch_tally"),
    ("batch_tally", "batch = gen_random_uuid()", "fk_batch_tally_batch"),
    ("batch_rejection", "place = 1", "pk_batch_rejection"),
    ("batch_rejection", "batch = gen_random_uuid()", "fk_batch_rejection_batch"),
    ("worker", "lease_ms = 0", "ck_worker_lease"),
    ("appliance_health", "closed_since = 1, closed_error = '{}'", "ck_appliance_health_closed"),
    ("appliance_health", "closed_since = 1, probe_time = now()", "ck_appliance_health_closed"),
    ("appliance_health", "login_worker = gen_random_uuid()", "ck_appliance_health_login"),
    ("appliance_health", "refused_version = 1", "ck_appliance_health_refused"),
    ("appliance_health", "refused_version = 1, refused_error = '{}'", "health_refused"),
    ("appliance_health", "appliance_id = gen_random_uuid()", "fk_appliance_health_appliance_id"),
]  # fmt: skip


@pytest.fixture(scope="module")
async def furnished(server_url: str) -> AsyncIterator["Connection"]:
    """A database with a few rows in each table. Tests leave it as they find it."""
    async with database_like(server_url, TEMPLATE) as url:
        async with Database.connect(url) as database:
            await accepted(database, ("a", "b"), ("a", "c"), ("b", "c"))
        connection = await asyncpg.connect(url)
        await connection.execute(
            "insert into idempotency"
            " select 'me', couple_low || couple_high, 'print', id, 1 from pairing"
        )
        await connection.execute("insert into worker values (gen_random_uuid(), 1, now(), now())")
        await connection.execute(
            "insert into appliance_health (appliance_id) select id from appliance limit 1"
        )
        await connection.execute(
            "insert into batch (id, operation_id, user_name, total, accepted, rejected, start_time)"
            " select gen_random_uuid(), 'op', 'me', 1, 1, '[]', 1 from generate_series(1, 2)"
        )
        await connection.execute(
            "insert into batch_tally"
            " select id, n, 1, 0, 0, 0, 0, 0 from batch, generate_series(1, 2) as n"
        )
        await connection.execute(
            "insert into batch_rejection"
            " select id, n, '[{}]' from batch, generate_series(1, 2) as n"
        )
        yield connection
        await connection.close(timeout=10)


@pytest.mark.parametrize(("table", "change", "constraint"), NONSENSE)
async def test_nonsense_is_refused(
    furnished: "Connection", table: str, change: str, constraint: str
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
        await furnished.execute(f"update {table} set {change}")  # noqa: S608 - from the list above
    assert constraint in str(refusal.value)


def test_every_check_is_provoked() -> None:
    tables = metadata.tables.values()
    constraints = [each for table in tables for each in table.constraints]
    checks = {str(each.name) for each in constraints if isinstance(each, CheckConstraint)}
    provoked = tuple(constraint for _, _, constraint in NONSENSE)
    assert {check for check in checks if not check.endswith(provoked)} == set()


async def test_null_is_refused_where_it_would_mean_nothing(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    columns = await sql.fetch(
        "select table_name, column_name from information_schema.columns where is_nullable = 'YES'"
        " and table_name in ('appliance', 'pairing', 'side', 'event', 'idempotency', 'worker',"
        " 'batch', 'batch_tally', 'batch_rejection')"
    )
    assert {tuple(row) for row in columns} == {
        ("appliance", "thumbprint"),
        ("appliance", "former_api_url"),
        ("pairing", "phase"),
        ("pairing", "end_time"),
        ("pairing", "error"),
        ("pairing", "worker"),
        ("pairing", "deadline"),
        ("pairing", "cancel_user"),
        ("pairing", "cancel_operation_id"),
        ("pairing", "waits_for"),
        ("pairing", "batch"),
        ("pairing", "state_before"),
        ("batch", "key"),
        ("batch", "fingerprint"),
        ("side", "task_id"),
        ("side", "start_time"),
        ("side", "end_time"),
        ("side", "result"),
        ("side", "call"),
        ("side", "asked_thumbprint"),
        ("side", "asked_url"),
        ("side", "called_url"),
        ("side", "error"),
        ("event", "appliance"),
    }


async def test_events_say_which_transaction_wrote_them(
    database: Database, sql: "Connection"
) -> None:
    await accepted(database, ("a", "b"))
    written = await sql.fetchval(
        "select bool_and(xid < pg_snapshot_xmax(pg_current_snapshot())) from event"
    )
    assert written is True
