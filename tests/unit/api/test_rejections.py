"""What of a batch was rejected, where that is too long to be held."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.api.piecewise import PiecewiseResponse
from tests.integration.store.watching import until_blocked
from tests.unit.api.conftest import Served
from tests.unit.api.test_batch_calls import ask, couple, lines, registered

CUT_WHO_WAITS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""

MANY = 6000
BODY = lines(*[couple("nowhere", f"site-{number}") for number in range(MANY)])
"""Which takes more than one piece to answer."""


async def test_it_is_told_whole_and_told_again(served: Served) -> None:
    first = await ask(served, BODY, operationID="bulk-1", Idempotency_Key="k")
    again = await ask(served, BODY, Idempotency_Key="k")
    assert (first.status, again.status) == (202, 202)
    assert first.json == again.json
    assert first.headers["Location"] == f"/v1/batches/{first.json['id']}"
    assert first.headers["operationID"] == "bulk-1"
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (first.json["total"], first.json["accepted"]) == (MANY, 0)
    assert [each["index"] for each in first.json["rejected"]] == list(range(MANY))
    assert {each["code"] for each in first.json["rejected"]} == {"UnknownAppliance"}


async def test_what_is_accepted_among_it_is_accepted(served: Served) -> None:
    await registered(served, "a", "b")
    answer = await ask(served, lines(couple("a", "b")) + BODY)
    assert (answer.json["total"], answer.json["accepted"]) == (MANY + 1, 1)
    assert len(answer.json["rejected"]) == MANY


async def test_a_database_that_goes_away_before_it_is_told_takes_nothing_back(
    served: Served, database_url: str
) -> None:
    first = await ask(served, BODY, Idempotency_Key="k")
    sql = await asyncpg.connect(database_url)
    async with asyncio.TaskGroup() as group, sql.transaction():
        await sql.execute("lock batch_rejection")
        asking = group.create_task(ask(served, BODY, Idempotency_Key="k"))
        await until_blocked(sql)
        await sql.execute(CUT_WHO_WAITS)
        refused = await asking
    await sql.close(timeout=10)
    assert (refused.status, refused.json["code"]) == (503, "StoreUnavailable")
    again = await ask(served, BODY, Idempotency_Key="k")
    assert again.json == first.json


async def test_what_is_not_known_any_more_is_not_told(served: Served, database_url: str) -> None:
    first = await ask(served, BODY, Idempotency_Key="k")
    sql = await asyncpg.connect(database_url)
    await sql.execute("delete from batch_rejection")  # As the downgrade of the schema does.
    await sql.close(timeout=10)
    again = await ask(served, BODY, Idempotency_Key="k")
    assert (again.status, again.json) == (202, first.json | {"rejected": []})


async def test_nobody_takes_a_part_of_it_for_the_whole() -> None:
    async def arrays() -> AsyncIterator[bytes]:
        yield b'[{"index":0}]'
        yield b'[{"index":1},{"index":2}]'
        if is_interrupted:
            raise OSError("gone")

    async def answer(request: web.Request) -> web.StreamResponse:
        return await PiecewiseResponse(request, {"id": "x"}).send("rejected", arrays())

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestClient(TestServer(app)) as client:
        is_interrupted = False
        whole = await (await client.get("/")).json()
        assert whole == {"id": "x", "rejected": [{"index": index} for index in range(3)]}
        is_interrupted = True
        with pytest.raises(aiohttp.ClientError):
            await (await client.get("/")).read()


async def test_a_client_that_leaves_ends_it() -> None:
    left, ended = asyncio.Event(), asyncio.Event()

    async def arrays() -> AsyncIterator[bytes]:
        yield b"[0]"
        await left.wait()
        while True:
            yield b"[" + b"0," * 100_000 + b"0]"

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await PiecewiseResponse(request, {"id": "x"}).send("rejected", arrays())
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        response = await client.get(server.make_url("/"))
        response.close()
        left.set()
        await ended.wait()
