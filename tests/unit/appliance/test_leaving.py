"""Who waits for a task and goes away, or is sent away, before it is over."""

import asyncio
import gc
from itertools import pairwise
from typing import Any
from weakref import ref

import pytest

from service.appliance.exchange import Answer, Request
from service.appliance.pace import Pace
from service.appliance.rounds import MAX_PAUSE_S
from service.domain.appliance import ApiError
from service.domain.errors import ApplianceClosed, NotSent
from tests.support.virtual_time import now, run
from tests.unit.appliance.h4tasks import H4Tasks
from tests.unit.appliance.values import a_task_id, an_answer
from tests.unit.appliance.waiting import waiting

ONE, TWO = a_task_id(1), a_task_id(2)

OLD_S = 2 * Pace().cap_s / Pace().share
"""A task of this age is looked after as seldom as any."""


async def a_look(appliance: H4Tasks) -> None:
    """Return when it has been asked once more."""
    asked = asyncio.Event()

    def tell(_: Request) -> None:
        asked.set()

    appliance.spoil = tell
    await asked.wait()
    appliance.spoil = None


async def all_end(since: set["asyncio.Task[Any]"]) -> None:
    """Whatever runs that did not run then ends by itself, and at this very moment."""
    began = now()
    if left := asyncio.all_tasks() - since:
        await asyncio.wait(left, timeout=Pace().cap_s)
    assert (asyncio.all_tasks(), now()) == (since, began)


def test_one_who_goes_away_leaves_the_others_and_the_last_one_ends_the_loop() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 3.0, TWO: 1e9})
        async with waiting(appliance) as (rounds, _):
            before = asyncio.all_tasks()
            gone = [rounds.finished(task_id) for task_id in (ONE, TWO)]
            stays = rounds.finished(ONE)
            await a_look(appliance)
            for each in gone:
                each.cancel()
            assert (await stays).id == ONE
            await all_end(before)
        assert appliance.sizes[0] == 2
        assert appliance.sizes[-1] == 1

    run(scene())


def test_nobody_looks_after_the_only_one_went_away() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9})
        async with waiting(appliance) as (rounds, _):
            before = asyncio.all_tasks()
            waiter = rounds.finished(ONE)
            await asyncio.sleep(OLD_S)
            waiter.cancel()
            looks = len(appliance.times)
            await asyncio.sleep(Pace().cap_s)  # Until the next look would come, and no longer.
            assert asyncio.all_tasks() == before
        assert len(appliance.times) == looks

    run(scene())


def test_who_asks_about_a_task_that_another_gave_up_is_looked_after_anew() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9})
        async with waiting(appliance) as (rounds, _):
            first = rounds.finished(ONE)
            await asyncio.sleep(OLD_S)
            first.cancel()
            appliance.ends[ONE] = now()
            await rounds.finished(ONE)
            assert now() == pytest.approx(OLD_S + Pace().first_s)

    run(scene())


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_who_goes_away_does_not_make_an_appliance_that_fails_be_asked_more_often(
    share: float,
) -> None:
    """Wherever in the pause another one comes: just before its end, he is not due yet himself."""

    async def scene() -> None:
        looked = asyncio.Event()

        def failing(request: Request) -> Answer | None:
            if request.method == "POST":
                return an_answer(404)
            looked.set()
            raise NotSent(ApiError("ConnectionLost", "reset"))

        async def next_looks(count: int) -> None:
            for _ in range(count):
                looked.clear()
                await looked.wait()

        appliance = H4Tasks(spoil=failing)
        async with waiting(appliance) as (rounds, _):
            first = rounds.finished(ONE)
            await next_looks(6)
            *_, before, last = appliance.times
            await asyncio.sleep(share * 2 * (last - before))
            assert appliance.times[-1] == last
            first.cancel()
            second = rounds.finished(TWO)
            await next_looks(2)
            second.cancel()
        pauses = [late - soon for soon, late in pairwise(appliance.times)]
        assert pauses == sorted(pauses)
        assert pauses[-1] == pytest.approx(MAX_PAUSE_S / 2)  # There is no jitter.

    run(scene())


def test_who_is_turned_away_leaves_nothing_running() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9})
        async with waiting(appliance) as (rounds, _):
            before = asyncio.all_tasks()
            waiter = rounds.finished(ONE)
            await a_look(appliance)
            rounds.abandon(ApplianceClosed(ApiError("ApplianceUnavailable", "no answer")))
            with pytest.raises(ApplianceClosed):
                await waiter
            await all_end(before)

    run(scene())


def test_whoever_waits_when_the_client_is_closed_is_turned_away() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9})
        async with waiting(appliance) as (rounds, tasks):
            waiter = rounds.finished(ONE)
            await a_look(appliance)
            await tasks.close()
            rounds.abandon()
            with pytest.raises(NotSent):
                await waiter
            with pytest.raises(NotSent):
                await rounds.finished(TWO)

    run(scene())


def test_a_client_that_is_closed_is_not_kept_until_the_time_of_those_who_waited() -> None:
    async def scene() -> None:
        async with waiting(H4Tasks({ONE: 1e9})) as (rounds, tasks):
            waiter = rounds.finished(ONE, until=1e6)
            await tasks.close()
            rounds.abandon()
            with pytest.raises(NotSent):
                await waiter
            kept = ref(rounds)
            del rounds, waiter
            gc.collect()
            assert kept() is None

    run(scene())


def test_who_comes_while_the_client_is_being_closed_is_told_once() -> None:
    async def scene() -> None:
        untold: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: untold.append(about))
        async with waiting(H4Tasks()) as (rounds, tasks):
            await tasks.close()
            with pytest.raises(NotSent):
                await rounds.finished(ONE)
            rounds.abandon()
            gc.collect()
        assert untold == []

    run(scene())


def test_who_went_away_is_forgotten_though_another_one_waits_on() -> None:
    async def scene() -> None:
        async with waiting(H4Tasks({ONE: 10.0})) as (rounds, _):
            stays = rounds.finished(ONE)
            gone = rounds.finished(ONE)
            gone.cancel()
            kept = ref(gone)
            del gone
            late = rounds.finished(ONE)
            assert kept() is None
            assert await stays == await late

    run(scene())
