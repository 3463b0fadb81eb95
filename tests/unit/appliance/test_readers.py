"""One read for all who ask at once, and never one that is older than the question."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.appliance.background import BackgroundTasks
from service.appliance.calls import Callers
from service.appliance.readers import SharedRead
from service.domain.appliance import ApiError
from service.domain.errors import NotSent
from service.domain.ids import OperationId
from service.observe.context import (
    WorkContext,
    current,
    operation_id,
    working_as,
    working_on,
)
from tests.support.virtual_time import now, run

SPACING_S = 0.02


class Source:
    """What is read: the number of the read. It takes `queue_s` to be sent, then `answer_s`."""

    def __init__(self, queue_s: float = 0.0, answer_s: float = 1.0) -> None:
        self.queue_s = queue_s
        self.answer_s = answer_s
        self.sent_at: list[float] = []
        self.callers: list[list[OperationId]] = []
        self.contexts: list[OperationId] = []
        self.pairings: list[str | None] = []
        self.error: Exception | None = None

    async def read(self, callers: Callers) -> int:
        await asyncio.sleep(self.queue_s)
        self.callers.append(list(callers()))
        self.contexts.append(operation_id())
        self.pairings.append(current().pairing)
        self.sent_at.append(now())
        number = len(self.sent_at)
        await asyncio.sleep(self.answer_s)
        if self.error is not None:
            raise self.error
        return number


@asynccontextmanager
async def reading(source: Source) -> AsyncIterator[tuple[SharedRead[int], BackgroundTasks]]:
    """A shared read of `source`, and what it runs in."""
    async with asyncio.TaskGroup() as group:
        tasks = BackgroundTasks(group)
        yield SharedRead(source.read, tasks, SPACING_S), tasks
        await tasks.close()


async def asked_at(shared: SharedRead[int], at_s: float) -> int:
    """What one gets who asks at this time."""
    await asyncio.sleep(at_s - now())
    return await shared.get()


def test_all_who_ask_at_once_share_one_read() -> None:
    async def scene() -> None:
        source = Source()
        async with reading(source) as (shared, _):
            assert await asyncio.gather(*(shared.get() for _ in range(100))) == [1] * 100
        assert len(source.sent_at) == 1

    run(scene())


def test_a_read_that_was_sent_is_not_joined() -> None:
    async def scene() -> None:
        source = Source(answer_s=1.0)
        async with reading(source) as (shared, _):
            asks = [asked_at(shared, at_s) for at_s in (0.0, 0.001, 0.5, 0.999, 1.5)]
            assert list(await asyncio.gather(*asks)) == [1, 2, 2, 2, 3]
        assert source.sent_at == pytest.approx([0.0, 1.0, 2.0])

    run(scene())


def test_what_was_sent_since_a_moment_does_for_who_asks_as_of_that_moment() -> None:
    async def scene() -> None:
        source = Source(queue_s=1.0, answer_s=2.0)

        async def asked_since(at_s: float, since: float) -> tuple[int, float]:
            await asyncio.sleep(at_s - now())
            return await shared.get(since), now()

        async with reading(source) as (shared, _):
            asks = [
                asked_since(0.0, 0.0),
                asked_since(1.5, 1.0),  # Under way, and sent just then.
                asked_since(1.6, 1.001),
                asked_since(3.5, 1.0),
                asked_since(7.0, 3.9),
                asked_since(7.0, 4.001),
            ]
            assert list(await asyncio.gather(*asks)) == [
                (1, 3.0),
                (1, 3.0),
                (2, 6.0),
                (1, 3.5),
                (2, 7.0),
                (3, 10.0),
            ]

    run(scene())


def test_nobody_joins_a_read_whose_reader_was_closed() -> None:
    async def scene() -> None:
        source = Source(answer_s=9.0)
        async with reading(source) as (shared, tasks):
            asking = shared.get()
            await asyncio.sleep(1.0)  # Virtual time: a moment at which the read is under way.
            assert source.sent_at == [0.0]
            assert not asking.done()
            await tasks.close()
            shared.abandon()
            with pytest.raises(NotSent):
                await asking
            with pytest.raises(NotSent):
                await shared.get(0.0)

    run(scene())


def test_a_read_that_waits_for_its_turn_is_joined() -> None:
    async def scene() -> None:
        source = Source(queue_s=1.0)
        async with reading(source) as (shared, _):
            both = await asyncio.gather(shared.get(), asked_at(shared, 0.9))
            assert list(both) == [1, 1]

    run(scene())


def test_after_a_read_that_was_shared_the_next_one_waits_for_more_to_share() -> None:
    async def scene() -> None:
        source = Source(answer_s=0.001)
        async with reading(source) as (shared, _):
            asks = [asked_at(shared, number // 2 / 1000) for number in range(200)]
            await asyncio.gather(*asks)
        pauses = [
            later - sent for sent, later in zip(source.sent_at, source.sent_at[1:], strict=False)
        ]
        assert pauses == pytest.approx([SPACING_S] * len(pauses))
        assert len(source.sent_at) <= 7

    run(scene())


def test_who_asks_alone_waits_for_a_quarter_of_it_at_most() -> None:
    async def scene() -> None:
        source = Source(answer_s=0.0)
        async with reading(source) as (shared, _):
            for at in (5.0, 5.001, 9.0):
                await asked_at(shared, at)
        assert source.sent_at == pytest.approx([5.0, 5.0 + SPACING_S / 4, 9.0])

    run(scene())


def test_an_error_goes_to_all_who_shared_the_read_and_to_nobody_else() -> None:
    async def scene() -> None:
        source = Source()
        source.error = NotSent(ApiError("Http503", "busy"))
        async with reading(source) as (shared, _):
            failed = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
            assert [type(each) for each in failed] == [NotSent, NotSent]
            source.error = None
            assert await shared.get() == 2

    run(scene())


def test_a_defect_goes_to_those_who_asked_not_to_the_group() -> None:
    async def scene() -> None:
        source = Source()
        source.error = ZeroDivisionError()
        async with reading(source) as (shared, _):
            with pytest.raises(ZeroDivisionError):
                await shared.get()

    run(scene())


def test_one_who_goes_away_takes_the_read_from_nobody() -> None:
    async def scene() -> None:
        source = Source()
        async with reading(source) as (shared, _):
            first = shared.get()
            second = shared.get()
            await asyncio.sleep(0.5)
            first.cancel()
            assert await second == 1

    run(scene())


def test_a_read_that_nobody_waits_for_any_more_is_not_made() -> None:
    async def scene() -> None:
        source = Source(answer_s=1.0)
        async with reading(source) as (shared, _):
            shared.get()
            await asyncio.sleep(0.5)
            late = shared.get()
            await asyncio.sleep(0.1)
            late.cancel()
        assert len(source.sent_at) == 1

    run(scene())


def test_who_has_waited_long_enough_goes_and_takes_the_read_from_nobody() -> None:
    async def scene() -> None:
        source = Source(answer_s=2.0)

        async def impatient(at_s: float) -> float:
            await asyncio.sleep(at_s - now())
            with pytest.raises(TimeoutError):
                await shared.get(until=1.5)
            return now()

        async with reading(source) as (shared, _):
            patient = shared.get(until=2.5)
            # One joins the same read, one waits for the next, which is not made for nobody.
            gone_at = await asyncio.gather(impatient(0.0), impatient(1.0))
            assert gone_at == pytest.approx([1.5, 1.5])
            assert await patient == 1
            assert await asked_at(shared, 3.0) == 2
        assert source.sent_at == pytest.approx([0.0, 3.0])

    run(scene())


def test_nothing_runs_while_nobody_asks() -> None:
    async def scene() -> None:
        async with reading(Source()) as (shared, _):
            before = asyncio.all_tasks()
            await shared.get()
            await asyncio.sleep(0.1)
            assert asyncio.all_tasks() == before

    run(scene())


def test_a_loop_that_one_has_begun_is_nobodys() -> None:
    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = BackgroundTasks(group)

            async def whose() -> OperationId | None:
                return current().operation_id

            with working_on(operation_id=OperationId("op")):
                assert await tasks.start(whose()) == "op"
                assert await tasks.start_loop(whose()) is None

    run(scene())


def test_a_read_is_made_on_behalf_of_the_first_and_names_the_others() -> None:
    async def ask_as(shared: SharedRead[int], name: str) -> int:
        with working_on(operation_id=OperationId(name)):
            return await shared.get()

    async def scene() -> None:
        source = Source()
        async with reading(source) as (shared, _):
            await asyncio.gather(*(ask_as(shared, name) for name in ("op-1", "op-2", "op-1")))
            await ask_as(shared, "op-3")
        assert source.callers == [["op-1", "op-2"], ["op-3"]]
        assert source.contexts == ["op-1", "op-3"]

    run(scene())


def test_a_read_is_of_a_pairing_only_if_it_is_for_no_other() -> None:
    async def ask_for(shared: SharedRead[int], pairing: str) -> int:
        with working_as(WorkContext(OperationId("op"), pairing)):
            return await shared.get()

    async def scene() -> None:
        source = Source()
        async with reading(source) as (shared, _):
            await ask_for(shared, "p-1")
            await asyncio.gather(ask_for(shared, "p-1"), ask_for(shared, "p-2"))
        assert source.pairings == ["p-1", None]

    run(scene())


def test_whoever_waits_when_the_client_is_closed_is_turned_away() -> None:
    async def scene() -> None:
        async with reading(Source(answer_s=9.0)) as (shared, tasks):
            asks = [asyncio.ensure_future(asked_at(shared, at_s)) for at_s in (0.0, 1.0)]
            await asyncio.sleep(2.0)
            await tasks.close()
            shared.abandon()
            errors = await asyncio.gather(*asks, return_exceptions=True)
            assert [type(error) for error in errors] == [NotSent, NotSent]

    run(scene())


def test_who_is_told_of_the_same_thing_a_moment_later_shares_the_read_after_a_shared_one() -> None:
    async def scene() -> None:
        source = Source(answer_s=0.0)
        async with reading(source) as (shared, _):
            asks = [(1.0, 1), (1.0, 1), (2.0, 2), (2.0 + SPACING_S / 5, 2), (3.0, 3), (4.0, 4)]
            told = await asyncio.gather(*(asked_at(shared, at_s) for at_s, _ in asks))
            assert told == [number for _, number in asks]
        # The one at 3.0 comes after a read that was shared, the one at 4.0 does not.
        gathered = SPACING_S / 4
        assert source.sent_at == pytest.approx([1.0, 2.0 + gathered, 3.0 + gathered, 4.0])

    run(scene())
