"""An appliance that does not answer: everybody is told, nobody calls, a probe brings it back."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf

import pytest

from service.appliance.client import ApplianceClient
from service.appliance.exchange import Answer, Outcome, Request, granted
from service.appliance.gate import OwnGate
from service.appliance.limits import Limits
from service.domain.appliance import ApiError
from service.domain.errors import Ambiguous, ApplianceClosed, NotSent, UnknownAppliance
from service.domain.ids import ApplianceName, TaskId
from service.domain.pairing import SiteCall
from service.domain.registration import LoginRefusal
from service.observe.events import LogEvent, UpkeepCrashed
from service.observe.logging import listening
from tests.support.virtual_time import now, run, timers
from tests.unit.appliance.scripted import (
    DEAD,
    NAME,
    NO_ANSWER,
    PEER,
    World,
    a_registration,
    all_is_well,
    world,
    wrong_password,
)
from tests.unit.appliance.values import a_table, an_answer

A_TASK = TaskId("the task")

ASKS: list[Callable[[ApplianceClient], Awaitable[object]]] = [
    lambda client: client.peers(),
    lambda client: client.pair(PEER, "", granted),
    lambda client: client.repair("1", PEER, "", granted),
    lambda client: client.unpair("1", granted),
    lambda client: client.finished(A_TASK),
    lambda client: client.site_tasks(SiteCall.PAIR, 0),
    lambda client: client.about(),
    lambda client: client.log_in(),
]


A_MOMENT_S = 1.0
"""Of virtual time: what can go on without anything else has gone on by then."""


class HeldGate(OwnGate):
    """It is another worker's turn until `is_free`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.is_free = asyncio.Event(), asyncio.Event()

    async def admit(self) -> LoginRefusal | None:
        self.is_asked.set()
        await self.is_free.wait()
        return await super().admit()


async def break_open(here: World, client: ApplianceClient) -> None:
    """Call until the breaker opens."""
    here.channel.always(DEAD)
    for _ in range(5):
        with pytest.raises(NotSent):
            await client.about()
        await asyncio.sleep(A_MOMENT_S)
    assert here.fleet.opened()


@pytest.mark.parametrize("has_session", [True, False])
def test_while_it_is_open_every_call_is_refused_at_once_and_none_is_made(
    has_session: bool,
) -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            if has_session:
                await client.log_in()
            await break_open(here, client)
            before, began = here.channel.total, now()
            for ask in ASKS[: 7 if has_session else 8]:
                with pytest.raises(ApplianceClosed) as caught:
                    await ask(client)
                assert caught.value.error.args == (NAME, "ApplianceUnreachable")
            with pytest.raises(ApplianceClosed):
                client.line_up(inf)
            assert (here.channel.total, now()) == (before, began)

    run(scene())


def test_nobody_stands_behind_the_changes_under_way_while_it_is_open() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()
            both_sent, may_end = asyncio.Barrier(3), asyncio.Event()

            async def hang(request: Request) -> Outcome:
                await both_sent.wait()
                await may_end.wait()
                return await all_is_well(request)

            here.channel.play = hang
            under_way = [asyncio.ensure_future(client.unpair("1", granted)) for _ in range(2)]
            await both_sent.wait()
            here.fleet.impose({NAME: an_error()})
            began = now()
            with pytest.raises(ApplianceClosed):
                await client.unpair("1", granted)
            assert now() == began
            may_end.set()
            await asyncio.gather(*under_way)

    run(scene())


def test_everybody_who_waits_is_told_and_what_is_under_way_ends_as_it_will() -> None:
    """The two calls that the limit allows hang; all others wait for them, or for a round."""

    async def scene() -> None:
        limits = Limits(connections=2, breaker_failures=5)
        async with world(limits) as here, here.fleet.use(a_registration().endpoint) as client:
            waiting: list[asyncio.Future[object]] = [
                asyncio.ensure_future(client.finished(A_TASK)) for _ in range(3)
            ]
            await asyncio.sleep(9.0)  # Its next look is more than a second away.

            async def hang(request: Request) -> Outcome:
                await asyncio.sleep(100.0)
                return await all_is_well(request)

            here.channel.play = hang
            under_way = [asyncio.ensure_future(client.about()) for _ in range(2)]
            await asyncio.sleep(0)
            waiting += [asyncio.ensure_future(ask(client)) for ask in ASKS[:7] for _ in range(9)]
            await asyncio.sleep(0.5)
            before = here.channel.total
            here.fleet.impose({NAME: an_error()})
            began = now()
            told = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(each) for each in told} == {ApplianceClosed}
            assert now() == began
            assert await asyncio.gather(*under_way) == [{}, {}]
            assert here.channel.total == before

    run(scene())


def test_whoever_waits_for_a_login_is_told_though_the_login_hangs() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            here.channel.always(NO_ANSWER, after_s=20.0)
            waiting = [asyncio.ensure_future(ask(client)) for ask in ASKS]
            await asyncio.sleep(A_MOMENT_S)
            here.fleet.impose({NAME: an_error()})
            told = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(each) for each in told} == {ApplianceClosed}
            assert now() == 1.0
            assert here.channel.total == 1

    run(scene())


def test_a_probe_is_not_turned_away_with_those_who_wait_for_a_login() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            here.channel.always(NO_ANSWER, after_s=20.0)
            login = asyncio.ensure_future(client.log_in())
            await asyncio.sleep(A_MOMENT_S)
            here.fleet.impose({NAME: an_error()})
            probe = asyncio.ensure_future(here.fleet.probe(NAME))
            await asyncio.sleep(A_MOMENT_S)
            here.fleet.impose({})  # Another worker's was answered,
            here.fleet.impose({NAME: an_error()})  # and the next call was not.
            error = await probe
            assert (error and error.code, now()) == ("AnswerTimeout", 20.0)
            with pytest.raises(ApplianceClosed):
                await login

    run(scene())


def test_nor_with_a_login_that_one_of_them_began() -> None:
    async def scene() -> None:
        gate = HeldGate()
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            login = asyncio.ensure_future(client.log_in())
            await gate.is_asked.wait()
            here.fleet.impose({NAME: an_error()})
            probe = asyncio.ensure_future(here.fleet.probe(NAME))
            await asyncio.sleep(A_MOMENT_S)
            gate.is_free.set()
            assert await probe is None
            assert here.channel.calls["POST /sessions"] == 1
            with pytest.raises(ApplianceClosed):
                await login

    run(scene())


def test_a_login_that_hangs_is_tried_once_in_a_look_at_tasks() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            here.channel.always(NO_ANSWER, after_s=20.0)
            with pytest.raises(TimeoutError):
                await client.finished(A_TASK, until=20.2)
            # The next look is a pause after the first one, which ended at 20.1.
            assert here.channel.calls == {"POST /sessions": 1}

    run(scene())


def test_a_hundred_who_wait_for_a_dead_appliance_cost_few_calls() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()
            here.channel.always(DEAD)
            before = here.channel.total
            tasks = [client.finished(TaskId(str(number))) for number in range(100)]
            told = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in told} == {ApplianceClosed}
            assert here.channel.total - before <= 8
            assert now() < 10.0

    run(scene())


def test_who_waits_to_change_something_is_told_though_all_turns_are_taken() -> None:
    async def scene() -> None:
        limits = Limits(breaker_failures=5)
        async with world(limits) as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()
            here.channel.always(NO_ANSWER, after_s=12.0)
            changes = [asyncio.ensure_future(client.unpair("1", granted)) for _ in range(9)]
            peers = asyncio.ensure_future(client.peers())
            await asyncio.sleep(A_MOMENT_S)
            here.fleet.impose({NAME: an_error()})
            began = now()
            with pytest.raises(ApplianceClosed):
                await client.peers()
            told = await asyncio.gather(*changes[2:], peers, return_exceptions=True)
            assert {type(each) for each in told} == {ApplianceClosed}
            assert now() == began
            ended = await asyncio.gather(*changes[:2], return_exceptions=True)
            assert {type(each) for each in ended} == {Ambiguous}

    run(scene())


def test_a_call_whose_turn_comes_as_the_breaker_opens_is_not_sent() -> None:
    """In one turn of the loop the first call ends, which lets the third one begin, and the second
    one opens the breaker."""

    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()

            async def play(_: Request) -> Outcome:
                number = here.channel.total
                await asyncio.sleep(A_MOMENT_S)
                if number == 3:
                    here.fleet.impose({NAME: an_error()})
                return an_answer(200, b"{}")

            here.channel.play = play
            asks = [client.about() for _ in range(3)]
            *answered, refused = await asyncio.gather(*asks, return_exceptions=True)
            assert answered == [{}, {}]
            assert isinstance(refused, ApplianceClosed)
            assert here.channel.total == 3

    run(scene())


@pytest.mark.parametrize("breaker_failures", [1, 5])
def test_after_it_closes_nobody_waits_for_what_it_wished_before(breaker_failures: int) -> None:
    """Whether it opened by that very answer or later."""

    async def scene() -> None:
        limits = Limits(breaker_failures=breaker_failures, breaker_over_s=0.0)
        async with world(limits) as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()
            here.channel.always(an_answer(503, retry_after="3600"))
            waiting = asyncio.ensure_future(client.finished(A_TASK))
            await asyncio.sleep(A_MOMENT_S)
            here.fleet.impose({NAME: an_error()})
            with pytest.raises(ApplianceClosed):
                await waiting
            here.fleet.impose({})

            async def over(_: Request) -> Answer:
                row = ["the task", "SUCCEEDED"]
                return an_answer(200, a_table(["id", "state"], row))

            here.channel.play = over
            assert (await client.finished(A_TASK)).succeeded
            assert now() < 2.0

    run(scene())


def test_a_client_that_ended_is_told_nothing_more() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            assert client.breaker.listeners
            await client.close()
            assert not client.breaker.listeners

    run(scene())


def test_a_probe_that_is_answered_closes_it() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()
            await break_open(here, client)
            error = await here.fleet.probe(NAME)
            assert error is not None
            assert error.code == "ApplianceUnreachable"
            with pytest.raises(ApplianceClosed):
                await client.peers()
            here.channel.play = all_is_well
            before = here.channel.total
            assert await here.fleet.probe(NAME) is None
            assert here.channel.total == before + 1
            assert not here.fleet.opened()
            assert await client.peers() == ()

    run(scene())


def test_a_probe_logs_in_if_it_has_to_and_needs_no_client_that_was_there_before() -> None:
    async def scene() -> None:
        async with world() as here:
            here.fleet.impose({NAME: an_error()})
            assert await here.fleet.probe(NAME) is None
            assert here.channel.log == ["POST /sessions", "GET /sites"]

    run(scene())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_any_answer_but_that_it_is_unwell_satisfies_a_probe(status: int) -> None:
    async def scene() -> None:
        async with world() as here:
            here.fleet.impose({NAME: an_error()})
            here.channel.always(an_answer(status))
            assert await here.fleet.probe(NAME) is None

    run(scene())


@pytest.mark.parametrize("outcome", [DEAD, NO_ANSWER, an_answer(503), an_answer(502)])
def test_what_counts_as_a_failure_fails_a_probe_too(outcome: Outcome) -> None:
    async def scene() -> None:
        async with world() as here:
            here.fleet.impose({NAME: an_error()})
            here.channel.always(outcome)
            assert await here.fleet.probe(NAME) is not None

    run(scene())


def test_a_refused_login_is_an_answer_and_is_not_tried_again_by_the_next_probe() -> None:
    async def scene() -> None:
        async with world() as here:
            here.channel.play = wrong_password
            for _ in range(3):
                here.fleet.impose({NAME: an_error()})
                assert await here.fleet.probe(NAME) is None
            assert here.channel.calls == {"POST /sessions": 1}

    run(scene())


def test_only_a_probe_goes_through() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            here.fleet.impose({NAME: an_error()})
            here.channel.always(NO_ANSWER, after_s=5.0)
            probe = asyncio.ensure_future(here.fleet.probe(NAME))
            await asyncio.sleep(A_MOMENT_S)
            for ask in ASKS:
                with pytest.raises(ApplianceClosed):
                    await ask(client)
            assert here.channel.total == 1
            assert await probe is not None

    run(scene())


def test_an_appliance_that_is_not_registered_cannot_be_probed() -> None:
    async def scene() -> None:
        async with world() as here:
            with pytest.raises(UnknownAppliance):
                await here.fleet.probe(ApplianceName("nobody"))

    run(scene())


def test_a_new_registration_is_tried_at_once() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as old:
            await break_open(here, old)
            here.registration = a_registration(2)
            here.channel.play = all_is_well
            async with here.fleet.use(here.registration.endpoint) as new:
                assert new is not old
                assert await new.peers() == ()
            assert not here.fleet.opened()

    run(scene())


def test_a_probe_takes_the_newest_registration() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as old:
            await break_open(here, old)
            here.registration = a_registration(2)
            here.channel.play = all_is_well
            assert await here.fleet.probe(NAME) is None
            async with here.fleet.use(a_registration().endpoint) as client:
                assert client is not old

    run(scene())


def test_the_end_of_a_client_does_not_wait_for_a_dead_appliance() -> None:
    async def scene() -> None:
        async with world() as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                await client.log_in()
            here.fleet.impose({NAME: an_error()})
            before, began = here.channel.total, now()
        assert (here.channel.total, now()) == (before, began)

    run(scene())


def an_error() -> ApiError:
    """Why another worker opened the breaker."""
    return ApiError("AnswerTimeout", "no answer in time")


def test_a_good_bye_that_meets_a_defect_harms_nobody_else() -> None:
    crashes: list[LogEvent] = []
    crashed = asyncio.Event()

    def see(event: LogEvent) -> None:
        if isinstance(event, UpkeepCrashed):
            crashes.append(event)
            crashed.set()

    async def crash_at_good_bye(request: Request) -> Outcome:
        if request.method == "DELETE":
            raise ZeroDivisionError
        return await all_is_well(request)

    async def scene() -> None:
        async with world() as here:
            here.channel.play = crash_at_good_bye
            async with here.fleet.use(a_registration().endpoint) as old:
                await old.log_in()
            here.registration = a_registration(2)
            async with here.fleet.use(here.registration.endpoint) as new:
                await crashed.wait()
                assert len(crashes) == 1
                await new.log_in()

    with listening(see):
        run(scene())
    assert crashes == [UpkeepCrashed(f"leaving '{NAME}'")] * 2


def test_nothing_is_left_to_do_once_a_fleet_is_closed() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            await client.log_in()
        assert timers() == 0

    run(scene())
