"""When a breaker opens, and when it closes again."""

import asyncio
from collections.abc import Callable

import pytest

from service.appliance.breaker import Breaker, probing
from service.appliance.breakers import Breakers
from service.appliance.exchange import Failure, FailureKind, Outcome
from service.appliance.limits import Limits
from service.domain.appliance import ApiError
from service.domain.errors import ApplianceClosed
from service.domain.ids import ApplianceName
from tests.support.virtual_time import now, run
from tests.unit.appliance.values import an_answer, as_json

ONE, TWO = ApplianceName("one"), ApplianceName("two")
FAILURE = Failure(FailureKind.UNREACHABLE, "connection refused")
ELSEWHERE = ApiError("AnswerTimeout", "seen by another worker")


def a_breaker() -> Breaker:
    """A breaker with the limits of the service."""
    return Breaker(ONE, Limits(breaker_failures=5))


def some_breakers(on_open: Callable[[], None] = lambda: None) -> Breakers:
    """No breakers yet."""
    return Breakers(Limits(breaker_failures=5), on_open)


async def fail(breaker: Breaker, times: int, pause_s: float = 1.0) -> None:
    """So many failures, the first one at once."""
    for number in range(times):
        if number:
            await asyncio.sleep(pause_s)
        breaker.saw(FAILURE)


def is_open(breaker: Breaker) -> bool:
    """Whether calls are refused."""
    try:
        breaker.check()
    except ApplianceClosed:
        return True
    return False


def test_five_failures_in_a_row_open_it() -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 4)
        assert not is_open(breaker)
        breaker.saw(FAILURE)
        with pytest.raises(ApplianceClosed) as caught:
            breaker.check()
        error = caught.value.error
        assert (error.code, error.args) == ("ApplianceUnavailable", ("one", "ApplianceUnreachable"))
        assert "connection refused" in error.msg

    run(scene())


def test_a_short_storm_does_not_open_it_however_many_fail() -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 200, pause_s=0.01)
        assert now() < 2.0
        assert not is_open(breaker)
        await asyncio.sleep(2.0 - now())
        breaker.saw(FAILURE)
        assert is_open(breaker)

    run(scene())


def test_one_answer_in_between_starts_the_count_again() -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 4)
        breaker.saw(an_answer(200))
        await fail(breaker, 4)
        assert not is_open(breaker)
        breaker.saw(FAILURE)
        assert is_open(breaker)

    run(scene())


@pytest.mark.parametrize(
    "outcome",
    [
        *(
            Failure(kind, "")
            for kind in (
                FailureKind.UNREACHABLE,
                FailureKind.CONNECT_TIMEOUT,
                FailureKind.TLS_FAILED,
                FailureKind.SILENT,
                FailureKind.CUT,
                FailureKind.GARBLED,
            )
        ),
        an_answer(502),
        an_answer(503, as_json({"code": "GeneralServerFailure", "msg": "starting"})),
        an_answer(504),
    ],
    ids=lambda outcome: str(getattr(outcome, "kind", getattr(outcome, "status", ""))),
)
def test_what_counts_as_a_failure(outcome: Outcome) -> None:
    async def scene() -> None:
        breaker = a_breaker()
        for _ in range(5):
            breaker.saw(outcome)
            await asyncio.sleep(1.0)
        assert is_open(breaker)

    run(scene())


@pytest.mark.parametrize("status", [200, 202, 204, 302, 400, 401, 403, 404, 408, 500, 501])
def test_any_other_answer_is_one(status: int) -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 4)
        breaker.saw(an_answer(status))
        await fail(breaker, 4)
        assert not is_open(breaker)

    run(scene())


@pytest.mark.parametrize("kind", [FailureKind.TOO_LARGE, FailureKind.ENCODED])
def test_an_answer_that_is_not_wanted_is_an_answer_still(kind: FailureKind) -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 4)
        breaker.saw(Failure(kind, ""))
        await fail(breaker, 4)
        assert not is_open(breaker)

    run(scene())


@pytest.mark.parametrize(
    "outcome",
    [
        an_answer(429),
        Failure(FailureKind.PIN_MISMATCH, ""),
        Failure(FailureKind.UNTRUSTED, ""),
        Failure(FailureKind.FORBIDDEN, ""),
        Failure(FailureKind.INVALID_URL, ""),
    ],
)
def test_what_says_nothing_about_it_neither_counts_nor_starts_again(outcome: Outcome) -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 4)
        for _ in range(9):
            breaker.saw(outcome)
        assert not is_open(breaker)
        breaker.saw(FAILURE)
        assert is_open(breaker)

    run(scene())


def test_an_open_breaker_stays_open_whatever_comes_in_late() -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 5)
        breaker.saw(an_answer(200))
        assert is_open(breaker)

    run(scene())


def test_a_probe_goes_through_and_tells_whether_it_was_answered() -> None:
    async def scene() -> None:
        breaker = a_breaker()
        await fail(breaker, 5)
        with probing() as probe:
            assert not is_open(breaker)
            breaker.saw(FAILURE)
            before = probe.is_answered
            breaker.saw(an_answer(401))
        assert (before, probe.is_answered) == (False, True)
        assert is_open(breaker)
        breaker.close()
        assert not is_open(breaker)
        await fail(breaker, 4)
        assert not is_open(breaker)

    run(scene())


def test_who_listens_is_told_each_time_that_it_opens_and_why() -> None:
    async def scene() -> None:
        breaker, told = a_breaker(), list[tuple[str, ...]]()
        breaker.listeners.add(lambda closed: told.append(closed.error.args))
        await fail(breaker, 6)
        breaker.impose(ELSEWHERE)
        assert told == [(ONE, "ApplianceUnreachable")]
        breaker.close()
        breaker.impose(ELSEWHERE)
        assert told[1:] == [(ONE, ELSEWHERE.code)]

    run(scene())


def test_what_another_worker_saw_opens_it_and_is_no_news_here() -> None:
    async def scene() -> None:
        opened: list[float] = []
        breakers = some_breakers(lambda: opened.append(now()))
        breakers.impose({ONE: ELSEWHERE})
        assert is_open(breakers.of(ONE))
        assert not is_open(breakers.of(TWO))
        assert not breakers.opened()
        assert not opened  # Nobody here has to be told.
        breakers.impose({ONE: ELSEWHERE, TWO: ELSEWHERE})
        assert is_open(breakers.of(TWO))
        breakers.impose({})
        assert not is_open(breakers.of(ONE))
        assert not is_open(breakers.of(TWO))

    run(scene())


def test_one_that_opened_here_a_moment_ago_stays_open_until_the_others_know() -> None:
    async def scene() -> None:
        opened: list[float] = []
        breakers = some_breakers(lambda: opened.append(now()))
        await fail(breakers.of(ONE), 5)
        assert opened == [4.0]
        assert {name: cause.code for name, cause in breakers.opened().items()} == {
            ONE: "ApplianceUnreachable"
        }
        await asyncio.sleep(4.9)
        breakers.impose({})
        assert is_open(breakers.of(ONE))
        await asyncio.sleep(0.1)
        breakers.impose({})
        assert not is_open(breakers.of(ONE))
        assert not breakers.opened()

    run(scene())


def test_one_that_the_others_knew_of_is_closed_at_once_when_they_close_it() -> None:
    async def scene() -> None:
        breakers = some_breakers()
        await fail(breakers.of(ONE), 5)
        breakers.impose({ONE: ELSEWHERE})
        assert is_open(breakers.of(ONE))
        assert not breakers.opened()
        breakers.impose({})
        assert not is_open(breakers.of(ONE))
        await fail(breakers.of(ONE), 4)
        assert not is_open(breakers.of(ONE))

    run(scene())


def test_being_told_that_nothing_is_open_does_not_start_the_count_again() -> None:
    async def scene() -> None:
        breakers = some_breakers()
        for _ in range(5):
            breakers.of(ONE).saw(FAILURE)
            breakers.impose({})
            await asyncio.sleep(1.0)
        assert is_open(breakers.of(ONE))

    run(scene())


def test_a_new_registration_closes_it() -> None:
    async def scene() -> None:
        breakers = some_breakers()
        old = breakers.of(ONE)
        await fail(old, 5)
        new = breakers.renew(ONE)
        assert not is_open(old)
        assert not is_open(new)
        await fail(old, 5)
        assert not is_open(breakers.of(ONE))

    run(scene())
