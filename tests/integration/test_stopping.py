"""How a service comes to its end."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from yarl import URL

from service.api.serving import ApiRunner
from service.app import running
from service.settings import Settings
from tests.support.logs import captured_logs
from tests.support.service import fleet_of, service_over


async def test_that_it_is_through_is_the_last_that_it_tells(settings: Settings) -> None:
    with captured_logs() as logs:
        async with fleet_of(2) as fleet, service_over(settings, fleet) as service:
            one, other = await service.register()
            await service.over(await service.pair(one, other))
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [line.get("method") for line in lines[-3:]] == ["DELETE", "DELETE", None]
    assert (lines[-1]["event"], lines[-1]["handed_back"]) == ("service_stopped", 0)


async def test_an_api_alone_tells_it_too(settings: Settings) -> None:
    with captured_logs() as logs:
        async with running(settings, worker=False):
            pass
    assert json.loads(logs.getvalue().splitlines()[-1])["event"] == "service_stopped"


@pytest.mark.timeout(60)
async def test_an_upload_that_does_not_arrive_holds_nobody_up_for_long(settings: Settings) -> None:
    async with fleet_of(1) as fleet, AsyncExitStack() as up:
        service = await up.enter_async_context(service_over(settings, fleet))
        url = URL(service.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = f"Authorization: Bearer {service.token}\r\nContent-Type: application/x-ndjson\r\n"
        writer.write(f"POST /v1/batches HTTP/1.1\r\nHost: x\r\n{head}".encode())
        writer.write(b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
        assert b" 100 " in await reader.readline()  # It is in the midst of it.
        async with asyncio.timeout(9):
            await up.aclose()
        writer.close()


async def test_a_handler_that_hears_nothing_is_not_waited_for_twice() -> None:
    begun = asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/", wait)
    runner = ApiRunner(app, shutdown_timeout_s=3.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await begun.wait()
    async with asyncio.timeout(5.5):
        await runner.cleanup()
    writer.close()
