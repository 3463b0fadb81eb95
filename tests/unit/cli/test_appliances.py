"""What a person tells of an appliance, and is told."""

import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from service.cli.appliances import Registration, _add, _password, add, told_health, told_user
from service.cli.remote import answered
from service.cli.status import Exit

WELL = {"breaker": "closed", "lastError": None, "login": "ok", "loginError": None}


def test_an_appliance_of_which_nothing_bad_is_known_is_ok() -> None:
    assert told_health(WELL) == "ok"


def test_all_that_is_wrong_is_told() -> None:
    ill = WELL | {"breaker": "open", "lastError": {"code": "ConnectTimeout"}}
    worse = ill | {"login": "refused", "loginError": {"code": "NotAuthenticated"}}
    assert told_health(ill) == "does not answer: ConnectTimeout"
    assert told_health(worse) == "does not answer: ConnectTimeout; login refused: NotAuthenticated"


def test_nobody_is_shown_where_no_key_opens_the_credentials() -> None:
    assert told_user({"credentials": {"type": "localUser", "user": "root"}}) == "root"
    assert told_user({"credentials": None}) == "(sealed: register it again)"


@pytest.mark.parametrize("written", ["s e\u00e7ret ", "\ufeffs e\u00e7ret \r\n", "s e\u00e7ret \n"])
def test_how_a_file_begins_and_ends_is_not_in_its_password(tmp_path: Path, written: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(written.encode())

    assert _password(file) == "s e\u00e7ret "


@pytest.mark.parametrize("place", ["password", "-"])
def test_a_password_that_is_no_text_or_cannot_be_asked_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    Path("password").write_bytes(b"\xff")
    file = Path(place)
    registration = Registration(
        management_url="", api_url="", api_thumbprint="", user="root", password_file=file
    )
    assert add("site-1", registration) == Exit.REFUSED


async def test_while_its_limit_cannot_be_read_an_appliance_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Registered without its limit it would have the default one."""
    asked = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.method)
        status = 503 if request.method == "GET" else 200
        return web.json_response({}, status=status, headers={"operationID": "x"})

    async with RawTestServer(answer) as server:
        monkeypatch.setenv("SITEPAIR_URL", str(server.make_url("")))
        monkeypatch.setenv("SITEPAIR_TOKEN", "a token of no use")
        assert await answered(_add("site-1", {}, None)) == Exit.UNREACHABLE
    assert asked == ["GET"]
