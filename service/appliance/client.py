"""One appliance: what may be asked of it, over one session and few connections."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import TypeVar
from urllib.parse import quote

from msgspec.structs import replace

from service.appliance.background import BackgroundTasks
from service.appliance.breaker import Breaker, probing
from service.appliance.calls import Callers, Calls
from service.appliance.classify import (
    answered_at_ms,
    error_in,
    good,
    is_plain_401,
    is_session_expired,
    judge_failure,
    unclear,
    unreadable,
)
from service.appliance.conditions import Conditions
from service.appliance.exchange import (
    Answer,
    Failure,
    FailureKind,
    Outcome,
    Permit,
    Request,
    granted,
)
from service.appliance.gate import LoginGate, OwnGate
from service.appliance.inquiry import TaskInquiry
from service.appliance.login import PLAIN_JSON, Session
from service.appliance.readers import SharedRead
from service.appliance.rounds import TaskRounds
from service.appliance.tasklist import TaskList
from service.appliance.unauthorized import UnauthorizedCalls
from service.appliance.wire import (
    PeerList,
    Unreadable,
    pair_body,
    read_object,
    read_peers,
    read_task,
)
from service.concurrency.semaphore import FairSemaphore
from service.domain.appliance import ApiError, Endpoint, Json, Peer, Task, normalized_url
from service.domain.errors import (
    Ambiguous,
    ApplianceClosed,
    ApplianceError,
    NotSent,
    OutOfResources,
    Rejected,
)
from service.domain.ids import TaskId
from service.domain.pairing import SiteCall
from service.domain.registration import Registration

Value = TypeVar("Value")

_ABOUT_TO = 4
"""For each change that may be under way, so many callers may be between their intent and the
answer: while some write their intents, others call."""

_EVER_MS = 0
_NOTABLE_LAG_MS = 60_000
"""An answer takes time, and tells its own in whole seconds."""


class ApplianceClient:
    """Implements `engine.ports.Appliance` for one registration. Close it when done.

    All calls may raise NotSent (ApplianceClosed), Rejected (LoginRefused); those that change
    something, which are made at most once each, Ambiguous and what their permit raises as well.
    """

    def __init__(
        self,
        registration: Registration,
        conditions: Conditions,
        group: asyncio.TaskGroup,
        gate: LoginGate | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`group` runs the login and the loops of shared reads; it must outlive the client. Gate
        and breaker are its own if there are none to share with others."""
        spec, limits = registration.spec, conditions.limits
        self.name = spec.name
        self.url = normalized_url(spec.management_url)
        self.breaker = breaker or Breaker(spec.name, limits)
        self._logout_s = conditions.timeouts.logout_s
        self._tasks = BackgroundTasks(group)
        self._channel = conditions.connect(spec, conditions)
        self._connections = limits.connections
        self._calls = Calls(spec.name, self._channel, limits.connections, self.breaker)
        self._session = Session(
            spec.credentials, self._calls, self._tasks, gate or OwnGate(), self.breaker
        )
        self._max_in_flight = spec.max_in_flight
        self._line, self._mutating = FairSemaphore(_ABOUT_TO), FairSemaphore(1)
        self.share(1)
        self._peer_list = PeerList(lambda: asyncio.get_running_loop().time())
        self._peers = SharedRead(self._read_peers, self._tasks, limits.spacing_s)
        self._rounds = TaskRounds(
            TaskInquiry(self.ask, limits),
            self._tasks,
            conditions.pace(),
            conditions.jitter,
            limits.task_patience_s,
        )
        self._task_list = TaskList(self._read)
        self._clock = conditions.clock
        self._unauthorized = UnauthorizedCalls()
        self._last: tuple[Mapping[str, str], int] | None = None
        """The headers of the last answer, and when it came."""
        self.breaker.listeners.add(self._turn_away)

    @property
    def is_refused(self) -> bool:
        """Whether the credentials were refused when they were last wanted here."""
        return self._session.is_refused

    @property
    def closed(self) -> ApiError | None:
        """Why nobody calls it now; None unless that is so."""
        return self.breaker.refusal

    def share(self, workers: int) -> None:
        """Take this worker's part of `max_in_flight`, of which each of so many workers has an equal
        one, but one change at least."""
        at_once = max(1, self._max_in_flight // workers)
        self._line.resize(_ABOUT_TO * at_once)
        self._mutating.resize(at_once)
        self._calls.resize(max(self._connections, at_once))

    async def log_in(self) -> None:
        """Make sure that there is a session. Every call does so by itself."""
        await self._session.token()

    def peers(self, since: float = inf, until: float = inf) -> Awaitable[Sequence[Peer]]:
        """`GET /sites`, shared by all who ask at once; an earlier list will do if it was asked for
        after `since` (loop time). Raises TimeoutError at `until`."""
        self.breaker.check()
        # Passed on rather than awaited: thousands wait here at once.
        return self._peers.get(since, until)

    def listed_since(self, peer_id: str) -> float:
        """Since when at least (loop time) its list has had a peer with this id; infinite if the
        last one had none."""
        return self._peer_list.since(peer_id)

    def line_up(self, until: float, *, first: bool = False) -> Awaitable[None]:
        """Wait until only few others are about to change something; with `first`, before all who
        wait without it. Raises ApplianceClosed, and TimeoutError at `until` (loop time)."""
        self.breaker.check()
        # Passed on rather than awaited: thousands stand there at once.
        return self._line.acquire(until, first=first)

    def leave_line(self) -> None:
        """To be called once after each `line_up` that returned."""
        self._line.release()

    async def pair(self, peer: Endpoint, description: str, permit: Permit) -> Task:
        """`POST /sites`. Waits while `max_in_flight` changes are under way."""
        return await self._change("POST", "/sites", pair_body(peer, description), permit)

    async def repair(self, peer_id: str, peer: Endpoint, description: str, permit: Permit) -> Task:
        """`PUT /sites/{id}`. Waits like `pair`."""
        return await self._change("PUT", _site(peer_id), pair_body(peer, description), permit)

    async def unpair(self, peer_id: str, permit: Permit) -> Task:
        """`DELETE /sites/{id}`. Waits like `pair`."""
        return await self._change("DELETE", _site(peer_id), None, permit)

    def finished(self, task_id: TaskId, until: float = inf) -> Awaitable[Task]:
        """The task once it is over. Raises TaskForgotten, TaskUnreadable, and TimeoutError at
        `until`."""
        self.breaker.check()
        # Passed on rather than awaited: thousands wait here at once.
        return self._rounds.finished(task_id, until)

    async def site_tasks(self, call: SiteCall, since_ms: int) -> Sequence[Task]:
        """All its tasks that began after `since_ms` by our clock and that `call` may have started,
        with ends by our clock. If the appliance does not tell the time: all tasks that it has of
        that kind, without their ends."""
        lag_ms = self._lag_ms()
        if lag_ms is None:
            return [
                replace(task, end_time=None) for task in await self._task_list.of(call, _EVER_MS)
            ]
        tasks = await self._task_list.of(call, since_ms - lag_ms)
        return [_as_late(task, lag_ms) for task in tasks] if lag_ms else tasks

    async def probe(self) -> ApiError | None:
        """One look in spite of an open breaker, which stays open. None if the appliance answers, or
        if what is in the way (a wrong certificate, say) does not pass by waiting. Raises
        OutOfResources."""
        with probing() as probe:
            while True:
                try:
                    await self._read(Request("GET", "/sites"), read_peers)
                except ApplianceClosed:
                    continue  # Turned away with others who waited, or with a login of theirs.
                except Rejected:
                    pass
                except OutOfResources:
                    raise
                except ApplianceError as trouble:
                    return None if probe.is_answered else trouble.error
                return None

    async def about(self) -> Json:
        """`GET /diagnostics/about` (h4-api 8)."""
        return await self._read(Request("GET", "/diagnostics/about"), read_object)

    async def get_object(self, path: str) -> Json:
        """Any other `GET` that answers with an object."""
        return await self._read(Request("GET", path), read_object)

    async def ask(
        self, request: Request, callers: Callers | None = None, permit: Permit = granted
    ) -> Answer:
        """Make a call within the session, once more in a new one if that has ended. Any HTTP status
        is an answer here; no answer raises."""
        token = await self._session.token()
        accept = self._session.accept
        outcome = await self._send(request, token, callers, permit)
        if self._is_worth_a_login(request, outcome):
            self._session.expire(token)
            token = await self._session.token()
            accept = self._session.accept
            outcome = await self._send(request, token, callers, permit)
            if is_plain_401(outcome):
                self._unauthorized.add(request, self._session.logins)
        if is_plain_401(outcome) and not self._unauthorized.is_answer(request):
            raise NotSent(error_in(outcome), is_answered=True)
        if isinstance(outcome, Answer) and not is_plain_401(outcome):
            self._unauthorized.forget(request)
        if isinstance(outcome, Answer) and outcome.status == 406 and accept != PLAIN_JSON:
            outcome = await self._speak_plainly(request, token, callers)
        if isinstance(outcome, Failure):
            raise judge_failure(outcome, mutating=request.mutating)
        self._last = outcome.headers, self._clock()
        return outcome

    async def close(self) -> None:
        """Stop the loops, end the session, close the connections. Even if it is cancelled, whoever
        waits is turned away and the connections are closed."""
        self.breaker.listeners.discard(self._turn_away)
        try:
            try:
                await self._tasks.close()
            finally:
                self._peers.abandon()
                self._rounds.abandon()
            with suppress(TimeoutError, ApplianceClosed):
                async with asyncio.timeout(self._logout_s):
                    await self._session.log_out()
        finally:
            async with asyncio.timeout(self._logout_s):
                await self._channel.close()

    async def _change(self, method: str, path: str, body: bytes | None, permit: Permit) -> Task:
        request = Request(method, path, body=body, mutating=True)
        self.breaker.check()
        await self._mutating.acquire()
        try:
            answer = await self.ask(request, permit=permit)
        finally:
            self._mutating.release()
        return _understood(request, answer, read_task)

    def _is_worth_a_login(self, request: Request, outcome: Outcome) -> bool:
        if is_session_expired(outcome):
            return True
        return is_plain_401(outcome) and self._unauthorized.is_worth_a_login(request)

    def _lag_ms(self) -> int | None:
        """How far its clock is behind ours, by its last answer; None if that does not tell. 0 if it
        is ahead: then no task is missed."""
        if self._last is None:
            return 0
        headers, at = self._last
        theirs = answered_at_ms(headers)
        if theirs is None:
            return None
        lag = at - theirs
        return lag if lag >= _NOTABLE_LAG_MS else 0

    def _turn_away(self, closed: ApplianceClosed) -> None:
        self._line.turn_away(closed)
        self._mutating.turn_away(closed)
        self._calls.turn_away(closed)
        self._session.turn_away(closed)
        self._peers.abandon(closed)
        self._rounds.abandon(closed)

    async def _send(
        self, request: Request, token: str, callers: Callers | None, permit: Permit
    ) -> Outcome:
        """Send it. If the connection is lost meanwhile, as it is when the appliance closes a kept
        one, a call that only looks is sent once more."""
        headers = self._session.headers(token)
        if request.body is not None:
            headers["Content-Type"] = PLAIN_JSON
        outcome = await self._calls.send(request, headers, callers, permit)
        if (
            isinstance(outcome, Failure)
            and outcome.kind is FailureKind.CUT
            and not request.mutating
        ):
            return await self._calls.send(request, headers, callers, permit)
        return outcome

    async def _speak_plainly(
        self, request: Request, token: str, callers: Callers | None
    ) -> Outcome:
        """The appliance does not answer in the media type that its login promised.

        It may have acted and only failed to say so, hence a mutating call is not repeated.
        """
        self._session.speak_plainly()
        if request.mutating:
            raise Ambiguous(unreadable("the appliance could not answer as asked (406)"))
        return await self._send(request, token, callers, granted)

    async def _read(
        self,
        request: Request,
        read: Callable[[bytes], Value],
        callers: Callers | None = None,
    ) -> Value:
        return _understood(request, await self.ask(request, callers), read)

    async def _read_peers(self, callers: Callers) -> Sequence[Peer]:
        return await self._read(Request("GET", "/sites"), self._peer_list.read, callers)


def _as_late(task: Task, lag_ms: int) -> Task:
    return task if task.end_time is None else replace(task, end_time=task.end_time + lag_ms)


def _understood(request: Request, answer: Answer, read: Callable[[bytes], Value]) -> Value:
    body = good(answer, mutating=request.mutating).body
    try:
        return read(body)
    except Unreadable as error:
        raise unclear(unreadable(str(error)), mutating=request.mutating) from error


def _site(peer_id: str) -> str:
    return f"/sites/{quote(peer_id, safe='')}"
