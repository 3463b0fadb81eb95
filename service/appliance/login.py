"""The session on an appliance: one login, kept until the appliance forgets it (h4-api 1)."""

import asyncio
from dataclasses import replace

import msgspec

from service.appliance.background import BackgroundTasks, closed
from service.appliance.breaker import Breaker
from service.appliance.calls import Calls
from service.appliance.classify import error_in, good, unreadable
from service.appliance.exchange import Answer, Outcome, Request
from service.appliance.gate import LoginGate
from service.appliance.wire import login_body
from service.concurrency.uninterrupted import uninterrupted
from service.domain.appliance import ApiError
from service.domain.errors import (
    ApplianceClosed,
    ApplianceError,
    LoginRefused,
    NotSent,
    StoreUnavailable,
    Unheard,
)
from service.domain.registration import Credentials, LoginEnd, LoginOutcome, LoginRefusal

TOKEN_HEADER = "X-VCAV-Auth"  # noqa: S105 - the name of a header
PLAIN_JSON = "application/json"
VENDOR_TYPE = "application/vnd.vmware.h4-"

LOGIN_S = 40.0
"""How long a login may take from its turn at the gate on, the wait for a connection included: the
gate lets the next one in some time after that, whatever became of this one."""

TELL_S = 3.0
"""How long the gate may take to hear of a login: so long a client's end may have to wait."""


class Session:
    """Logs in when a token is wanted and none is there, once for all who want it.

    The gate decides whether the credentials may be tried; of a refusal everybody is told. The
    login is a task of its own, so a caller who goes away takes it from nobody.
    """

    def __init__(
        self,
        credentials: Credentials,
        calls: Calls,
        tasks: BackgroundTasks,
        gate: LoginGate,
        breaker: Breaker,
    ) -> None:
        self.accept = PLAIN_JSON
        self.logins = 0
        """How many sessions there were."""
        self.is_refused = False
        """Whether the credentials were refused when a token was last wanted."""
        self._is_plain = False
        self._credentials = credentials
        self._calls = calls
        self._tasks = tasks
        self._gate = gate
        self._breaker = breaker
        self._token: str | None = None
        self._login: asyncio.Task[str | Exception] | None = None
        self._turned_away: asyncio.Future[str | Exception] | None = None
        """Ends the wait for a login before that is over."""
        self._untold: LoginRefusal | None = None

    async def token(self) -> str:
        """The session's token. Raises LoginRefused, NotSent (ApplianceClosed), Rejected."""
        if self._token is not None:
            return self._token
        self._breaker.check()
        if self._login is None or self._login.done():
            self._login = self._tasks.start(self._attempt())
        self._turned_away = self._turned_away or asyncio.get_running_loop().create_future()
        login, turned_away = self._login, self._turned_away
        await asyncio.wait([login, turned_away], return_when=asyncio.FIRST_COMPLETED)
        end = login if login.done() else turned_away
        if end.cancelled():
            raise closed()
        outcome = end.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def turn_away(self, closed: ApplianceClosed) -> None:
        """Raise `closed` in whoever waits for a token. The login itself goes on."""
        waited_for, self._turned_away = self._turned_away, None
        if waited_for is not None:
            waited_for.set_result(closed)

    def headers(self, token: str) -> dict[str, str]:
        """What every call of the session carries. `Accept` is what the login was answered with:
        the simplest way to speak the appliance's own version (h4-api 4)."""
        return {TOKEN_HEADER: token, "Accept": self.accept}

    def speak_plainly(self) -> None:
        """From now on, in later sessions as well: they would promise the same again."""
        self._is_plain = True
        self.accept = PLAIN_JSON

    def expire(self, token: str) -> None:
        """The appliance does not know `token` any more; a newer one stays."""
        if self._token == token:
            self._token = None

    async def log_out(self) -> None:
        """End the session on the appliance, as far as it can be reached. Raises
        ApplianceClosed."""
        token, self._token = self._token, None
        if token is not None:
            request = Request("DELETE", "/sessions", mutating=True)
            await self._calls.send(request, self.headers(token))

    async def _attempt(self) -> str | Exception:
        try:
            return await self._log_in()
        except StoreUnavailable as trouble:
            return NotSent(
                ApiError("StoreUnavailable", f"No login: the database does not answer: {trouble}")
            )
        except ApplianceError as error:
            self.is_refused = self.is_refused or isinstance(error, LoginRefused)
            return error
        except Exception as defect:  # noqa: BLE001 - raised by those who wait
            return defect

    async def _log_in(self) -> str:
        outcome: LoginOutcome | None = LoginEnd.UNKNOWN
        try:
            refusal = await self._refusal()
            if refusal is not None:
                outcome = None
                raise LoginRefused(refusal.error, refusal.status)
            request = Request("POST", "/sessions", body=login_body(self._credentials))
            async with asyncio.timeout(LOGIN_S):
                heard = await self._calls.send(request, {"Content-Type": PLAIN_JSON})
            answer = _discreet(heard, self._credentials.password)
            outcome = self._learn(answer)
        except TimeoutError as late:
            raise NotSent(
                ApiError("ConnectTimeout", "No connection for a login in time.")
            ) from late
        finally:
            if outcome is not None:  # Also if it is not known whether one was let in.
                await self._tell(outcome)
        if isinstance(outcome, LoginRefusal):
            raise LoginRefused(outcome.error, outcome.status)
        # A login that got lost does no harm: what it was for has not been asked yet.
        try:
            good(answer, mutating=False)
        except Unheard as silence:
            raise NotSent(silence.error) from silence  # It tells nothing of the call it was for.
        if self._token is None:
            raise NotSent(unreadable("the login was answered without a token"))
        return self._token

    async def _refusal(self) -> LoginRefusal | None:
        """Why the credentials may not be tried, if so. What nobody could be told before is told
        first, and forgotten then: whoever gets in lifts it for all."""
        if self._untold is not None:
            await self._tell(self._untold)
        return self._untold or await self._gate.admit()

    def _learn(self, answer: Outcome) -> LoginOutcome:
        if not isinstance(answer, Answer):
            return LoginEnd.UNKNOWN
        if answer.status in {401, 403}:
            return LoginRefusal(error_in(answer), answer.status)
        token = answer.headers.get(TOKEN_HEADER.lower())
        if not token or not 200 <= answer.status < 300:
            return LoginEnd.UNKNOWN
        media_type = answer.headers.get("content-type", "")
        is_plain = self._is_plain or not media_type.startswith(VENDOR_TYPE)
        self.accept = PLAIN_JSON if is_plain else media_type
        self._token = token
        self.is_refused = False
        self.logins += 1
        return LoginEnd.ACCEPTED

    async def _tell(self, outcome: LoginOutcome) -> None:
        """Raises StoreUnavailable, but not over a refusal: that is kept here then, so that at
        least this client does not try again."""
        try:
            telling = asyncio.wait_for(self._gate.tell(outcome), TELL_S)
            await uninterrupted(telling, TELL_S)
        except (StoreUnavailable, TimeoutError) as trouble:
            if isinstance(outcome, LoginRefusal):
                self._untold = outcome
            else:
                raise StoreUnavailable(str(trouble) or "no answer in time") from trouble
        else:
            self._untold = None


def _discreet(answer: Outcome, password: str) -> Outcome:
    """`answer` without the password: an error, which is told on, may repeat what was sent."""
    if not isinstance(answer, Answer) or not password:
        return answer
    body = answer.body
    # As what was sent is spelt within a text, as it was sent, and as it is.
    sent = msgspec.json.encode(password)[1:-1]
    for spelt in (msgspec.json.encode(sent.decode())[1:-1], sent, password.encode()):
        body = body.replace(spelt, b"[redacted]")
    return replace(answer, body=body)
