"""Who may log in: refused credentials are tried once, and the gate hears of every login."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from service.appliance.exchange import Failure, FailureKind, Outcome, Request, granted
from service.domain.appliance import ApiError
from service.domain.errors import LoginRefused, NotSent, Rejected, StoreUnavailable
from service.domain.ids import TaskId
from service.domain.pairing import SiteCall
from service.domain.registration import (
    LocalUser,
    LoginEnd,
    LoginOutcome,
    LoginRefusal,
    Registration,
)
from tests.support.virtual_time import now, run
from tests.unit.appliance.scripted import (
    DEAD,
    PEER,
    a_registration,
    all_is_well,
    world,
    wrong_password,
)
from tests.unit.appliance.values import an_answer, as_json

REFUSAL = LoginRefusal(ApiError("NotAuthenticated", "Authentication required."), 401)

PASSWORD = 'a "pass" word'

Gone = Callable[[], Awaitable[None]]


def with_password(password: str) -> Registration:
    """The registration, with these credentials."""
    registration = a_registration()
    spec = replace(registration.spec, credentials=LocalUser("root", password))
    return replace(registration, spec=spec)


async def at_once() -> None:
    """Nothing is in the way."""


@dataclass(slots=True)
class Gate:
    """Implements `LoginGate`, for a test to watch. Remembers refusals for ever."""

    refusal: LoginRefusal | None = None
    on_admit: Gone = at_once
    on_tell: Gone = at_once
    asked: int = 0
    told: list[LoginOutcome] = field(default_factory=list)
    heard: list[LoginOutcome] = field(default_factory=list)

    async def admit(self) -> LoginRefusal | None:
        """Implements `LoginGate.admit`."""
        self.asked += 1
        await self.on_admit()
        return self.refusal

    async def tell(self, outcome: LoginOutcome) -> None:
        """Implements `LoginGate.tell`. `heard` is what came through to its end."""
        self.told.append(outcome)
        await self.on_tell()
        self.heard.append(outcome)
        if isinstance(outcome, LoginRefusal):
            self.refusal = outcome


async def never() -> None:
    """Not even when the virtual clock jumps to the end of days: whoever waited for it is seen."""
    await asyncio.Event().wait()


async def no_store() -> None:
    """The database is away."""
    raise StoreUnavailable("connection refused")


def test_a_hundred_who_come_with_a_wrong_password_are_refused_by_one_login() -> None:
    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            here.channel.play = wrong_password
            asks = [
                *(client.peers() for _ in range(20)),
                *(client.about() for _ in range(20)),
                *(client.pair(PEER, "", granted) for _ in range(20)),
                *(client.finished(TaskId(str(number))) for number in range(20)),
                *(client.site_tasks(SiteCall.UNPAIR, 0) for _ in range(20)),
            ]
            told = await asyncio.gather(*asks, return_exceptions=True)
            assert [type(each) for each in told] == [LoginRefused] * 100
            for _ in range(3):
                await asyncio.sleep(86_400.0)
                with pytest.raises(LoginRefused) as caught:
                    await client.peers()
                assert (caught.value.status, caught.value.error.code) == (401, "NotAuthenticated")
            assert here.channel.calls == {"POST /sessions": 1}

    run(scene())


def test_a_new_registration_is_a_new_try() -> None:
    async def scene() -> None:
        async with world() as here:
            here.channel.play = wrong_password
            for version in (1, 1, 2, 2):
                here.registration = a_registration(version)
                async with here.fleet.use(here.registration.endpoint) as client:
                    with pytest.raises(LoginRefused):
                        await client.peers()
            assert here.channel.calls["POST /sessions"] == 2

    run(scene())


def test_what_was_refused_elsewhere_is_not_tried_here() -> None:
    async def scene() -> None:
        gate = Gate(REFUSAL)
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            with pytest.raises(LoginRefused) as caught:
                await client.peers()
            assert caught.value.error == REFUSAL.error
            assert not here.channel.calls
            assert not gate.told
            assert client.is_refused
            gate.refusal = None  # An operator's check succeeded.
            assert await client.peers() == ()
            assert not client.is_refused

    run(scene())


def test_each_registration_has_its_own_gate() -> None:
    async def scene() -> None:
        made = []

        def gate_of(registration: object) -> Gate:
            made.append(registration)
            return Gate()

        async with world(gate_of=gate_of) as here:
            for version in (1, 1, 2):
                here.registration = a_registration(version)
                async with here.fleet.use(here.registration.endpoint) as client:
                    await client.peers()
        assert made == [a_registration(1), a_registration(2)]

    run(scene())


@pytest.mark.parametrize(
    ("outcome", "told", "raised"),
    [
        (an_answer(200, x_vcav_auth="token"), LoginEnd.ACCEPTED, None),
        (an_answer(200), LoginEnd.UNKNOWN, NotSent),
        (an_answer(500), LoginEnd.UNKNOWN, NotSent),
        (an_answer(503), LoginEnd.UNKNOWN, NotSent),
        (an_answer(401), 401, LoginRefused),
        (an_answer(403), 403, LoginRefused),
        (DEAD, LoginEnd.UNKNOWN, NotSent),
        (Failure(FailureKind.CUT, "reset"), LoginEnd.UNKNOWN, NotSent),
    ],
    ids=lambda each: str(getattr(each, "status", getattr(each, "kind", each))),
)
def test_the_gate_hears_once_what_became_of_a_login(
    outcome: Outcome, told: LoginEnd | int, raised: type[Exception] | None
) -> None:
    async def scene() -> None:
        gate = Gate()
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            here.channel.always(outcome, after_s=1.0)
            if raised is None:
                await client.log_in()
            else:
                with pytest.raises(raised):
                    await client.log_in()
            heard = [getattr(each, "status", each) for each in gate.heard]
            assert (gate.asked, heard) == (1, [told])

    run(scene())


def test_many_calls_wait_for_one_turn_at_the_gate() -> None:
    async def scene() -> None:
        gate = Gate(on_admit=lambda: asyncio.sleep(60.0))
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            await asyncio.gather(*(client.about() for _ in range(50)))
            assert gate.asked == 1
            assert here.channel.calls["POST /sessions"] == 1
            assert now() > 60.0

    run(scene())


def test_a_renewed_session_asks_the_gate_again() -> None:
    async def scene() -> None:
        gate = Gate()
        expired = [an_answer(401, www_authenticate="Authentication Token Required")]

        async def play(request: Request) -> Outcome:
            if request.path == "/sites" and expired:
                return expired.pop()
            return await all_is_well(request)

        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            here.channel.play = play
            await client.peers()
            assert (gate.asked, gate.heard) == (2, [LoginEnd.ACCEPTED] * 2)

    run(scene())


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_that_repeats_what_was_sent_does_not_tell_the_password(status: int) -> None:
    async def repeat(request: Request) -> Outcome:
        said = f"Cannot make sense of {(request.body or b'').decode()}"
        error = {"code": "BadUserInput", "msg": said, "args": [PASSWORD], "stacktrace": said}
        return an_answer(status, as_json(error))

    async def scene() -> None:
        gate = Gate()
        async with world(gate_of=lambda _: gate) as here:
            here.registration = with_password(PASSWORD)
            async with here.fleet.use(here.registration.endpoint) as client:
                here.channel.play = repeat
                with pytest.raises(Rejected) as refused:
                    await client.about()
            error = refused.value.error
            assert error.args == ("[redacted]",)
            assert error.msg.startswith("Cannot make sense of {")
            assert "root" in error.msg
            for told in (repr(error), str(refused.value), repr(gate.heard)):
                assert "pass" not in told.replace("localPassword", "")

    run(scene())


@pytest.mark.parametrize("status", [200, 401])
def test_a_login_that_is_cancelled_is_told_to_the_gate(status: int) -> None:
    async def scene() -> None:
        gate = Gate(on_tell=lambda: asyncio.sleep(1.0))
        async with world(gate_of=lambda _: gate) as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                here.channel.always(an_answer(status, x_vcav_auth="token"), after_s=100.0)
                waiting = asyncio.ensure_future(client.peers())
                await asyncio.sleep(1.0)
            await client.close()
            assert now() == 2.0
            assert gate.heard == [LoginEnd.UNKNOWN]
            with pytest.raises(NotSent):
                await waiting

    run(scene())


def test_a_refusal_that_the_gate_does_not_hear_in_time_is_told_again_and_not_tried_again() -> None:
    async def scene() -> None:
        gate = Gate(on_tell=never)
        async with world(gate_of=lambda _: gate) as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                here.channel.play = wrong_password
                for _ in range(2):
                    with pytest.raises(LoginRefused):
                        await client.about()
                    gate.on_tell = at_once
            assert here.channel.calls["POST /sessions"] == 1
            assert [getattr(each, "status", each) for each in gate.heard] == [401]

    run(scene())


def test_who_is_cancelled_at_the_gate_gives_the_turn_back_that_he_may_have_got() -> None:
    async def scene() -> None:
        gate = Gate(on_admit=lambda: asyncio.sleep(100.0))
        async with world(gate_of=lambda _: gate) as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                waiting = asyncio.ensure_future(client.about())
                await asyncio.sleep(1.0)
                assert gate.asked == 1  # He is at the gate, and it takes its time.
            await client.close()
            assert now() == 1.0  # Nobody waits for its answer any more.
            assert gate.heard == [LoginEnd.UNKNOWN]
            with pytest.raises(NotSent):
                await waiting

    run(scene())


def test_who_is_cancelled_while_he_tells_the_gate_tells_it_to_the_end_and_once() -> None:
    async def scene() -> None:
        gate = Gate(on_tell=lambda: asyncio.sleep(2.0))
        async with world(gate_of=lambda _: gate) as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                here.channel.play = wrong_password
                waiting = asyncio.ensure_future(client.about())
                await asyncio.sleep(1.0)
            await client.close()
            assert [getattr(each, "status", each) for each in gate.heard] == [401]
            assert len(gate.told) == 1
            with pytest.raises(NotSent):
                await waiting

    run(scene())


def test_an_end_that_is_cancelled_leaves_no_connection_open_and_nobody_waiting() -> None:
    async def scene() -> None:
        gate = Gate(on_tell=never)
        async with world(gate_of=lambda _: gate) as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                asks = (client.about(), client.peers(), client.finished(TaskId("task")))
                waiting = [asyncio.ensure_future(ask) for ask in asks]
                await asyncio.sleep(1.0)
                assert gate.told == [LoginEnd.ACCEPTED]  # It is about to hear of it.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.close(), 0.5)
            assert here.channel.is_closed
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(each) for each in ended] == [NotSent] * 3
        assert now() < 5.0  # Who waits for the login is told when the gate has had its time.

    run(scene())


def test_a_gate_that_never_listens_does_not_hold_up_the_end() -> None:
    async def scene() -> None:
        gate = Gate(on_tell=never)
        async with world(gate_of=lambda _: gate) as here:
            async with here.fleet.use(a_registration().endpoint) as client:
                waiting = asyncio.ensure_future(client.about())
                await asyncio.sleep(1.0)
            await client.close()
            assert now() < 5.0
            with pytest.raises(NotSent):
                await waiting

    run(scene())


def test_a_login_takes_no_longer_than_its_turn_at_the_gate() -> None:
    async def scene() -> None:
        gate = Gate()
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            here.channel.always(an_answer(200, x_vcav_auth="late"), after_s=100.0)
            with pytest.raises(NotSent):
                await client.about()
            assert now() == 40.0
            assert gate.heard == [LoginEnd.UNKNOWN]

    run(scene())


def test_without_the_store_nobody_logs_in() -> None:
    async def scene() -> None:
        gate = Gate(on_admit=no_store)
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            with pytest.raises(NotSent) as caught:
                await client.pair(PEER, "", granted)
            assert caught.value.error.code == "StoreUnavailable"
            assert not here.channel.calls
            assert gate.told == [LoginEnd.UNKNOWN]  # It may have let us in all the same.
            gate.on_admit = at_once
            await client.pair(PEER, "", granted)

    run(scene())


def test_a_login_that_the_store_did_not_hear_of_is_not_made_again_for_the_next_call() -> None:
    async def scene() -> None:
        gate = Gate(on_tell=no_store)
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            with pytest.raises(NotSent) as caught:
                await client.about()
            assert caught.value.error.code == "StoreUnavailable"
            await client.about()
            assert here.channel.calls["POST /sessions"] == 1

    run(scene())


def test_a_refusal_that_the_store_did_not_hear_of_is_kept_and_told_as_soon_as_that_works() -> None:
    async def scene() -> None:
        gate = Gate(on_tell=no_store)
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            here.channel.play = wrong_password
            for _ in range(3):
                with pytest.raises(LoginRefused):
                    await client.peers()
            assert gate.heard == []
            gate.on_tell = at_once
            with pytest.raises(LoginRefused):
                await client.peers()
            assert gate.heard == [REFUSAL]
            assert here.channel.calls == {"POST /sessions": 1}
            here.channel.play = all_is_well
            gate.refusal = None  # An operator's check succeeded.
            assert await client.peers() == ()

    run(scene())


def test_a_defect_of_the_gate_is_told_to_those_who_wait_not_to_the_group() -> None:
    async def crash() -> None:
        raise ZeroDivisionError

    async def scene() -> None:
        gate = Gate(on_admit=crash)
        async with (
            world(gate_of=lambda _: gate) as here,
            here.fleet.use(a_registration().endpoint) as client,
        ):
            with pytest.raises(ZeroDivisionError):
                await client.about()

    run(scene())
