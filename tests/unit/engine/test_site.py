"""An appliance without a list of tasks is judged by its list of peers; one that refuses is not."""

from collections.abc import Sequence

import pytest

from service.domain.appliance import ApiError, Peer, Task
from service.domain.decisions import Absent
from service.domain.errors import LoginRefused, Rejected
from service.domain.pairing import Assignment, SiteCall
from service.engine.case import Author, Case
from service.engine.policy import Policy
from service.engine.site import Site
from tests.support.virtual_time import now, run
from tests.unit.domain.values import ENDPOINT_A, ENDPOINT_B, ERROR, A, a_pairing

POLICY = Policy()


class Refusing:
    """An appliance that nobody is paired with, and that answers who asks for its tasks with no.
    Nothing is asked of it but that."""

    name = A

    def __init__(self, refusal: Rejected) -> None:
        self._refusal = refusal

    async def peers(self, *_: object) -> Sequence[Peer]:
        return ()

    async def site_tasks(self, *_: object) -> Sequence[Task]:
        raise self._refusal

    async def finished(self, *_: object) -> Task:
        raise AssertionError

    pair = repair = unpair = finished

    async def line_up(self, *_: object, **__: object) -> None:
        raise AssertionError

    def leave_line(self) -> None:
        raise AssertionError


class Unused:
    """A journal that nothing is written to."""

    async def append(self, *_: object) -> None:
        raise AssertionError


def look_at(refusal: Rejected) -> object:
    """What such an appliance is taken for."""

    async def look() -> object:
        assignment = Assignment(a_pairing(), (ENDPOINT_A, ENDPOINT_B), 900.0)
        case = Case(assignment, Unused(), Author("worker", lambda: int(now()), lambda: None))
        return await Site(case, Refusing(refusal), POLICY).look_after_tasks(SiteCall.PAIR)

    return run(look())


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 501])
def test_who_has_no_list_of_tasks_is_judged_by_the_peers(status: int) -> None:
    assert look_at(Rejected(ERROR, status)) == Absent()


@pytest.mark.parametrize("status", [0, 302, 401, 402, 406, 409, 415, 422, 451])
def test_any_other_refusal_says_nothing_about_tasks(status: int) -> None:
    with pytest.raises(Rejected) as caught:
        look_at(Rejected(ERROR, status))
    assert caught.value.status == status


@pytest.mark.parametrize("status", [401, 403])
def test_nor_does_a_login_that_is_refused(status: int) -> None:
    with pytest.raises(LoginRefused):
        look_at(LoginRefused(ApiError("NotAuthenticated", "No."), status))
