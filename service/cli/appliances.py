"""`sitepair appliance …`: the registry of a running service."""

import getpass
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from warnings import catch_warnings, simplefilter

from cyclopts import App, Parameter

from service.cli.remote import Refused, Remote, answered, remote
from service.cli.status import Exit, run, say, tell
from service.cli.tables import show
from service.domain.ids import is_appliance_name

app = App(name="appliance", help="Register, list and check appliances.")


def _refuse_misnamed(_type: object, name: str) -> None:
    """Part of what is no name could lead the call elsewhere."""
    if not is_appliance_name(name):
        raise ValueError("A name is 1 to 63 characters out of a-z, 0-9 and -.")


Name = Annotated[str, Parameter(validator=_refuse_misnamed)]
AsJson = Annotated[bool, Parameter(name="--json", negative="")]

_NOT_FOUND = 404
_MARKS = {True: "ok", False: "FAILED", None: "-"}


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What is registered of an appliance."""

    management_url: str
    """Where the service calls the appliance."""

    api_url: str
    """The public endpoint that peers use."""

    api_thumbprint: str
    """SHA-256:... of the certificate at the API URL, which peers are told to trust."""

    user: str
    """The account that the service logs in with."""

    thumbprint: str | None = None
    """SHA-256:... of the certificate at the management URL; without it, the system's CAs decide."""

    sso: Annotated[bool, Parameter(negative="")] = False
    """The user is one of the vCenter single sign-on, not a local one of the appliance."""

    password_file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    """Read the password from this file; - is standard input."""

    description: str = ""
    """Free text for people."""

    max_in_flight: int | None = None
    """How many mutating calls the appliance gets at once; if not given, as registered before."""


@app.command
def add(name: Name, registration: Registration) -> int:
    """Register an appliance, or replace its registration. Asks for the password.

    Parameters
    ----------
    name
        The appliance's name in sitepair: a-z, 0-9 and -.
    """
    try:
        password = _password(registration.password_file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        tell(f"There is no password: {str(error) or 'standard input is at its end'}")
        return Exit.REFUSED
    credentials = (
        {"type": "ssoCredentials", "username": registration.user, "password": password}
        if registration.sso
        else {"type": "localUser", "localUser": registration.user, "localPassword": password}
    )
    body: dict[str, object] = {
        "managementUrl": registration.management_url,
        "apiUrl": registration.api_url,
        "thumbprint": registration.thumbprint,
        "apiThumbprint": registration.api_thumbprint,
        "credentials": credentials,
        "description": registration.description,
    }
    return run(answered(_add(name, body, registration.max_in_flight)))


async def _add(name: str, body: dict[str, object], max_in_flight: int | None) -> Exit:
    path = f"/v1/appliances/{name}"
    async with remote() as service:
        kept = max_in_flight if max_in_flight is not None else await _present(service, path)
        await service.call("PUT", path, body if kept is None else body | {"maxInFlight": kept})
    say(f"{name} is registered. Try it: sitepair appliance check {name}")
    return Exit.OK


async def _present(service: Remote, path: str) -> Any:
    """What `maxInFlight` is now; None for the default of what is not registered yet."""
    try:
        return (await service.call("GET", path))["maxInFlight"]
    except Refused as refusal:
        if refusal.status != _NOT_FOUND:
            raise
        return None


def _password(file: Path | None) -> str:
    if file is None:
        return _asked()
    if str(file) == "-" and sys.stdin is None:
        raise EOFError("standard input is closed")
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    # Some editors begin a file with a byte order mark, which nobody sees.
    return text.removeprefix("\ufeff").rstrip("\r\n")


def _asked() -> str:
    """Raises EOFError where nobody can be asked without showing what they type."""
    with catch_warnings():
        simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass("Password: ")
        except getpass.GetPassWarning:
            raise EOFError(
                "no terminal to ask for it; --password-file names a file, or - for standard input"
            ) from None


@app.command(name="list")
def list_all(*, as_json: AsJson = False) -> int:
    """List the registered appliances."""
    return run(answered(_list(as_json=as_json)))


async def _list(*, as_json: bool) -> Exit:
    async with remote() as service:
        page = await service.call("GET", "/v1/appliances")
        items = list(page["items"])
        while page["nextCursor"] is not None:
            page = await service.call("GET", f"/v1/appliances?cursor={page['nextCursor']}")
            items += page["items"]
    if as_json:
        say(json.dumps(items, indent=2))
        return Exit.OK
    columns = ("name", "managementUrl", "apiUrl", "user", "health", "description")
    show(columns, map(_row, items))
    return Exit.OK


def _row(appliance: dict[str, Any]) -> tuple[str, ...]:
    return (
        appliance["name"],
        appliance["managementUrl"],
        appliance["apiUrl"],
        told_user(appliance),
        told_health(appliance["health"]),
        appliance["description"],
    )


def told_user(appliance: dict[str, Any]) -> str:
    """Who we are there, as far as that can be told."""
    credentials = appliance["credentials"]
    return str(credentials["user"]) if credentials is not None else "(sealed: register it again)"


def told_health(health: dict[str, Any]) -> str:
    """What is known of how it answers, in a few words."""
    troubles = []
    if health["breaker"] == "open":
        troubles.append(f"does not answer: {health['lastError']['code']}")
    if health["login"] == "refused":
        troubles.append(f"login refused: {health['loginError']['code']}")
    return "; ".join(troubles) or "ok"


@app.command
def check(name: Name, *, as_json: AsJson = False) -> int:
    """Check that an appliance can be reached and trusted, and accepts the login.

    Exit status: 0 all checks passed, 1 one failed, 2 refused, 3 the service does not answer.
    """
    return run(answered(_check(name, as_json=as_json)))


async def _check(name: str, *, as_json: bool) -> Exit:
    async with remote() as service:
        report: dict[str, Any] = await service.call("POST", f"/v1/appliances/{name}/check")
    if as_json:
        say(json.dumps(report, indent=2))
    else:
        rows = [(each["name"], _MARKS[each["ok"]], each["detail"]) for each in report["checks"]]
        show(("check", "result", "detail"), rows)
    return Exit.OK if report["ok"] else Exit.FAILED
