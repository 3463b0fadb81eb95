"""A breaker over real connections: an appliance that is gone is left alone until it is back."""

import asyncio
from dataclasses import replace

import pytest

from service.appliance.exchange import granted
from service.appliance.http import HttpsChannel
from service.appliance.limits import CallTimeouts, Limits
from service.domain.errors import ApplianceClosed, NotSent, OutOfResources
from service.domain.ids import TaskId
from service.domain.registration import LocalUser
from simulator import Knobs, Rule, fault
from tests.integration.appliance.rigs import Rig, registered, rig, spec_of, until
from tests.support.descriptors import at_most, next_descriptor

HASTY = CallTimeouts(connect_s=0.4, answer_s=0.2, total_s=0.5)
TOUCHY = Limits(breaker_failures=3, breaker_over_s=0.05)

SICK: list[Rule] = [
    fault("hang", times=None),
    fault("reset", times=None),
    fault("status", status=503, times=None),
    fault("status", status=502, times=None),
    fault("garbage", body="cut", times=None),
]


async def break_open(here: Rig) -> None:
    """Ask until the breaker opens."""
    async with asyncio.timeout(10):
        while True:
            with pytest.raises(NotSent) as caught:
                await here.client.peers()
            if isinstance(caught.value, ApplianceClosed):
                return


def everything(here: Rig) -> int:
    """How many requests and connections the first appliance saw."""
    return int(here.counts.requests.total() + here.counts.connections)


async def held_off(here: Rig) -> None:
    """Everything is refused, and nothing of it reaches the appliance."""

    async def look() -> None:
        await here.client.peers()

    async def wait_for(number: int) -> None:
        await here.client.finished(TaskId(str(number)))

    before = everything(here)
    told = await asyncio.gather(
        *(look() for _ in range(50)),
        *(here.client.pair(here.there, "", granted) for _ in range(50)),
        *(wait_for(number) for number in range(50)),
        return_exceptions=True,
    )
    assert {type(each) for each in told} == {ApplianceClosed}
    assert everything(here) == before


@pytest.mark.parametrize("rule", SICK, ids=lambda rule: f"{rule.action.kind}{rule.action.status}")
async def test_a_sick_appliance_is_held_off_until_a_probe_finds_it_well(rule: Rule) -> None:
    async with rig(timeouts=HASTY, limits=TOUCHY) as here:
        await here.client.peers()
        here.here.add_fault(rule)
        await break_open(here)
        assert list(here.fleet.opened()) == [here.client.name]
        await held_off(here)
        assert await here.fleet.probe(here.client.name) is not None
        await held_off(here)
        here.here.clear_faults()
        assert await here.fleet.probe(here.client.name) is None
        assert await here.client.peers() == ()
        assert not here.fleet.opened()


@pytest.mark.parametrize("mode", ["refuse", "slam"])
async def test_an_appliance_that_is_down_is_held_off_and_comes_back(mode: str) -> None:
    async with rig(timeouts=HASTY, limits=TOUCHY) as here:
        await here.client.peers()
        await here.here.down("refuse" if mode == "refuse" else "slam")
        here.here.cut_connections()
        await break_open(here)
        await held_off(here)
        assert await here.fleet.probe(here.client.name) is not None
        await here.here.up()
        assert await here.fleet.probe(here.client.name) is None
        assert await here.client.peers() == ()


async def test_that_no_descriptor_is_left_is_not_held_against_an_appliance() -> None:
    async with rig(timeouts=HASTY, limits=replace(TOUCHY, breaker_over_s=0.0)) as here:
        await here.client.log_in()
        assert isinstance(here.client._channel, HttpsChannel)
        for connection in list(here.client._channel._pool._open):
            connection.close()
        with at_most(next_descriptor()):
            for _ in range(5):
                with pytest.raises(OutOfResources):
                    await here.client.peers()
            assert not here.fleet.opened()
            # Nor does it say why an appliance is closed.
            with pytest.raises(OutOfResources):
                await here.fleet.probe(here.client.name)
        assert await here.client.peers() == ()


async def test_who_waits_for_a_task_is_told_when_the_appliance_goes_away() -> None:
    async with rig(Knobs(task_ms=(60_000, 60_000)), timeouts=HASTY, limits=TOUCHY) as here:
        task = await here.client.pair(here.there, "", granted)
        waiting = [asyncio.ensure_future(here.client.finished(task.id)) for _ in range(20)]
        here.here.add_fault(fault("status", status=503, times=None))
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(each) for each in told} == {ApplianceClosed}
        assert here.requests("POST /tasks/poll") <= 5
        here.here.clear_faults()
        assert await here.fleet.probe(here.client.name) is None
        again = asyncio.ensure_future(here.client.finished(task.id))
        polled = here.requests("POST /tasks/poll")
        await until(lambda: here.requests("POST /tasks/poll") > polled)
        again.cancel()


async def test_one_appliance_that_is_held_off_holds_nobody_else_off() -> None:
    async with rig(timeouts=HASTY, limits=TOUCHY) as here:
        here.here.add_fault(fault("hang", times=None))
        await break_open(here)
        async with here.fleet.use(here.there) as there:
            assert await there.peers() == ()


async def test_a_registration_that_is_corrected_is_called_at_once() -> None:
    async with rig(timeouts=HASTY, limits=TOUCHY, management_url="https://127.0.0.1:9/") as here:
        await break_open(here)
        endpoint = here.registry.put(registered(spec_of(here.here), 2))
        async with here.fleet.use(endpoint) as client:
            assert await client.peers() == ()


async def test_a_wrong_password_opens_nothing_and_is_tried_once() -> None:
    async with rig(limits=TOUCHY, credentials=LocalUser("root", "wrong")) as here:
        await asyncio.gather(
            *(here.client.peers() for _ in range(50)),
            *(here.client.pair(here.there, "", granted) for _ in range(50)),
            return_exceptions=True,
        )
        here.fleet.impose({})
        assert not here.fleet.opened()
        assert await here.fleet.probe(here.client.name) is None
        assert here.requests("POST /sessions") == 1
        assert here.counts.logins_refused == 1
