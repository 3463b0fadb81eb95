"""What an appliance's tasks say of calls whose answers, or whose own tasks, are not known."""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from math import inf

from service.domain.appliance import Task, find_peer
from service.domain.decisions import says_paired
from service.domain.errors import LoginRefused, NotSent, Rejected, TaskForgotten, TaskUnreadable
from service.domain.ids import TaskId
from service.domain.pairing import SiteCall
from service.engine.case import Case
from service.engine.policy import AT_ONCE, Policy, Seconds
from service.engine.ports import Appliance

_NO_LIST = frozenset({400, 403, 404, 405, 410, 501})
"""Answers that mean that an appliance has no list of tasks for us (h4-api 3.4)."""

_BAD_REQUEST = 400


class _Account(Enum):
    NOTHING_MORE = auto()
    """All that may have been started is over, and nothing more of it is to show in the list."""
    UNKNOWN = auto()
    """They do not tell, or tell of what should be in the list by now: it may be behind."""
    RUNNING = auto()
    """Something runs still."""


class Evidence:
    """For one side, as long as its calls are in doubt. Raises what the appliance's calls raise."""

    def __init__(self, case: Case, appliance: Appliance, policy: Policy) -> None:
        self._case = case
        self._appliance = appliance
        self._policy = policy
        self._account = _Account.UNKNOWN
        self._is_done_perhaps = False
        """Whether a task that may be ours was seen to succeed, or is gone and nobody saw its end:
        appliances may forget tasks at any time (h4-api 3.6), what they told holds."""
        self._keeps_tasks = False
        """Whether a list at hand has a task that ended before this side began: ours would be there,
        too. Else what is not there may be forgotten (h4-api 3.6)."""
        self._gathered_at = -inf
        """When the look at the peers that follows was about to begin: what it shows is no newer."""
        self._missed_since: float | None = None
        self.is_disowned = False
        """Whether the task of this side's only call to pair says that the peer was there already:
        what is listed is somebody else's."""
        self._in_vain_since: float | None = None
        """Since when the list of tasks is asked for in vain (loop time)."""

    def begin_anew(self) -> None:
        """A call is about to be made: what was missed before it does not count any more."""
        self._is_done_perhaps = False
        self._missed_since = None

    async def gather(
        self, calls: Sequence[SiteCall], own: TaskId | None, patience_s: Seconds = inf
    ) -> None:
        """Wait until no task runs that `calls` may have started, nor the side's `own`. But no
        longer than `patience_s`, nor half of the time that is left: what is in the list of peers
        counts anyway."""
        try:
            async with asyncio.timeout(max(0.0, min(patience_s, self._case.left_s / 2))):
                self._account = await self._outlast(calls, own)
        except TimeoutError:
            self._account = _Account.RUNNING
        self._gathered_at = asyncio.get_running_loop().time()

    def is_missed(self, patience_s: Seconds, unknown_s: Seconds) -> bool:
        """Whether what a look at the peers did not show is missed for good: nothing runs any more,
        and the first such look began `patience_s` before this one, or `unknown_s` if the tasks do
        not tell."""
        if self._account is _Account.RUNNING:
            self._missed_since = None
            return False
        wait_s = patience_s if self._account is _Account.NOTHING_MORE else unknown_s
        if wait_s <= AT_ONCE:
            return True  # Nothing was waited for: it is not unfinished either.
        if self._missed_since is None:
            self._missed_since = self._gathered_at
        return self._gathered_at - self._missed_since >= wait_s

    @property
    def is_outrun(self) -> bool:
        """Whether something runs still that was waited for in vain."""
        return self._account is _Account.RUNNING

    @property
    def is_unfinished(self) -> bool:
        """Whether something was missed, and another look may still tell that it is for good: not
        for ever, for who waits where nobody answers keeps others waiting."""
        if self._missed_since is None:
            return False
        missed_s = asyncio.get_running_loop().time() - self._missed_since
        return missed_s < 2 * self._policy.verify_timeout_s

    async def _outlast(self, calls: Sequence[SiteCall], own: TaskId | None) -> _Account:
        last = await self._end_of(own) if own is not None else None
        is_listed, self._keeps_tasks = True, False
        for call in calls:
            ended = await self._ends(call)
            if ended is None:
                is_listed = False
                continue
            last = last or next((task for task in ended if task.id == own), None)
            if any(self._may_have_done(call, task) for task in ended):
                self._is_done_perhaps = True
        is_told = is_listed and self._keeps_tasks and not self._is_done_perhaps
        if last is not None and not self._case.side(self._appliance.name).losses:
            # It was the only one.
            self.is_disowned = _met_another(last, calls)
            is_told = True
        has_failed = own is None if last is None else last.failed
        return _Account.NOTHING_MORE if is_told and has_failed else _Account.UNKNOWN

    def _may_have_done(self, call: SiteCall, task: Task) -> bool:
        """Whether `task` may be what became of `call`: whether it tells of its peer is unknown
        (h4-api 3.5)."""
        if not task.succeeded or (call is SiteCall.UNPAIR and task.is_pairing):
            return False
        peer = self._case.peer_of(self._appliance.name)
        return task.result is None or find_peer([task.result], peer) is not None

    async def _ends(self, call: SiteCall) -> Sequence[Task] | None:
        """How the tasks ended that `call` may have started; None if there is no list of them. Those
        that one may not ask about by their ids are over when the list says so."""
        tasks = await self._listed(call)
        if tasks is None:
            return None
        ended = [task for task in tasks if task.is_over]
        left = [task.id for task in tasks if not task.is_over]
        while left:
            ends = {task_id: await self._end_of(task_id) for task_id in left}
            ended += [task for task in ends.values() if task is not None]
            unknown = {task_id for task_id, task in ends.items() if task is None}
            tasks = await self._listed(call) if unknown else ()
            if tasks is None:
                return None
            if unknown - {task.id for task in tasks}:
                self._is_done_perhaps = True
            ended += [task for task in tasks if task.id in unknown and task.is_over]
            left = [task.id for task in tasks if task.id in unknown and not task.is_over]
            if left:
                await self._case.pause(self._policy.settle_s)
        return ended

    async def _end_of(self, task_id: TaskId) -> Task | None:
        """The task once it is over; None if one may not ask about it."""
        while True:
            try:
                return await self._appliance.finished(task_id, self._case.deadline)
            except TaskForgotten:
                return None
            except TaskUnreadable:
                pass  # It may run still, and is outlasted as if it did.

    async def _listed(self, call: SiteCall) -> Sequence[Task] | None:
        """The tasks that `call` may have started; None if there is no list for us."""
        margin_ms = int(self._policy.clock_margin_s * 1000)
        since_ms = self._case.pairing.start_time - margin_ms
        try:
            tasks = await self._appliance.site_tasks(call, since_ms)
        except Rejected as refusal:
            if isinstance(refusal, LoginRefused) or refusal.status < _BAD_REQUEST:
                raise
            if refusal.status not in _NO_LIST and not self._is_in_vain():
                raise NotSent(refusal.error) from refusal
            return None
        except NotSent as trouble:
            if not trouble.is_answered or not self._is_in_vain():
                raise
            return None
        self._in_vain_since = None
        began_at = self._case.side(self._appliance.name).start_time or 0
        ends = [task.end_time for task in tasks if task.is_over and task.end_time is not None]
        self._keeps_tasks = self._keeps_tasks or min(ends, default=began_at) < began_at
        return tasks

    def _is_in_vain(self) -> bool:
        """Whether one more useless answer means that there is no list of tasks for us. Not before
        what a lost call started is hardly under way any more."""
        now = asyncio.get_running_loop().time()
        if self._in_vain_since is None:
            self._in_vain_since = now
        return now - self._in_vain_since >= self._policy.list_patience_s


def _met_another(own: Task, calls: Sequence[SiteCall]) -> bool:
    """Whether `own`, which one of `calls` started, was to pair and found the peer there already."""
    was_to_pair = SiteCall.PAIR in calls and (len(calls) == 1 or own.is_pairing)
    return was_to_pair and own.failed and own.error is not None and says_paired(own.error)
