"""The session on an appliance: one login, kept until the appliance forgets it (h4-api 1)."""

import asyncio
from dataclasses import dataclass

from service.appliance.calls import Calls
from service.appliance.classify import error_in, good, unreadable
from service.appliance.exchange import Answer, Request
from service.appliance.owned import OwnedTasks, closed
from service.appliance.wire import login_body
from service.domain.appliance import ApiError
from service.domain.errors import ApplianceError, LoginRefused, NotSent
from service.domain.registration import Credentials

TOKEN_HEADER = "X-VCAV-Auth"  # noqa: S105 - the name of a header
PLAIN_JSON = "application/json"
VENDOR_TYPE = "application/vnd.vmware.h4-"


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: ApiError
    status: int
    until: float


class Session:
    """Logs in when a token is wanted and none is there, once for all who want it.

    Credentials that were refused are not tried again before `refusal_lasts_s` is over, so that
    no account gets locked: until then everybody is told of the refusal. The login is a task of
    its own, so a caller who goes away takes it from nobody.
    """

    def __init__(
        self, credentials: Credentials, calls: Calls, tasks: OwnedTasks, refusal_lasts_s: float
    ) -> None:
        self.accept = PLAIN_JSON
        self._credentials = credentials
        self._calls = calls
        self._tasks = tasks
        self._refusal_lasts_s = refusal_lasts_s
        self._token: str | None = None
        self._login: asyncio.Task[str | Exception] | None = None
        self._refusal: _Refusal | None = None

    async def token(self) -> str:
        """The session's token. Raises LoginRefused, NotSent, Rejected."""
        if self._token is not None:
            return self._token
        if self._refusal is not None:
            if asyncio.get_running_loop().time() < self._refusal.until:
                raise LoginRefused(self._refusal.error, self._refusal.status)
            self._refusal = None
        if self._login is None or self._login.done():
            self._login = self._tasks.start(self._attempt())
        login = self._login
        await asyncio.wait([login])
        if login.cancelled():
            raise closed()
        outcome = login.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def headers(self, token: str) -> dict[str, str]:
        """What every call of the session carries. `Accept` is what the login was answered with:
        the simplest way to speak the appliance's own version (h4-api 4)."""
        return {TOKEN_HEADER: token, "Accept": self.accept}

    def expire(self, token: str) -> None:
        """The appliance does not know `token` any more; a newer one stays."""
        if self._token == token:
            self._token = None

    async def log_out(self) -> None:
        """End the session on the appliance, as far as it can be reached."""
        token, self._token = self._token, None
        if token is not None:
            request = Request("DELETE", "/sessions", mutating=True)
            await self._calls.send(request, self.headers(token))

    async def _attempt(self) -> str | Exception:
        try:
            return await self._log_in()
        except ApplianceError as error:
            return error
        except Exception as defect:  # noqa: BLE001 - raised by those who wait
            return defect

    async def _log_in(self) -> str:
        request = Request("POST", "/sessions", body=login_body(self._credentials))
        outcome = await self._calls.send(request, {"Content-Type": PLAIN_JSON})
        if isinstance(outcome, Answer) and outcome.status in {401, 403}:
            raise self._refuse(error_in(outcome), outcome.status)
        # A login that got lost does no harm: what it was for has not been asked yet.
        answer = good(outcome, mutating=False)
        token = answer.headers.get(TOKEN_HEADER.lower())
        if not token:
            raise NotSent(unreadable("the login was answered without a token"))
        media_type = answer.headers.get("content-type", "")
        self.accept = media_type if media_type.startswith(VENDOR_TYPE) else PLAIN_JSON
        self._token = token
        return token

    def _refuse(self, error: ApiError, status: int) -> LoginRefused:
        until = asyncio.get_running_loop().time() + self._refusal_lasts_s
        self._refusal = _Refusal(error, status, until)
        return LoginRefused(error, status)
