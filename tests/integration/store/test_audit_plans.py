"""What reading the audit trail and following its chains costs on a table full of history."""

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from service.domain.ids import OperationId, PairingId
from service.store import chains
from service.store.audit import AuditFilter, Place, page
from tests.integration.store.test_plans import Plan, plan_of, positional
from tests.integration.store.values import name
from tests.support.database import TEMPLATE, database_like

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

TRANSACTIONS, CHAINS = 6000, 5000
SPEND = f"""
    do $$ begin
      for n in 1..{TRANSACTIONS} loop perform pg_current_xact_id(); commit; end loop;
    end $$
"""
# Ten events each, which overlap with those of the chains around. An operation has two chains, or
# a fiftieth of all.
FILL = f"""
    insert into event (chain, seq, at, type, appliance, actor, operation_id, detail, hash, xid)
    select lpad(to_hex(n), 32, '0')::uuid, seq, now(), 'Something',
      case when seq % 2 = 0 then 'n' || (n * 7 + seq) % 300 end, 'u',
      case when n % 50 = 2 then 'batch' else 'op-' || n / 2 end, '{{}}',
      decode(repeat('00', 32), 'hex'),
      (pg_current_xact_id()::text::bigint - {TRANSACTIONS} + n + seq)::text::xid8
    from generate_series(1, {CHAINS}) as n, generate_series(1, 10) as seq
"""  # noqa: S608 - of this file
OWNERS = f"""
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, end_time, error, epoch, seq, head)
    select lpad(to_hex(n), 32, '0')::uuid, 'pair', 'FAILED', 'n' || n % 300, 'o' || n % 300,
      'op-' || n / 2, 'u', '', 0, 600, 1, 2, 2, '{{}}', 1, 10, decode(repeat('00', 32), 'hex')
    from generate_series(1, {CHAINS}) as n
"""  # noqa: S608 - of this file
PAGE = 50
MIDDLE, NEARLY_ALL = CHAINS * 5, CHAINS * 10 - 10


@pytest.fixture(scope="module")
async def full(server_url: str) -> AsyncIterator["Connection"]:
    """A database with a long trail."""
    async with database_like(server_url, TEMPLATE) as url:
        connection = await asyncpg.connect(url)
        for fill in (SPEND, FILL, OWNERS, "vacuum analyze"):
            await connection.execute(fill, timeout=60)
        yield connection
        await connection.close(timeout=10)


async def place(full: "Connection", offset: int) -> Place:
    """Where one of the trail's events stands."""
    row = await full.fetchrow(
        "select xid, chain, seq from event order by xid, chain, seq offset $1 limit 1", offset
    )
    assert row is not None
    return Place(row["xid"], row["chain"], row["seq"])


def goes_through(plan: Plan, index: str) -> bool:
    """Whether it reads a month by this index: each partition's has a name of its own."""
    return any(re.fullmatch(rf"event_\d{{4}}_\d\d_{index}", name) for name in plan.indexes)


async def plan_and_length(
    full: "Connection", narrowed: AuditFilter, offset: int | None
) -> tuple[Plan, int]:
    """How the page behind the first `offset` events is read, and how many events it has."""
    asked = page(narrowed, PAGE, await place(full, offset) if offset is not None else None)
    query, arguments = positional(asked, {})
    return await plan_of(full, asked), len(await full.fetch(query, *arguments))


@pytest.mark.parametrize("offset", [None, MIDDLE, NEARLY_ALL])
async def test_a_page_of_the_trail_costs_its_own_length(
    full: "Connection", offset: int | None
) -> None:
    plan, length = await plan_and_length(full, AuditFilter(), offset)

    assert goes_through(plan, "xid_chain_seq_idx")
    assert plan.most_rows == length == (9 if offset == NEARLY_ALL else PAGE)


@pytest.mark.parametrize(
    ("narrowed", "index", "offset", "rows"),
    [
        (AuditFilter(operation_id=OperationId("op-77")), "operation_id", None, 20),
        (AuditFilter(operation_id=OperationId("op-77")), "operation_id", MIDDLE, 0),
        (AuditFilter(operation_id=OperationId("op-1250")), "operation_id", MIDDLE, 9),
        (AuditFilter(operation_id=OperationId("batch")), "operation_id", None, PAGE),
        (AuditFilter(operation_id=OperationId("batch")), "operation_id", MIDDLE, PAGE),
        (AuditFilter(appliance=name("n7")), "appliance", None, PAGE),
        (AuditFilter(appliance=name("n7")), "appliance", MIDDLE, 42),
    ],
)
async def test_a_page_of_an_operation_or_appliance_costs_its_own_length(
    full: "Connection", narrowed: AuditFilter, index: str, offset: int | None, rows: int
) -> None:
    plan, length = await plan_and_length(full, narrowed, offset)

    assert goes_through(plan, f"{index}_xid_chain_seq_idx")
    assert plan.most_rows == length == rows


@pytest.mark.parametrize("offset", [None, MIDDLE])
async def test_a_page_of_a_pairing_costs_its_chain(full: "Connection", offset: int | None) -> None:
    plan, _ = await plan_and_length(full, AuditFilter(pairing=PairingId(UUID(int=77))), offset)

    assert goes_through(plan, "pkey")
    assert plan.most_rows == 10


@pytest.mark.parametrize(
    "narrowed",
    [
        AuditFilter(operation_id=OperationId("op-77")),
        AuditFilter(operation_id=OperationId("batch")),
        AuditFilter(appliance=name("n7")),
        AuditFilter(pairing=PairingId(UUID(int=77))),
    ],
    ids=["operation", "batch", "appliance", "pairing"],
)
async def test_following_the_trail_costs_what_is_new(
    full: "Connection", narrowed: AuditFilter
) -> None:
    plan, _ = await plan_and_length(full, narrowed, NEARLY_ALL)

    # There are nine new ones, and a chain has ten.
    assert plan.most_rows <= 10


async def test_chains_are_followed_by_the_primary_keys(full: "Connection") -> None:
    middle = UUID(int=CHAINS // 2)
    stretch = chains.Stretch(middle, UUID(int=2**128 - 1))
    stored_at = await full.fetchval("select at::text from event where chain = $1 limit 1", middle)

    plan = await plan_of(full, chains.heads(stretch))
    assert "pk_pairing" in plan.indexes
    assert plan.most_rows <= chains.CHAINS

    for after in (None, (middle, 5, stored_at)):
        plan = await plan_of(full, chains.page(stretch, after))
        assert goes_through(plan, "pkey")
        assert plan.most_rows <= chains.PAGE
