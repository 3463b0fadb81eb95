"""Everybody who waits for a task of one appliance shares one look a round."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from sys import intern
from typing import NamedTuple

from msgspec.structs import replace

from service.appliance.background import BackgroundTasks, closed
from service.appliance.inquiry import News, Question, TaskInquiry
from service.appliance.pace import Pace
from service.concurrency.expiry import Expiry, turn_away
from service.domain.appliance import ApiError, Task
from service.domain.backoff import backoff_s
from service.domain.errors import (
    ApplianceClosed,
    ApplianceError,
    NotSent,
    TaskUnfinished,
    TaskUnreadable,
)
from service.domain.ids import OperationId, TaskId
from service.observe.context import WorkContext, current, operation_id, working_as

MAX_PAUSE_S = 10.0
"""The longest pause after rounds that failed: it delays who waits once the appliance is back."""


class _Waiter(NamedTuple):
    """Who waits for a task, and for how long: one timer would be much for each of thousands."""

    answer: asyncio.Future[Task]
    until: float

    def tell(self, outcome: Task | Exception) -> None:
        if isinstance(outcome, Exception):
            turn_away(self.answer, outcome)
        elif not self.answer.done():
            self.answer.set_result(outcome)


@dataclass(slots=True, eq=False)
class _Watch:
    """One task, and those who wait for it, with those who went away meanwhile."""

    task_id: TaskId
    operation_id: OperationId
    asker: WorkContext
    since: float
    due: float
    waiters: tuple[_Waiter, ...] = ()
    vain: int = 0
    """So many looks at it in a row were of no use, the first of them at `vain_since`."""
    vain_since: float = inf
    state: str | None = None
    """The appliance's word for how it stood at the last look that showed it, `error` with it."""
    error: ApiError | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits."""
        return any(not each.answer.done() for each in self.waiters)

    @property
    def until(self) -> float:
        """When the first of those who wait still has waited long enough."""
        return min([each.until for each in self.waiters if not each.answer.done()], default=inf)

    def join(self, waiter: _Waiter) -> None:
        """One more waits. Who went away is forgotten: many may come and go while one stays."""
        self.waiters = (*[each for each in self.waiters if not each.answer.done()], waiter)

    def ask(self) -> Question:
        """The question about it."""
        return Question(self.task_id, self.operation_id, is_vain=self.vain > 0)

    def tell(self, outcome: Task | Exception) -> None:
        for waiter in self.waiters:
            waiter.tell(outcome)

    def saw(self, trouble: NotSent | None, now: float) -> None:
        """It was looked after, to no use if there is a `trouble`."""
        self.vain = self.vain + 1 if trouble is not None else 0
        self.vain_since = min(self.vain_since, now) if trouble is not None else inf

    def expire(self, now: float) -> None:
        for waiter in self.waiters:
            if waiter.until <= now:
                waiter.tell(TaskUnfinished(self._seen()))

    def _seen(self) -> str:
        if self.state is None:
            return ""
        seen = f"task {self.task_id} was {self.state}"
        return f"{seen}: {self.error.msg}" if self.error is not None else f"{seen}."


class TaskRounds:
    """The loop runs while anybody waits, and looks when the first task is due. Those who went away
    are forgotten at the next look, which is not made for nobody. A look that failed for the moment
    is repeated after a pause; only a refusal is told to those who wait, and that the appliance is
    closed. What came to nothing over a few tasks puts off none but those.
    """

    def __init__(
        self,
        inquiry: TaskInquiry,
        tasks: BackgroundTasks,
        pace: Pace,
        jitter: Callable[[], float],
        patience_s: float,
    ) -> None:
        """`jitter` gives numbers in [0, 1). Whoever waits for a task hears that it is unreadable
        when for `patience_s` no look at it was of use."""
        self._inquiry = inquiry
        self._tasks = tasks
        self._pace = pace
        self._jitter = jitter
        self._patience_s = patience_s
        self._watches: dict[TaskId, _Watch] = {}
        self._loop: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._sleeps_until = 0.0
        self._nudge = asyncio.Event()
        self._expiry = Expiry(self._expire)

    def finished(self, task_id: TaskId, until: float = inf) -> asyncio.Future[Task]:
        """The task once it is over. Raises TaskForgotten, TaskUnreadable, Rejected,
        ApplianceClosed; TaskUnfinished at `until`."""
        # No coroutine: thousands wait here at once.
        if self._loop is None or self._loop.done():
            self._loop = self._tasks.start_loop(self._run())
        watch = self._watch(task_id)
        answer: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        watch.join(_Waiter(answer, until))
        if max(watch.due, self._not_before) < self._sleeps_until:
            self._nudge.set()
        self._expiry.heed(until)
        return answer

    def abandon(self, error: ApplianceError | None = None) -> None:
        """Turn away whoever waits, with `error`; without one because the client was closed. The
        pause after an earlier round is over for those who come later."""
        self._tell_all(error or closed())
        self._not_before = 0.0
        self._nudge.set()

    def _watch(self, task_id: TaskId) -> _Watch:
        watch = self._watches.get(task_id)
        if watch is None or not watch.is_wanted:
            now = asyncio.get_running_loop().time()
            due = now + self._pace.first_look_s()
            watch = _Watch(task_id, operation_id(), current(), now, due)
            self._watches[task_id] = watch
        return watch

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while await self._is_any_due():
            began = clock()
            try:
                await self._round()
            except ApplianceClosed as told:
                self.abandon(told)
            except NotSent as trouble:
                failures += 1
                if self._watches:  # Else they were all turned away, and the pause with them.
                    pause_s = max(self._pause_s(failures), trouble.retry_after_s or 0.0)
                    self._not_before = clock() + pause_s
            except Exception as refusal:  # noqa: BLE001 - raised by those who wait
                self._tell_all(refusal)
            else:
                failures = 0
                many = len(self._watches)
                self._not_before = self._pace.on_beat(began + self._pace.rest_s(many), many)

    async def _is_any_due(self) -> bool:
        """Wait until a look is due to somebody; False if nobody waits any more."""
        clock = asyncio.get_running_loop().time
        while self._watches:
            while self._watches and (due := self._due()) > clock():
                self._sleeps_until = due
                self._nudge.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._nudge.wait()
            self._sleeps_until = 0.0
            self._forget_unwanted()
            if self._watches and self._due() <= clock():
                return True
        return False

    def _expire(self, now: float) -> float:
        """Turn away who has waited long enough; when the next one has."""
        for watch in self._watches.values():
            watch.expire(now)
        self._forget_unwanted()
        if not self._watches:
            self._nudge.set()
        return min([watch.until for watch in self._watches.values()], default=inf)

    def _forget_unwanted(self) -> None:
        watches = self._watches
        self._watches = {task_id: each for task_id, each in watches.items() if each.is_wanted}

    def _due(self) -> float:
        first = min(watch.due for watch in self._watches.values())
        return max(self._pace.on_beat(first, len(self._watches)), self._not_before)

    async def _round(self) -> None:
        """Look once: at all tasks where one call does for all, else at those that are due. Who is
        looked after in vain comes last, and least, for a look may end at him."""
        began = asyncio.get_running_loop().time()
        everybody = self._inquiry.is_bulk()
        many = len(self._watches)
        watches = [
            each
            for each in self._watches.values()
            if (everybody and not each.vain) or self._pace.on_beat(each.due, many) <= began
        ]
        watches.sort(key=lambda each: each.vain)
        are_all_vain = watches[0].vain > 0
        troubles: dict[TaskId, NotSent] = {}

        def tell(task_id: TaskId, news: News) -> None:
            if isinstance(news, NotSent):
                troubles[task_id] = news
            elif isinstance(news, Task) and not news.is_over:
                self._see(news)
            else:
                self._tell(task_id, news)

        try:
            with working_as(_asker(watches)):
                await self._inquiry.look([watch.ask() for watch in watches], tell)
        except NotSent as trouble:
            in_vain = [each for each in watches if each.task_id in troubles]
            self._put_off(in_vain, troubles, began)
            if not (are_all_vain and trouble in troubles.values()):
                raise  # What came to nothing over these before tells of no other.
        else:
            self._put_off(watches, troubles, began)

    def _put_off(
        self, watches: Sequence[_Watch], troubles: Mapping[TaskId, NotSent], began: float
    ) -> None:
        """After a round that began then. A task is as old as it was when it was asked about,
        however long the answer about another one took."""
        now = asyncio.get_running_loop().time()
        for watch in watches:
            trouble = troubles.get(watch.task_id)
            watch.saw(trouble, now)
            pause_s = self._pace.pause_s(began - watch.since, len(watches))
            rest_s = max(pause_s, self._pause_s(watch.vain)) if watch.vain else pause_s
            watch.due = max(watch.due, now + rest_s)
            if trouble is not None and now - watch.vain_since >= self._patience_s:
                self._tell(watch.task_id, TaskUnreadable(trouble.error))

    def _see(self, task: Task) -> None:
        watch = self._watches.get(task.id)
        if watch is not None:
            watch.state, watch.error = intern(task.state), task.error

    def _pause_s(self, failures: int) -> float:
        return backoff_s(failures, self._jitter(), cap_s=MAX_PAUSE_S)

    def _tell(self, task_id: TaskId, outcome: Task | Exception) -> None:
        watch = self._watches.pop(task_id, None)
        if watch is not None:
            watch.tell(outcome)
            if isinstance(outcome, Task):
                age_s = asyncio.get_running_loop().time() - watch.since
                self._pace.saw_end(_took_s(outcome, age_s))

    def _tell_all(self, error: Exception) -> None:
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.tell(error)
        self._expiry.stop()


def _took_s(task: Task, age_s: float) -> float:
    """How long it took by the appliance's own clock, if that can be; else as long as we waited."""
    if task.start_time is None or task.end_time is None:
        return age_s
    took_s = (task.end_time - task.start_time) / 1000
    return took_s if 0 <= took_s <= age_s else age_s


def _asker(watches: Sequence[_Watch]) -> WorkContext:
    """On whose behalf a look is made. Its log lines name the pairing and the task only if it is for
    no other."""
    first, *others = watches
    if others:
        return WorkContext(first.operation_id)
    return replace(first.asker, operation_id=first.operation_id, task=first.task_id)
