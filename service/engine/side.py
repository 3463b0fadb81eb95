"""One side of a pairing: look, record the intent, call, poll.

Every step begins from the recorded state alone, so a side is resumed by running it again. What an
appliance does where its vendor leaves it open is never assumed: the list of its peers decides.
"""

import asyncio
from collections.abc import Awaitable
from math import inf

from msgspec.structs import replace

from service.concurrency.uninterrupted import uninterrupted
from service.domain.appliance import ApiError, Task, id_sent
from service.domain.decisions import (
    Call,
    Step,
    deadline_exceeded,
    next_step,
    says_gone,
    says_paired,
)
from service.domain.errors import (
    Ambiguous,
    ApplianceClosed,
    ApplianceError,
    LoginRefused,
    NotSent,
    Rejected,
    TaskForgotten,
    TaskUnfinished,
    TaskUnreadable,
)
from service.domain.events import (
    AnswerLost,
    CallLost,
    CallRequested,
    PairRequested,
    PeerFound,
    PeerGone,
    RepairRequested,
    RequestDeferred,
    SideEvent,
    SideFailed,
    SidePaired,
    SideUnpaired,
    TaskAccepted,
    UnpairRequested,
)
from service.domain.pairing import UNDER_WAY, Operation, Side, SideState, SiteCall
from service.engine.case import Case
from service.engine.defects import NO_DEFECT, defect
from service.engine.policy import AT_ONCE, Policy, Seconds
from service.engine.ports import Appliance
from service.engine.site import Site

_SEEN = (SidePaired, SideUnpaired, PeerFound, PeerGone)
"""What another worker would learn again from the task or the list. These are only noted, and become
durable with what is recorded next."""


class SideSaga:
    """Brings one side to its end. `run` may be called on a side in any state."""

    __slots__ = (
        "_case",
        "_failures",
        "_has_looked",
        "_heard",
        "_is_reopened",
        "_name",
        "_policy",
        "_site",
    )

    def __init__(self, case: Case, appliance: Appliance, policy: Policy) -> None:
        self._case = case
        self._site = Site(case, appliance, policy)
        self._name = appliance.name
        self._policy = policy
        self._failures = 0
        self._has_looked = False
        self._heard = ""
        """What the appliance said last of the task that was waited for in vain."""
        self._is_reopened = self._side.attempts > 0 and self._side.start_time is None

    @property
    def _side(self) -> Side:
        return self._site.side

    async def run(self) -> None:
        """Bring this side where its operation wants it, or fail it.

        Returns early if the appliance is closed, but not in the middle of missing something, and
        before a call if the pairing is not promising any more. Raises LeaseLost, StoreUnavailable.
        """
        if not self._side.is_over and (elsewhere := self._site.moved()) is not None:
            await self._fail(elsewhere)
        while not (self._side.is_over or self._is_pointless() or self._name in self._case.closed):
            if self._case.left_s <= 0:
                trouble = self._side.error or self._site.closed
                heard = self._heard or (trouble.msg if trouble is not None else "")
                timeout_s = self._case.pairing.timeout_s
                await self._fail(deadline_exceeded(self._doing(), timeout_s, heard))
                return
            try:
                pause_s = await self._step()
            except TimeoutError:
                continue  # The deadline is over.
            except NO_DEFECT:
                raise
            except Exception as trouble:  # noqa: BLE001 - a defect must not stop the other side
                pause_s = await self._meet(trouble)
            else:
                if pause_s == AT_ONCE:
                    self._failures = 0
            await self._pause(pause_s)

    def _is_pointless(self) -> bool:
        return self._side.state is SideState.PENDING and not self._case.is_promising

    def _doing(self) -> str:
        match self._side.state:
            case _ if self._side.task_id is not None:
                return f"waiting for task {self._side.task_id} on '{self._name}'"
            case SideState.REQUESTED:
                return f"finding out what a call to '{self._name}' has done"
            case _ if self._is_reopened or self._side.losses:
                return f"waiting for the end of what was asked of '{self._name}' before"
            case _:
                return f"calling '{self._name}'"

    async def _pause(self, seconds: Seconds) -> None:
        if self._side.state is SideState.PENDING:
            await self._case.pause_while_promising(seconds)
        else:
            await self._case.pause(seconds)

    def _step(self) -> Awaitable[Seconds]:
        """One step from the recorded state; it tells how long to wait before the next one."""
        # Passed on rather than awaited: tens of thousands wait in one at once.
        return self._look() if self._side.state is SideState.PENDING else self._poll()

    async def _look(self) -> Seconds:
        since = inf if self._has_looked else self._case.fresh_since
        self._has_looked = True
        if self._is_reopened or self._side.losses:
            # A task of the attempt before, which nobody followed to its end, may run still; or one
            # of a call that was lost, which the appliance came to late.
            step = await self._step_after_tasks()
            # A call of that attempt may come late yet: what it was told is not known any more.
            wait_s = self._policy.settle_s if self._is_reopened else AT_ONCE
            if isinstance(step, Call) and not self._site.is_missed(wait_s, wait_s):
                return self._policy.settle_s
            self._is_reopened = False
        else:
            step = next_step(self._operation, self._side, await self._site.look(since))
        if not isinstance(step, Call):
            return await self._record(step)
        await self._site.line_up()
        try:
            if self._is_pointless():
                return AT_ONCE  # Meanwhile the other side failed, or somebody canceled.
            answer = await uninterrupted(self._request(step), self._policy.grace_s)
        finally:
            self._site.leave_line()
        if not isinstance(answer, ApiError):
            return answer
        # Outside the line and the stretch that cannot be cancelled, for this may take long.
        return await self._fail_unless_there(answer, refused=True)

    @property
    def _operation(self) -> Operation:
        return self._case.pairing.operation

    async def _request(self, step: Call) -> Seconds | ApiError:
        """Record the intent, make the call, record what came of it. A refusal that says that there
        is nothing to unpair is returned instead: first the list has to agree."""
        await self._record(self._intent(step.call))
        try:
            task = await self._send(step)
        except NotSent as unsent:
            return await self._defer(unsent)
        except Ambiguous as lost:
            return await self._record(AnswerLost(self._name, lost.error))
        except LoginRefused as refusal:
            return await self._fail(refusal.error, refused=True)
        except Rejected as refusal:
            if says_gone(refusal.error):
                return refusal.error
            return await self._fail_unless_there(refusal.error, refused=True)
        return await self._record(TaskAccepted(self._name, task.id))

    def _send(self, step: Call) -> Awaitable[Task]:
        if not self._case.is_promising:  # It took a while to write the intent.
            text = f"'{self._name}' was not called: the other side failed, or somebody canceled."
            raise NotSent(ApiError("CallWithdrawn", text, (self._name,)))
        return self._site.send(step)

    def _intent(self, call: SiteCall) -> CallRequested:
        attempt, peer, url = self._side.attempts + 1, self._site.peer, self._site.url
        told = peer.api_thumbprint, peer.api_url, url
        match call:
            case SiteCall.PAIR:
                return PairRequested(self._name, attempt, *told)
            case SiteCall.REPAIR:
                return RepairRequested(self._name, attempt, *told)
            case SiteCall.UNPAIR:
                return UnpairRequested(self._name, attempt, url)

    async def _poll(self) -> Seconds:
        task_id = self._side.task_id
        if task_id is None:  # REQUESTED: no answer has told one.
            return await self._settle()
        try:
            return await self._conclude(await self._site.finished(task_id))
        except (TaskForgotten, TaskUnreadable):
            return await self._settle()
        except TaskUnfinished as unfinished:
            self._heard = unfinished.seen
            raise

    async def _conclude(self, task: Task) -> Seconds:
        if task.failed:
            error = task.error or ApiError("TaskFailed", f"Task {task.id} failed without a reason.")
            did_nothing = self._side.call is SiteCall.PAIR and says_paired(error)
            return await self._fail_unless_there(error, refused=did_nothing)
        if self._operation is Operation.UNPAIR:
            return await self._record(SideUnpaired(self._name))
        return await self._record(
            SidePaired(self._name, task.result.sent if task.result is not None else b"{}")
        )

    async def _settle(self) -> Seconds:
        """Find out what a call whose answer or task was lost has done.

        Only what two looks miss, with no unknown task running in between, was certainly not done;
        only then is the call made again. Where the tasks do not tell, much longer is looked.
        """
        # A record that is not listed yet will hardly come of a task that has run for so long, and
        # may be anybody's. A repair changes a record that is listed all the time: no such limit.
        is_repair = self._operation is Operation.REPAIR
        step = await self._step_after_tasks(inf if is_repair else self._policy.verify_timeout_s)
        if not isinstance(step, Call):
            return await self._record(step)
        if not self._site.is_missed(self._policy.settle_s, self._policy.verify_timeout_s):
            return self._policy.settle_s
        return await self._call_again()

    async def _step_after_tasks(self, patience_s: Seconds = inf) -> Step:
        call, own = self._side.call or SiteCall(self._operation.value), self._side.task_id
        sighting = await self._site.look_after_tasks(call, own=own, patience_s=patience_s)
        return next_step(self._operation, self._side, sighting)

    async def _call_again(self) -> Seconds:
        error = self._side.error or ApiError(
            "AnswerLost", "The call, or its task, left no trace on the appliance."
        )
        losses = self._side.losses + 1
        if losses >= self._policy.max_losses:
            return await self._fail(error)
        pause_s = self._policy.pause_s(losses)
        await self._record(CallLost(self._name, error, int(pause_s * 1000)))
        return pause_s

    async def _meet(self, trouble: Exception) -> Seconds:
        match trouble:
            case Rejected():
                return await self._fail(trouble.error)
            case ApplianceClosed():
                return self._wait_or_leave(trouble)
            case ApplianceError() if self._side.state is SideState.PENDING:
                return await self._defer(trouble)
            case ApplianceError():
                return self._pause_s(trouble)  # What was asked for is not known to have failed.
            case _:
                return await self._fail(defect(trouble))

    def _wait_or_leave(self, closed: ApplianceClosed) -> Seconds:
        if self._side.state in UNDER_WAY and self._site.is_unfinished:
            return self._policy.idle_s
        self._case.closed[self._name] = closed.error
        return AT_ONCE

    async def _defer(self, trouble: ApplianceError) -> Seconds:
        pause_s = self._pause_s(trouble)
        await self._record(RequestDeferred(self._name, trouble.error, int(pause_s * 1000)))
        return pause_s

    def _pause_s(self, trouble: ApplianceError) -> Seconds:
        self._failures += 1
        return self._policy.pause_s(self._failures, trouble)

    async def _fail_unless_there(self, error: ApiError, *, refused: bool) -> Seconds:
        """Fail with `error`, unless the list shows this side where its operation wants it: what an
        appliance says to a call for what is done already is unknown (h4-api 2.1)."""
        # What was done before a call that was refused, that call has not done.
        is_innocent = refused and not self._side.losses
        side = replace(self._side, call=None) if is_innocent else self._side
        # Whether a record works that was to be made is not for this look: it hardly can before the
        # other side is through.
        wanted = Operation.PAIR if self._side.call is SiteCall.PAIR else self._operation
        clock = asyncio.get_running_loop().time
        until = min(clock() + self._policy.late_s(error), self._case.deadline)
        while True:
            step: Step | None = None
            try:
                step = next_step(wanted, side, await self._site.look())
            except (ApplianceError, TimeoutError) as trouble:
                if not isinstance(trouble, NotSent):
                    break  # It will not be shown. Else there is time for another look.
            # What the list does not know to be gone yet cannot be removed again.
            if clock() >= until or not (step is None or _is_unpairing(step)):
                break
            await self._case.pause(self._policy.settle_s)
        if step is None or isinstance(step, Call | SideFailed):
            return await self._fail(error, refused=refused)
        return await self._record(step)

    async def _fail(self, error: ApiError, *, refused: bool = False) -> Seconds:
        return await self._record(SideFailed(self._name, error, refused))

    async def _record(self, event: SideEvent) -> Seconds:
        if isinstance(event, SidePaired) and self._was_there(event):
            event = PeerFound(self._name, event.result)
        if isinstance(event, _SEEN):
            self._case.note(event)
        else:
            await self._case.record(event)
        return AT_ONCE

    def _was_there(self, paired: SidePaired) -> bool:
        """Whether the call only brought a record up to date that had not been recognized, because
        it had another URL (appliances know a peer by its id, h4-api 2.1), or met somebody else's.
        """
        is_first_call = self._side.call is SiteCall.PAIR and not self._side.losses
        return is_first_call and self._site.was_there(id_sent(paired.result))


def _is_unpairing(step: Step) -> bool:
    return isinstance(step, Call) and step.call is SiteCall.UNPAIR
