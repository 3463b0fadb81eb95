"""Clients kept for whoever comes next, and replaced when a registration changes."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from service.appliance.conditions import Conditions
from service.appliance.exchange import granted
from service.appliance.fleet import ApplianceFleet
from service.appliance.limits import Limits
from service.domain.appliance import Endpoint
from service.domain.errors import NotSent, Rejected, UnknownAppliance
from service.domain.ids import ApplianceName
from service.domain.registration import Registration
from simulator import Knobs
from tests.integration.appliance.rigs import LOOPBACK, QUICK, Rig, registered, rig, spec_of, until


async def test_the_client_of_an_appliance_is_kept() -> None:
    async with rig() as here:
        endpoint = registered(spec_of(here.here)).endpoint
        asked = here.registry.asked
        async with here.fleet.use(endpoint) as client:
            assert client is here.client
        async with here.fleet.use(endpoint) as client:
            assert client is here.client
        assert here.registry.asked == asked


async def test_many_who_come_at_once_load_a_registration_once() -> None:
    async with rig() as here:
        asked = here.registry.asked

        async def use() -> object:
            async with here.fleet.use(here.there) as client:
                await client.about()
                return client

        clients = await asyncio.gather(*(use() for _ in range(30)))
        assert len({id(client) for client in clients}) == 1
        assert here.registry.asked == asked + 1


async def test_an_appliance_that_is_not_registered_is_unknown() -> None:
    async with rig() as here:
        nobody = Endpoint(ApplianceName("nobody"), here.there.api_url, here.there.api_thumbprint)
        with pytest.raises(UnknownAppliance):
            async with here.fleet.use(nobody):
                pytest.fail("entered")


async def test_a_newer_registration_replaces_the_client_once_its_users_are_gone() -> None:
    async with rig() as here:
        await here.client.about()
        endpoint = here.registry.put(registered(spec_of(here.here), 2))
        old = here.client
        async with here.fleet.use(endpoint) as new:
            assert new is not old
            await new.about()
            await old.about()  # Its user is not through yet.
        async with here.fleet.use(endpoint) as again:
            assert again is new


async def test_a_replaced_client_says_good_bye_when_its_last_user_leaves() -> None:
    async with rig() as here:
        first = registered(spec_of(here.here))
        registry, fleet = here.registry, here.fleet
        second = registry.put(registered(spec_of(here.here), 2))
        async with fleet.use(second) as old:
            await old.about()
            third = registry.put(registered(spec_of(here.here), 3))
            async with fleet.use(third) as new:
                await new.about()
            assert here.requests("DELETE /sessions") == 0
        await until(lambda: here.requests("DELETE /sessions") == 1)
        with pytest.raises(NotSent) as caught:
            await old.about()
        assert caught.value.error.code == "ClientClosed"
        async with fleet.use(first.endpoint) as newest:
            assert newest is new


async def test_a_replaced_client_shares_what_may_be_under_way_like_any_other() -> None:
    async with rig() as here:
        wide = replace(spec_of(here.here), max_in_flight=2)
        under_way: set[int] = set()
        most = 0

        async def change(number: int) -> None:
            def sent() -> None:
                nonlocal most
                under_way.add(number)
                most = max(most, len(under_way))

            with pytest.raises(Rejected):
                await old.unpair("nobody", sent)
            under_way.discard(number)

        async with here.fleet.use(here.registry.put(registered(wide, 2))) as old:
            third = here.registry.put(registered(wide, 3))
            async with here.fleet.use(third) as new:
                assert new is not old
            here.fleet.share(2)
            await asyncio.gather(*(change(number) for number in range(12)))
            assert most == 1
            here.fleet.share(1)
            await asyncio.gather(*(change(number) for number in range(12)))
            assert most == 2


async def test_an_older_endpoint_gets_the_newest_client() -> None:
    async with rig() as here:
        newer = here.registry.put(registered(spec_of(here.here), 7))
        async with here.fleet.use(newer) as new:
            pass
        older = registered(spec_of(here.here), 3).endpoint
        async with here.fleet.use(older) as client:
            assert client is new


async def test_an_endpoint_that_is_newer_than_the_registry_gets_the_client_that_there_is() -> None:
    async with rig() as here:
        newer = registered(spec_of(here.here), 2).endpoint
        async with here.fleet.use(newer) as client:
            assert client is here.client


async def test_a_name_that_was_registered_anew_for_something_else_gets_another_client() -> None:
    async with rig() as here:
        here.registry.remove(here.client.name)
        other = spec_of(here.here, api_url="https://moved.example.test:8048/")
        endpoint = here.registry.put(replace(registered(other, 1), id=uuid4()))
        async with here.fleet.use(endpoint) as client:
            assert client is not here.client


async def test_one_appliance_that_is_down_holds_nobody_else_up() -> None:
    async with rig() as here:
        await here.here.down("refuse")
        async with here.fleet.use(here.there) as there:
            await there.about()
        with pytest.raises(NotSent):
            await here.client.about()


async def test_who_is_not_used_any_more_is_logged_out_and_comes_back_when_used() -> None:
    """An appliance that was removed is told good-bye, and its credentials are kept no longer."""
    async with rig(limits=Limits(idle_s=0.05)) as here:
        async with here.fleet.use(here.there) as old:
            await old.about()
        await until(lambda: _logouts(here) == 1)
        asked = here.registry.asked
        async with here.fleet.use(here.there) as new:
            assert new is not old
            await new.about()
        assert here.registry.asked == asked + 1
        await until(lambda: _logouts(here) == 2)
        await here.client.about()  # It is used all the time.
        assert here.requests("DELETE /sessions") == 0


async def test_at_the_end_everybody_is_logged_out() -> None:
    async with rig() as here:
        await here.client.about()
        async with here.fleet.use(here.there) as other:
            await other.about()
    assert (here.requests("DELETE /sessions"), _logouts(here)) == (1, 1)


async def test_who_was_only_probed_is_logged_out_as_well() -> None:
    async with rig(limits=Limits(idle_s=0.05)) as here:
        assert await here.fleet.probe(here.there.name) is None
        await until(lambda: _logouts(here) == 1)


async def test_who_is_used_again_in_time_stays_logged_in() -> None:
    async with rig(limits=Limits(idle_s=0.2)) as here:
        async with here.fleet.use(here.there) as first:
            await first.about()
        async with here.fleet.use(here.there) as again:
            assert again is first
            await _idle_elsewhere(here)
            await again.about()
            assert _logouts(here) == 1


async def test_a_client_that_is_replaced_while_idle_says_good_bye_once() -> None:
    async with rig(limits=Limits(idle_s=0.3)) as here:
        async with here.fleet.use(here.there) as old:
            await old.about()
        endpoint = here.registry.put(registered(spec_of(here.simulated.appliances[1]), 2))
        async with here.fleet.use(endpoint) as new:
            assert new is not old
            await new.about()
            await until(lambda: _logouts(here) == 1)
            await _idle_elsewhere(here)
            async with here.fleet.use(endpoint) as still:
                assert still is new
            assert _logouts(here) == 2


async def _idle_elsewhere(here: Rig) -> None:
    """Return when another process has logged out, which began to be idle later than this one."""
    before = _logouts(here)
    conditions = Conditions(LOOPBACK, QUICK, Limits(idle_s=0.3))
    async with ApplianceFleet(here.registry.of, conditions) as elsewhere:
        async with elsewhere.use(here.there) as client:
            await client.about()
        await until(lambda: _logouts(here) == before + 1)


def _logouts(here: Rig) -> int:
    """How many sessions of the other appliance were ended."""
    counts = here.simulated.world.truth.counts(here.there.name)
    return counts.answers["DELETE /sessions", 204]


async def test_a_fleet_that_used_nothing_ends_at_once() -> None:
    async with ApplianceFleet(_nobody, Conditions(LOOPBACK, QUICK)):
        pass


async def test_the_callers_own_error_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ApplianceFleet(_nobody, Conditions(LOOPBACK, QUICK)):
            raise ZeroDivisionError


async def test_a_fleet_ends_while_somebody_still_waits_for_a_task() -> None:
    async with rig(Knobs(task_ms=(60_000, 60_000))) as here:
        task = await here.client.pair(here.there, "", granted)
        waiting = asyncio.ensure_future(here.client.finished(task.id))
        reading = asyncio.ensure_future(here.client.peers())
        await asyncio.sleep(0)
        await here.client.close()
        answers = await asyncio.gather(waiting, reading, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NotSent, NotSent]


async def test_a_fleet_whose_user_is_cancelled_still_says_good_bye() -> None:
    async with rig() as here:
        began = asyncio.Event()

        async def work() -> None:
            async with (
                ApplianceFleet(here.registry.of, Conditions(LOOPBACK, QUICK)) as fleet,
                fleet.use(here.there) as client,
            ):
                await client.about()
                began.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        counts = here.simulated.world.truth.counts(here.there.name)
        assert counts.answers["DELETE /sessions", 204] == 1


async def _nobody(name: ApplianceName) -> Registration:
    raise UnknownAppliance(name)


async def test_a_client_without_credentials_gives_way_to_one_that_has_them() -> None:
    async with rig() as here:
        registration = registered(spec_of(here.here), 2)
        endpoint = here.registry.put(replace(registration, is_sealed=True))
        async with here.fleet.use(endpoint) as sealed, here.fleet.use(endpoint) as again:
            assert again is sealed
        here.registry.put(registration)
        async with here.fleet.use(endpoint) as opened:
            assert opened is not sealed
        here.registry.put(replace(registration, is_sealed=True))
        async with here.fleet.use(endpoint) as still:
            assert still is opened
