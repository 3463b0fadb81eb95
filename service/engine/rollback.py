"""The rollback of one side: what this job did there is undone, what was there before stays.

Like the way forward, every step begins from the recorded state alone. A side that FAILED may have
been changed all the same, by a call or a task that nobody waited for any longer: it is looked at.
"""

import asyncio

from service.concurrency.uninterrupted import uninterrupted
from service.domain.appliance import ApiError, Task
from service.domain.decisions import Absent, Call, Sighting, next_undoing, says_gone
from service.domain.errors import (
    Ambiguous,
    ApplianceClosed,
    ApplianceError,
    NotSent,
    Rejected,
    TaskForgotten,
    TaskUnfinished,
    TaskUnreadable,
)
from service.domain.events import (
    AnswerLost,
    NothingToUndo,
    RollbackDelayed,
    RollbackFailed,
    RollbackRequested,
    SideEvent,
    SideRolledBack,
    TaskAccepted,
)
from service.domain.ids import TaskId
from service.domain.pairing import UNDER_WAY, Side, SideState, SiteCall
from service.engine.case import Case
from service.engine.defects import NO_DEFECT, defect
from service.engine.policy import AT_ONCE, LAST_LOOK_S, Policy, Seconds
from service.engine.ports import Appliance
from service.engine.site import Site


class SideRollback:
    """Undoes what was done on one side. `run` may be called on a side at rest in any state."""

    def __init__(self, case: Case, appliance: Appliance, policy: Policy) -> None:
        self._case = case
        self._site = Site(case, appliance, policy)
        self._name = appliance.name
        self._policy = policy
        self._failures = 0
        self._vain = 0
        self._gave_up = False
        self._heard = ""
        """What the appliance said last of the task that was waited for in vain."""
        self._is_unsent = False
        """Whether the last call is known not to have begun: a list cannot be late with it."""
        self._outran: TaskId | SiteCall | None = None
        """The side's own task, if it ran still when what it was to make was asked to go."""
        if self._side.state in UNDER_WAY and self._side.undo is SiteCall.UNPAIR:
            self._outran = SiteCall.PAIR  # One of those, if any: whoever asked has left no word.
        self._may_come_back = False
        """Whether it runs still."""

    @property
    def _side(self) -> Side:
        return self._site.side

    @property
    def is_left(self) -> bool:
        """Whether there is something to undo here, and nobody has given it up."""
        return _is_left(self._side)

    @property
    def is_given_up(self) -> bool:
        """Whether it is on record that it could not be undone."""
        return self._side.state is SideState.ROLLBACK_FAILED

    async def run(self) -> None:
        """Undo it, or put on record that it could not be.

        Returns early if the appliance is closed, but not in the middle of missing something, nor as
        long as there is something to do on the other one: it may open meanwhile. Raises LeaseLost,
        StoreUnavailable.
        """
        if self._side.undo is not None and (elsewhere := self._site.moved()) is not None:
            await self._give_up(elsewhere)
        while (undo := self._side.undo) is not None and not self._gave_up:
            self._case.closed.pop(self._name, None)
            if self._case.left_s <= 0:
                await self._end(undo)
                return
            try:
                pause_s = await self._step(undo)
            except ApplianceClosed as closed:
                if not self._site.is_unfinished:
                    self._case.closed[self._name] = closed.error
                    if not self._is_other_under_way():
                        return
                pause_s = self._policy.idle_s
            else:
                if pause_s == AT_ONCE:
                    self._failures = 0
            await self._case.pause(pause_s)

    def _is_other_under_way(self) -> bool:
        other = self._case.side(self._side.peer)
        return _is_left(other) and other.appliance not in self._case.closed

    async def _end(self, undo: SiteCall) -> None:
        """The time is over. What was asked to go, and is gone, is undone, though the task of that
        runs still: it cannot bring it back."""
        is_asked = undo is SiteCall.UNPAIR and self._side.state in UNDER_WAY
        if is_asked and not self._may_come_back and await self._is_gone():
            await self._record(SideRolledBack(self._name))
        else:
            await self._give_up(self._out_of_time())

    async def _is_gone(self) -> bool:
        until = asyncio.get_running_loop().time() + LAST_LOOK_S
        try:
            return isinstance(await self._site.look(until=until), Absent)
        except (ApplianceError, TimeoutError):
            return False

    def _out_of_time(self) -> ApiError:
        rollback_s = self._policy.rollback_s
        text = (
            f"Gave up undoing what was done on '{self._name}': the {rollback_s} s for it are over."
        )
        if self._may_come_back:
            text += " It is gone, but what made it is not through yet, and may bring it back."
        elif self._heard:
            text += f" Heard last: {self._heard}"
        return ApiError("DeadlineExceeded", text, (self._name, str(rollback_s)))

    async def _step(self, undo: SiteCall) -> Seconds:
        try:
            if self._side.state is SideState.ACCEPTED:
                return await self._poll(undo)
            return await self._look(undo)
        except TimeoutError:
            return AT_ONCE  # The deadline is over.
        except ApplianceClosed:
            raise
        except Rejected as refusal:
            return await self._give_up(refusal.error)
        except ApplianceError as trouble:
            return await self._delay(trouble)
        except NO_DEFECT:
            raise
        except Exception as crash:  # noqa: BLE001 - the other side has to be undone, too
            return await self._give_up(defect(crash))

    async def _poll(self, undo: SiteCall) -> Seconds:
        try:
            if self._side.task_id is not None:
                return await self._conclude(undo, await self._site.finished(self._side.task_id))
        except (TaskForgotten, TaskUnreadable):
            pass  # The list tells.
        except TaskUnfinished as unfinished:
            self._heard = unfinished.seen
            raise
        return await self._look(undo)

    async def _look(self, undo: SiteCall) -> Seconds:
        step = await self._next(undo)
        if step is None and self._outran is not None and self._side.state in UNDER_WAY:
            step = await self._left_at_last()
        else:
            self._may_come_back = False
        if self._may_come_back or self._may_be_late(step):
            return self._policy.settle_s
        return await self._act(step)

    async def _act(self, step: Call | SideEvent | None) -> Seconds:
        if not isinstance(step, Call):
            return await self._record(step or self._undone())
        # Those who go forward may be many, with more time: halves would be left for want of a turn.
        await self._site.line_up(first=True)
        try:
            answer = await uninterrupted(self._request(step), self._policy.grace_s)
        finally:
            self._site.leave_line()
        if not isinstance(answer, ApiError):
            return answer
        # Outside the line and the stretch that cannot be cancelled, for this may take long.
        return await self._give_up_unless_undone(step.call, answer)

    async def _next(self, undo: SiteCall) -> Call | SideEvent | None:
        # A task that was given up, on the way forward or back, may run still.
        own = None if self._side.state is SideState.SUCCEEDED else self._side.task_id
        sighting = await self._site.look_after_tasks(*self._asked(undo), own=own)
        if undo is SiteCall.UNPAIR and self._side.state is SideState.FAILED:
            self._outran = own if self._site.is_outrun else None
        return self._left(sighting)

    async def _left_at_last(self) -> Call | SideEvent | None:
        """What is left to be undone once that is over which was outrun: it may make anew what has
        gone."""
        if isinstance(self._outran, SiteCall):
            sighting = await self._site.look_after_tasks(self._outran)
        else:
            sighting = await self._site.look_after_tasks(own=self._outran)
        self._may_come_back = self._site.is_outrun
        return self._left(sighting)

    def _left(self, sighting: Sighting) -> Call | SideEvent | None:
        """What is left to be undone, after the list was seen."""
        if not isinstance(sighting, Absent) and self._site.was_there(sighting.peer.id):
            return None
        return next_undoing(self._side, sighting)

    def _asked(self, undo: SiteCall) -> tuple[SiteCall, ...]:
        """The calls whose tasks may run still."""
        done = self._side.call or undo
        match self._side.state:
            case SideState.REQUESTED | SideState.ACCEPTED:
                return (undo,)
            case SideState.ROLLBACK_FAILED:
                return (done, undo)  # How far it had come is not known any more.
            case SideState.SUCCEEDED if not self._side.losses and self._side.task_id is not None:
                return ()  # Its own task is over.
            case _:
                return (done,)

    def _may_be_late(self, step: Call | SideEvent | None) -> bool:
        """Whether the list may be behind what was done: what `step` follows from may not be all."""
        settle_s, late_s = self._policy.settle_s, self._policy.verify_timeout_s
        is_pairing = step == Call(SiteCall.PAIR)
        match self._side.state:
            case SideState.SUCCEEDED | SideState.ROLLBACK_FAILED if step is None:
                # It is known to be done, or how far it had come is not known any more.
                return not self._site.is_missed(late_s, late_s)
            case SideState.FAILED if step is None:  # What its call did is not known.
                return not self._site.is_missed(settle_s, late_s)
            case SideState.SUCCEEDED | SideState.FAILED:
                # A call without an answer may come late: what is there may be somebody else's. And
                # what is paired again must not be unpaired by a task that runs still.
                wait_s = settle_s if self._side.task_id is None else AT_ONCE
                is_outrun = self._site.is_outrun and not is_pairing
                return not (is_outrun or self._site.is_missed(wait_s, wait_s))
            case SideState.ROLLBACK_FAILED if isinstance(step, Call) and not is_pairing:
                # What is listed does not stay for a task that never ends, nor for want of time.
                late_s = min(late_s, self._case.left_s)
                return not (self._site.is_outrun or self._site.is_missed(settle_s, late_s))
            # Asked already, or perhaps, and not seen done.
            case SideState.REQUESTED | SideState.ACCEPTED | SideState.ROLLBACK_FAILED:
                is_late = not self._is_unsent and not self._site.is_missed(settle_s, late_s)
                return isinstance(step, Call) and is_late
            case _:
                return False

    def _undone(self) -> SideEvent:
        is_untouched = self._side.state is SideState.FAILED
        return NothingToUndo(self._name) if is_untouched else SideRolledBack(self._name)

    async def _request(self, step: Call) -> Seconds | ApiError:
        """Record the intent, make the call, record what came of it. A refusal that says that there
        is nothing to unpair is returned instead: first the list has to agree."""
        if self._vain >= self._policy.max_losses:
            return await self._give_up(
                ApiError(
                    "RollbackWithoutEffect",
                    f"'{self._name}' was asked {self._vain} times, and nothing changed.",
                    (self._name, str(self._vain)),
                )
            )
        self._vain += 1
        await self._record(RollbackRequested(self._name, step.call.value, self._side.attempts + 1))
        self._is_unsent = False
        try:
            task = await self._site.send(step)
        except NotSent as unsent:
            self._vain -= 1
            self._is_unsent = True
            return await self._delay(unsent)
        except Ambiguous as lost:
            await self._record(AnswerLost(self._name, lost.error))
            return self._policy.settle_s
        except Rejected as refusal:
            if says_gone(refusal.error):
                return refusal.error
            return await self._give_up_unless_undone(step.call, refusal.error)
        return await self._record(TaskAccepted(self._name, task.id))

    async def _conclude(self, undo: SiteCall, task: Task) -> Seconds:
        """A task that succeeded proves nothing; neither does one that failed."""
        if task.failed and task.error is not None:
            return await self._try_again(undo, task.error)
        late_s = self._policy.verify_timeout_s
        step = await self._left_at_last()
        if self._may_come_back:
            return self._policy.settle_s
        if step is None:
            return await self._record(SideRolledBack(self._name))
        if self._outran is not None:
            late_s = min(late_s, self._case.left_s)  # It is asked to go again, while there is time.
        if not self._site.is_missed(late_s, late_s):
            return self._policy.settle_s
        if self._outran is not None:
            self._outran = None
            return await self._act(step)
        text = f"Task {task.id} is {task.state}, and nothing changed."
        return await self._give_up(ApiError("RollbackWithoutEffect", text, (task.id,)))

    async def _try_again(self, undo: SiteCall, error: ApiError) -> Seconds:
        is_gone = undo is SiteCall.UNPAIR and says_gone(error)
        if is_gone or self._vain >= self._policy.max_losses:
            return await self._give_up_unless_undone(undo, error)
        pause_s = self._policy.pause_s(self._vain)
        await self._record(RollbackDelayed(self._name, error, int(pause_s * 1000)))
        await self._case.pause(pause_s)
        return await self._act(await self._next(undo))

    async def _give_up_unless_undone(self, undo: SiteCall, error: ApiError) -> Seconds:
        until = asyncio.get_running_loop().time()
        if undo is SiteCall.UNPAIR:  # What the list does not know to be gone yet.
            until += self._policy.late_s(error)
        while self._left(await self._site.look()) is not None:
            if asyncio.get_running_loop().time() >= until:
                return await self._give_up(error)
            await self._case.pause(self._policy.settle_s)
        return await self._record(SideRolledBack(self._name))

    async def _give_up(self, error: ApiError) -> Seconds:
        return await self._record(RollbackFailed(self._name, error))

    async def _delay(self, trouble: ApplianceError) -> Seconds:
        self._failures += 1
        pause_s = self._policy.pause_s(self._failures, trouble)
        await self._record(RollbackDelayed(self._name, trouble.error, int(pause_s * 1000)))
        return pause_s

    async def _record(self, event: SideEvent) -> Seconds:
        if isinstance(event, RollbackFailed):
            self._gave_up = True
        await self._case.record(event)
        return AT_ONCE


def _is_left(side: Side) -> bool:
    return side.undo is not None and side.state is not SideState.ROLLBACK_FAILED
