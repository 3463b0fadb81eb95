"""One side of a pairing: look, record the intent, call, poll.

Every step begins from the recorded state alone, so a side is resumed by running it again. What an
appliance does where its vendor leaves it open is never assumed: the list of its peers decides.
"""

import asyncio
from contextlib import suppress

from service.domain.appliance import ApiError, Endpoint, Task
from service.domain.decisions import Absent, Different, Present, Sighting, sight
from service.domain.errors import (
    Ambiguous,
    ApplianceError,
    LoginRefused,
    NotSent,
    Rejected,
    TaskForgotten,
)
from service.domain.events import (
    AnswerLost,
    PairRequested,
    PeerFound,
    RequestDeferred,
    SideEvent,
    SideFailed,
    SidePaired,
    TaskAccepted,
)
from service.domain.pairing import Side, SideState
from service.engine.case import Case
from service.engine.policy import Policy
from service.engine.ports import Appliance
from service.engine.uninterrupted import uninterrupted

Seconds = float
AT_ONCE: Seconds = 0.0


class SideSaga:
    """Brings one side to its end. `run` may be called on a side in any state."""

    def __init__(self, case: Case, appliance: Appliance, policy: Policy) -> None:
        self._case = case
        self._appliance = appliance
        self._name = appliance.name
        self._policy = policy
        self._failures = 0
        self._losses = 0

    @property
    def _side(self) -> Side:
        return self._case.side(self._name)

    @property
    def _peer(self) -> Endpoint:
        return self._case.peer_of(self._name)

    async def run(self) -> None:
        """Pair this side or fail it; leave it untouched if the other side failed before it began.

        Raises LeaseLost, StoreUnavailable.
        """
        while not self._side.is_over and not self._is_pointless():
            if self._case.left_s <= 0:
                await self._fail(self._case.out_of_time(f"pairing on '{self._name}'"))
            else:
                await self._case.pause(await self._step())

    def _is_pointless(self) -> bool:
        pending = self._side.state is SideState.PENDING
        return pending and self._case.pairing.failed_side is not None

    async def _step(self) -> Seconds:
        """One step from the recorded state; returns how long to wait before the next one."""
        try:
            match self._side.state:
                case SideState.PENDING:
                    pause_s = await self._look()
                case SideState.REQUESTED:
                    pause_s = await self._settle()
                case _:
                    pause_s = await self._poll()
        except Rejected as refusal:
            return await self._fail(refusal.error)
        except ApplianceError as trouble:
            return await self._look_again_later(trouble)
        if pause_s == AT_ONCE:
            self._failures = 0
        return pause_s

    async def _look(self) -> Seconds:
        match sight(await self._appliance.peers(), self._peer):
            case Present(peer=peer):
                return await self._record(PeerFound(self._name, peer.as_sent))
            case Different(error=error):
                return await self._fail(error)
            case Absent():
                return await uninterrupted(self._request(), self._policy.grace_s)

    async def _request(self) -> Seconds:
        await self._record(PairRequested(self._name, self._side.attempts + 1))
        try:
            task = await self._appliance.start_pairing(self._peer, self._case.pairing.description)
        except NotSent as unsent:
            return await self._defer(unsent.error, self._pause_s(unsent))
        except Ambiguous as lost:
            return await self._record(AnswerLost(self._name, lost.error))
        except LoginRefused as refusal:
            return await self._fail(refusal.error)
        except Rejected as refusal:
            return await self._fail_unless_listed(refusal.error, ours=False)
        return await self._record(TaskAccepted(self._name, task.id))

    async def _poll(self) -> Seconds:
        task_id = self._side.task_id
        if task_id is None:
            return await self._settle()
        try:
            async with asyncio.timeout_at(self._case.deadline):
                task = await self._appliance.finished(task_id)
        except TimeoutError:
            return await self._fail(self._case.out_of_time(f"waiting for task {task_id}"))
        except TaskForgotten:
            return await self._settle()
        return await self._conclude(task)

    async def _conclude(self, task: Task) -> Seconds:
        if task.succeeded:
            result = task.result.as_sent if task.result is not None else {}
            return await self._record(SidePaired(self._name, result))
        error = task.error or ApiError("TaskFailed", f"Task {task.id} failed without a reason.")
        return await self._fail_unless_listed(error, ours=True)

    async def _settle(self) -> Seconds:
        """Find out what a call whose answer or task was lost has done.

        Only a peer that two looks miss, with no unknown task running in between, is certainly
        absent; only then is the call made again.
        """
        sighting = await self._look_after_running_tasks()
        if isinstance(sighting, Absent):
            await self._case.pause(self._policy.settle_s)
            sighting = await self._look_after_running_tasks()
        match sighting:
            case Present(peer=peer):
                return await self._record(SidePaired(self._name, peer.as_sent))
            case Different(error=error):
                return await self._fail(error)
            case Absent():
                return await self._call_again()

    async def _look_after_running_tasks(self) -> Sighting:
        since_ms = (self._side.start_time or 0) - int(self._policy.clock_margin_s * 1000)
        try:
            tasks = await self._appliance.pair_tasks(since_ms)
        except LoginRefused:
            raise
        except Rejected:
            tasks = ()  # No list to be had: the looks have to do.
        with suppress(TimeoutError):  # The deadline is the loop's business.
            async with asyncio.timeout_at(self._case.deadline):
                for task in tasks:
                    if not task.is_over:
                        with suppress(TaskForgotten):
                            await self._appliance.finished(task.id)
        return sight(await self._appliance.peers(), self._peer)

    async def _call_again(self) -> Seconds:
        self._losses += 1
        error = self._side.error or ApiError(
            "AnswerLost", "The call, or its task, left no trace on the appliance."
        )
        if self._losses >= self._policy.max_losses:
            return await self._fail(error)
        return await self._defer(error, self._policy.pause_s(self._losses))

    async def _look_again_later(self, trouble: ApplianceError) -> Seconds:
        pause_s = self._pause_s(trouble)
        if self._side.state is SideState.PENDING:
            return await self._defer(trouble.error, pause_s)
        return pause_s  # What was asked for is not known to have failed: the state stays.

    def _pause_s(self, trouble: ApplianceError) -> Seconds:
        self._failures += 1
        wish = trouble.retry_after_s if isinstance(trouble, NotSent) else None
        return self._policy.pause_s(self._failures, wish)

    async def _defer(self, error: ApiError, pause_s: Seconds) -> Seconds:
        await self._record(RequestDeferred(self._name, error, int(pause_s * 1000)))
        return pause_s

    async def _fail_unless_listed(self, error: ApiError, *, ours: bool) -> Seconds:
        """What an appliance answers about a peer that it already has is unknown (h4-api 2.1)."""
        try:
            sighting = sight(await self._appliance.peers(), self._peer)
        except ApplianceError:
            sighting = Absent()
        if not isinstance(sighting, Present):
            return await self._fail(error)
        found = SidePaired if ours else PeerFound
        return await self._record(found(self._name, sighting.peer.as_sent))

    async def _fail(self, error: ApiError) -> Seconds:
        return await self._record(SideFailed(self._name, error))

    async def _record(self, event: SideEvent) -> Seconds:
        await self._case.record(event)
        return AT_ONCE
