"""One session, kept: who logs in, how often, and what becomes of those who may not."""

import asyncio

import pytest

from service.appliance.exchange import Request, granted
from service.appliance.limits import Limits
from service.domain.errors import LoginRefused, NotSent, Rejected
from service.domain.ids import OperationId, TaskId
from service.domain.pairing import SiteCall
from service.domain.registration import LocalUser, SsoUser
from service.observe.context import working_on
from simulator import fault
from tests.integration.appliance.rigs import Rig, logged, registered, rig, spec_of, until


async def test_a_hundred_calls_take_one_login_and_one_handshake() -> None:
    async with rig() as here:
        for _ in range(100):
            await here.client.about()
        assert here.counts.logins_accepted == 1
        assert here.counts.handshakes == 1


async def test_a_hundred_calls_at_once_take_one_login_and_two_handshakes() -> None:
    async with rig(max_in_flight=1) as here:
        await asyncio.gather(*(here.client.about() for _ in range(100)))
        assert here.counts.logins_accepted == 1
        assert here.counts.handshakes <= 2
        assert here.requests("GET /diagnostics/about") == 100


async def test_an_expired_session_is_renewed_once_for_all() -> None:
    async with rig() as here:
        await here.client.about()
        here.here.expire_sessions()
        await asyncio.gather(*(here.client.about() for _ in range(20)))
        assert here.counts.logins_accepted == 2


async def test_a_mutating_call_is_repeated_after_an_expired_session() -> None:
    """A 401 means that the appliance did not act."""
    async with rig() as here:
        await here.client.about()
        here.here.expire_sessions()
        task = await here.client.pair(here.there, "after expiry", granted)
        assert task.id
        assert here.requests("POST /sites") == 2
        assert here.accepted == 1


async def test_a_session_that_ends_again_after_a_new_login_is_worth_another_try() -> None:
    async with rig() as here:
        here.here.add_fault(
            fault(
                "status", path="/sites", status=401, code="NotAuthenticated", marker=True, times=2
            )
        )
        with pytest.raises(NotSent) as caught:
            await here.client.peers()
        assert caught.value.error.code == "NotAuthenticated"
        assert here.counts.logins_accepted == 2
        assert await here.client.peers() == ()


async def test_a_401_without_the_mark_is_worth_one_new_login() -> None:
    async with rig() as here:
        here.here.add_fault(
            fault("status", path="/sites", status=401, code="NotAuthenticated", times=1)
        )
        assert await here.client.peers() == ()
        assert here.counts.logins_accepted == 2


async def test_a_session_that_ends_without_the_mark_soon_after_another_did_is_renewed_too() -> None:
    async with rig() as here:
        for logins in (2, 3):
            here.here.add_fault(
                fault("status", path="/sites", status=401, code="NotAuthenticated", times=1)
            )
            assert await here.client.peers() == ()
            assert here.counts.logins_accepted == logins


async def test_a_401_that_three_new_sessions_meet_is_an_answer_to_that_call_and_no_other() -> None:
    async with rig() as here:
        here.here.add_fault(
            fault("status", path="/sites", status=401, code="NotAuthenticated", times=99)
        )
        for refusal in (NotSent, NotSent, Rejected, Rejected, Rejected):
            with pytest.raises(refusal) as caught:
                await here.client.peers()
            assert caught.value.error.code == "NotAuthenticated"
        assert here.counts.logins_accepted == 4
        # Another call's session may have ended all the same.
        here.here.add_fault(fault("status", path="/config", status=401, times=1))
        await here.client.ask(Request("GET", "/config"))
        assert here.counts.logins_accepted == 5
        here.here.clear_faults()
        here.here.expire_sessions()
        assert await here.client.peers() == ()
        assert here.counts.logins_accepted == 6


async def test_a_session_that_ends_twice_in_a_row_is_no_answer_for_those_who_come_later() -> None:
    async with rig() as here:
        here.here.add_fault(
            fault("status", path="/sites", status=401, code="NotAuthenticated", times=2)
        )
        with pytest.raises(NotSent):
            await here.client.peers()
        here.here.add_fault(
            fault("status", path="/sites", status=401, code="NotAuthenticated", times=1)
        )
        assert await here.client.peers() == ()
        for _ in range(2):  # What was in vain before is forgotten by now.
            here.here.add_fault(
                fault("status", path="/sites", status=401, code="NotAuthenticated", times=2)
            )
            with pytest.raises(NotSent):
                await here.client.peers()


async def test_many_who_meet_one_session_that_ended_again_count_once() -> None:
    async with rig(limits=Limits(connections=8)) as here:
        await here.client.log_in()
        here.here.add_fault(fault("status", path="/config", status=401, times=16))
        asks = [here.client.ask(Request("GET", "/config")) for _ in range(8)]
        told = await asyncio.gather(*asks, return_exceptions=True)
        assert NotSent in {type(each) for each in told}
        assert Rejected not in {type(each) for each in told}
        here.here.clear_faults()
        assert (await here.client.ask(Request("GET", "/config"))).status == 200


async def test_a_401_about_another_site_is_no_reason_to_log_in() -> None:
    async with rig() as here:
        code = "RemoteAuthenticationFailure"
        here.here.add_fault(fault("status", path="/sites", status=401, code=code))
        with pytest.raises(Rejected):
            await here.client.peers()
        assert here.counts.logins_accepted == 1


async def test_a_new_session_polls_the_old_ones_task() -> None:
    async with rig() as here:
        task = await here.client.pair(here.there, "", granted)
        here.here.expire_sessions()
        assert (await here.client.finished(task.id)).succeeded
        assert here.counts.logins_accepted == 2


async def test_an_sso_user_may_log_in() -> None:
    async with rig() as here:
        user = SsoUser(here.here.sso_username, here.here.sso_password)
        endpoint = here.registry.put(registered(spec_of(here.here, credentials=user), 2))
        async with here.fleet.use(endpoint) as client:
            await client.peers()
        assert here.counts.logins_accepted == 1


async def test_a_refused_login_is_tried_once_for_all_and_not_again() -> None:
    async with rig(credentials=LocalUser("root", "wrong")) as here:
        answers = await asyncio.gather(
            *(here.client.peers() for _ in range(5)),
            *(here.client.about() for _ in range(20)),
            here.client.finished(TaskId("f61d60d2-698a-46dc-a266-88df27644956")),
            return_exceptions=True,
        )
        assert {type(answer) for answer in answers} == {LoginRefused}
        with pytest.raises(LoginRefused) as caught:
            await here.client.pair(here.there, "", granted)
        assert (caught.value.status, caught.value.error.code) == (401, "NotAuthenticated")
        assert here.requests("POST /sessions") == 1


async def test_a_new_registration_opens_an_appliance_that_refused_the_login() -> None:
    async with rig(credentials=LocalUser("root", "wrong")) as here:
        with pytest.raises(LoginRefused):
            await here.client.peers()
        endpoint = here.registry.put(registered(spec_of(here.here), 2))
        async with here.fleet.use(endpoint) as client:
            assert await client.peers() == ()
        with pytest.raises(LoginRefused):
            await here.client.peers()
        assert here.requests("POST /sessions") == 2


@pytest.mark.parametrize("status", [500, 503])
async def test_a_login_that_fails_for_the_moment_leaves_the_call_unsent(status: int) -> None:
    async with rig() as here:
        here.here.add_fault(fault("status", path="/sessions", status=status, retry_after=3))
        with pytest.raises(NotSent):
            await here.client.pair(here.there, "", granted)
        await here.client.pair(here.there, "", granted)
        assert here.accepted == 1


async def test_a_login_whose_answer_is_lost_leaves_the_call_unsent_or_is_repeated() -> None:
    async with rig() as here:
        here.here.add_fault(fault("lost_answer", method="POST", path="/sessions", times=2))
        with pytest.raises(NotSent):
            await here.client.pair(here.there, "", granted)
        assert here.requests("POST /sites") == 0


async def test_whoever_goes_away_during_the_login_takes_it_from_nobody() -> None:
    async with rig() as here:
        here.here.add_fault(fault("slow", path="/sessions", ms=200))
        first = asyncio.ensure_future(here.client.about())
        others = [asyncio.ensure_future(here.client.about()) for _ in range(3)]
        await until(lambda: here.requests("POST /sessions") > 0)
        first.cancel()
        await asyncio.gather(*others)
        assert first.cancelled()
        assert here.requests("POST /sessions") == 1


async def test_the_session_ends_with_the_fleet() -> None:
    async with rig() as here:
        await here.client.about()
        assert len(here.here.state.sessions) == 1
        simulated, name = here.simulated, here.here.name
        await here.fleet.__aexit__(None, None, None)
        assert simulated.world.truth.counts(name).answers["DELETE /sessions", 204] == 1
        assert not here.here.state.sessions


async def test_every_call_carries_the_operation_id_of_whom_it_is_for() -> None:
    with logged() as lines:
        async with rig() as here:
            with working_on(operation_id=OperationId("op-mine")):
                task = await here.client.pair(here.there, "", granted)
                await here.client.finished(task.id)
                await here.client.peers()
                await here.client.site_tasks(SiteCall.PAIR, 0)
                await here.client.about()
            log = [each for each in here.simulated.world.truth.log if each.appliance == "site-1"]
        assert {each.path for each in log} >= {"/sessions", "/sites", "/tasks/poll", "/tasks"}
        assert {each.operation_id for each in log} == {"op-mine"}
        assert not here.counts.without_operation_id
        assert here.requests("DELETE /sessions") == 1
    mine = [line for line in lines.calls if line.get("operationID") == "op-mine"]
    assert len(mine) == len(log)
    assert [(line["method"], line["path"], line["status"]) for line in mine][:2] == [
        ("POST", "/sessions", 200),
        ("POST", "/sites", 202),
    ]


async def test_a_shared_call_names_all_whom_it_is_for() -> None:
    async def peers_as(name: str, here: Rig) -> None:
        with working_on(operation_id=OperationId(name)):
            await here.client.peers()

    with logged() as lines:
        async with rig() as here:
            await here.client.about()
            await asyncio.gather(*(peers_as(f"op-{number}", here) for number in range(50)))
    reads = [line for line in lines.calls if line["path"] == "/sites"]
    assert [line["operationID"] for line in reads] == ["op-0"]
    assert reads[0]["also"] == [f"op-{number}" for number in range(1, 33)]


async def test_a_call_on_nobodys_behalf_is_logged_under_the_id_that_it_carries() -> None:
    with logged() as lines:
        async with rig() as here:
            await here.client.about()
            sent = {each.path: each.operation_id for each in here.simulated.world.truth.log}
    line = next(line for line in lines.calls if line["path"] == "/diagnostics/about")
    assert line["operationID"] == sent["/diagnostics/about"]


async def test_a_login_made_for_a_shared_read_carries_the_id_of_that_read() -> None:
    async with rig() as here:
        await here.client.peers()
        log = here.simulated.world.truth.log
        assert [each.path for each in log] == ["/sessions", "/sites"]
        assert len({each.operation_id for each in log}) == 1


async def test_no_secret_is_logged() -> None:
    with logged() as lines:
        async with rig() as here:
            here.here.add_fault(fault("garbage", path="/sites"))
            with pytest.raises(NotSent):
                await here.client.peers()
            await here.client.pair(here.there, "", granted)
            tokens = list(here.here.state.sessions._open)
    assert tokens
    assert "appliance_called" in lines.text
    assert here.here.password not in lines.text
    assert not any(token in lines.text for token in tokens)


async def test_a_call_that_fails_is_logged_with_its_code() -> None:
    with logged() as lines:
        async with rig() as here:
            here.here.add_fault(
                fault("status", path="/sites", status=500, code="GeneralServerFailure")
            )
            here.here.add_fault(fault("reset", path="/diagnostics/about", times=2))
            for call in (here.client.peers, here.client.about):
                with pytest.raises(NotSent):
                    await call()
    failed = [
        (line["path"], line.get("status"), line["error"]) for line in lines.calls if "error" in line
    ]
    assert failed == [
        ("/sites", 500, "GeneralServerFailure"),
        ("/diagnostics/about", None, "ConnectionLost"),
        ("/diagnostics/about", None, "ConnectionLost"),
    ]
