"""When a 401 that may be the end of a session is an answer, and to what."""

import asyncio

from service.appliance.exchange import Request
from service.appliance.unauthorized import UnauthorizedCalls
from tests.support.virtual_time import run

LIST, ONE, POLL = (
    Request("GET", "/tasks"),
    Request("GET", "/tasks/1"),
    Request("POST", "/tasks/poll"),
)


def test_three_logins_in_a_row_make_it_an_answer_for_five_minutes() -> None:
    async def scene() -> None:
        vain = UnauthorizedCalls()
        for login in (1, 2):
            vain.add(LIST, login)
            vain.add(LIST, login)
            assert not vain.is_answer(LIST)
        vain.add(LIST, 3)
        assert vain.is_answer(LIST)
        await asyncio.sleep(299.0)
        assert vain.is_answer(LIST)
        await asyncio.sleep(2.0)
        assert not vain.is_answer(LIST)
        vain.add(LIST, 4)
        assert vain.is_answer(LIST), "once more is enough then"

    run(scene())


def test_what_one_kind_of_call_is_answered_says_nothing_of_another() -> None:
    async def scene() -> None:
        vain = UnauthorizedCalls()
        for login in (1, 2, 3):
            vain.add(LIST, login)
            vain.forget(ONE)
            vain.forget(POLL)
        assert [vain.is_answer(each) for each in (LIST, ONE, POLL)] == [True, False, False]
        vain.forget(LIST)
        assert not vain.is_answer(LIST)

    run(scene())


def test_where_others_are_answered_one_is_worth_a_login_a_minute() -> None:
    async def scene() -> None:
        vain = UnauthorizedCalls()
        other = Request("GET", "/tasks/2")
        for login in range(1, 10):
            assert vain.is_worth_a_login(ONE)
            vain.add(ONE, login)
            vain.forget(other)
            assert not vain.is_worth_a_login(ONE)
            assert not vain.is_answer(ONE)
            assert vain.is_worth_a_login(LIST)
            await asyncio.sleep(59.0)
            assert not vain.is_worth_a_login(ONE)
            await asyncio.sleep(1.0)

    run(scene())
