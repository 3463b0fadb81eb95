"""One side's appliance: what its saga, forward or back, may see and ask there."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from math import inf

from service.domain.appliance import Endpoint, Task
from service.domain.decisions import Call, Sighting, sight
from service.domain.errors import LoginRefused, NotSent, Rejected, TaskForgotten
from service.domain.ids import TaskId
from service.domain.pairing import Side, SiteCall
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.ports import Appliance

_NO_LIST = frozenset({400, 403, 404, 405, 410, 501})
"""Answers that mean that an appliance has no list of tasks for us (h4-api 3.4)."""

_BAD_REQUEST = 400


class Site:
    """The appliance of one side, as it is about its peer.

    All that looks is cut off at the case's deadline, with TimeoutError; what changes something
    never is. Raises what the appliance's calls raise.
    """

    __slots__ = ("_appliance", "_case", "_in_vain_since", "_policy", "name")

    def __init__(self, case: Case, appliance: Appliance, policy: Policy) -> None:
        self.name = appliance.name
        self._case = case
        self._appliance = appliance
        self._policy = policy
        self._in_vain_since: float | None = None
        """Since when the list of tasks is asked for in vain (loop time)."""

    @property
    def side(self) -> Side:
        """The side, as it is now."""
        return self._case.pairing.side(self.name)

    @property
    def peer(self) -> Endpoint:
        """Whom it is about."""
        return self._case.peer_of(self.name)

    async def look(self, since: float = inf) -> Sighting:
        """What the appliance lists about the peer now, or listed after `since`."""
        peers = await self._appliance.peers(since, self._case.deadline)
        return sight(peers, self.peer, self.side.peer_id)

    async def look_after_tasks(self, *calls: SiteCall) -> Sighting:
        """What the appliance lists once no task that `calls` may have started runs any more."""
        with suppress(TimeoutError):  # What the list says counts all the same.
            for call in calls:
                await self._outlast(call)
        return await self.look()

    async def _outlast(self, call: SiteCall) -> None:
        """Wait for the tasks that `call` may have started. Those that one may not ask about by
        their ids are over when the list says so."""
        left = [task.id for task in await self._running(call)]
        while left := [task_id for task_id in left if not await self._is_over(task_id)]:
            running = {task.id for task in await self._running(call)}
            left = [task_id for task_id in left if task_id in running]
            if left:
                await self._case.pause(self._policy.settle_s)

    async def _is_over(self, task_id: TaskId) -> bool:
        try:
            await self.finished(task_id)
        except TaskForgotten:
            return False
        return True

    def finished(self, task_id: TaskId) -> Awaitable[Task]:
        """The task once it is over. Raises TaskForgotten."""
        # Passed on rather than awaited: thousands wait here at once.
        return self._appliance.finished(task_id, self._case.deadline)

    def line_up(self, *, first: bool = False) -> Awaitable[None]:
        """Wait for a place among those who are about to change something there."""
        # Passed on like the above: thousands stand there at once.
        return self._appliance.line_up(self._case.deadline, first=first)

    def leave_line(self) -> None:
        """Leave the place to the next."""
        self._appliance.leave_line()

    async def send(self, step: Call) -> Task:
        """Make the call, once, if the worker's lease outlasts it."""
        permit = self._case.permit
        match step.call:
            case SiteCall.PAIR:
                description = self._case.pairing.description
                return await self._appliance.pair(self.peer, description, permit)
            case SiteCall.REPAIR:
                description = self._case.pairing.description
                return await self._appliance.repair(step.peer_id, self.peer, description, permit)
            case SiteCall.UNPAIR:
                return await self._appliance.unpair(step.peer_id, permit)

    def _is_in_vain(self) -> bool:
        """Whether one more useless answer means that there is no list of tasks for us. Not before
        what a lost call started is hardly under way any more."""
        now = asyncio.get_running_loop().time()
        if self._in_vain_since is None:
            self._in_vain_since = now
        return now - self._in_vain_since >= self._policy.list_patience_s

    async def _running(self, call: SiteCall) -> list[Task]:
        margin_ms = int(self._policy.clock_margin_s * 1000)
        since_ms = self._case.pairing.start_time - margin_ms
        try:
            async with asyncio.timeout_at(self._case.deadline):
                tasks = await self._appliance.site_tasks(call, since_ms)
        except Rejected as refusal:
            if isinstance(refusal, LoginRefused) or refusal.status < _BAD_REQUEST:
                raise
            if refusal.status not in _NO_LIST and not self._is_in_vain():
                raise NotSent(refusal.error) from refusal
            return []  # The looks have to do.
        except NotSent as trouble:
            if not trouble.is_answered or not self._is_in_vain():
                raise
            return []
        self._in_vain_since = None
        return [task for task in tasks if not task.is_over]
