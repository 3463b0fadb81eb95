"""Talks to a running service over its REST API, as any other caller does."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from service.cli.status import Exit, tell
from service.domain.errors import SitepairError
from service.settings import InvalidSettings, from_environment

_CONNECT_S = 5.0
_ANSWER_S = 90.0
_UPLOAD_S = 330.0
_OF_ITS_OWN = 500
_OURS = "operationID"
"""The header without which no answer leaves the service, whoever passes it on."""

_PASSING = frozenset({502, 503, 504})

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen, but to call
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Unreachable(SitepairError):
    """The service does not answer."""


class NobodyThere(Unreachable):
    """Nothing was sent: where the service should be nobody has answered yet, so that it is likelier
    that the address is wrong than that the service is away for a moment."""


class Refused(SitepairError):
    """The service answered with a problem."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{problem.get('code', status)}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem

    @property
    def is_final(self) -> bool:
        """Whether nothing was done; a failure of the service's own does not tell."""
        return self.status < _OF_ITS_OWN

    def explain(self, place: Callable[[int], str]) -> list[str]:
        """The problem, line by line, for a person; `place` says where an item of a batch is."""
        lines = [str(self)]
        for error in self.problem.get("errors", ()):
            wrong = error.get("pointer", error.get("parameter", ""))
            lines.append(f"  {wrong or '(body)'}: {error.get('detail')}")
        lines += [
            f"  {place(each['index'])}: {each['code']}: {each['detail']}"
            for each in self.problem.get("rejected", ())
        ]
        if "operationID" in self.problem:
            lines.append(f"  operationID {self.problem['operationID']}")
        return lines


def is_passing(error: Unreachable | Refused) -> bool:
    """Whether it may be otherwise in a moment: nobody answers, or not without the database, or what
    stands before the service hears nothing from it."""
    if isinstance(error, Refused):
        return error.status in _PASSING
    return not isinstance(error, NobodyThere)


class Remote:
    """One service, with a token."""

    def __init__(self, address: URL, session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session
        self._is_there = False

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The answer's JSON, None for an empty one. Raises Refused, Unreachable."""
        return await self._answer(method, path, headers, json=body)

    async def upload(
        self, path: str, content: AsyncIterator[bytes], media_type: str, **headers: str
    ) -> Any:
        """POST `content`, however large. What that raises leaves the request without an end, so
        that nothing is done. Raises that, Refused, Unreachable."""
        timeout = aiohttp.ClientTimeout(connect=_CONNECT_S, sock_read=_UPLOAD_S)
        headers["Content_Type"] = media_type
        faults: list[SitepairError] = []

        async def data() -> AsyncIterator[bytes]:
            try:
                async for piece in content:
                    yield piece
            except SitepairError as fault:
                faults.append(fault)
                raise

        try:
            return await self._answer("POST", path, headers, data=data(), timeout=timeout)
        except Unreachable:
            if faults:
                raise faults[0] from None
            raise

    async def _answer(self, method: str, path: str, headers: Mapping[str, str], **how: Any) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            # A redirect is no way to it: what follows one asks for what it was to change.
            async with self._session.request(
                method, path, headers=sent, allow_redirects=False, **how
            ) as response:
                self._is_there = True
                content = await response.read()
                if _OURS not in response.headers:
                    raise self._other_than_sitepair(response)
                answer = await response.json(content_type=None) if content else None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._is_there |= not isinstance(error, _NOT_CONNECTED)
            kind = Unreachable if self._is_there else NobodyThere
            raise kind(f"The service does not answer: {error}") from error
        if response.status >= 400:
            raise Refused(response.status, answer if isinstance(answer, dict) else {})
        return answer

    def _other_than_sitepair(self, response: aiohttp.ClientResponse) -> Refused:
        """Also a way to it that is broken: then the status says that it may pass."""
        who = response.headers.get("Server") or "an unnamed server"
        problem = {
            "code": f"{response.status} {response.reason}",
            "detail": f"this is the answer of {who} at {self.address}, and no sitepair's; "
            "correct SITEPAIR_URL",
        }
        return Refused(response.status, problem)


@asynccontextmanager
async def remote(url: str | None = None, token: str | None = None) -> AsyncIterator[Remote]:
    """The service at `url`, or at SITEPAIR_URL, or the one on this machine; without SITEPAIR_TOKEN,
    with the token that one was given, or keeps in its data directory. Raises InvalidSettings."""
    base = _base(url or os.environ.get("SITEPAIR_URL") or _address_here())
    known, source = token or os.environ.get("SITEPAIR_TOKEN", ""), "SITEPAIR_TOKEN"
    if not known:
        known, source = await asyncio.to_thread(_token_here)
    if not fits_a_header(known):
        raise InvalidSettings([f"{source}: has a character that is not allowed in a token"])
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S, connect=_CONNECT_S)
    headers = {"Authorization": f"Bearer {known}"}
    async with aiohttp.ClientSession(base, headers=headers, timeout=timeout) as session:
        yield Remote(base.origin(), session)


def fits_a_header(text: str) -> bool:
    """Whether `text` can be sent as a header's value."""
    return text.isascii() and text.isprintable()


def _address_here() -> str:
    host, port = from_environment(os.environ).listen
    if port == 0:
        raise InvalidSettings(
            ["SITEPAIR_LISTEN: port 0 does not tell the port in use; set SITEPAIR_URL"]
        )
    host = _LOOPBACK.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _base(address: str) -> URL:
    """Raises InvalidSettings, which repeats no password."""
    if "@" in address:
        raise InvalidSettings(
            ["SITEPAIR_URL: must have no user and no password; use SITEPAIR_TOKEN"]
        )
    try:
        url = URL(address)
        if url.scheme in {"http", "https"} and url.host and url.path_qs + url.fragment == "/":
            return url
    except ValueError:
        pass
    raise InvalidSettings(
        [f"SITEPAIR_URL={address}: must be like http://127.0.0.1:8080, without a path"]
    )


def _token_here() -> tuple[str, str]:
    """The token of the service on this machine, and where that is from."""
    settings = from_environment(os.environ)
    if settings.admin_token is not None:
        return settings.admin_token, "SITEPAIR_ADMIN_TOKEN"
    path = settings.data_dir / "admin.token"
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(), str(path)
    except OSError as error:
        # Nothing was asked, so that this is no silence of the service's.
        raise InvalidSettings(
            [f"SITEPAIR_TOKEN: set it, or run where {path} can be read ({error.strerror})"]
        ) from error


async def answered(work: Awaitable[Exit], place: Callable[[int], str] = "item {}".format) -> Exit:
    """Await a command's work; what the service refuses or does not answer becomes its status."""
    try:
        return await work
    except Refused as refusal:
        tell(*refusal.explain(place))
        return Exit.REFUSED if refusal.is_final else Exit.UNREACHABLE
    except Unreachable as silence:
        tell(str(silence))
        return Exit.UNREACHABLE
