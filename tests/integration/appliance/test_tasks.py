"""Waiting for an appliance's tasks and reading its peers, through real calls."""

import asyncio
from collections import Counter

import pytest

from service.appliance.exchange import granted
from service.domain.appliance import Task, read_sent
from service.domain.errors import LoginRefused, NotSent, Rejected, TaskForgotten
from service.domain.ids import TaskId
from service.domain.pairing import SiteCall
from service.domain.registration import SsoUser
from simulator import Knobs, Rule, fault
from tests.integration.appliance.rigs import Rig, registered, rig, spec_of, until

UNKNOWN = TaskId("f61d60d2-698a-46dc-a266-88df27644956")
SHORT = (20, 60)


async def pair(here: Rig) -> Task:
    """A pairing on the first appliance, waited for to its end."""
    task = await here.client.pair(here.there, "", granted)
    return await here.client.finished(task.id)


@pytest.mark.parametrize("cells", ["nested", "flattened", "omitted"])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("order", ["random", "fixed"])
async def test_the_bulk_poll_is_understood_however_it_is_laid_out(
    cells: str, layout: str, order: str
) -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        here.here.turn(poll_cells=cells, poll_layout=layout, poll_order=order)
        for _ in range(3):
            task = await here.client.pair(here.there, "", granted)
            finished = await here.client.finished(task.id)
            assert finished.id == task.id
        assert here.requests("POST /tasks/poll") >= 3
        assert here.counts.requests["GET /tasks/{id}"] <= 3


async def test_a_finished_task_brings_the_record_of_the_peer() -> None:
    async with rig(Knobs(task_ms=SHORT, poll_cells="flattened")) as here:
        finished = await pair(here)
        assert finished.succeeded
        assert finished.result is not None
        assert finished.result.api_public_url == here.there.api_url
        assert finished.result.trusts(here.there)
        assert read_sent(finished.result.sent)["site"] == "site-2"


@pytest.mark.parametrize("cells", ["nested", "flattened", "omitted"])
async def test_a_failed_task_brings_its_reason(cells: str) -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        here.here.turn(poll_cells=cells)
        here.here.add_fault(
            fault("task_fails", path="/sites", code="CertificateMismatch", msg="no")
        )
        finished = await pair(here)
        assert finished.failed
        assert finished.error is not None
        assert finished.error.code == "CertificateMismatch"


async def test_a_task_that_succeeds_with_a_dead_pairing_says_so() -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        here.here.add_fault(fault("task_mismatch", path="/sites"))
        finished = await pair(here)
        assert finished.succeeded
        assert finished.result is not None
        assert finished.result.outgoing_error is not None
        assert finished.result.outgoing_error.code == "CertificateMismatch"


async def test_queued_and_unknown_words_are_waited_through() -> None:
    knobs = Knobs(task_ms=(400, 400), queued_ms=150, extra_states=("PAUSED", "CANCELED?"))
    async with rig(knobs) as here:
        assert (await pair(here)).succeeded


@pytest.mark.parametrize("bulk_poll", ["404", "405"])
async def test_an_appliance_without_bulk_poll_is_asked_task_by_task(bulk_poll: str) -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        here.here.turn(bulk_poll=bulk_poll)
        for _ in range(3):
            await pair(here)
        assert here.requests("POST /tasks/poll") == 1
        singles = {call: n for call, n in here.counts.requests.items() if "GET /tasks/" in call}
        assert sum(singles.values()) >= 3


@pytest.mark.parametrize("poll_unknown_ids", ["omitted", "error"])
@pytest.mark.parametrize("status", [404, 400])
async def test_a_task_that_the_appliance_does_not_know_is_forgotten(
    poll_unknown_ids: str, status: int
) -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        here.here.turn(poll_unknown_ids=poll_unknown_ids, unknown_task_status=status)
        task = await here.client.pair(here.there, "", granted)
        known, unknown = await asyncio.gather(
            here.client.finished(task.id), here.client.finished(UNKNOWN), return_exceptions=True
        )
        assert isinstance(unknown, TaskForgotten)
        assert isinstance(known, Task)


async def test_a_task_that_is_forgotten_meanwhile_is_told_of() -> None:
    async with rig(Knobs(task_ms=(60_000, 60_000))) as here:
        task = await here.client.pair(here.there, "", granted)
        waiting = asyncio.ensure_future(here.client.finished(task.id))
        await asyncio.sleep(0)
        here.here.forget_tasks()
        with pytest.raises(TaskForgotten):
            await waiting


async def test_the_tasks_of_another_user_are_as_good_as_forgotten() -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        user = SsoUser(here.here.sso_username, here.here.sso_password)
        other = here.registry.put(registered(spec_of(here.here, credentials=user), 2))
        async with here.fleet.use(other) as client:
            task = await client.pair(here.there, "", granted)
            with pytest.raises(TaskForgotten):
                await here.client.finished(task.id)
            assert (await client.finished(task.id)).succeeded


async def test_fifty_who_wait_for_tasks_cost_few_polls() -> None:
    async with rig(Knobs(task_ms=(300, 500)), max_in_flight=50) as here:
        tasks = await asyncio.gather(
            *(here.client.pair(here.there, "", granted) for _ in range(50))
        )
        finished = await asyncio.gather(*(here.client.finished(task.id) for task in tasks))
        assert [task.id for task in finished] == [task.id for task in tasks]
        assert here.requests("POST /tasks/poll") <= 8
        assert here.counts.requests["GET /tasks/{id}"] == 0


async def test_more_ids_than_the_appliance_takes_at_once_are_split() -> None:
    async with rig(Knobs(task_ms=(300, 500), poll_max_ids=7), max_in_flight=20) as here:
        tasks = await asyncio.gather(
            *(here.client.pair(here.there, "", granted) for _ in range(20))
        )
        await asyncio.gather(*(here.client.finished(task.id) for task in tasks))
        assert here.counts.answers["POST /tasks/poll", 400] <= 3


async def test_fifty_who_want_the_peers_share_one_read_and_late_comers_the_next() -> None:
    async with rig() as here:
        await here.client.about()
        here.here.add_fault(fault("slow", path="/sites", ms=100))
        first = [asyncio.ensure_future(here.client.peers()) for _ in range(50)]
        await until(lambda: here.requests("GET /sites") > 0)
        await here.client.pair(here.there, "", granted)
        late = [asyncio.ensure_future(here.client.peers()) for _ in range(50)]
        await asyncio.gather(*first, *late)
        assert here.requests("GET /sites") == 2


FAULTS = [
    fault("reset", path="/tasks/poll", times=3),
    fault("lost_answer", path="/tasks/poll", times=3),
    fault("status", path="/tasks/poll", status=503, times=2),
    fault("status", path="/tasks/poll", status=500, times=2),
    fault("status", path="/tasks/poll", status=401, marker=True),
    fault("garbage", path="/tasks/poll", times=2),
    fault("garbage", path="/tasks/poll", body="list", times=2),
    fault("gzip_bomb", path="/tasks/poll", mb=1),
    fault("huge", path="/tasks/poll", mb=9),
    fault("hang", path="/tasks/poll"),
    fault("expire_sessions", path="/tasks/poll"),
]


@pytest.mark.parametrize(
    "rule", FAULTS, ids=lambda rule: f"{rule.action.kind}-{rule.action.status}-{rule.action.body}"
)
async def test_whoever_waits_does_not_notice_that_rounds_fail(rule: Rule) -> None:
    async with rig(Knobs(task_ms=SHORT)) as here:
        here.here.add_fault(rule)
        assert (await pair(here)).succeeded


async def test_whoever_waits_is_told_when_it_is_no_use() -> None:
    async with rig(Knobs(task_ms=(60_000, 60_000))) as here:
        task = await here.client.pair(here.there, "", granted)
        here.here.add_fault(fault("redirect", path="/tasks/poll"))
        with pytest.raises(Rejected):
            await here.client.finished(task.id)


@pytest.mark.parametrize("status", [401, 403, 422])
async def test_a_bulk_poll_that_is_refused_is_made_up_for(status: int) -> None:
    async with rig() as here:
        here.here.add_fault(
            fault("status", path="/tasks/poll", status=status, code="Forbidden", times=99)
        )
        assert (await pair(here)).succeeded


async def test_whoever_waits_is_told_when_the_login_is_refused_meanwhile() -> None:
    async with rig(Knobs(task_ms=(60_000, 60_000))) as here:
        task = await here.client.pair(here.there, "", granted)
        here.here.add_fault(fault("status", path="/sessions", status=401, code="NotAuthenticated"))
        here.here.expire_sessions()
        with pytest.raises(LoginRefused):
            await here.client.finished(task.id)


async def test_a_waiter_that_is_cancelled_leaves_the_others() -> None:
    async with rig(Knobs(task_ms=(200, 200))) as here:
        task = await here.client.pair(here.there, "", granted)
        waiters = [asyncio.ensure_future(here.client.finished(task.id)) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        others = await asyncio.gather(*waiters[1:])
        assert all(each.succeeded for each in others)
        assert waiters[0].cancelled()


async def test_an_appliance_that_goes_down_and_comes_back_is_waited_for() -> None:
    async with rig(Knobs(task_ms=(100, 100))) as here:
        task = await here.client.pair(here.there, "", granted)
        waiting = asyncio.ensure_future(here.client.finished(task.id))
        await here.here.down("refuse")
        with pytest.raises(NotSent):
            await here.client.about()
        await here.here.up()
        assert (await waiting).succeeded


async def test_all_pages_of_the_task_list_are_read() -> None:
    async with rig(Knobs(task_ms=(1, 2), queued_ms=0), max_in_flight=50) as here:
        since = int(here.simulated.now()) - 1
        started = await asyncio.gather(
            *(here.client.pair(here.there, "", granted) for _ in range(230))
        )
        listed = await here.client.site_tasks(SiteCall.PAIR, since)
        assert {task.id for task in listed} == {task.id for task in started}
        assert here.requests("GET /tasks") == 3


async def test_a_server_limit_below_ours_loses_no_task() -> None:
    knobs = Knobs(task_ms=(1, 2), queued_ms=0, list_limit_max=10)
    async with rig(knobs, max_in_flight=50) as here:
        started = await asyncio.gather(
            *(here.client.pair(here.there, "", granted) for _ in range(130))
        )
        listed = await here.client.site_tasks(SiteCall.PAIR, 0)
        assert {task.id for task in listed} == {task.id for task in started}


async def test_only_tasks_after_the_moment_are_listed() -> None:
    async with rig(Knobs(task_ms=(1, 2), queued_ms=0)) as here:
        first = await here.client.pair(here.there, "", granted)
        assert first.start_time is not None
        assert [
            task.id for task in await here.client.site_tasks(SiteCall.PAIR, first.start_time - 1)
        ] == [first.id]
        assert await here.client.site_tasks(SiteCall.PAIR, first.start_time) == []


@pytest.mark.parametrize("hours", [-30, 30])
async def test_tasks_of_an_appliance_whose_clock_is_wrong_are_found(hours: int) -> None:
    async with rig(Knobs(task_ms=(60_000, 60_000))) as here:
        here.here.skew_clock(hours * 3_600_000)
        since = int(here.simulated.now()) - 120_000
        task = await here.client.pair(here.there, "", granted)
        assert [each.id for each in await here.client.site_tasks(SiteCall.PAIR, since)] == [task.id]


async def test_one_pairing_alone_costs_few_calls() -> None:
    async with rig(Knobs(task_ms=(150, 150))) as here:
        for _ in range(2):
            await here.client.peers()
            await pair(here)
            await here.client.peers()
        calls: Counter[str] = here.counts.requests
        assert calls["POST /sessions"] == 1
        assert calls["GET /sites"] == 4
        assert calls["POST /sites"] == 2
        assert calls["POST /tasks/poll"] <= 6
        assert here.counts.handshakes == 1
