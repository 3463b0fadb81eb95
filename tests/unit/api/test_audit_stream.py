"""The audit trail as it grows: every event once, in order, to whoever takes it."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import pytest

from service.api import audit, streaming
from service.api.streaming import ServerSentEvent
from tests.integration.store.watching import connections, until
from tests.support.contract import LiveEvents
from tests.support.sse import frames
from tests.support.trail import record
from tests.unit.api.conftest import TOKEN, Served

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

STREAM = "/v1/audit/stream"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written behind the store's back rings no bell."""
    monkeypatch.setattr(audit, "LOOK_S", 0.05)
    monkeypatch.setattr(audit, "PAUSE_S", 0.01)


@asynccontextmanager
async def slow_transaction(url: str) -> AsyncIterator["Connection"]:
    """A transaction that is committed at the end."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close(timeout=10)


async def taken(events: LiveEvents, count: int) -> list[UUID]:
    """Whose chains the next events are of."""
    return [UUID(event["pairing"]) for event in await events.take(count)]


def streams() -> set[asyncio.Task[Any]]:
    """The tasks that serve a stream."""
    names = {"stream_audit_events", "_follow", "_while_taken"}
    return {task for task in asyncio.all_tasks() if names & set(_coroutines_of(task))}


def _coroutines_of(task: asyncio.Task[Any]) -> list[str]:
    """The coroutines that a task is in, from the outermost on."""
    found: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        found.append(getattr(awaited, "__name__", ""))
        awaited = getattr(awaited, "cr_await", None)
    return found


async def until_no_stream() -> None:
    """Return when no task serves one any more."""
    while tasks := streams():
        await asyncio.wait(tasks)


async def test_it_begins_with_what_comes_from_now_on(served: Served, sql: "Connection") -> None:
    await record(sql)
    while not (await served.client.call("GET", "/v1/audit")).json["items"]:
        pass
    async with served.client.stream(STREAM) as events:
        new = await record(sql)

        assert await taken(events, 1) == [new]


async def test_it_skips_nothing_of_a_transaction_that_was_slow(
    served: Served, sql: "Connection", database_url: str
) -> None:
    async with served.client.stream(STREAM) as events:
        first = await record(sql)
        assert await taken(events, 1) == [first]
        async with slow_transaction(database_url) as slow:
            late = await record(slow)
            quick = [await record(sql) for _ in range(3)]
            await served.store.audit.until_looked()
        last = await record(sql)

        assert await taken(events, 5) == [late, *quick, last]


@pytest.mark.parametrize("how", ["header", "after", "both"])
async def test_whoever_was_cut_off_goes_on_where_it_was(
    served: Served, sql: "Connection", how: str
) -> None:
    async with served.client.stream(STREAM) as events:
        recorded = [await record(sql) for _ in range(6)]
        seen = await events.take(3)
        events.cut()
    first, last = seen[0]["id"], seen[-1]["id"]
    query, headers = {
        "header": ("", {"Last_Event_ID": last}),
        "after": (f"?after={last}", {}),
        "both": (f"?after={first}", {"Last_Event_ID": last}),
    }[how]

    async with served.client.stream(STREAM + query, **headers) as events:
        assert await taken(events, 3) == recorded[3:]


async def test_whoever_was_cut_off_before_the_first_event_misses_none(
    served: Served, sql: "Connection"
) -> None:
    async with served.client.session.get(served.client.url + STREAM) as response:
        opening = await anext(frames(response))
    missed = await record(sql)
    assert not opening.is_message
    where = opening.fields["id"]

    async with served.client.stream(STREAM, Last_Event_ID=where) as events:
        assert await taken(events, 1) == [missed]


async def test_it_is_narrowed_by_the_filters_of_the_listing(
    served: Served, sql: "Connection"
) -> None:
    pairing = await record(sql)
    for query, marks in {
        "appliance=brno": {"appliance": "brno"},
        "operationID=order-1": {"operation_id": "order-1"},
        f"pairing={pairing}": {"chain": pairing},
    }.items():
        async with served.client.stream(f"{STREAM}?{query}") as events:
            await record(sql, seq=2)
            chosen = await record(sql, seq=3, **marks)  # type: ignore[arg-type]
            await record(sql, seq=4)
            also = await record(sql, seq=5, **marks)  # type: ignore[arg-type]

            assert await taken(events, 2) == [chosen, also]


async def test_what_the_service_does_rings(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LOOK_S", 60.0)
    async with served.client.stream(STREAM) as events:
        pairing = await served.pair("prague", "brno")
        await served.fail(pairing["id"])
        seen = await events.take(5)

    assert [event["type"] for event in seen] == [
        "ApplianceRegistered",
        "ApplianceRegistered",
        "PairingAccepted",
        "PairingStarted",
        "PairingFailed",
    ]
    listed = (await served.client.call("GET", "/v1/audit")).json["items"]
    assert seen == listed


async def test_hundreds_who_write_at_once_are_all_heard_once_and_in_order(
    served: Served, database_url: str
) -> None:
    writers, rounds = 150, 4
    together = [await asyncpg.connect(database_url) for _ in range(writers)]

    async def write(connection: "Connection") -> list[UUID]:
        chains = []
        for _ in range(rounds):
            async with connection.transaction():
                chains.append(await record(connection))
                await record(connection, chain=chains[-1], seq=2)
        return chains

    async with served.client.stream(STREAM) as events, asyncio.TaskGroup() as group:
        writing = [group.create_task(write(connection)) for connection in together]
        seen = await events.take(writers * rounds * 2)
    for connection in together:
        await connection.close(timeout=10)

    assert len({event["id"] for event in seen}) == len(seen)
    written = {str(chain) for task in writing for chain in task.result()}
    assert {event["pairing"] for event in seen} == written
    listed: list[Any] = []
    while len(listed) < len(seen):
        after = f"&after={listed[-1]['id']}" if listed else ""
        page = await served.client.call("GET", f"/v1/audit?limit=1000{after}")
        listed += page.json["items"]
    assert seen == listed


async def test_several_who_follow_hear_the_same(served: Served, sql: "Connection") -> None:
    async with contextlib.AsyncExitStack() as stack:
        followers = [
            await stack.enter_async_context(served.client.stream(STREAM)) for _ in range(20)
        ]
        recorded = [await record(sql) for _ in range(5)]
        heard = await asyncio.gather(*(taken(follower, 5) for follower in followers))

    assert heard == [recorded] * 20


async def test_clients_that_go_away_leave_no_task_and_no_connection_behind(
    served: Served, sql: "Connection"
) -> None:
    for _ in range(10):
        async with served.client.stream(STREAM) as events:
            await record(sql)
            await events.next()
            assert streams()
            events.cut()

    await until_no_stream()

    await until(
        sql,
        "select count(*) = 0 from pg_stat_activity where state <> 'idle'"
        " and application_name = 'sitepair' and datname = current_database()",
    )


async def test_between_two_looks_no_connection_is_held(
    served: Served, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LOOK_S", 60.0)
    async with served.client.stream(STREAM), served.client.stream(STREAM):
        # The first look may still be under way; one that held its connection would for a minute.
        async with asyncio.timeout(10):
            while (await connections(sql)).keys() != {"idle"}:
                pass


@asynccontextmanager
async def raw_stream(
    served: Served, version: str = "1.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The stream's connection, to be read byte by byte or not at all."""
    reader, writer = await asyncio.open_connection(served.host, served.port, limit=1024)
    head = f"GET {STREAM} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    try:
        writer.write(head.encode())
        await reader.readuntil(b"retry: ")
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def more_than_fits(sql: "Connection") -> None:
    """Events that no socket's buffers can take."""
    for _ in range(20):
        await record(sql, detail={"much": "x" * 1_000_000})


async def test_a_client_that_takes_nothing_is_cut_off(
    served: Served, sql: "Connection", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALLED_S", 0.1)
    async with raw_stream(served) as (reader, _):
        await more_than_fits(sql)

        await until_no_stream()

        assert not (await reader.read()).endswith(b"0\r\n\r\n")


async def test_when_the_service_stops_the_stream_ends_well(
    served: Served, sql: "Connection"
) -> None:
    async with served.client.stream(STREAM) as events:
        await record(sql)
        await events.next()
        await served.stop()

        with pytest.raises(StopAsyncIteration):
            await events.next()
    assert not streams()


async def test_a_client_that_takes_nothing_does_not_hold_up_the_stop(
    served: Served, sql: "Connection"
) -> None:
    async with raw_stream(served):
        await more_than_fits(sql)
        while not any("drain" in _coroutines_of(task) for task in streams()):
            await sql.execute("select 1")
        async with asyncio.timeout(5):
            await served.stop()


async def test_it_outlives_the_loss_of_its_database_connections(
    served: Served, sql: "Connection"
) -> None:
    async with served.client.stream(STREAM) as events:
        for _ in range(3):
            await sql.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'sitepair' and datname = current_database()"
            )
            chain = await record(sql)

            assert await taken(events, 1) == [chain]


async def test_a_defect_cuts_the_stream_short_and_is_logged(
    served: Served, sql: "Connection", log: io.StringIO
) -> None:
    async with served.client.stream(STREAM) as events:
        async with sql.transaction():
            await record(sql)
            # Nobody but an intruder dates an event so that Python cannot read it.
            await sql.execute("update event set at = '4712-01-01 BC'")

        with pytest.raises(aiohttp.ClientPayloadError):
            await events.next()

    assert not streams()
    assert '"event":"request_crashed"' in log.getvalue().replace(" ", "")


async def test_while_nothing_happens_the_client_hears_that_the_connection_stands(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "QUIET_S", 0.0)
    session, url = served.client.session, served.client.url + STREAM
    async with session.get(url) as response:
        heard = frames(response)
        first, *quiet = [await anext(heard) for _ in range(3)]

    assert first.fields.keys() == {"id", "retry"}
    assert first.fields["retry"] == str(streaming.RETRY_MS)
    assert [frame.comments for frame in quiet] == [("nothing new",)] * 2
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Accel-Buffering"] == "no"


async def test_head_gets_the_headers_and_no_stream(shared: Served) -> None:
    answer = await shared.client.call("HEAD", STREAM)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"] == "text/event-stream"


async def test_an_older_http_gets_the_stream_too(served: Served, sql: "Connection") -> None:
    async with raw_stream(served, "1.0") as (reader, _):
        chain = await record(sql)

        assert str(chain) in (await reader.readuntil(b"}\n\n")).decode()


def test_a_message_is_one_line_however_its_json_was_spelt() -> None:
    spelt = msgspec.Raw(b'{\r\n "a": "b"\n}')
    data = ServerSentEvent("1", "Told", {"detail": spelt}).encoded().split(b"\n")
    assert data[:2] == [b"id: 1", b"event: Told"]
    assert data[3:] == [b"", b""]
    assert json.loads(data[2].removeprefix(b"data: ")) == {"detail": {"a": "b"}}
