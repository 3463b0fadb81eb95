"""An appliance without a list of tasks is judged by its list of peers; a silent one is not."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from service.domain.appliance import ApiError, Peer, Task
from service.domain.decisions import Absent
from service.domain.errors import ApplianceError, LoginRefused, NotSent, Rejected, TaskForgotten
from service.domain.ids import TaskId
from service.domain.pairing import Assignment, SiteCall
from service.engine.case import Case, Driver
from service.engine.policy import AT_ONCE, Policy
from service.engine.site import Site
from tests.support.virtual_time import now, run
from tests.unit.domain.values import ENDPOINT_A, ENDPOINT_B, ERROR, A, a_pairing

POLICY = Policy()
LOOKS = 6
"""So many looks, one after the other, take as long as the patience with a useless list."""


class Refusing:
    """An appliance that nobody is paired with, and that answers who asks for its tasks with no,
    but for the times that are `good`. Nothing is asked of it but that."""

    name = A
    url = ENDPOINT_A.api_url
    is_refused = False
    closed = None

    def __init__(self, refusal: ApplianceError, good: Collection[int] = ()) -> None:
        self._refusal = refusal
        self._good = good
        self._times = 0

    def listed_since(self, _: str) -> float:
        raise AssertionError

    async def peers(self, *_: object, **__: object) -> Sequence[Peer]:
        return ()

    async def site_tasks(self, *_: object) -> Sequence[Task]:
        self._times += 1
        if self._times not in self._good:
            raise self._refusal
        return []

    async def finished(self, *_: object) -> Task:
        raise AssertionError

    pair = repair = unpair = finished

    async def line_up(self, *_: object, **__: object) -> None:
        raise AssertionError

    def leave_line(self) -> None:
        raise AssertionError


class Unused:
    """A journal that nothing is written to."""

    async def append(self, *_: object, **__: object) -> None:
        raise AssertionError


def look_at(refusal: ApplianceError, times: int = 1) -> list[object]:
    """What such an appliance is taken for, each time; what was raised if it is not judged."""
    return look_at_it(Refusing(refusal), times)


def look_at_it(appliance: Refusing, times: int = 1) -> list[object]:
    """The same of any. A `LOOKS`-th of the patience, in virtual time, lies between two looks."""

    async def look() -> list[object]:
        assignment = Assignment(a_pairing(), (ENDPOINT_A, ENDPOINT_B), 900.0)
        case = Case(assignment, Unused(), Driver("worker", lambda: int(now()), lambda: None))
        site, seen = Site(case, appliance, POLICY), list[object]()
        for _ in range(times):
            try:
                seen.append(await site.look_after_tasks(SiteCall.PAIR))
            except ApplianceError as error:
                seen.append(error)
            await asyncio.sleep(POLICY.list_patience_s / LOOKS)
        return seen

    return run(look())


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 501])
def test_who_has_no_list_of_tasks_is_judged_by_the_peers(status: int) -> None:
    assert look_at(Rejected(ERROR, status)) == [Absent()]


@pytest.mark.parametrize(
    "useless",
    [
        NotSent(ERROR, is_answered=True),
        *[Rejected(ERROR, status) for status in (401, 402, 406, 409, 413, 422)],
    ],
)
def test_who_is_asked_in_vain_again_and_again_is_judged_so_too(useless: ApplianceError) -> None:
    *vain, patience_is_over, later = look_at(useless, LOOKS + 2)
    assert all(isinstance(each, NotSent) and each.error == ERROR for each in vain)
    assert patience_is_over == later == Absent()


def test_after_a_good_answer_the_patience_begins_anew() -> None:
    useless = NotSent(ERROR, is_answered=True)
    seen = look_at_it(Refusing(useless, good={LOOKS}), 2 * LOOKS)
    assert seen == [*[useless] * (LOOKS - 1), Absent(), *[useless] * LOOKS]


def test_who_does_not_answer_is_not_judged() -> None:
    silence = NotSent(ERROR)
    assert look_at(silence, 2 * LOOKS) == [silence] * 2 * LOOKS


@pytest.mark.parametrize("status", [0, 302])
def test_any_other_refusal_says_nothing_about_tasks(status: int) -> None:
    refusal = Rejected(ERROR, status)
    assert look_at(refusal) == [refusal]


@pytest.mark.parametrize("status", [401, 403])
def test_nor_does_a_login_that_is_refused(status: int) -> None:
    refusal = LoginRefused(ApiError("NotAuthenticated", "No."), status)
    assert look_at(refusal) == [refusal]


def test_what_nothing_is_waited_for_is_not_unfinished() -> None:
    async def look() -> None:
        assignment = Assignment(a_pairing(), (ENDPOINT_A, ENDPOINT_B), 900.0)
        case = Case(assignment, Unused(), Driver("worker", lambda: int(now()), lambda: None))
        site = Site(case, Refusing(Rejected(ERROR, 404)), POLICY)
        await site.look_after_tasks(SiteCall.PAIR)
        assert site.is_missed(AT_ONCE, AT_ONCE)
        assert not site.is_unfinished
        assert not site.is_missed(POLICY.settle_s, POLICY.settle_s)
        assert site.is_unfinished

    run(look())


class Secretive(Refusing):
    """It lists a task as running a few times, and knows nothing of it when asked by its id."""

    def __init__(self) -> None:
        super().__init__(TaskForgotten(TaskId("t")))
        self.asked: list[str] = []

    def listed_since(self, _: str) -> float:
        raise AssertionError

    async def peers(self, *_: object, **__: object) -> Sequence[Peer]:
        self.asked.append("peers")
        return ()

    async def site_tasks(self, *_: object) -> Sequence[Task]:
        self.asked.append("list")
        return [Task(TaskId("t"), "RUNNING" if len(self.asked) < 7 else "SUCCEEDED")]

    async def finished(self, *_: object) -> Task:
        self.asked.append("task")
        raise self._refusal


def test_a_task_that_one_may_not_ask_about_runs_as_long_as_the_list_says() -> None:
    appliance = Secretive()
    assert look_at_it(appliance) == [Absent()]
    assert appliance.asked == ["list", "task", "list", "task", "list", "task", "list", "peers"]


class Reticent(Secretive):
    """It has shown that list for the last time."""

    async def site_tasks(self, *asked: object) -> Sequence[Task]:
        if "list" in self.asked:
            raise Rejected(ERROR, 404)
        return await super().site_tasks(*asked)


def test_who_has_a_list_of_tasks_no_more_is_judged_by_the_peers() -> None:
    appliance = Reticent()
    assert look_at_it(appliance) == [Absent()]
    assert appliance.asked == ["list", "task", "peers"]
