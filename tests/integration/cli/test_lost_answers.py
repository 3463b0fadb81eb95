"""What a command makes of answers that do not come, or do not say what became of it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from service.observe.events import LogEvent, RequestServed
from service.observe.logging import listening
from tests.integration.cli.commands import sitepair, start
from tests.support.database import closed_to_all
from tests.support.service import ServiceUnderTest, are_paired

Remote = dict[str, str]


@pytest.fixture
async def registered(service: ServiceUnderTest) -> ServiceUnderTest:
    """The service with all of its fleet in the registry."""
    await service.register()
    return service


async def lose(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@asynccontextmanager
async def losing_the_first_answer(
    url: str, how: Callable[[web.Request], Awaitable[None]] = lose
) -> AsyncIterator[tuple[str, list[str]]]:
    """A way to the service at `url` that loses its first answer to a POST, and the POSTs that went
    there."""
    posts: list[str] = []

    async def pass_on(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: request.headers[name] for name in request.headers if name != "Host"}
        async with session.request(
            request.method, request.path_qs, data=body, headers=headers
        ) as answer:
            content = await answer.read()
        if request.method == "POST":
            posts.append(request.path)
            if len(posts) == 1:
                await how(request)
        told = {name: answer.headers[name] for name in ("Content-Type", "operationID")}
        return web.Response(status=answer.status, body=content, headers=told)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession(url) as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", posts
        await runner.cleanup()


async def test_a_lost_answer_is_asked_for_again_and_starts_nothing_twice(
    registered: ServiceUnderTest, remote: Remote
) -> None:
    async with losing_the_first_answer(registered.url) as (url, posts):
        ended = await sitepair("pair", "site-1", "site-2", **{**remote, "SITEPAIR_URL": url})
    pairings = (await registered.call("GET", "/v1/pairings")).json["items"]
    assert posts == ["/v1/pairings", "/v1/pairings"]
    assert (ended.status, len(pairings), pairings[0]["state"]) == (0, 1, "SUCCEEDED"), ended
    assert ended.err.startswith("The service does not answer:")
    assert pairings[0]["id"] in ended.out


async def test_who_stops_before_the_answer_is_told_how_to_get_it(
    registered: ServiceUnderTest, remote: Remote, tmp_path: Path
) -> None:
    accepted, stopped = asyncio.Event(), asyncio.Event()

    async def keep(_request: web.Request) -> None:
        accepted.set()
        await stopped.wait()

    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\n")
    async with losing_the_first_answer(registered.url, keep) as (url, _posts):
        process = await start(["batch", str(file)], {**remote, "SITEPAIR_URL": url})
        await accepted.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        stopped.set()
    assert process.returncode == 130
    assert err.startswith(b"It is not known whether the batch was accepted."), err
    key = err.decode().partition("--idempotency-key ")[2].split()[0]
    ended = await sitepair("batch", str(file), "--idempotency-key", key, **remote)
    pairings = (await registered.call("GET", "/v1/pairings")).json["items"]
    assert (ended.status, len(pairings), pairings[0]["state"]) == (0, 1, "SUCCEEDED"), ended


async def test_a_wish_to_cancel_whose_answer_is_lost_is_told_again(
    registered: ServiceUnderTest, remote: Remote
) -> None:
    for name in ("site-1", "site-2"):
        registered.fleet[name].turn(task_ms=[3_000, 3_000])
    pairing = await registered.pair("site-1", "site-2")
    async with losing_the_first_answer(registered.url) as (url, posts):
        ended = await sitepair("cancel", pairing["id"], **{**remote, "SITEPAIR_URL": url})
    assert posts == [f"/v1/pairings/{pairing['id']}/cancel"] * 2
    assert (ended.status, (await registered.over(pairing))["state"]) == (0, "CANCELED"), ended


@pytest.mark.parametrize("command", [["pair", "site-1", "site-2"], ["batch", "sites.csv"]])
async def test_a_database_that_is_away_when_a_command_begins_is_waited_for(
    registered: ServiceUnderTest,
    remote: Remote,
    tmp_path: Path,
    server_url: str,
    database_url: str,
    command: list[str],
) -> None:
    refused = asyncio.Event()

    def see(event: LogEvent) -> None:
        match event:
            case RequestServed(status=503):
                refused.set()

    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\n")
    arguments = [str(file) if each == file.name else each for each in command]
    with listening(see):
        async with closed_to_all(server_url, database_url), asyncio.timeout(60):
            process = await start(arguments, remote)
            ends = asyncio.create_task(process.wait())
            seen = asyncio.create_task(refused.wait())
            await asyncio.wait([ends, seen], return_when=asyncio.FIRST_COMPLETED)
        _, err = await process.communicate()
        await asyncio.gather(ends, seen)
    assert (process.returncode, err.count(b"asking again")) == (0, 1), err
    assert err.startswith(b"StoreUnavailable: The database does not answer.")
    assert are_paired(registered.fleet, "site-1", "site-2")


@pytest.mark.parametrize(
    "command", [["appliance", "list"], ["retry", "0197a3d0-0000-7000-8000-000000000000"]]
)
async def test_what_may_have_been_done_is_not_called_refused(
    registered: ServiceUnderTest,
    remote: Remote,
    server_url: str,
    database_url: str,
    command: list[str],
) -> None:
    async with closed_to_all(server_url, database_url):
        ended = await sitepair(*command, **remote)
    assert (ended.status, ended.out) == (3, ""), ended
    assert ended.err.startswith("StoreUnavailable: The database does not answer. Whether a change")
