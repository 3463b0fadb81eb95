"""Group commit: what was handed over while the last transaction ran shares the next one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import exp, inf
from typing import Generic, TypeGuard, TypeVar

from service.domain.errors import StoreUnavailable
from service.store.errors import RolledBack

Item = TypeVar("Item")
Answer = TypeVar("Answer")

LARGEST_GROUP = 1000
"""Bounds how long a transaction lasts, and so how long the next caller waits."""

CROWD = 8
"""So many in one group, or in a few soon after one another, tell that many more are coming."""


class GroupCommit(Generic[Item, Answer]):
    """One loop commits, any number of callers hand over and wait.

    A caller that is cancelled stops waiting; what it handed over is committed all the same, and
    the connection never hears of it. Items are committed in the order of their `submit` calls.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        close: Callable[[], Awaitable[None]] | None = None,
        *,
        rest_s: float = 0.0,
        pressing_s: float = inf,
        warm_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`commit` makes a group durable in one transaction and answers each item, with an
        exception for one that was refused by itself. If it raises StoreUnavailable the whole
        group gets that; if it raises anything else nothing of the group may have been committed:
        each item is then tried alone, so that it fails for nobody but the one to blame. `close`
        lets go of what `commit` holds, if anything, at the very end. While there is a crowd a group
        begins `rest_s` after the one before, or `pressing_s` after something came that is pressing,
        so that more share it: a transaction costs the database as much as dozens of changes. Where
        few are about nobody waits. `warm_up`, which must raise nothing, comes before the first
        group."""
        self._commit = commit
        self._close = close
        self._rest_s = rest_s
        self._pressing_s = pressing_s
        self._lately = _Lately(rest_s)
        self._warm_up = warm_up
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._work = asyncio.Event()
        self._pressing = asyncio.Event()
        self._pressing_since = inf
        self._closed = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    async def submit(self, item: Item, *, is_pressing: bool = False) -> Answer:
        """Return the answer to `item` once it is durable, or raise it.

        Raises StoreUnavailable when the outcome is not known, or when the loop has been stopped.
        """
        if self._closed.is_set():
            raise StoreUnavailable("the service is shutting down")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._work.set()
        if is_pressing and not self._pressing.is_set():
            self._pressing_since = asyncio.get_running_loop().time()
            self._pressing.set()
        return await answer

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Commit until stopped. `ready` is set when it has begun."""
        self._ended.clear()
        try:
            if self._warm_up is not None:
                await self._warm_up()
            if ready is not None:
                ready.set()
            while await self._has_work():
                began = asyncio.get_running_loop().time()
                self._lately.saw(await self._commit_next(), began)
                if self._lately.many >= CROWD and len(self._waiting) < LARGEST_GROUP:
                    await self._rest_until(began + self._rest_s)
        finally:
            self._closed.set()
            _give_up([answer for _, answer in self._waiting])
            self._waiting.clear()
            try:
                if self._close is not None:
                    await self._close()
            finally:
                self._ended.set()

    async def stop(self) -> None:
        """Take nothing more, and return when all that was handed over is through and `run` is."""
        self._closed.set()
        self._pressing.set()
        self._work.set()
        await self._ended.wait()

    async def _has_work(self) -> bool:
        while not self._waiting and not self._closed.is_set():
            self._work.clear()
            await self._work.wait()
        return bool(self._waiting)

    async def _rest_until(self, instant: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(instant) as resting:
                await self._pressing.wait()
                resting.reschedule(min(instant, self._pressing_since + self._pressing_s))
                await self._closed.wait()

    async def _commit_next(self) -> int:
        size = min(len(self._waiting), LARGEST_GROUP)
        group = [self._waiting.popleft() for _ in range(size)]
        if not (self._waiting or self._closed.is_set()):
            self._pressing.clear()
        try:
            answers = await self._answers([item for item, _ in group])
        except asyncio.CancelledError:
            _give_up([answer for _, answer in group])
            raise
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        return size

    async def _answers(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            return await self._commit(items)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
            if len(items) == 1:
                return [error]
            if _is_outage(error):
                return [_copy(error) for _ in items]
        return await self._one_by_one(items)

    async def _one_by_one(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        answers: list[Answer | Exception] = []
        for item in items:
            answers += await self._answers([item])
            outage = answers[-1]
            if isinstance(outage, Exception) and _is_outage(outage):
                # It is everybody's: each would wait for as long as the first one has.
                return [*answers, *[_copy(outage) for _ in items[len(answers) :]]]
        return answers


class _Lately:
    """How many came lately: whoever came counts the less the longer ago that was."""

    def __init__(self, memory_s: float) -> None:
        """After `memory_s` somebody counts for a third."""
        self.many = 0.0
        self._memory_s = memory_s
        self._seen_at = -inf

    def saw(self, many: int, at: float) -> None:
        """So many came (loop time)."""
        fading = exp((self._seen_at - at) / self._memory_s) if self._memory_s else 0.0
        self.many = self.many * fading + many
        self._seen_at = at


def _is_outage(error: Exception) -> TypeGuard[StoreUnavailable]:
    return isinstance(error, StoreUnavailable) and not isinstance(error, RolledBack)


def _copy(trouble: StoreUnavailable) -> StoreUnavailable:
    """One for each caller, who adds to its traceback."""
    copy = StoreUnavailable(str(trouble))
    copy.__cause__ = trouble.__cause__
    return copy


def _give_up(answers: Sequence[asyncio.Future[Answer]]) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(StoreUnavailable("the service is shutting down"))
