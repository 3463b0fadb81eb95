"""A long past, made up in the database: pairings that are over, their sides, their events."""

import asyncio
import time
from datetime import UTC, datetime

import asyncpg

from service.store.database import Database
from service.store.partitions import make_partitions

MONTHS = 12
_MONTH_S = 30 * 86_400

# What every pairing is made of: its number `n`, its id, when it was accepted, its two appliances.
# Three in four succeeded, most of the others failed.
_NUMBERED = """
    create temporary table numbered as
    select
      n,
      (lpad(to_hex(at), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid as id,
      at,
      format('bench-%s', lpad(least(one, other)::text, 4, '0')) as low,
      format('bench-%s', lpad(greatest(one, other)::text, 4, '0')) as high,
      case when n % 4 > 0 then 'SUCCEEDED' when n % 40 = 0 then 'CANCELED' else 'FAILED' end
        as state
    from (
      select
        n,
        {begin} + n * {span} / {pairings} as at,
        n % {appliances} as one,
        (n % {appliances} + 1 + n / {appliances} % ({appliances} - 1)) % {appliances} as other
      from generate_series(0::bigint, {pairings} - 1) as n
    ) as numbered
"""

_PAIRINGS = """
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, end_time, error, epoch, seq, head,
      deadline)
    select id, 'pair', state, low, high, 'batch-' || n / 100, 'bench', '', 0, 600, at, at + 500,
      at + 500, case state when 'FAILED' then
        '{{"code": "TaskFailed", "msg": "It did not work out.", "args": []}}'::json end,
      1, 4, decode(repeat('AB', 32), 'hex'), at + 600000
    from numbered
"""

_SIDES = """
    insert into side (pairing_id, ordinal, appliance, peer, state, task_id, attempts, start_time,
      end_time, result, error, call, asked_thumbprint)
    select id, ordinal, case ordinal when 0 then low else high end,
      case ordinal when 0 then high else low end,
      case state when 'SUCCEEDED' then 'SUCCEEDED' else 'FAILED' end, id::text, 1,
      at + 10, at + 400,
      case when state = 'SUCCEEDED' then
        ('{{"id": "' || id || '", "site": "' || high || '", "apiUrl": "https://' || high
          || '.example:8048", "incomingCommError": null, "outgoingCommError": null}}')::json end,
      case when state <> 'SUCCEEDED' then '{{"code": "TaskFailed", "msg": "No.", "args": []}}'::json
        end,
      'pair', 'SHA-256' || repeat(':AB', 32)
    from numbered, generate_series(0, 1) as ordinal
"""

_EVENTS = """
    insert into event (chain, seq, at, type, appliance, actor, operation_id, detail, hash, xid)
    select id, seq, to_timestamp((at + seq * 100) / 1000.0),
      (array['PairingAccepted', 'PairRequested', 'TaskAccepted', 'PairingSucceeded'])[seq],
      case seq when 2 then low when 3 then high end, 'bench', 'batch-' || n / 100,
      '{{"side": "bench-0000", "task": "018f3b1c-0000-7000-8000-000000000000"}}'::json,
      decode(repeat('AB', 32), 'hex'), (3 + n * 500 / {pairings})::text::xid8
    from numbered, generate_series(1, 4) as seq
"""

# Built anew in one go, which is quicker than row by row. Keys stay: rows come in their order.
_INDEXES = """
    select c.relname as name, replace(pg_get_indexdef(c.oid), ' ON ONLY ', ' ON ') as definition
    from pg_index as i join pg_class as c on c.oid = i.indexrelid
    where i.indrelid = any($1::regclass[]) and not i.indisprimary
"""

# What these rows would be checked for anew, one by one; it holds for all that come later.
_CHECKS = """
    select conrelid::regclass::text as table, conname as name,
      pg_get_constraintdef(oid) as definition, conrelid = any($1::regclass[]) as is_whole
    from pg_constraint
    where contype = 'c' and (
      conrelid = any($1::regclass[])
      or conrelid in (select inhrelid from pg_inherits where inhparent = any($1::regclass[]))
    )
    order by is_whole desc
"""


async def fill(url: str, pairings: int, appliances: int) -> float:
    """Put so many finished pairings, spread over the last year, into an empty database that is
    migrated; how long it took in seconds. Needs a superuser."""
    began = time.monotonic()
    await _make_months(url)
    tables = (("pairing", "side"), ("event",))
    now = time.time_ns() // 1_000_000
    span = MONTHS * _MONTH_S * 1000
    figures = {"pairings": pairings, "appliances": appliances, "span": span, "begin": now - span}
    inserts = [
        [each.format(**figures) for each in (_NUMBERED, *group)]
        for group in ((_PAIRINGS, _SIDES), (_EVENTS,))
    ]
    async with asyncio.TaskGroup() as tasks:
        for names, statements in zip(tables, inserts, strict=True):
            tasks.create_task(_insert(url, names, statements))
    return time.monotonic() - began


async def _insert(url: str, tables: tuple[str, ...], statements: list[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        # Without looking up what every row refers to: we know that it is there.
        for setting in (
            "session_replication_role = replica",
            "synchronous_commit = off",
            "maintenance_work_mem = '256MB'",
        ):
            await connection.execute(f"set {setting}")
        indexes = await connection.fetch(_INDEXES, list(tables))
        for index in indexes:
            await connection.execute(f"drop index {index['name']}")
        checks = await connection.fetch(_CHECKS, list(tables))
        for check in checks:
            drop = f"alter table {check['table']} drop constraint if exists {check['name']}"
            await connection.execute(drop)
        for statement in statements:
            await connection.execute(statement)
        for check in checks:
            if check["is_whole"]:
                add = f"add constraint {check['name']} {check['definition']} not valid"
                await connection.execute(f"alter table {check['table']} {add}")
        for index in indexes:
            await connection.execute(index["definition"])
        for table in tables:
            await connection.execute(f"vacuum (analyze, freeze) {table}")
    finally:
        await connection.close()


async def _make_months(url: str) -> None:
    first = time.time() - MONTHS * _MONTH_S
    async with Database.connect(url) as database:
        for number in range(0, MONTHS + 1, 2):
            async with database.transaction() as connection:
                month = datetime.fromtimestamp(first + number * _MONTH_S, UTC)
                await make_partitions(connection, month)
