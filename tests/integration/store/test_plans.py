"""Plans on a table full of history (style 11): the index by name, the rows by number."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import ClauseElement
from sqlalchemy.engine import make_url
from sqlalchemy.sql.compiler import SQLCompiler

from service.domain.ids import OperationId, PairingId, WorkerId
from service.domain.pairing import ChainPosition, Operation, Pairing, PairingState, Side
from service.store.batches import one as one_batch
from service.store.cancels import unwanted
from service.store.claims import to_cancel
from service.store.database import Database
from service.store.folds import folded
from service.store.folds import parameters as journal_parameters
from service.store.intake import _candidate as candidate
from service.store.intake import _parameters as accept_parameters
from service.store.leases import Heartbeat
from service.store.pairings import PairingFilter, chain, one, page
from service.store.pairings import _whole as whole
from service.store.pruning import old
from service.store.statements import statement
from service.store.tables import pairing
from tests.integration.store.values import AUTHOR, NOW, accepted, name, request, way_to_success
from tests.support.database import TEMPLATE, database_like

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

FILL = """
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, end_time, error, epoch, seq, head)
    select overlay(gen_random_uuid()::text placing lpad(to_hex(n), 8, '0') from 1)::uuid, 'pair',
      case when n % 100 = 0 then 'FAILED' else 'SUCCEEDED' end, 'n' || n % 300, 'o' || n % 300,
      'op-' || n / 10, 'u', '', 0, 600, 1, 2, 2, case when n % 100 = 0 then '{}'::json end, 1, 9,
      decode(repeat('00', 32), 'hex')
    from generate_series(1, 50000) as n
"""
FILL_SIDES = """
    insert into side (pairing_id, ordinal, appliance, peer, state, attempts, start_time, end_time)
    select id, ordinal, case ordinal when 0 then couple_low else couple_high end,
      case ordinal when 0 then couple_high else couple_low end, 'SUCCEEDED', 1, 1, 2
    from pairing, generate_series(0, 1) as ordinal
"""
FILL_EVENTS = """
    insert into event (chain, seq, at, type, actor, operation_id, detail, hash, xid)
    select id, number, to_timestamp(1), 'Something', 'u', operation_id, '{}',
      decode(repeat('00', 32), 'hex'), (row_number() over ())::text::xid8
    from pairing, generate_series(1, 4) as number
"""


@pytest.fixture(scope="module")
async def full(server_url: str) -> AsyncIterator["Connection"]:
    """A database with a long history and a small backlog."""
    async with filled(server_url) as connection:
        yield connection


@asynccontextmanager
async def filled(server_url: str) -> AsyncIterator["Connection"]:
    """A database like that."""
    async with database_like(server_url, TEMPLATE) as url:
        connection = await asyncpg.connect(url)
        for fill in (FILL, FILL_SIDES, FILL_EVENTS, "vacuum analyze"):
            await connection.execute(fill, timeout=60)
        async with Database.connect(url) as database:
            await accepted(database, ("a", "b"), ("a", "c"), ("b", "c"))
            await Heartbeat(database, ALIVE).join(20)
        yield connection
        await connection.close(timeout=10)


ALIVE = WorkerId(uuid4())

CROWD = """
    insert into worker select gen_random_uuid(), 20000, now(), now() from generate_series(1, 9);
    with numbered as (
      select id, row_number() over () as n from pairing
      where id < '00002710-0000-4000-8000-000000000000'
    ),
    workers as (select id, row_number() over () as n from worker)
    update pairing as p
    set state = 'RUNNING', phase = 'PAIRING', end_time = null, error = null,
      couple_low = 'p' || numbered.n, couple_high = 'q' || numbered.n,
      worker = case when numbered.n % 2 = 0 then workers.id end,
      waits_for = case when numbered.n % 2 = 1 then (array['a', 'b'])[numbered.n / 2 % 2 + 1] end,
      deadline = case when numbered.n % 100 = 3 then 2 else 9000000000000 end,
      cancel_user = case when numbered.n % 1000 = 0 then 'eve' end,
      cancel_operation_id = case when numbered.n % 1000 = 0 then 'x' end
    from numbered, workers
    where p.id = numbered.id and workers.n = numbered.n / 2 % 10 + 1;
    insert into appliance_health (appliance_id, closed_since, closed_error, probe_time)
      select id, 1, '{}', now() from appliance where name in ('a', 'b')
"""


@pytest.fixture(scope="module")
async def crowded(server_url: str) -> AsyncIterator["Connection"]:
    """A database in which workers hold, and appliances are waited for by, thousands of pairings."""
    async with filled(server_url) as connection:
        await connection.execute(CROWD, timeout=60)
        await connection.execute("vacuum analyze", timeout=60)
        yield connection


class Plan:
    """What EXPLAIN says, node by node."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.nodes = list(_walk(root))

    @property
    def indexes(self) -> set[str]:
        """The indexes it goes through."""
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    @property
    def whole_tables(self) -> set[str]:
        """The tables that it reads from end to end."""
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}

    @property
    def most_rows(self) -> float:
        """The most rows that any step looked at, those it threw away included."""
        return max(_rows_seen(node) for node in self.nodes)


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _rows_seen(node: dict[str, Any]) -> float:
    thrown_away = ("Rows Removed by Filter", "Rows Removed by Join Filter")
    each_loop = node["Actual Rows"] + sum(node.get(kind, 0) for kind in thrown_away)
    return float(node["Actual Loops"] * each_loop)


def positional(asked: ClauseElement, parameters: dict[str, object]) -> tuple[str, list[object]]:
    """A statement as asyncpg takes it, and its arguments."""
    compiled = asked.compile(dialect=make_url("postgresql+asyncpg://").get_dialect()())
    assert isinstance(compiled, SQLCompiler)
    values = {**compiled.params, **parameters}
    return str(compiled), [values[name] for name in compiled.positiontup or ()]


async def plan_of(
    connection: "Connection", asked: ClauseElement, parameters: dict[str, object] | None = None
) -> Plan:
    """The plan that `asked` was carried out with; its effect is undone."""
    query, arguments = positional(asked, parameters or {})
    transaction = connection.transaction()
    await transaction.start()
    try:
        explained = f"explain (analyze, format json) {query}"
        return Plan(json.loads(await connection.fetchval(explained, *arguments))[0]["Plan"])
    finally:
        await transaction.rollback()


async def test_a_claim_lives_on_the_backlog(full: "Connection") -> None:
    plan = await plan_of(
        full, statement("claim"), {"limit": 100, "worker": ALIVE, "since": "", "most": 64}
    )
    assert "ix_pairing_due" in plan.indexes
    assert plan.whole_tables <= {"appliance", "appliance_health", "worker"}
    assert 3 <= plan.most_rows <= 10


ALL_DUE = """
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, epoch, seq, head)
    select overlay(gen_random_uuid()::text placing lpad(to_hex(n), 8, '0') from 1)::uuid, 'pair',
      'QUEUED', 'y' || n, 'z', 'x', 'u', '', 0, 600, 1, 2, 0, 1, decode(repeat('00', 32), 'hex')
    from generate_series(1, 3000) as n;
    analyze pairing;
    update pairing set state = 'SUCCEEDED', end_time = 2 where couple_low not like 'y29%'
"""


async def test_a_claim_passes_by_history_though_all_was_due_when_it_was_counted(
    server_url: str,
) -> None:
    async with database_like(server_url, TEMPLATE) as url:
        async with Database.connect(url) as database:
            await Heartbeat(database, ALIVE).join(20)
        connection = await asyncpg.connect(url)
        await connection.execute(ALL_DUE, timeout=60)
        limits = {"limit": 16, "worker": ALIVE, "since": "", "most": 64}
        plan = await plan_of(connection, statement("claim"), limits)
        await connection.close(timeout=10)
    assert "ix_pairing_due" in plan.indexes
    assert "pairing" not in plan.whole_tables
    assert plan.most_rows <= 40


async def test_what_is_given_up_or_to_be_canceled_is_found_by_its_worker(
    crowded: "Connection",
) -> None:
    held = [
        row["id"] for row in await crowded.fetch("select id from pairing where worker = $1", ALIVE)
    ]
    plan = await plan_of(crowded, statement("disown"), {"driven": held[3:], "worker": ALIVE})
    assert "ix_pairing_held" in plan.indexes
    assert plan.whole_tables == set()
    assert plan.most_rows <= 1000
    plan = await plan_of(crowded, to_cancel(ALIVE))
    assert plan.indexes == {"ix_pairing_to_cancel"}
    assert plan.most_rows <= 10


async def test_the_dead_are_looked_for_among_workers_and_not_among_pairings(
    crowded: "Connection",
) -> None:
    await plan_of(crowded, statement("bury"), {"worker": ALIVE})
    plan = await plan_of(crowded, statement("free"))
    assert "ix_pairing_held" in plan.indexes
    assert plan.whole_tables <= {"worker"}
    assert plan.most_rows <= 50


async def test_what_waits_is_looked_through_by_appliance(crowded: "Connection") -> None:
    plan = await plan_of(crowded, statement("unpark"))
    assert plan.indexes >= {"ix_pairing_waiting", "ix_pairing_way_back"}
    assert plan.whole_tables <= {"appliance", "appliance_health"}
    # One in a hundred is late.
    assert 10 <= plan.most_rows <= 100
    plan = await plan_of(crowded, statement("reopen"), {"name": "a", "contact": True})
    assert plan.indexes >= {"ix_pairing_waiting", "uq_pairing_active_couple", "pk_pairing"}
    assert plan.whole_tables <= {"appliance", "appliance_health"}


CLOSED = """
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, epoch, seq, head, waits_for,
      deadline)
    select gen_random_uuid(), 'pair', 'QUEUED', 'a', 'y' || n, 'x', 'u', '', 0, 600, 1, 2, 0, 1,
      decode(repeat('00', 32), 'hex'), 'a', 9000000000000
    from generate_series(1, 500) as n;
    insert into appliance_health (appliance_id, closed_since, closed_error, probe_time)
      select id, 1, '{}', now() from appliance where name = 'a';
    insert into appliance_health (appliance_id, back_since)
      select id, extract(epoch from now()) * 1000 from appliance where name in ('b', 'c')
"""


@pytest.mark.parametrize(
    ("asked", "parameters", "index"),
    [
        ("unpark", {}, "ix_pairing_way_back"),
        ("reopen", {"name": "b", "contact": True}, "uq_pairing_active_couple"),
    ],
)
async def test_ways_back_are_not_looked_for_in_all_that_waits_though_that_was_never_counted(
    full: "Connection", asked: str, parameters: dict[str, object], index: str
) -> None:
    transaction = full.transaction()
    await transaction.start()
    try:
        await full.execute(CLOSED)
        plan = await plan_of(full, statement(asked), parameters)
    finally:
        await transaction.rollback()
    assert index in plan.indexes
    assert plan.most_rows <= 20


MANY_CLOSED = """
    insert into appliance (id, name, management_url, api_url, api_url_normalized, api_thumbprint,
      credentials, description, max_in_flight, version, created, last_updated, seq, head)
    select gen_random_uuid(), kind || n, 'https://m', 'https://' || kind || n, kind || n,
      (select api_thumbprint from appliance limit 1), '', '', 1, 1, 1, 1, 1,
      decode(repeat('00', 32), 'hex')
    from generate_series(1, 300) as n, (values ('shut'), ('back-')) as of_two (kind);
    insert into appliance_health (appliance_id, closed_since, closed_error, probe_time)
      select id, 1, '{}', now() from appliance where name like 'shut%';
    insert into appliance_health (appliance_id, back_since)
      select id, extract(epoch from now()) * 1000 from appliance where name like 'back%';
    insert into pairing (id, operation, state, phase, couple_low, couple_high, operation_id,
      user_name, description, priority, timeout_s, start_time, last_updated, epoch, seq, head,
      waits_for, deadline, error)
    select gen_random_uuid(), 'pair', case m when 0 then 'RUNNING' else 'QUEUED' end,
      case m when 0 then 'ROLLING_BACK' end,
      case m when 0 then 'back' else 'n' || m end || '-' || n,
      'shut' || n, 'x', 'u', '', 0, 600, 1, 2, 0, 1, decode(repeat('00', 32), 'hex'), 'shut' || n,
      9000000000000, case m when 0 then '{}'::json end
    from generate_series(1, 300) as n, generate_series(0, 20) as m;
    insert into side (pairing_id, ordinal, appliance, peer, state, call, attempts, start_time,
      end_time)
    select id, 0, couple_low, couple_high, 'SUCCEEDED', 'pair', 1, 1, 2
    from pairing where phase = 'ROLLING_BACK'
"""


@pytest.mark.parametrize("is_counted", [True, False])
async def test_that_many_have_closed_is_looked_at_once_however_many_have_opened(
    server_url: str, *, is_counted: bool
) -> None:
    async with filled(server_url) as connection:
        await connection.execute(MANY_CLOSED, timeout=60)
        if is_counted:
            await connection.execute("vacuum analyze", timeout=60)
        plan = await plan_of(connection, statement("unpark"))
    assert 300 <= plan.most_rows <= 300 * 10
    assert "ix_pairing_way_back" in plan.indexes


MIDDLE = PairingId(UUID("00006000-0000-4000-8000-000000000000"))


@pytest.mark.parametrize("before", [None, MIDDLE])
@pytest.mark.parametrize(
    ("narrowed", "index"),
    [
        (PairingFilter(), "pk_pairing"),
        (PairingFilter(state=PairingState.SUCCEEDED), "pk_pairing"),
        (PairingFilter(state=PairingState.FAILED), "ix_pairing_state_id"),
        # While the backlog is small, either will do.
        (
            PairingFilter(state=PairingState.QUEUED),
            "ix_pairing_state_id or uq_pairing_active_couple",
        ),
        (PairingFilter(operation_id=OperationId("op-77")), "ix_pairing_operation_id_id"),
        (PairingFilter(appliance=name("n7")), "ix_side_appliance_pairing_id"),
        # One in a hundred failed, on a hundredth of the appliances; this one has none.
        (
            PairingFilter(appliance=name("n7"), state=PairingState.FAILED),
            "ix_pairing_couple_low_state_id",
        ),
        (
            PairingFilter(appliance=name("o100"), state=PairingState.FAILED),
            "ix_pairing_couple_high_state_id",
        ),
        (
            PairingFilter(appliance=name("n7"), state=PairingState.QUEUED),
            "ix_pairing_state_id or uq_pairing_active_couple or ix_pairing_due",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_page_costs_its_own_length(
    full: "Connection", narrowed: PairingFilter, index: str, before: PairingId | None
) -> None:
    plan = await plan_of(full, page(narrowed, 20, before))
    assert plan.indexes & set(index.split(" or "))
    assert plan.whole_tables == set()
    # Or all that there is of its kind, where that is little more.
    assert plan.most_rows <= 200


async def test_one_pairing_and_its_chain_are_found_by_key(full: "Connection") -> None:
    pairing_id = await full.fetchval("select id from pairing limit 1")
    plan = await plan_of(full, one(pairing_id))
    assert {"pk_pairing", "pk_side"} <= plan.indexes
    assert plan.most_rows <= 2
    plan = await plan_of(full, chain(pairing_id))
    # Each partition's index has a name of its own.
    assert any(index.startswith("event_default_pkey") for index in plan.indexes)
    assert not any(table == "event_default" for table in plan.whole_tables)
    assert plan.most_rows <= 10


async def test_an_accept_does_not_look_at_history(full: "Connection") -> None:
    parameters = accept_parameters(
        [candidate(request(*couple), AUTHOR, None, NOW) for couple in (("a", "n1"), ("b", "n2"))]
    )
    plan = await plan_of(full, statement("accept"), parameters)
    assert plan.whole_tables <= {"appliance", "idempotency"}
    assert plan.most_rows <= 20


BATCHES = """
    insert into batch (id, operation_id, user_name, total, accepted, rejected, start_time)
      select gen_random_uuid(), 'x', 'u', 1, 1, '[]', 1 from generate_series(1, 2000);
    insert into batch_tally
      select id, slot, 0, 0, 1, 0, 0, 1 from batch, generate_series(0, 7) as slot;
    with numbered as (select id, row_number() over (order by id) as n from batch),
    parts as (select id, row_number() over (order by id) as n from pairing)
    update pairing set batch = numbered.id from numbered, parts
    where pairing.id = parts.id and numbered.n = parts.n / 1000 + 1
"""


@pytest.fixture(scope="module")
async def batched(server_url: str) -> AsyncIterator["Connection"]:
    """A database with fifty batches of a thousand pairings, and many that are empty by now."""
    async with filled(server_url) as connection:
        await connection.execute(BATCHES, timeout=60)
        await connection.execute("vacuum full analyze", timeout=60)
        yield connection


async def test_a_batch_costs_its_slots_and_its_page(batched: "Connection") -> None:
    batch = await batched.fetchval("select batch from pairing limit 1")
    plan = await plan_of(batched, one_batch(batch))
    assert plan.indexes == {"pk_batch", "pk_batch_tally"}
    assert plan.most_rows <= 8
    for before in (None, PairingId(UUID(int=2**128 - 1))):
        plan = await plan_of(batched, page(PairingFilter(batch=batch), 20, before))
        assert "ix_pairing_batch_id" in plan.indexes
        assert plan.whole_tables == set()
        assert plan.most_rows <= 100


async def test_canceling_a_batch_reads_what_is_left_of_it_once(batched: "Connection") -> None:
    batch = await batched.fetchval("select batch from pairing limit 1")
    plan = await plan_of(batched, unwanted(batch))
    assert plan.indexes == {"ix_pairing_batch_id"}
    assert plan.most_rows <= 1000


async def test_canceling_a_piece_of_a_batch_that_nobody_has_counted_costs_the_piece(
    server_url: str,
) -> None:
    async with database_like(server_url, TEMPLATE) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(BACKLOG.replace("500", "5000"), timeout=60)
        ids = [row["id"] for row in await connection.fetch("select id from pairing limit 100")]
        wish: dict[str, object] = {"ids": sorted(ids), "user": "u", "operation_id": "x"}
        plan = await plan_of(connection, statement("cancel"), wish)
        await connection.close(timeout=10)
    assert plan.indexes == {"pk_pairing"}
    assert plan.most_rows <= 100


async def test_rivals_are_looked_for_among_what_is_active(full: "Connection") -> None:
    couples: dict[str, object] = {"lows": ["a", "n1", "n2"], "highs": ["b", "o1", "o2"]}
    plan = await plan_of(full, statement("rivals"), couples)
    assert "uq_pairing_active_couple" in plan.indexes
    assert plan.whole_tables == set()
    assert plan.most_rows <= 10


BACKLOG = """
    insert into pairing (id, operation, state, couple_low, couple_high, operation_id, user_name,
      description, priority, timeout_s, start_time, last_updated, epoch, seq, head)
    select gen_random_uuid(), 'pair', 'QUEUED', 'y' || n, 'z', 'x', 'u', '', 0, 600, 1, 2, 0, 1,
      decode(repeat('00', 32), 'hex')
    from generate_series(1, 500) as n
"""


async def test_an_accept_does_not_look_at_a_backlog_that_the_statistics_do_not_know(
    full: "Connection",
) -> None:
    parameters = accept_parameters([candidate(request("a", "n1"), AUTHOR, None, NOW)])
    transaction = full.transaction()
    await transaction.start()
    try:
        await full.execute(BACKLOG)
        plan = await plan_of(full, statement("accept"), parameters)
    finally:
        await transaction.rollback()
    assert "uq_pairing_active_couple" in plan.indexes
    assert plan.most_rows <= 20


async def test_an_accept_does_not_look_at_what_came_before_anything_was_counted(
    server_url: str,
) -> None:
    async with database_like(server_url, TEMPLATE) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(BACKLOG)
        many = [candidate(request(f"a{n}", "b"), AUTHOR, None, NOW) for n in range(30)]
        plan = await plan_of(connection, statement("accept"), accept_parameters(many))
        await connection.close(timeout=10)
    assert {"pk_pairing", "uq_pairing_active_couple"} <= plan.indexes
    assert plan.most_rows <= 100


async def test_what_is_old_is_found_in_the_order_of_the_ids_and_removed_by_key(
    full: "Connection",
) -> None:
    cut_off = NOW
    plan = await plan_of(full, old(cut_off, MIDDLE, 500).with_for_update(of=pairing))
    assert "pk_pairing" in plan.indexes
    assert plan.whole_tables <= {"idempotency"}
    assert plan.most_rows <= 500
    query, arguments = positional(old(cut_off, MIDDLE, 500), {})
    ids = [row["id"] for row in await full.fetch(query, *arguments)]
    plan = await plan_of(full, statement("remove"), {"ids": ids})
    assert "pk_pairing" in plan.indexes
    # Some months are as good as empty, where a look at all of it is the shortest way.
    assert not plan.whole_tables & {"pairing", "side", "event_default"}
    assert plan.most_rows <= 2000


async def test_the_journal_goes_by_the_primary_keys(full: "Connection") -> None:
    way = way_to_success(await a_pairing(full))
    plan = await plan_of(full, statement("journal"), journal_parameters(folded(way)[0]))
    assert {"pk_pairing", "pk_side"} <= plan.indexes
    assert plan.whole_tables == set()
    assert plan.most_rows <= 20


async def a_pairing(connection: "Connection") -> Pairing:
    """One of the backlog."""
    query, arguments = positional(whole().where(pairing.c.state == "QUEUED").limit(1), {})
    row = await connection.fetchrow(query, *arguments)
    assert row is not None
    return Pairing(
        id=row["id"],
        operation=Operation.PAIR,
        sides=(
            Side(row["a_appliance"], row["a_peer"]),
            Side(row["b_appliance"], row["b_peer"]),
        ),
        operation_id=row["operation_id"],
        user=row["user_name"],
        start_time=row["start_time"],
        last_updated=row["last_updated"],
        timeout_s=row["timeout_s"],
        deadline=row["start_time"] + row["timeout_s"] * 1000,
        position=ChainPosition(row["seq"], row["head"]),
    )
