"""What is made of appliances whose bulk poll is odd, or not there."""

import asyncio
from collections.abc import Callable

import pytest

from service.appliance.classify import judge_failure
from service.appliance.exchange import Answer, Failure, FailureKind, Request
from service.appliance.inquiry import News, Question, TaskInquiry
from service.appliance.limits import Limits
from service.domain.appliance import Task
from service.domain.errors import NotSent, TaskForgotten
from service.domain.ids import OperationId, TaskId
from tests.support.virtual_time import now, run
from tests.unit.appliance.h4tasks import SILENCE_S, H4Tasks
from tests.unit.appliance.values import a_task_id, an_answer

Told = dict[TaskId, News]


def tasks(count: int) -> dict[TaskId, float]:
    """Tasks that are over."""
    return {a_task_id(number): 0.0 for number in range(count)}


async def look(inquiry: TaskInquiry, appliance: H4Tasks, *more: TaskId) -> Told:
    """What one look tells about all tasks of the appliance, and `more`."""
    told: Told = {}
    questions = [Question(each, OperationId("op")) for each in (*appliance.ends, *more)]
    await inquiry.look(questions, told.__setitem__)
    return told


def all_found(told: Told, count: int) -> bool:
    """Whether that many tasks were seen over."""
    return len(told) == count and all(isinstance(each, Task) for each in told.values())


def test_many_tasks_are_asked_about_in_chunks() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(1200))
        assert all_found(await look(TaskInquiry(appliance.ask, Limits()), appliance), 1200)
        assert appliance.sizes == [500, 500, 200]

    run(scene())


@pytest.mark.parametrize("status", [400, 413])
def test_a_chunk_that_is_too_large_is_halved_and_the_size_remembered(status: int) -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(400), max_ids=120, too_many=status)
        inquiry = TaskInquiry(appliance.ask, Limits())
        assert all_found(await look(inquiry, appliance), 400)
        appliance.sizes.clear()
        assert all_found(await look(inquiry, appliance), 400)
        assert max(appliance.sizes) <= 120
        assert appliance.asked["single"] == 0

    run(scene())


def test_one_id_that_is_not_liked_does_not_spoil_the_others() -> None:
    bad = a_task_id(777)

    async def scene() -> None:
        def refuse(request: Request) -> Answer | None:
            is_bad = bad.encode() in (request.body or b"")
            return an_answer(400) if is_bad else None

        appliance = H4Tasks(tasks(100), spoil=refuse)
        inquiry = TaskInquiry(appliance.ask, Limits())
        told = await look(inquiry, appliance, bad)
        assert isinstance(told.pop(bad), TaskForgotten)
        assert all_found(told, 100)
        assert appliance.asked["single"] == 1
        assert inquiry.is_bulk()
        appliance.sizes.clear()
        assert all_found(await look(inquiry, appliance), 100)
        assert appliance.sizes == [100]

    run(scene())


@pytest.mark.parametrize("status", [404, 405, 415, 501])
def test_an_appliance_without_bulk_poll_is_asked_one_by_one_for_a_long_while(status: int) -> None:
    async def scene() -> None:
        def lacks_it(request: Request) -> Answer | None:
            return an_answer(status) if request.method == "POST" else None

        appliance = H4Tasks(tasks(10), spoil=lacks_it)
        inquiry = TaskInquiry(appliance.ask, Limits(bulk_retry_s=600.0))
        for _ in range(3):
            assert all_found(await look(inquiry, appliance), 10)
        assert appliance.asked == {"bulk": 1, "single": 30}
        await asyncio.sleep(601.0)
        appliance.spoil = None
        assert all_found(await look(inquiry, appliance), 10)
        assert appliance.asked == {"bulk": 2, "single": 30}

    run(scene())


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"propertyNames": [], "values": []}'])
def test_a_table_that_cannot_be_read_is_made_up_for_and_given_up_after_three(body: bytes) -> None:
    async def scene() -> None:
        def garble(request: Request) -> Answer | None:
            return an_answer(200, body) if request.method == "POST" else None

        appliance = H4Tasks(tasks(2), spoil=garble)
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(5):
            assert all_found(await look(inquiry, appliance), 2)
        assert appliance.asked == {"bulk": 3, "single": 10}

    run(scene())


def test_garbled_tables_now_and_then_are_forgiven() -> None:
    async def scene() -> None:
        good = None
        script = [an_answer(200, b"<html>"), an_answer(500), good] * 3

        def garble(request: Request) -> Answer | None:
            return script.pop(0) if request.method == "POST" else None

        appliance = H4Tasks(tasks(2), spoil=garble)
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(9):
            assert all_found(await look(inquiry, appliance), 2)
        assert appliance.asked == {"bulk": 9, "single": 12}

    run(scene())


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_appliance_that_is_sick_all_over_keeps_its_bulk_poll(status: int) -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(50), spoil=lambda _: an_answer(status))
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(9):
            with pytest.raises(NotSent):
                await look(inquiry, appliance)
        assert appliance.asked["single"] <= 9 * 2
        appliance.spoil = None
        appliance.asked.clear()
        assert all_found(await look(inquiry, appliance), 50)
        assert appliance.asked == {"bulk": 1}

    run(scene())


def test_few_single_calls_are_under_way_at_once() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(10), latency_s=1.0)
        inquiry = TaskInquiry(appliance.ask, Limits(connections=2))
        appliance.spoil = lambda request: an_answer(404) if request.method == "POST" else None
        await look(inquiry, appliance)
        singles = appliance.times[1:]
        assert singles == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0]

    run(scene())


def test_an_appliance_that_refuses_every_bulk_poll_is_not_asked_in_ever_smaller_ones() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(500), spoil=refuses_bulk)
        inquiry = TaskInquiry(appliance.ask, Limits())
        assert all_found(await look(inquiry, appliance), 500)
        assert appliance.asked["bulk"] < 20
        assert not inquiry.is_bulk()

    def refuses_bulk(request: Request) -> Answer | None:
        return an_answer(400) if request.method == "POST" else None

    run(scene())


@pytest.mark.parametrize("status", [401, 402, 403, 406, 409, 413, 422, 502, 504])
def test_a_bulk_poll_that_is_refused_is_made_up_for_and_given_up_after_three(status: int) -> None:
    async def scene() -> None:
        def refuse(request: Request) -> Answer | None:
            return an_answer(status) if request.method == "POST" else None

        appliance = H4Tasks(tasks(2), spoil=refuse)
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(5):
            assert all_found(await look(inquiry, appliance), 2)
        assert appliance.asked["bulk"] <= 5
        assert not inquiry.is_bulk()

    run(scene())


def is_bulk(request: Request) -> bool:
    """Whether it asks about many tasks."""
    return request.method == "POST"


def test_a_bulk_poll_that_hangs_is_made_up_for_and_given_up_after_three() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(1200), hangs=is_bulk)
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(5):
            assert all_found(await look(inquiry, appliance), 1200)
        # One of each three chunks, three times.
        assert appliance.asked["bulk"] == 3
        assert now() == pytest.approx(3 * SILENCE_S)

    run(scene())


@pytest.mark.parametrize("kind", [FailureKind.CUT, FailureKind.GARBLED, FailureKind.ENCODED])
def test_a_bulk_poll_that_brings_no_answer_is_given_up_too(kind: FailureKind) -> None:
    async def scene() -> None:
        def fail(request: Request) -> Answer | None:
            if is_bulk(request):
                raise judge_failure(Failure(kind, "simulated"), mutating=False)
            return None

        appliance = H4Tasks(tasks(2), spoil=fail)
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(5):
            assert all_found(await look(inquiry, appliance), 2)
        assert not inquiry.is_bulk()

    run(scene())


def test_outages_cost_no_bulk_poll_that_works_in_between() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(2))
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(9):
            appliance.hangs = lambda _: True
            with pytest.raises(NotSent):
                await look(inquiry, appliance)
            # It is back when one by one it is asked.
            appliance.hangs = is_bulk
            assert all_found(await look(inquiry, appliance), 2)
            appliance.hangs = lambda _: False
            assert all_found(await look(inquiry, appliance), 2)
        assert inquiry.is_bulk()
        assert appliance.asked["bulk"] == 9 * 3

    run(scene())


@pytest.mark.parametrize("status", [408, 429, 503])
def test_an_appliance_that_wants_to_be_asked_later_has_refused_nothing(status: int) -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(2), spoil=lambda _: an_answer(status))
        inquiry = TaskInquiry(appliance.ask, Limits())
        for _ in range(9):
            with pytest.raises(NotSent):
                await look(inquiry, appliance)
        assert appliance.asked["single"] == 0
        assert inquiry.is_bulk()

    run(scene())


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 406, 409, 410, 413, 422])
def test_an_appliance_that_knows_no_such_task_has_forgotten_it(status: int) -> None:
    async def scene() -> None:
        def unknown(request: Request) -> Answer | None:
            return an_answer(status) if request.method == "GET" else None

        lost = a_task_id(9)
        appliance = H4Tasks({}, spoil=unknown)
        told = await look(TaskInquiry(appliance.ask, Limits()), appliance, lost)
        assert isinstance(told[lost], TaskForgotten)

    run(scene())


def test_a_task_that_an_appliance_stumbles_over_keeps_no_other_from_being_seen_over() -> None:
    bad = [a_task_id(number) for number in range(3)]

    async def scene() -> None:
        def stumble(request: Request) -> Answer | None:
            if request.method == "POST":
                return an_answer(404)
            return an_answer(500) if request.path.removeprefix("/tasks/") in bad else None

        appliance = H4Tasks(dict(reversed(tasks(10).items())), spoil=stumble)
        told = await look(TaskInquiry(appliance.ask, Limits()), appliance)
        assert {each for each, news in told.items() if isinstance(news, NotSent)} == set(bad)
        assert all_found({each: told[each] for each in told if each not in bad}, 7)

    run(scene())


def test_an_appliance_that_one_table_was_of_use_of_is_not_blamed_for_a_task() -> None:
    bad = a_task_id(777)

    async def scene() -> None:
        def stumble(request: Request) -> Answer | None:
            return an_answer(500) if request.path == f"/tasks/{bad}" else None

        appliance = H4Tasks(tasks(2), spoil=stumble)
        told = await look(TaskInquiry(appliance.ask, Limits(bulk_ids=2)), appliance, bad)
        assert appliance.sizes == [2, 1]
        assert isinstance(told.pop(bad), NotSent)
        assert all_found(told, 2)

    run(scene())


def test_silence_about_a_task_is_told_of_it_if_another_is_answered_about() -> None:
    quiet = a_task_id(0)

    async def scene() -> None:
        appliance = H4Tasks(tasks(10), spoil=no_bulk, hangs=about(quiet))
        told = await look(TaskInquiry(appliance.ask, Limits()), appliance)
        assert isinstance(told.pop(quiet), NotSent)
        assert all_found(told, 9)

    def no_bulk(request: Request) -> Answer | None:
        return an_answer(404) if is_bulk(request) else None

    run(scene())


def about(*quiet: TaskId) -> Callable[[Request], bool]:
    """Whether a call is about one of these alone."""
    return lambda request: request.path.removeprefix("/tasks/") in quiet


def test_an_appliance_that_falls_silent_in_the_midst_of_a_look_is_not_asked_about_each() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(50))
        appliance.hangs = lambda _: appliance.asked.total() > 11
        appliance.spoil = lambda request: an_answer(404) if is_bulk(request) else None
        told = await look(TaskInquiry(appliance.ask, Limits()), appliance)
        assert len(told) == 10 + Limits().connections
        assert now() == pytest.approx(SILENCE_S)

    run(scene())


def test_an_appliance_that_stumbles_over_all_is_not_asked_about_each() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(50), spoil=lambda _: an_answer(500))
        with pytest.raises(NotSent):
            await look(TaskInquiry(appliance.ask, Limits()), appliance)
        assert appliance.asked["single"] <= Limits().connections

    run(scene())


def test_tasks_that_there_is_no_call_for_are_forgotten() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(3), spoil=lambda _: an_answer(501))
        told = await look(TaskInquiry(appliance.ask, Limits()), appliance)
        assert [type(each) for each in told.values()] == [TaskForgotten] * 3

    run(scene())


def test_a_single_answer_that_cannot_be_read_is_asked_for_again() -> None:
    async def scene() -> None:
        appliance = H4Tasks({}, spoil=_garbled_single)
        with pytest.raises(NotSent):
            await look(TaskInquiry(appliance.ask, Limits()), appliance, a_task_id(1))

    run(scene())


def test_a_session_that_ended_once_more_is_asked_again_later() -> None:
    marked = an_answer(401, www_authenticate="Authentication Token Required")

    async def scene() -> None:
        appliance = H4Tasks(tasks(1), spoil=lambda _: marked)
        with pytest.raises(NotSent):
            await look(TaskInquiry(appliance.ask, Limits()), appliance)

    run(scene())


def _garbled_single(request: Request) -> Answer | None:
    return an_answer(200, b"<html>") if request.method == "GET" else None


def test_a_failure_that_only_the_table_tells_of_is_one_without_a_reason() -> None:
    async def scene() -> None:
        appliance = H4Tasks(tasks(2), state="FAILED")
        appliance.spoil = lambda request: an_answer(404) if request.method == "GET" else None
        told = await look(TaskInquiry(appliance.ask, Limits()), appliance)
        assert [each.failed for each in told.values() if isinstance(each, Task)] == [True, True]

    run(scene())
