"""Group commit, without a database: the commit is the test's own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from service.domain.errors import StoreUnavailable
from service.store.errors import RolledBack
from service.store.group import CROWD, LARGEST_GROUP, GroupCommit
from tests.support.virtual_time import now, run


class Commits:
    """Commits that the test holds back and lets go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(items))
        self.began.set()
        await self.may_end.wait()
        return [item * 10 if item >= 0 else ValueError(item) for item in items]


async def nothing() -> None:
    """There is nothing to close."""


@asynccontextmanager
async def at_work(group: GroupCommit[int, int]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        ready = asyncio.Event()
        tasks.create_task(group.run(ready))
        await ready.wait()
        try:
            yield
        finally:
            await group.stop()


async def submitted(
    tasks: asyncio.TaskGroup, group: GroupCommit[int, int], items: Sequence[int]
) -> list[asyncio.Task[int]]:
    """Tasks that have handed over, in this order."""
    waiting = [tasks.create_task(group.submit(item)) for item in items]
    await asyncio.sleep(0)
    return waiting


async def test_what_was_handed_over_during_a_commit_shares_the_next_one_in_order() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing)
    async with at_work(group), asyncio.TaskGroup() as tasks:
        commits.may_end.clear()
        [first] = await submitted(tasks, group, [1])
        await commits.began.wait()
        others = await submitted(tasks, group, range(2, 7))
        commits.may_end.set()
        assert [await task for task in [first, *others]] == [10, 20, 30, 40, 50, 60]
    assert commits.groups == [[1], [2, 3, 4, 5, 6]]


async def test_after_a_crowd_more_gather_and_who_stops_does_not_wait_for_them() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing, rest_s=3600)
    async with asyncio.TaskGroup() as tasks:
        async with at_work(group):
            crowd = await submitted(tasks, group, range(CROWD))
            await asyncio.gather(*crowd)
            one = await submitted(tasks, group, [100])
            other = await submitted(tasks, group, [101])
        assert [await task for task in [*one, *other]] == [1000, 1010]
    assert commits.groups == [list(range(CROWD)), [100, 101]]


async def test_many_who_come_one_by_one_are_a_crowd_too() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing, rest_s=3600)
    async with asyncio.TaskGroup() as tasks:
        async with at_work(group):
            for item in range(CROWD + 1):
                await group.submit(item)
            [one] = await submitted(tasks, group, [100])
            [other] = await submitted(tasks, group, [101])
        assert [await task for task in (one, other)] == [1000, 1010]
    assert commits.groups == [*([item] for item in range(CROWD + 1)), [100, 101]]


def test_who_came_long_ago_is_none_of_it() -> None:
    async def scene() -> None:
        group: GroupCommit[int, int] = GroupCommit(Commits(), nothing, rest_s=1.0)
        async with at_work(group):
            for number in range(CROWD * 2):
                # Virtual time: how far apart they come, so that a rest, if any, would show.
                await asyncio.sleep(0.9)
                came = now()
                await group.submit(number)
                assert now() == came

    run(scene())


async def test_a_rest_comes_to_an_end() -> None:
    group: GroupCommit[int, int] = GroupCommit(Commits(), nothing, rest_s=0.001)
    async with at_work(group), asyncio.TaskGroup() as tasks:
        await asyncio.gather(*await submitted(tasks, group, range(CROWD)))
        assert await group.submit(7) == 70


@pytest.mark.parametrize(("rest_s", "pressing_s", "waits_s"), [(9.0, 0.5, 0.5), (0.5, 9.0, 0.5)])
def test_what_is_pressing_cuts_the_rest_short_for_all(
    rest_s: float, pressing_s: float, waits_s: float
) -> None:
    async def scene() -> None:
        commits = Commits()
        group: GroupCommit[int, int] = GroupCommit(
            commits, nothing, rest_s=rest_s, pressing_s=pressing_s
        )
        async with at_work(group), asyncio.TaskGroup() as tasks:
            await asyncio.gather(*await submitted(tasks, group, range(CROWD)))
            [waits] = await submitted(tasks, group, [100])
            came = now()
            assert await group.submit(101, is_pressing=True) == 1010
            assert now() == pytest.approx(came + waits_s)
            assert await waits == 1000
        assert commits.groups[1:] == [[100, 101]]

    run(scene())


def test_what_came_during_a_commit_presses_from_then_on() -> None:
    async def scene() -> None:
        commits = Commits()
        group: GroupCommit[int, int] = GroupCommit(commits, nothing, rest_s=9.0, pressing_s=0.5)
        async with at_work(group), asyncio.TaskGroup() as tasks:
            commits.may_end.clear()
            crowd = await submitted(tasks, group, range(CROWD))
            pressing = tasks.create_task(group.submit(7, is_pressing=True))
            came = now()
            await asyncio.sleep(0.3)  # Virtual: how long the commit takes.
            commits.may_end.set()
            await asyncio.gather(*crowd)
            assert await pressing == 70
            assert now() == pytest.approx(came + 0.5)

    run(scene())


def test_who_fills_a_group_does_not_wait_for_more() -> None:
    async def scene() -> None:
        commits = Commits()
        group: GroupCommit[int, int] = GroupCommit(commits, nothing, rest_s=9.0)
        async with at_work(group), asyncio.TaskGroup() as tasks:
            began = now()
            await asyncio.gather(*await submitted(tasks, group, range(2 * LARGEST_GROUP)))
            assert now() == began

    run(scene())


def test_what_was_pressing_is_not_for_the_next_group() -> None:
    async def scene() -> None:
        group: GroupCommit[int, int] = GroupCommit(Commits(), nothing, rest_s=9.0, pressing_s=0.5)
        async with at_work(group), asyncio.TaskGroup() as tasks:
            await asyncio.gather(*await submitted(tasks, group, range(CROWD)))
            began = now()
            await asyncio.gather(
                *[group.submit(number, is_pressing=True) for number in range(CROWD)]
            )
            assert now() == pytest.approx(began + 0.5)
            await group.submit(7)
            assert now() == pytest.approx(began + 0.5 + 9.0)

    run(scene())


async def test_where_few_are_about_nobody_waits() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing, rest_s=3600)
    async with at_work(group), asyncio.TaskGroup() as tasks:
        await asyncio.gather(*await submitted(tasks, group, range(CROWD - 1)))
        assert await group.submit(7) == 70


async def test_one_refused_item_fails_for_its_caller_alone() -> None:
    group: GroupCommit[int, int] = GroupCommit(Commits(), nothing)
    async with at_work(group):
        answers = await asyncio.gather(
            *[group.submit(item) for item in (1, -2, 3)], return_exceptions=True
        )
    assert answers[::2] == [10, 30]
    assert isinstance(answers[1], ValueError)


async def test_a_cancelled_caller_leaves_and_its_item_is_committed_all_the_same() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing)
    async with at_work(group), asyncio.TaskGroup() as tasks:
        commits.may_end.clear()
        [first] = await submitted(tasks, group, [1])
        await commits.began.wait()
        [waiting, other] = await submitted(tasks, group, [2, 3])
        first.cancel()
        waiting.cancel()
        await asyncio.wait([first, waiting])
        commits.may_end.set()
        assert await other == 30
    assert commits.groups == [[1], [2, 3]]


async def test_an_unknown_outcome_is_everybodys_and_the_next_group_is_tried_anew() -> None:
    groups: list[list[int]] = []

    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        groups.append(list(items))
        if len(groups) == 1:
            raise StoreUnavailable("gone")
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(commit, nothing)
    async with at_work(group):
        answers = await asyncio.gather(
            *[group.submit(item) for item in (1, 2, 3)], return_exceptions=True
        )
        assert await group.submit(4) == 4
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert len({id(answer) for answer in answers}) == 3
    assert groups == [[1, 2, 3], [4]]


@pytest.mark.parametrize("trouble", [ValueError("poison"), RolledBack("deadlock")])
async def test_a_group_that_was_refused_as_a_whole_is_committed_one_by_one(
    trouble: Exception,
) -> None:
    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        if 2 in items:
            raise trouble
        return list(items)

    group: GroupCommit[int, int] = GroupCommit(commit, nothing)
    async with at_work(group):
        answers = await asyncio.gather(
            *[group.submit(item) for item in (1, 2, 3)], return_exceptions=True
        )
    assert answers == [1, trouble, 3]


async def test_an_outage_while_each_is_tried_alone_is_waited_for_once() -> None:
    tried: list[list[int]] = []

    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        tried.append(list(items))
        if -1 in items:
            raise ValueError(-1)
        raise StoreUnavailable("away")

    group: GroupCommit[int, int] = GroupCommit(commit, nothing)
    async with at_work(group):
        outcomes = await asyncio.gather(
            *[group.submit(item) for item in (-1, 1, 2, 3)], return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [ValueError, *[StoreUnavailable] * 3]
    assert tried == [[-1, 1, 2, 3], [-1], [1]]


async def test_a_group_never_grows_beyond_its_limit() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing)
    async with at_work(group), asyncio.TaskGroup() as tasks:
        await submitted(tasks, group, range(2 * LARGEST_GROUP + 1))
    assert [len(each) for each in commits.groups] == [LARGEST_GROUP, LARGEST_GROUP, 1]


async def test_stop_drains_and_then_takes_nothing_more() -> None:
    commits = Commits()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing)
    async with at_work(group), asyncio.TaskGroup() as tasks:
        commits.may_end.clear()
        waiting = await submitted(tasks, group, [1])
        await commits.began.wait()
        waiting += await submitted(tasks, group, [2])
        stopping = tasks.create_task(group.stop())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="shutting down"):
            await group.submit(3)
        assert not stopping.done()
        commits.may_end.set()
        await stopping
        assert [task.result() for task in waiting] == [10, 20]


async def test_a_cancelled_loop_leaves_nobody_waiting() -> None:
    commits = Commits()
    commits.may_end.clear()
    group: GroupCommit[int, int] = GroupCommit(commits, nothing)
    loop = asyncio.ensure_future(group.run())
    async with asyncio.TaskGroup() as tasks:
        callers = [tasks.create_task(outcome(group, item)) for item in (1, 2)]
        await commits.began.wait()
        callers += [tasks.create_task(outcome(group, 3))]
        await asyncio.sleep(0)
        loop.cancel()
    assert [type(caller.result()) for caller in callers] == [StoreUnavailable] * 3
    await asyncio.wait([loop])
    assert loop.cancelled()
    with pytest.raises(StoreUnavailable):
        await group.submit(4)


async def test_stop_returns_when_what_was_held_is_closed_after_the_last_commit() -> None:
    happened: list[str] = []

    async def commit(items: Sequence[int]) -> Sequence[int | Exception]:
        happened.append("commit")
        return list(items)

    async def close() -> None:
        await asyncio.sleep(0)
        happened.append("close")

    group: GroupCommit[int, int] = GroupCommit(commit, close)
    async with at_work(group):
        await group.submit(1)
        await group.stop()
        assert happened == ["commit", "close"]


async def test_stop_before_the_start_and_again_returns_at_once() -> None:
    group: GroupCommit[int, int] = GroupCommit(Commits(), nothing)
    await group.stop()
    await group.run()
    await group.stop()


async def test_starting_and_stopping_at_any_moment_loses_no_answer() -> None:
    """Each item is either answered or refused, however the stop falls."""
    for turns in range(20):
        commits = Commits()
        group: GroupCommit[int, int] = GroupCommit(commits, nothing)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(group.run())
            callers = []
            for item in range(turns):
                callers.append(tasks.create_task(outcome(group, item)))
                await asyncio.sleep(0)
            await group.stop()
        for item, caller in enumerate(callers):
            assert caller.result() == item * 10 or isinstance(caller.result(), StoreUnavailable)
        committed = [item for each in commits.groups for item in each]
        assert committed == [i for i, caller in enumerate(callers) if caller.result() == i * 10]


async def outcome(group: GroupCommit[int, int], item: int) -> int | Exception:
    """What became of `item`."""
    try:
        return await group.submit(item)
    except StoreUnavailable as error:
        return error
