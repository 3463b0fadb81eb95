"""A read that all who ask at once share."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, TypeVar

from msgspec.structs import replace

from service.appliance.background import BackgroundTasks, closed
from service.appliance.calls import Callers
from service.concurrency.expiry import Expiry, turn_away
from service.domain.errors import ApplianceError
from service.domain.ids import OperationId
from service.observe.context import WorkContext, current, operation_id, working_as

Value = TypeVar("Value")


_PART = 0.25
"""Of the spacing: as much is left of it after a read that nobody shared; and after one that was
shared, the next one waits so long for others who were told of the same things."""


class SharedRead(Generic[Value]):
    """Everybody who asks before a read is sent gets its value; who comes later gets the next
    one's, unless the last one is fresh enough. So a value is never older than its question, and
    one read at a time is under way.
    """

    def __init__(
        self, read: Callable[[Callers], Awaitable[Value]], tasks: BackgroundTasks, spacing_s: float
    ) -> None:
        """`read` has to ask for its callers when it is sent: from then on nobody joins it."""
        self._read = read
        self._tasks = tasks
        self._spacing_s = spacing_s
        self._next_at = 0.0
        self._gather_s = 0.0
        self._gathering: _Batch[Value] | None = None
        self._under_way: _Batch[Value] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._last: tuple[float, Value] | None = None
        self._expiry = Expiry(self._expire)

    def get(self, since: float = inf, until: float = inf) -> asyncio.Future[Value]:
        """The value as of a moment after this call began, or, if that was earlier, after `since`
        (loop time). Raises what the read raises, and TimeoutError at `until` (loop time)."""
        # No coroutine: thousands wait here at once.
        if self._last is not None and self._last[0] >= since:
            known: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
            known.set_result(self._last[1])
            return known
        batch = self._under_way
        if batch is None or batch.sent_at < since:
            batch = self._gather()
        self._expiry.heed(until)
        return batch.join(until)

    def abandon(self, error: ApplianceError | None = None) -> None:
        """Turn away whoever waits, with `error`; without one because the client was closed."""
        for batch in self._batches():
            batch.fail(error or closed())
        self._under_way = self._last = None
        self._expiry.stop()

    def _gather(self) -> "_Batch[Value]":
        """Those who get the next read."""
        if self._loop is None or self._loop.done():
            self._loop = self._tasks.start_loop(self._run())
        if self._gathering is None or self._gathering.is_sent:
            self._gathering = _Batch()
        return self._gathering

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while (batch := self._gathering) is not None and not batch.is_sent:
            due = max(batch.began_at + self._gather_s, self._next_at)
            await asyncio.sleep(max(0.0, due - clock()))
            # Where nobody shares, few would gain by waiting.
            self._gather_s = _PART * self._spacing_s if batch.is_shared else 0.0
            self._next_at = clock() + self._spacing_s * (1.0 if batch.is_shared else _PART)
            self._under_way = batch
            if batch.is_wanted:
                await self._serve(batch)
            batch.is_sent = True
            self._under_way = None
            if self._gathering is batch:
                self._gathering = None

    def _batches(self) -> "list[_Batch[Value]]":
        return [batch for batch in (self._under_way, self._gathering) if batch is not None]

    def _expire(self, now: float) -> float:
        """Turn away who has waited long enough; when the next one has."""
        return min([batch.expire(now) for batch in self._batches()], default=inf)

    async def _serve(self, batch: "_Batch[Value]") -> None:
        with working_as(batch.asker):
            try:
                value = await self._read(batch.send)
            except ApplianceError as error:
                batch.fail(error)
            except Exception as defect:  # noqa: BLE001 - raised by those who asked
                batch.fail(defect)
            else:
                self._last = batch.sent_at, value
                batch.answer(value)


class _Batch(Generic[Value]):
    """Those who share one read."""

    def __init__(self) -> None:
        self.began_at = asyncio.get_running_loop().time()
        self.is_sent = False
        self.sent_at = -inf
        self._answers: list[tuple[asyncio.Future[Value], float]] = []
        """And until when they are waited for."""
        self._askers: dict[WorkContext, OperationId] = {}

    @property
    def asker(self) -> WorkContext:
        """On whose behalf the read is made. Its log line names a pairing only if it is for no
        other."""
        first, *others = self._askers
        return replace(WorkContext() if others else first, operation_id=self._askers[first])

    @property
    def is_shared(self) -> bool:
        """Whether more than one asked."""
        return len(self._answers) > 1

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits."""
        return any(not answer.done() for answer, _ in self._answers)

    def join(self, until: float) -> asyncio.Future[Value]:
        """A place in this batch for the running task, until that time."""
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._answers.append((answer, until))
        self._askers.setdefault(current(), operation_id())
        return answer

    def send(self) -> tuple[OperationId, ...]:
        """Close the batch; who is in it."""
        self.is_sent = True
        self.sent_at = asyncio.get_running_loop().time()
        return tuple(self._askers.values())

    def answer(self, value: Value) -> None:
        """Give everybody the value."""
        for answer, _ in self._answers:
            if not answer.done():
                answer.set_result(value)

    def fail(self, error: Exception) -> None:
        """Give everybody the error."""
        for answer, _ in self._answers:
            turn_away(answer, error)

    def expire(self, now: float) -> float:
        """Turn away who has waited long enough; when the next one has."""
        for answer, until in self._answers:
            if until <= now:
                turn_away(answer, TimeoutError())
        return min([until for answer, until in self._answers if not answer.done()], default=inf)
