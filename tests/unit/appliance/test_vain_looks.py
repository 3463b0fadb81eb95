"""Waiting for tasks that an appliance tells nothing of use about."""

import asyncio
from collections.abc import Callable, Collection
from math import inf

import pytest

from service.appliance.exchange import Answer, Request
from service.appliance.rounds import MAX_PAUSE_S, TaskRounds
from service.domain.errors import TaskUnreadable
from service.domain.ids import TaskId
from tests.support.virtual_time import now, run
from tests.unit.appliance.h4tasks import SILENCE_S, H4Tasks
from tests.unit.appliance.values import a_task_id, an_answer, as_json
from tests.unit.appliance.waiting import PATIENCE_S, many, waiting

ONE, TWO = a_task_id(1), a_task_id(2)

APART_S = 17.3
"""No multiple of any pause: of twenty who come so far apart each meets another moment of it."""


async def newcomer(rounds: TaskRounds, appliance: H4Tasks, task_id: TaskId) -> float:
    """How long it takes to see a new task over, which itself takes 0.15 s."""
    appliance.ends[task_id] = now() + 0.15
    began = now()
    await rounds.finished(task_id)
    return now() - began


async def newcomers(rounds: TaskRounds, appliance: H4Tasks) -> list[float]:
    """The same of twenty, one after another."""
    took_s = []
    for number in range(20, 40):
        await asyncio.sleep(APART_S)
        took_s.append(await newcomer(rounds, appliance, a_task_id(number)))
    return took_s


def stumbling(over: Collection[TaskId], request: Request) -> Answer | None:
    """The answer of an appliance that has no bulk poll, and cannot tell of these."""
    if request.method == "POST":
        return an_answer(404)
    return an_answer(500) if request.path.removeprefix("/tasks/") in over else None


def test_one_task_that_cannot_be_read_does_not_slow_the_others() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9}, spoil=lambda request: stumbling({ONE}, request))
        async with waiting(appliance, patience_s=inf) as (rounds, _):
            stuck = rounds.finished(ONE)
            assert max(await newcomers(rounds, appliance)) <= 1.0
            # It is asked about more and more seldom.
            assert appliance.asked["single"] < 20 * 3 + 60
            stuck.cancel()

    run(scene())


def about(*quiet: TaskId) -> Callable[[Request], bool]:
    """Whether a call is about one of these alone, or about all."""
    return lambda request: request.path.removeprefix("/tasks/") in quiet


def test_one_task_that_is_met_with_silence_slows_the_others_once() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9, TWO: 1e9}, hangs=about(ONE))
        appliance.spoil = lambda request: stumbling((), request)
        async with waiting(appliance, patience_s=inf) as (rounds, _):
            stuck = [rounds.finished(each) for each in (ONE, TWO)]
            # Who comes while the first silence lasts waits for its end, and no longer.
            assert await newcomer(rounds, appliance, a_task_id(19)) <= SILENCE_S + 1.0
            took_s = await newcomers(rounds, appliance)
            assert max(took_s) <= 3.0
            assert sum(took_s) / len(took_s) <= 1.0
            for each in stuck:
                each.cancel()

    run(scene())


def test_whoever_waits_for_a_task_that_is_met_with_silence_for_long_is_told() -> None:
    async def scene() -> None:
        appliance = H4Tasks({TWO: 1e9}, hangs=about(ONE))
        appliance.spoil = lambda request: stumbling((), request)
        async with waiting(appliance) as (rounds, _):
            other = rounds.finished(TWO)
            with pytest.raises(TaskUnreadable) as told:
                await rounds.finished(ONE, until=900.0)
            assert told.value.error.code == "AnswerTimeout"
            assert now() <= SILENCE_S + PATIENCE_S + MAX_PAUSE_S + 5.0
            assert not other.done()
            other.cancel()

    run(scene())


def test_silence_about_all_tasks_tells_of_none() -> None:
    async def scene() -> None:
        appliance = H4Tasks(many(5, 0.0), hangs=lambda _: now() < 300.0)
        async with waiting(appliance) as (rounds, _):
            ends = await asyncio.gather(*(rounds.finished(each) for each in appliance.ends))
        assert all(each.succeeded for each in ends)
        assert now() <= 300.0 + SILENCE_S + MAX_PAUSE_S

    run(scene())


def test_tasks_that_were_not_to_be_read_for_a_while_are_all_seen_over() -> None:
    async def scene() -> None:
        bad = set(many(5, 0.0))
        appliance = H4Tasks(many(5, 0.0), spoil=lambda request: stumbling(bad, request))
        async with waiting(appliance) as (rounds, _):
            ends = [rounds.finished(each) for each in appliance.ends]
            await asyncio.sleep(PATIENCE_S / 2)
            bad.remove(a_task_id(4))
            async with asyncio.timeout(PATIENCE_S / 2 - 1.0):
                assert (await ends[4]).succeeded
            bad.clear()
            for each in ends:
                assert (await each).succeeded

    run(scene())


def test_whoever_waits_for_a_task_that_cannot_be_read_for_long_is_told() -> None:
    async def scene() -> None:
        appliance = H4Tasks({TWO: 1e9}, spoil=lambda request: stumbling({ONE}, request))
        async with waiting(appliance) as (rounds, _):
            other = rounds.finished(TWO)
            with pytest.raises(TaskUnreadable) as told:
                await rounds.finished(ONE)
            assert told.value.error.code == "Http500"
            assert PATIENCE_S <= now() <= PATIENCE_S + MAX_PAUSE_S + 5.0
            assert not other.done()
            other.cancel()

    run(scene())


def test_a_task_that_can_be_read_now_and_then_is_not_unreadable() -> None:
    async def scene() -> None:
        def moody(request: Request) -> Answer | None:
            return stumbling({ONE} if now() % 40.0 < 25.0 else (), request)

        appliance = H4Tasks({ONE: 300.0}, spoil=moody)
        async with waiting(appliance) as (rounds, _):
            assert (await rounds.finished(ONE)).succeeded

    run(scene())


@pytest.mark.parametrize("useless", [an_answer(500), an_answer(200, b"<html>")])
def test_a_task_that_a_table_tells_to_have_failed_has_though_nobody_hears_why(
    useless: Answer,
) -> None:
    table = as_json({"propertyNames": ["id", "state"], "values": [[ONE, "FAILED"]]})

    def tell_no_reason(request: Request) -> Answer:
        return an_answer(200, table) if request.method == "POST" else useless

    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.0}, spoil=tell_no_reason)
        async with waiting(appliance) as (rounds, _):
            task = await rounds.finished(ONE)
            assert task.failed
            assert task.error is None
            assert appliance.asked["single"] == 2

    run(scene())
