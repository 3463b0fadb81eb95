"""A database whose host is gone without a word: whoever asks it gives up after a while."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from service.app import running
from service.domain.errors import StoreUnavailable
from service.domain.ids import WorkerId
from service.engine.policy import Policy
from service.store import bulk, intake, migrate, notify, retries, sessions
from service.store import database as database_module
from service.store.bulk import BatchRequest, BulkIntake
from service.store.claims import Claims
from service.store.database import Database
from service.store.intake import IdempotencyKey, Intake
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.pairings import PairingFilter, Pairings
from service.store.retries import Retries
from service.store.urls import DatabaseUrl
from tests.integration.store.proxy import Proxy, proxy_to
from tests.integration.store.values import (
    AUTHOR,
    claimed,
    failed,
    intake_on,
    journal_on,
    now,
    register,
    request,
    started,
)
from tests.integration.store.values import running as running_part
from tests.integration.store.watching import until_gone
from tests.support.contract import contract_client
from tests.support.logs import captured_logs
from tests.support.service import settings_for

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # Generic in the stubs only.

PATIENCE_S = 0.5
MUCH_LATER_S = 15.0

WORKER = WorkerId(uuid4())
ASKED: dict[str, Callable[[Database], Awaitable[object]]] = {
    "beat": lambda database: Heartbeat(database, WORKER).beat(),
    "bury": lambda database: Heartbeat(database, WORKER).bury(),
    "leave": lambda database: Heartbeat(database, WORKER).leave(),
    "disown": lambda database: Claims(database, WORKER).disown([]),
    "claim": lambda database: Claims(database, WORKER).claim(1),
}
URGENT = {"beat", "claim"}

SLOW = f"""
create function slow() returns trigger language plpgsql as
$$ begin perform pg_sleep({3 * PATIENCE_S}); return null; end $$;
create constraint trigger slow after insert on event deferrable initially deferred
  for each row execute function slow();
create constraint trigger slow after update on pairing deferrable initially deferred
  for each row execute function slow();
"""
"""Commits of changes, and of claims."""

STEP_S = 1.2
SLOW_STEPS = (
    f"""
    create function slow_step() returns trigger language plpgsql as
    $$ begin perform pg_sleep({STEP_S}); return new; end $$
    """,
    "create trigger slow before insert on pairing for each row execute function slow_step()",
    "create trigger slow before update on batch for each row execute function slow_step()",
)
"""Each chunk of a batch, and its end: any two of them take longer than one may."""


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and the URL that leads through it."""
    with tempfile.TemporaryDirectory(prefix="silence-") as directory:
        async with proxy_to(database_url, Path(directory)) as through:
            yield through


@pytest.mark.parametrize("asked", ASKED)
async def test_no_question_waits_for_ever(
    asked: str, way: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    async with Database.connect(url) as database:
        await Heartbeat(database, WORKER).join(20)
        limit = "URGENT_S" if asked in URGENT else "ANSWER_TIMEOUT_S"
        monkeypatch.setattr(database_module, limit, PATIENCE_S)
        proxy.is_silent = True
        async with asyncio.timeout(MUCH_LATER_S):
            with pytest.raises(StoreUnavailable):
                await ASKED[asked](database)
        proxy.is_silent = False
        assert await database.run(text("select 1"))


async def test_a_lane_gives_up_a_connection_that_leads_nowhere(
    way: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    async with Database.connect(url) as database:
        lane = database.lane()
        await lane.run(text("select 1"))
        monkeypatch.setattr(database_module, "URGENT_S", PATIENCE_S)
        proxy.is_silent = True
        async with asyncio.timeout(MUCH_LATER_S):
            with pytest.raises(StoreUnavailable):
                await lane.run(text("select 1"))
        proxy.is_silent = False
        assert await lane.run(text("select 1"))
        await lane.close()


async def test_a_host_that_is_gone_does_not_keep_anybody_from_the_next(
    way: tuple[Proxy, str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    gone, there = (dict(parse_qsl(urlsplit(each).query)) for each in (url, database_url))
    hosts = {name: f"{gone[name]},{there[name]}" for name in ("host", "port")}
    both = urlunsplit(urlsplit(database_url)._replace(query=urlencode(there | hosts)))
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT_S", 2 * PATIENCE_S)
    proxy.is_silent = True
    for behind in ("", "&pgbouncer=true"):
        async with Database.connect(both + behind) as database:
            assert await database.run(text("select 1"))
    await (await sessions.open_session(DatabaseUrl.parse(both))).close(timeout=10)


async def test_who_gives_up_while_a_session_is_settled_leaves_no_connection_behind(
    way: tuple[Proxy, str], sql: "Connection"
) -> None:
    proxy, url = way
    proxy.fall_silent_at(b"transaction_timeout")
    opening = asyncio.ensure_future(sessions.open_session(DatabaseUrl.parse(url)))
    await proxy.fell_silent.wait()
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    async with asyncio.timeout(MUCH_LATER_S):
        await until_gone(sql)


async def test_a_database_that_is_slow_gets_its_time_on_the_next_connection(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    [pairing] = await claimed(database, ("a", "b"))
    lane = database.lane()
    await lane.run(text("select 1"))
    await sql.execute(SLOW)
    monkeypatch.setattr(database_module, "URGENT_S", PATIENCE_S)
    journal = Journal(lane, patience_s=5.0)
    async with running_part(journal):
        await journal.append(started(pairing))


async def test_nor_is_a_claim_cut_off_each_time(
    database: Database, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(database, "a", "b")
    async with intake_on(database) as intake:
        await intake.accept(request("a", "b"), AUTHOR)
    await Heartbeat(database, WORKER).join(20)
    await sql.execute(SLOW)
    monkeypatch.setattr(database_module, "URGENT_S", PATIENCE_S)
    with pytest.raises(StoreUnavailable):
        await Claims(database, WORKER).claim(1)
    assert (await Claims(database, WORKER).claim(1)).assignments


async def test_nobody_waits_for_ever_to_hear_of_the_schema(
    way: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All readiness probes share one look: were that one stuck, none would be answered again."""
    proxy, url = way
    monkeypatch.setattr(migrate, "ANSWER_TIMEOUT_S", PATIENCE_S)
    proxy.fall_silent_at(b"alembic_version")
    async with asyncio.timeout(MUCH_LATER_S):
        with pytest.raises(StoreUnavailable):
            await migrate.current_state(url)
    assert proxy.fell_silent.is_set()


async def test_no_batch_waits_for_ever_to_be_committed(
    way: tuple[Proxy, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    await register(database, "a", "b")
    wanted = BatchRequest(lambda: iter([request("a", "b")]), 1)
    monkeypatch.setattr(bulk, "_SILENCE_S", 3.0)
    async with Database.connect(url) as cut_off:
        proxy.fall_silent_at(b"COMMIT")
        async with asyncio.timeout(MUCH_LATER_S):
            with pytest.raises(StoreUnavailable):
                await BulkIntake(cut_off, now, patience_s=0).accept(wanted, AUTHOR)
        assert proxy.fell_silent.is_set()
    monkeypatch.undo()
    assert (await BulkIntake(database, now).accept(wanted, AUTHOR)).accepted == 1


async def test_a_batch_may_take_long_as_long_as_it_gets_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(database, "a", "b", "c")
    async with database.transaction() as connection:
        for statement in SLOW_STEPS:
            await connection.execute(text(statement))
    monkeypatch.setattr(bulk, "_SILENCE_S", STEP_S / 0.6)
    monkeypatch.setattr(bulk, "CHUNK", 1)
    wanted = BatchRequest(lambda: iter([request("a", "b"), request("a", "c")]), 2)
    assert (await BulkIntake(database, now, patience_s=0).accept(wanted, AUTHOR)).accepted == 2


async def test_who_wants_a_pairing_is_told_in_time_and_it_is_seen_through_all_the_same(
    way: tuple[Proxy, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    await register(database, "a", "b")
    key = IdempotencyKey("key", b"print")
    monkeypatch.setattr(intake, "ANSWER_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(database_module, "URGENT_S", 2 * PATIENCE_S)
    async with Database.connect(url) as cut_off:
        front = Intake(cut_off, now)
        async with running_part(front):
            proxy.fall_silent_at(b"nobody-hears")
            wanted = request("a", "b", description="nobody-hears")
            # That this is over before the patience with the database is what is tested.
            with pytest.raises(StoreUnavailable):
                await front.accept(wanted, AUTHOR, key)
            proxy.is_silent = False
    found = await Pairings(database).page(PairingFilter(), 10)
    assert [each.description for each in found] == ["nobody-hears"]


async def test_who_wants_a_pairing_tried_again_is_told_in_time(
    way: tuple[Proxy, str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    monkeypatch.setattr(retries, "ANSWER_TIMEOUT_S", PATIENCE_S)
    [pairing] = await claimed(database, ("a", "b"))
    async with Database.connect(url) as cut_off, journal_on(cut_off) as journal:
        await journal.append(started(pairing))
        await journal.append(failed(started(pairing).pairing))
        proxy.fall_silent_at(b"PairingRetried")
        async with asyncio.timeout(MUCH_LATER_S):
            with pytest.raises(StoreUnavailable):
                await Retries(cut_off, journal, now).retry(pairing.id, AUTHOR)
        assert proxy.fell_silent.is_set()
        proxy.is_silent = False


async def test_who_asks_to_be_told_of_things_asks_somebody_else(
    way: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url = way
    monkeypatch.setattr(notify, "CONNECT_TIMEOUT_S", PATIENCE_S)
    listener, ready = notify.Listener(url), asyncio.Event()
    proxy.fall_silent_at(b"LISTEN")
    async with asyncio.timeout(MUCH_LATER_S), asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(listener.run(ready))
        await proxy.fell_silent.wait()
        proxy.is_silent = False
        await ready.wait()
        listening.cancel()


async def test_who_is_cancelled_in_the_silence_is_cancelled(way: tuple[Proxy, str]) -> None:
    """The connection's good-bye is not answered either, which is nobody's concern."""
    proxy, url = way
    async with Database.connect(url) as database:
        lane = database.lane()
        await lane.run(text("select 1"))
        proxy.fall_silent_at(b"select 2")
        asking = asyncio.ensure_future(lane.run(text("select 2")))
        await proxy.fell_silent.wait()
        asking.cancel()
        async with asyncio.timeout(MUCH_LATER_S):
            with pytest.raises(asyncio.CancelledError):
                await asking


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_service_stops_in_the_silence_and_nothing_is_wrong_with_it(
    way: tuple[Proxy, str], tmp_path: Path, is_busy: bool
) -> None:
    """Before whoever wants it stopped kills it: `deploy/compose.yaml` waits for 40 s."""
    proxy, url = way
    policy = Policy(grace_s=0.5)
    async with AsyncExitStack() as stack:
        log = stack.enter_context(captured_logs())
        service = await stack.enter_async_context(
            running(settings_for(url, tmp_path), policy=policy)
        )
        async with contract_client(str(service.url), service.admin_token) as client:
            body = {"appliances": ["a", "b"]}
            answer = await client.call("POST", "/v1/pairings", json=body)
            assert answer.status == 422
            asking: list[asyncio.Task[object]] = []
            if is_busy:
                proxy.fall_silent_at(b"nobody-hears")
                body = {"appliances": ["a", "nobody-hears"]}
                asking.append(asyncio.create_task(client.call("POST", "/v1/pairings", json=body)))
                await proxy.fell_silent.wait()
            proxy.is_silent = True
            async with asyncio.timeout(30.0):
                await stack.aclose()
            await asyncio.gather(*asking, return_exceptions=True)
    assert ('"doing":"stopping"' in log.getvalue()) == is_busy
