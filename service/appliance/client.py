"""One appliance: what may be asked of it, over one session and few connections."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import TypeVar

from service.appliance.calls import Callers, Calls
from service.appliance.classify import (
    good,
    is_session_expired,
    judge_failure,
    unclear,
    unreadable,
)
from service.appliance.egress import EgressPolicy
from service.appliance.exchange import Answer, Failure, FailureKind, Outcome, Request
from service.appliance.http import HttpsChannel
from service.appliance.inquiry import TaskInquiry
from service.appliance.limits import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, CallTimeouts, Limits
from service.appliance.login import PLAIN_JSON, Session
from service.appliance.owned import OwnedTasks
from service.appliance.pace import Pace
from service.appliance.readers import SharedRead
from service.appliance.rounds import TaskRounds
from service.appliance.tls import system_ca, trust_of
from service.appliance.wire import (
    TaskPage,
    Unreadable,
    pair_body,
    read_object,
    read_peers,
    read_task,
    read_task_page,
)
from service.domain.appliance import Endpoint, Json, Peer, Task
from service.domain.errors import Ambiguous
from service.domain.ids import TaskId
from service.domain.registration import Registration

Value = TypeVar("Value")

PAGE = 100
"""Rows a page of `GET /tasks`: more may fall back to this anyway (h4-api 3.4)."""
MAX_PAGES = 100


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a client may talk: to which addresses, how long, how much, whose certificates count
    where none is pinned, how often it looks after tasks. `jitter` gives numbers in [0, 1)."""

    egress: EgressPolicy
    timeouts: CallTimeouts = DEFAULT_TIMEOUTS
    limits: Limits = DEFAULT_LIMITS
    ca: SSLContext = field(default_factory=system_ca)
    pace: Callable[[], Pace] = Pace
    jitter: Callable[[], float] = random.random


class ApplianceClient:
    """Implements `engine.ports.Appliance` for one registration. Close it when done.

    All calls may raise NotSent, Ambiguous (only `start_pairing`), Rejected, LoginRefused.
    """

    def __init__(
        self, registration: Registration, conditions: Conditions, group: asyncio.TaskGroup
    ) -> None:
        """`group` runs the login and the loops of shared reads; it must outlive the client."""
        spec, limits = registration.spec, conditions.limits
        self.name = spec.name
        self._logout_s = conditions.timeouts.logout_s
        self._tasks = OwnedTasks(group)
        self._channel = HttpsChannel(
            spec.management_url,
            trust_of(spec.thumbprint, conditions.ca),
            conditions.egress,
            conditions.timeouts,
            limits,
        )
        self._calls = Calls(spec.name, self._channel, limits.connections)
        self._session = Session(spec.credentials, self._calls, self._tasks, limits.refusal_lasts_s)
        self._mutating = asyncio.Semaphore(spec.max_in_flight)
        self._peers = SharedRead(self._read_peers, self._tasks, limits.spacing_s)
        self._rounds = TaskRounds(
            TaskInquiry(self.ask, limits), self._tasks, conditions.pace(), conditions.jitter
        )

    async def log_in(self) -> None:
        """Make sure that there is a session. Every call does so by itself."""
        await self._session.token()

    async def peers(self) -> Sequence[Peer]:
        """`GET /sites`, shared by all who ask at once."""
        return await self._peers.get()

    async def start_pairing(self, peer: Endpoint, description: str) -> Task:
        """`POST /sites`, sent at most once. Waits while `max_in_flight` of its kind are under
        way."""
        request = Request("POST", "/sites", body=pair_body(peer, description), mutating=True)
        async with self._mutating:
            return await self._read(request, read_task)

    async def finished(self, task_id: TaskId) -> Task:
        """The task once it is over, however long that takes. Raises TaskForgotten."""
        return await self._rounds.finished(task_id)

    async def pair_tasks(self, since_ms: int) -> Sequence[Task]:
        """All its tasks of type `pair` that began after `since_ms` (h4-api 3.4)."""
        found: dict[TaskId, Task] = {}
        offset = 0
        for _ in range(MAX_PAGES):
            page = await self._pair_tasks_from(offset, since_ms)
            found.update((task.id, task) for task in page.tasks)
            offset += page.count
            if page.count == 0 or page.total is None or offset >= page.total:
                break
        return [task for task in found.values() if _is_pairing_since(task, since_ms)]

    async def about(self) -> Json:
        """`GET /diagnostics/about` (h4-api 8)."""
        return await self._read(Request("GET", "/diagnostics/about"), read_object)

    async def get_object(self, path: str) -> Json:
        """Any other `GET` that answers with an object."""
        return await self._read(Request("GET", path), read_object)

    async def ask(self, request: Request, callers: Callers | None = None) -> Answer:
        """Make a call within the session. Any HTTP status is an answer here; no answer raises."""
        token = await self._session.token()
        outcome = await self._send(request, token, callers)
        if is_session_expired(outcome):
            self._session.expire(token)
            token = await self._session.token()
            outcome = await self._send(request, token, callers)
        if isinstance(outcome, Answer) and outcome.status == 406:
            outcome = await self._speak_plainly(request, token, callers, outcome)
        if isinstance(outcome, Failure):
            raise judge_failure(outcome, mutating=request.mutating)
        return outcome

    async def close(self) -> None:
        """Stop the loops, end the session, close the connections."""
        await self._tasks.close()
        self._peers.abandon()
        self._rounds.abandon()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._logout_s):
                    await self._session.log_out()
        finally:
            async with asyncio.timeout(self._logout_s):
                await self._channel.close()

    async def _send(self, request: Request, token: str, callers: Callers | None) -> Outcome:
        """Send it; a call that only looks once more if the connection was lost under it, which
        is what happens when the appliance closes a kept one."""
        headers = self._session.headers(token)
        if request.body is not None:
            headers["Content-Type"] = PLAIN_JSON
        outcome = await self._calls.send(request, headers, callers)
        if (
            isinstance(outcome, Failure)
            and outcome.kind is FailureKind.CUT
            and not request.mutating
        ):
            return await self._calls.send(request, headers, callers)
        return outcome

    async def _speak_plainly(
        self, request: Request, token: str, callers: Callers | None, refusal: Answer
    ) -> Outcome:
        """The appliance does not answer in the media type that its login promised.

        It may have acted and only failed to say so, hence a mutating call is not repeated.
        """
        if self._session.accept == PLAIN_JSON:
            return refusal
        self._session.accept = PLAIN_JSON
        if request.mutating:
            raise Ambiguous(unreadable("the appliance could not answer as asked (406)"))
        return await self._send(request, token, callers)

    async def _read(
        self,
        request: Request,
        read: Callable[[bytes], Value],
        callers: Callers | None = None,
    ) -> Value:
        answer = good(await self.ask(request, callers), mutating=request.mutating)
        try:
            return read(answer.body)
        except Unreadable as error:
            raise unclear(unreadable(str(error)), mutating=request.mutating) from error

    async def _read_peers(self, callers: Callers) -> Sequence[Peer]:
        return await self._read(Request("GET", "/sites"), read_peers, callers)

    async def _pair_tasks_from(self, offset: int, since_ms: int) -> TaskPage:
        query = {
            "type": "pair",
            "startTimeAfter": max(0, since_ms),
            "limit": PAGE,
            "offset": offset,
        }
        request = Request(
            "GET", "/tasks", query=tuple([(key, str(value)) for key, value in query.items()])
        )
        return await self._read(request, read_task_page)


def _is_pairing_since(task: Task, since_ms: int) -> bool:
    """Filters may be ignored by the appliance, but what it does not tell is no reason to drop a
    task that may be ours."""
    is_pairing = task.type is None or task.type.lower() == "pair"
    return is_pairing and (task.start_time is None or task.start_time > since_ms)
