"""How an appliance is asked about tasks: all in one `POST /tasks/poll`, or one by one.

What appliances make of the bulk call is partly unknown (h4-api 3.5), so whatever surprises leads
to `GET /tasks/{id}`: for the ids that a table left out, for a refusal, for a table that cannot be
read or does not come, and for a long while where the call does not exist. And a task that one may
not ask about either, or that there is no call for, counts as forgotten: the list of peers tells
then what came of it. One that an appliance answers about to no use, or not at all while it answers
otherwise, keeps no other from being looked at.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from service.appliance.calls import Callers
from service.appliance.classify import UNTOUCHED, good, is_session_expired, unclear, unreadable
from service.appliance.exchange import Answer, Request
from service.appliance.limits import Limits
from service.appliance.polltable import read_poll_table
from service.appliance.wire import Unreadable, poll_body, read_task
from service.domain.appliance import ApiError, Task
from service.domain.errors import ApplianceError, NotSent, TaskForgotten, Unheard
from service.domain.ids import OperationId, TaskId

STRIKES = 3
"""So many useless answers in a row mean that an appliance has no bulk poll."""

_NO_SUCH_CALL = frozenset({404, 405, 415, 501})
_TOO_MUCH = frozenset({400, 413})
_NOT_IMPLEMENTED = 501

_VAIN_S = 2.0
"""How long an answer may take about a task that was looked after in vain: others wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Question:
    """A task to ask about, and on whose behalf. `failed` is what a table told of it, without the
    reason; `is_vain` if the last look at it came to nothing."""

    task_id: TaskId
    operation_id: OperationId
    failed: Task | None = None
    is_vain: bool = False


Ask = Callable[[Request, Callers], Awaitable[Answer]]
"""Makes a call within the session; any status is an answer. Raises NotSent, Rejected."""

News = Task | TaskForgotten | NotSent
Tell = Callable[[TaskId, News], None]
"""Told as soon as it is known: the task, over or not, that it is no longer known, or that what was
answered about it is of no use, or that nothing was."""


class TaskInquiry:
    """Remembers what this appliance's bulk poll is good for."""

    def __init__(self, ask: Ask, limits: Limits) -> None:
        self._ask = ask
        self._limits = limits
        self._chunk = limits.bulk_ids
        self._bulk_from = 0.0
        self._strikes = 0
        self._refused = 0
        self._is_of_use = False
        """Whether anything is that this look was answered with."""
        self._is_unheard = False
        """Whether the bulk poll of this look brought no answer."""

    def is_bulk(self) -> bool:
        """Whether one call answers for all, so that it costs nothing to ask about more."""
        return asyncio.get_running_loop().time() >= self._bulk_from

    async def look(self, questions: Sequence[Question], tell: Tell) -> None:
        """One look at each of these tasks, in their order where it is one by one.

        Raises NotSent when the look has to be repeated, as it has to where no answer was of use;
        Rejected when that is no use.
        """
        left, strikes = list(questions), self._strikes
        self._is_of_use = self._is_unheard = False
        if self.is_bulk():
            left = []
            for chunk in _chunks(questions, self._chunk):
                left += await self._look_in_bulk(chunk, tell)
        try:
            await self._look_one_by_one(left, tell)
        except ApplianceError:
            # It is not the bulk call that is to blame.
            self._strikes = min(strikes, self._strikes)
            raise
        if self._strikes >= STRIKES:  # And one by one it did work.
            self._give_up_bulk()

    async def _look_in_bulk(self, chunk: Sequence[Question], tell: Tell) -> Sequence[Question]:
        """Returns the questions that the table left open."""
        if self._strikes >= STRIKES or self._is_unheard:
            return chunk  # Whatever it is, halving does not help.
        body = poll_body([question.task_id for question in chunk])
        request = Request("POST", "/tasks/poll", body=body)
        try:
            answer = await self._ask(request, lambda: [each.operation_id for each in chunk])
        except Unheard:
            self._is_unheard = True
            self._strikes += 1
            return chunk
        if answer.status in _TOO_MUCH:
            self._refused += 1
            if len(chunk) > 1:
                return await self._look_in_halves(chunk, tell)
        if answer.status in _NO_SUCH_CALL:
            self._give_up_bulk()
            return chunk
        if not _is_refused(answer):
            try:
                return self._read_table(good(answer, mutating=False), chunk, tell)
            except Unreadable:
                pass
        self._strikes += 1
        return chunk

    def _read_table(
        self, answer: Answer, chunk: Sequence[Question], tell: Tell
    ) -> Sequence[Question]:
        tasks = read_poll_table(answer.body, {question.task_id for question in chunk})
        self._strikes = 0
        self._is_of_use = self._is_of_use or bool(tasks)
        left = []
        for question in chunk:
            task = tasks.get(question.task_id)
            if task is None:
                left.append(question)  # Forgotten, perhaps.
            elif task.failed and task.error is None:
                left.append(replace(question, failed=task))
            else:
                tell(task.id, task)
        return left

    async def _look_in_halves(self, chunk: Sequence[Question], tell: Tell) -> Sequence[Question]:
        """Too many ids at once, or one among them that the appliance does not like."""
        half, refused = (len(chunk) + 1) // 2, self._refused
        left = [
            *await self._look_in_bulk(chunk[:half], tell),
            *await self._look_in_bulk(chunk[half:], tell),
        ]
        if self._refused == refused:
            self._chunk = min(self._chunk, half)
        return left

    def _give_up_bulk(self) -> None:
        self._bulk_from = asyncio.get_running_loop().time() + self._limits.bulk_retry_s
        self._strikes = 0

    async def _look_one_by_one(self, questions: Sequence[Question], tell: Tell) -> None:
        left = iter(questions)
        try:
            async with asyncio.TaskGroup() as group:
                workers = [
                    group.create_task(self._work_through(left, tell))
                    for _ in range(min(len(questions), self._limits.connections))
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        stops = [stop for worker in workers if (stop := worker.result()) is not None]
        if stops and (self._is_of_use or await self._is_heard(*stops[0])):
            for question, trouble in stops:
                tell(question.task_id, trouble)
        if stops and not self._is_of_use:
            raise stops[0][1]

    async def _work_through(
        self, left: Iterator[Question], tell: Tell
    ) -> tuple[Question, NotSent] | None:
        """Where it stopped, if it did: at an answer that was of no use, as all before it, or at
        none."""
        for question in left:
            try:
                await self._look_at(question, tell)
            except NotSent as trouble:
                if not (trouble.is_answered or isinstance(trouble, Unheard)):
                    raise
                if trouble.is_answered and question.is_vain and question.failed is not None:
                    tell(question.task_id, question.failed)  # Why, it will hardly say any more.
                    continue
                if not (trouble.is_answered and self._is_of_use):
                    # The appliance, or this task? Who asks about another one sees.
                    return question, trouble
                tell(question.task_id, trouble)
            else:
                self._is_of_use = True
        return None

    async def _look_at(self, question: Question, tell: Tell) -> None:
        answer = await self._ask_about(question)
        if _is_refused(answer) and (answer.status < 500 or answer.status == _NOT_IMPLEMENTED):
            tell(question.task_id, question.failed or TaskForgotten(question.task_id))
            return
        try:
            task = read_task(good(answer, mutating=False).body)
        except Unreadable as error:
            raise unclear(unreadable(str(error)), mutating=False) from error
        tell(question.task_id, task)

    async def _is_heard(self, question: Question, trouble: NotSent) -> bool:
        """Whether the appliance, which had nothing of use to say to this, says anything."""
        if trouble.is_answered:
            return True
        try:
            about = Request("GET", "/diagnostics/about")  # It costs little.
            await self._ask(about, lambda: (question.operation_id,))
        except NotSent as silence:
            return silence.is_answered
        return True

    async def _ask_about(self, question: Question) -> Answer:
        request = Request("GET", f"/tasks/{quote(question.task_id, safe='')}")
        try:
            async with asyncio.timeout(_VAIN_S if question.is_vain else None):
                return await self._ask(request, lambda: (question.operation_id,))
        except TimeoutError:
            raise Unheard(ApiError("AnswerTimeout", f"No answer in {_VAIN_S} s.")) from None


def _is_refused(answer: Answer) -> bool:
    """Whether a session that holds got no for an answer."""
    return answer.status >= 400 and not (answer.status in UNTOUCHED or is_session_expired(answer))


def _chunks(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    return (questions[at : at + size] for at in range(0, len(questions), size))
