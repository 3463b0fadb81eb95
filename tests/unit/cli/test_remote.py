"""Where a command looks for the service."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, RawTestServer

from service.cli import remote
from service.cli.status import Exit
from service.settings import InvalidSettings

TOKEN = "a token of no use"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is known, and no address."""
    monkeypatch.delenv("SITEPAIR_URL", raising=False)
    monkeypatch.setenv("SITEPAIR_TOKEN", TOKEN)


async def asked_at() -> str:
    """Where it looks."""
    async with remote.remote() as service:
        return str(service.address)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("", "http://127.0.0.1:8080"),
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("0.0.0.0:9", "http://127.0.0.1:9"),
        ("[::]:9", "http://[::1]:9"),
        ("[fd00::1]:9", "http://[fd00::1]:9"),
        ("prague:9", "http://prague:9"),
    ],
)
async def test_without_an_address_it_is_where_the_service_listens(
    listen: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEPAIR_LISTEN", listen)
    assert await asked_at() == url
    monkeypatch.setenv("SITEPAIR_URL", "http://10.0.0.1:7")
    assert await asked_at() == "http://10.0.0.1:7"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://127.0.0.1",
        "http://127.0.0.1/v1",
        "http://127.0.0.1/?x",
        "http://127.0.0.1:99999",
        "http://[::1",
    ],
)
async def test_what_is_no_address_of_a_service_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEPAIR_URL", url)
    with pytest.raises(InvalidSettings, match="must be like http"):
        await asked_at()


async def test_a_port_that_nobody_knows_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEPAIR_LISTEN", "127.0.0.1:0")
    with pytest.raises(InvalidSettings, match="SITEPAIR_URL"):
        await asked_at()


@pytest.mark.parametrize(
    ("configured", "sent"),
    [("a-token-of-16-or-more", "a-token-of-16-or-more"), ("", "the one that it keeps")],
)
async def test_the_services_own_environment_lets_in(
    configured: str, sent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        header = request.headers["Authorization"]
        return web.json_response(header, headers={"operationID": "x"})

    tmp_path.joinpath("admin.token").write_text("the one that it keeps\n")
    monkeypatch.delenv("SITEPAIR_TOKEN")
    monkeypatch.setenv("SITEPAIR_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SITEPAIR_ADMIN_TOKEN", configured)
    async with RawTestServer(answer) as server, remote.remote(str(server.make_url("/"))) as service:
        assert await service.call("GET", "/v1/appliances") == f"Bearer {sent}"


async def test_without_a_token_nothing_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SITEPAIR_TOKEN")
    monkeypatch.setenv("SITEPAIR_DATA_DIR", str(tmp_path))
    with pytest.raises(InvalidSettings, match=r"SITEPAIR_TOKEN: .*admin\.token"):
        await asked_at()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *[(remote.Refused(status, {}), True) for status in (502, 503, 504)],
        *[(remote.Refused(status, {}), False) for status in (400, 404, 409, 500)],
        (remote.Unreachable("lost"), True),
        (remote.NobodyThere("refused"), False),
    ],
)
def test_what_may_be_otherwise_in_a_moment_is_asked_for_again(
    error: remote.Refused | remote.Unreachable, passes: bool
) -> None:
    assert remote.is_passing(error) is passes


@pytest.mark.parametrize("url", ["http://me:hunter2@127.0.0.1:1", "http://hunter2@127.0.0.1:1/x"])
async def test_an_address_with_a_password_is_refused_without_repeating_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEPAIR_URL", url)
    monkeypatch.delenv("SITEPAIR_TOKEN")  # the fault of the address is told first
    with pytest.raises(InvalidSettings, match="SITEPAIR_TOKEN") as refused:
        await asked_at()
    assert "hunter2" not in str(refused.value)


async def listing(server: BaseTestServer) -> Exit:
    """Ask for the appliances."""
    async with remote.remote(str(server.make_url(""))) as service:
        await service.call("GET", "/v1/appliances")
    return Exit.OK


@pytest.mark.parametrize(
    ("status", "body", "exit_status"),
    [
        (404, "<h1>Not found</h1>", Exit.REFUSED),
        (200, "<h1>It works!</h1>", Exit.REFUSED),
        (200, '{"items": []}', Exit.REFUSED),
        (301, "", Exit.REFUSED),
        (500, "", Exit.UNREACHABLE),
    ],
)
async def test_another_server_is_told_from_the_service(
    status: int, body: str, exit_status: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        headers = {"Server": "Apache/2.4", "Location": "/elsewhere"}
        return web.Response(status=status, text=body, headers=headers)

    async with RawTestServer(answer) as server:
        assert await remote.answered(listing(server)) == exit_status
        where = server.make_url("").origin()
    told = capsys.readouterr().err
    assert told.startswith(f"{status} ")
    assert f"Apache/2.4 at {where}, and no sitepair's" in told


@pytest.mark.parametrize(
    ("status", "body", "exit_status", "told"),
    [
        (
            400,
            '{"code": "Malformed", "detail": "It is none."}',
            Exit.REFUSED,
            "Malformed: It is none.",
        ),
        (503, '{"code": "StoreUnavailable"}', Exit.UNREACHABLE, "StoreUnavailable: "),
        (500, "[]", Exit.UNREACHABLE, "500: "),
        (200, "half of a {", Exit.UNREACHABLE, "The service does not answer: "),
    ],
)
async def test_what_the_service_says_is_told_whatever_it_is(
    status: int, body: str, exit_status: Exit, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text=body, headers={"operationID": "x"})

    async with RawTestServer(answer) as server:
        assert await remote.answered(listing(server)) == exit_status
    assert capsys.readouterr().err.startswith(told)


async def test_who_answers_too_late_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_ANSWER_S", 0.05)

    async def answer(_: web.BaseRequest) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with RawTestServer(answer) as server, remote.remote(str(server.make_url(""))) as service:
        with pytest.raises(remote.Unreachable):
            await service.call("GET", "/v1/appliances")


async def test_who_has_answered_once_is_only_away() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response([], headers={"operationID": "x"})

    server = RawTestServer(answer)
    await server.start_server()
    async with remote.remote(str(server.make_url(""))) as service:
        await service.call("GET", "/v1/appliances")
        await server.close()
        with pytest.raises(remote.Unreachable) as away:
            await service.call("GET", "/v1/appliances")
    assert remote.is_passing(away.value)
