"""Waiting for tasks, together."""

import asyncio

import pytest

from service.appliance.exchange import Answer, Request
from service.appliance.pace import Pace
from service.appliance.rounds import TaskRounds
from service.domain.appliance import ApiError, Task
from service.domain.errors import (
    ApplianceClosed,
    NotSent,
    Rejected,
    TaskForgotten,
    TaskUnfinished,
)
from service.domain.ids import OperationId, TaskId
from service.observe.context import WorkContext, current, working_as, working_on
from tests.support.virtual_time import now, run
from tests.unit.appliance.h4tasks import H4Tasks
from tests.unit.appliance.values import a_table, a_task_id, an_answer
from tests.unit.appliance.waiting import many, waiting

ONE, TWO = a_task_id(1), a_task_id(2)
A_MOMENT_S = 0.05


def test_a_task_is_seen_over_at_the_next_look() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.15})
        async with waiting(appliance) as (rounds, _):
            task = await rounds.finished(ONE)
        assert task.succeeded
        assert appliance.times == pytest.approx([0.1, 0.3])

    run(scene())


def test_who_is_looked_at_along_with_another_is_not_looked_at_sooner_for_it() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.3, TWO: 0.6})
        pace = Pace(mean_s=0.3, deviation_s=0.05, seen=16)
        async with waiting(appliance, pace=pace) as (rounds, _):
            one = rounds.finished(ONE)
            await asyncio.sleep(0.3)
            two = rounds.finished(TWO)
            await asyncio.gather(one, two)
        assert appliance.times == pytest.approx([0.375, 0.675])

    run(scene())


@pytest.mark.parametrize(("start", "end"), [(1, 10**400), (1, None), (None, 1)])
def test_a_task_whose_times_are_no_times_is_told_all_the_same(
    start: int | None, end: int | None
) -> None:
    async def scene() -> None:
        names = ["id", "state", "startTime", "endTime"]
        table = a_table(names, [ONE, "SUCCEEDED", start, end], [TWO, "RUNNING", 1, -1])
        appliance = H4Tasks(spoil=lambda _: an_answer(200, table))
        async with waiting(appliance) as (rounds, _):
            other = rounds.finished(TWO)
            task = await rounds.finished(ONE, until=10.0)
            await asyncio.sleep(A_MOMENT_S)
            assert not other.done()
            other.cancel()
        assert task.succeeded

    run(scene())


def test_each_waits_as_long_as_it_said_and_no_longer() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 9.0, TWO: 9.0})

        async def gives_up_at(task_id: TaskId, until: float) -> None:
            with pytest.raises(TimeoutError):
                await rounds.finished(task_id, until)
            assert asyncio.get_running_loop().time() == pytest.approx(until)

        async with waiting(appliance) as (rounds, _), asyncio.TaskGroup() as waiters:
            waiters.create_task(gives_up_at(ONE, 3.0))
            waiters.create_task(gives_up_at(ONE, 1.0))
            waiters.create_task(gives_up_at(TWO, 2.0))
            assert (await rounds.finished(ONE, 10.0)).succeeded
            await gives_up_at(TWO, asyncio.get_running_loop().time())

    run(scene())


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (["RUNNING", None], f"task {ONE} was RUNNING."),
        (
            ["CANCELLED", {"msg": "by admin"}],
            f"task {ONE} was CANCELLED: by admin",
        ),
    ],
)
def test_who_waited_in_vain_hears_how_the_task_stood(row: list[object], seen: str) -> None:
    async def scene() -> None:
        table = a_table(["id", "state", "error"], [ONE, *row])
        async with waiting(H4Tasks(spoil=lambda _: an_answer(200, table))) as (rounds, _):
            with pytest.raises(TaskUnfinished) as unfinished:
                await rounds.finished(ONE, until=2.0)
            assert unfinished.value.seen == seen
            with pytest.raises(TaskUnfinished) as unseen:
                await rounds.finished(TWO, until=now())
            assert not unseen.value.seen

    run(scene())


def test_whose_time_is_over_at_nearly_the_same_moment_are_told_together() -> None:
    async def scene() -> None:
        told: set[float] = set()

        async def gives_up_at(number: int, until: float) -> None:
            with pytest.raises(TimeoutError):
                await rounds.finished(a_task_id(number), until)
            assert 0.0 <= now() - until <= 0.051
            told.add(now())

        async with (
            waiting(H4Tasks(many(500, 90.0))) as (rounds, _),
            asyncio.TaskGroup() as waiters,
        ):
            for number in range(500):
                waiters.create_task(gives_up_at(number, 5.0 + number / 1000))
        # One look at all who wait for each; else it would be one for each who waits.
        assert len(told) <= 11

    run(scene())


def test_a_look_that_hangs_holds_nobody_beyond_his_time() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 9.0}, latency_s=60.0)
        async with waiting(appliance) as (rounds, _):
            with pytest.raises(TimeoutError):
                await rounds.finished(ONE, 2.0)
            assert asyncio.get_running_loop().time() == pytest.approx(2.0)

    run(scene())


def test_all_who_wait_share_the_rounds() -> None:
    async def scene() -> None:
        appliance = H4Tasks(many(50, 1.0))
        async with waiting(appliance) as (rounds, _):
            tasks = await asyncio.gather(*(rounds.finished(task_id) for task_id in appliance.ends))
        assert [task.id for task in tasks] == list(appliance.ends)
        assert appliance.asked == {"bulk": 6}
        assert appliance.sizes == [50] * 6

    run(scene())


def test_crowds_on_two_appliances_are_looked_after_at_the_same_moments() -> None:
    async def scene() -> None:
        early, late = H4Tasks(many(8, 0.95), latency_s=0.003), H4Tasks(many(8, 0.95))

        async def all_of(appliance: H4Tasks, from_s: float) -> None:
            await asyncio.sleep(from_s)
            async with waiting(appliance) as (rounds, _):
                await asyncio.gather(*(rounds.finished(each) for each in appliance.ends))

        await asyncio.gather(all_of(early, 0.01), all_of(late, 0.13))
        assert early.times == pytest.approx(late.times)

    run(scene())


def test_a_crowd_that_is_asked_about_one_by_one_is_looked_after_at_the_beat_too() -> None:
    async def scene() -> None:
        def no_bulk(request: Request) -> Answer | None:
            return an_answer(404) if request.method == "POST" else None

        appliance = H4Tasks(many(16, 0.1), spoil=no_bulk)

        async def one(number: int, from_s: float, rounds: TaskRounds) -> float:
            await asyncio.sleep(from_s)
            await rounds.finished(a_task_id(number))
            return now()

        async with waiting(appliance) as (rounds, _):
            first = [one(number, 0.13, rounds) for number in range(8)]
            assert await asyncio.gather(*first) == pytest.approx([0.2] * 8)
            # There is no bulk poll, as is known by now, and they are due at 0.43.
            second = [one(number, 0.33 - now(), rounds) for number in range(8, 16)]
            assert await asyncio.gather(*second) == pytest.approx([0.4] * 8)

    run(scene())


def test_a_thousand_tasks_of_thirty_seconds_cost_few_calls() -> None:
    async def scene() -> None:
        appliance = H4Tasks(many(1000, 30.0))
        async with waiting(appliance) as (rounds, _):
            await asyncio.gather(*(rounds.finished(task_id) for task_id in appliance.ends))
        assert appliance.asked["bulk"] <= 2 * 26
        assert appliance.asked["single"] == 0
        assert now() < 30.0 * 1.2

    run(scene())


def test_long_tasks_that_begin_one_after_another_cost_less_than_two_calls_each() -> None:
    async def scene() -> None:
        appliance = H4Tasks()

        async def one(number: int, rounds: TaskRounds) -> None:
            await asyncio.sleep(number)
            appliance.ends[a_task_id(number)] = now() + 30.0
            await rounds.finished(a_task_id(number))

        async with waiting(appliance) as (rounds, _):
            await asyncio.gather(*(one(number, rounds) for number in range(300)))
        assert appliance.asked["bulk"] < 2 * 300

    run(scene())


def test_one_task_that_never_ends_does_not_slow_the_others() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9, TWO: 1e9})
        async with waiting(appliance) as (rounds, _):
            stuck = rounds.finished(ONE)
            await asyncio.sleep(600.0)
            appliance.ends[TWO] = now() + 0.15
            began = now()
            await rounds.finished(TWO)
            assert now() - began <= 0.35
            stuck.cancel()

    run(scene())


def test_a_late_comer_is_looked_after_soon_though_the_others_are_old() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1e9})
        async with waiting(appliance) as (rounds, _):
            stuck = rounds.finished(ONE)
            await asyncio.sleep(101.0)
            appliance.ends[TWO] = 0.0
            await rounds.finished(TWO)
            assert now() == pytest.approx(101.1)
            stuck.cancel()

    run(scene())


def test_nothing_runs_while_nobody_waits() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.0})
        async with waiting(appliance) as (rounds, _):
            before = asyncio.all_tasks()
            await rounds.finished(ONE)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == before

    run(scene())


def test_without_bulk_poll_only_tasks_that_are_due_are_asked_about() -> None:
    async def scene() -> None:
        def lacks_it(request: Request) -> Answer | None:
            return an_answer(404) if request.method == "POST" else None

        appliance = H4Tasks({ONE: 1e9, TWO: 1e9}, spoil=lacks_it)
        async with waiting(appliance) as (rounds, _):
            old = rounds.finished(ONE)
            await asyncio.sleep(300.0)
            appliance.asked.clear()
            young = rounds.finished(TWO)
            await asyncio.sleep(1.05)
            assert appliance.asked["single"] <= 5 + 1
            old.cancel()
            young.cancel()

    run(scene())


def test_a_task_missing_from_the_table_and_unknown_by_itself_is_forgotten() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.0})
        async with waiting(appliance) as (rounds, _):
            found, lost = await asyncio.gather(
                rounds.finished(ONE), rounds.finished(TWO), return_exceptions=True
            )
        assert isinstance(found, Task)
        assert isinstance(lost, TaskForgotten)
        assert appliance.asked == {"bulk": 1, "single": 1}

    run(scene())


def test_a_task_missing_from_the_table_may_still_be_known_by_itself() -> None:
    async def scene() -> None:
        def hide(request: Request) -> Answer | None:
            table = b'{"propertyNames": ["id", "state"], "values": []}'
            return an_answer(200, table) if request.method == "POST" else None

        appliance = H4Tasks({ONE: 1.0}, spoil=hide)
        async with waiting(appliance) as (rounds, _):
            assert (await rounds.finished(ONE)).succeeded

    run(scene())


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_sick_appliance_has_not_forgotten_anything(status: int) -> None:
    async def scene() -> None:
        def sick(_: Request) -> Answer | None:
            return an_answer(status) if now() < 20.0 else None

        appliance = H4Tasks({ONE: 0.0}, spoil=sick)
        async with waiting(appliance) as (rounds, _):
            assert (await rounds.finished(ONE)).succeeded
        assert 20.0 <= now() <= 31.0
        assert sum(appliance.asked.values()) < 30

    run(scene())


@pytest.mark.parametrize(("count", "first_s"), [(1, 0.1), (8, 0.2)])
def test_the_pause_that_an_appliance_asks_for_is_kept(count: int, first_s: float) -> None:
    async def scene() -> None:
        def busy(_: Request) -> Answer | None:
            return an_answer(503, retry_after="42") if now() < 1.0 else None

        appliance = H4Tasks(many(count, 0.0), latency_s=0.03, spoil=busy)
        async with waiting(appliance) as (rounds, _):
            # Virtual time: no moment at which a crowd's rounds begin.
            await asyncio.sleep(first_s - 0.1)
            await asyncio.gather(*(rounds.finished(each) for each in appliance.ends))
        # Asked for in the answer, and not a moment less.
        assert appliance.times == pytest.approx([first_s, first_s + 0.03 + 42.0])

    run(scene())


def test_who_comes_after_all_were_turned_away_does_not_wait_for_what_was_wished_before() -> None:
    async def scene() -> None:
        def busy(_: Request) -> Answer | None:
            return an_answer(503, retry_after="3600") if now() < 1.0 else None

        appliance = H4Tasks({ONE: 0.0}, spoil=busy)
        async with waiting(appliance) as (rounds, _):
            waiter = rounds.finished(ONE)
            await asyncio.sleep(1.0)
            rounds.abandon(ApplianceClosed(ApiError("ApplianceUnavailable", "no answer")))
            await rounds.finished(ONE)
            assert now() == pytest.approx(1.1)
            with pytest.raises(ApplianceClosed):
                await waiter

    run(scene())


def test_a_lost_round_is_repeated() -> None:
    async def scene() -> None:
        lost = [NotSent(ApiError("ConnectionLost", "reset")) for _ in range(3)]

        def reset(_: Request) -> Answer | None:
            if lost:
                raise lost.pop()
            return None

        appliance = H4Tasks({ONE: 0.0}, spoil=reset)
        async with waiting(appliance) as (rounds, _):
            assert (await rounds.finished(ONE)).succeeded
        assert appliance.asked["bulk"] == 4

    run(scene())


def test_that_the_appliance_is_closed_is_told_to_all_who_wait() -> None:
    async def scene() -> None:
        def refuse(_: Request) -> Answer | None:
            raise ApplianceClosed(ApiError("ApplianceUnavailable", "no answer"))

        async with waiting(H4Tasks(spoil=refuse)) as (rounds, _):
            answers = await asyncio.gather(
                rounds.finished(ONE), rounds.finished(TWO), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [ApplianceClosed, ApplianceClosed]

    run(scene())


def test_a_refusal_is_told_to_all_who_wait() -> None:
    async def scene() -> None:
        appliance = H4Tasks(spoil=lambda _: an_answer(302))
        async with waiting(appliance) as (rounds, _):
            answers = await asyncio.gather(
                rounds.finished(ONE), rounds.finished(TWO), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [Rejected, Rejected]

    run(scene())


def test_a_defect_is_told_to_those_who_wait_not_to_the_group() -> None:
    async def scene() -> None:
        def crash(_: Request) -> Answer | None:
            raise ZeroDivisionError

        async with waiting(H4Tasks(spoil=crash)) as (rounds, _):
            with pytest.raises(ZeroDivisionError):
                await rounds.finished(ONE)

    run(scene())


def test_two_who_wait_for_the_same_task_both_get_it() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 1.0})
        async with waiting(appliance) as (rounds, _):
            one, other = await asyncio.gather(rounds.finished(ONE), rounds.finished(ONE))
        assert one is other
        assert set(appliance.sizes) == {1}

    run(scene())


def test_a_task_may_be_waited_for_again() -> None:
    async def scene() -> None:
        async with waiting(H4Tasks({ONE: 0.0})) as (rounds, _):
            assert (await rounds.finished(ONE)).succeeded
            assert (await rounds.finished(ONE)).succeeded

    run(scene())


def test_a_failed_task_whose_reason_the_table_leaves_out_is_asked_for_it() -> None:
    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.0}, state="FAILED")
        async with waiting(appliance) as (rounds, _):
            task = await rounds.finished(ONE)
        assert task.failed
        assert task.error is not None
        assert task.error.code == "CertificateMismatch"

    run(scene())


def test_a_round_is_made_on_behalf_of_the_first_and_names_the_others() -> None:
    async def wait_as(name: str, task_id: TaskId, rounds: TaskRounds) -> None:
        with working_on(operation_id=OperationId(name)):
            await rounds.finished(task_id)

    async def scene() -> None:
        appliance = H4Tasks({ONE: 0.0, TWO: 0.0})
        async with waiting(appliance) as (rounds, _):
            await asyncio.gather(wait_as("op-1", ONE, rounds), wait_as("op-2", TWO, rounds))
        assert appliance.callers == [["op-1", "op-2"]]

    run(scene())


def test_a_look_is_of_a_pairing_and_a_task_only_if_it_is_for_no_other() -> None:
    looks: list[tuple[str | None, str | None]] = []

    def note(_: Request) -> None:
        looks.append((current().pairing, current().task))

    async def scene() -> None:
        async with waiting(H4Tasks({ONE: 0.15, TWO: 0.35}, spoil=note)) as (rounds, _):
            with working_as(WorkContext(OperationId("op"), "p-1")):
                one = rounds.finished(ONE)
            with working_as(WorkContext(OperationId("op"), "p-2")):
                await asyncio.gather(one, rounds.finished(TWO))

    run(scene())
    assert looks[0] == (None, None)
    assert looks[-1] == ("p-2", TWO)
