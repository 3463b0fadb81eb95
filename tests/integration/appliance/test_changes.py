"""Repair and unpair at an appliance, and finding what they have started."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service.appliance.client import ApplianceClient
from service.appliance.exchange import granted
from service.domain.appliance import Peer
from service.domain.errors import Rejected
from service.domain.pairing import SiteCall
from service.domain.thumbprint import parse_thumbprint
from simulator import Knobs
from tests.integration.appliance.raw_server import (
    Arrival,
    RawServer,
    accepted,
    raw_server,
    response,
)
from tests.integration.appliance.rigs import Rig, client_of, registered, rig, spec_of, until

SHORT = Knobs(task_ms=(20, 60))


async def paired(here: Rig) -> Peer:
    """The first appliance's record of the second, which it holds from now on."""
    task = await here.client.pair(here.there, "", granted)
    assert (await here.client.finished(task.id)).succeeded
    return await record(here)


async def record(here: Rig) -> Peer:
    """The only record that the first appliance holds."""
    (peer,) = await here.client.peers()
    return peer


async def test_an_unpaired_peer_is_gone() -> None:
    async with rig(SHORT) as here:
        peer = await paired(here)
        task = await here.client.unpair(peer.id or "", granted)
        assert (await here.client.finished(task.id)).succeeded
        assert await here.client.peers() == ()
        assert here.requests("DELETE /sites/{id}") == 1
        assert here.accepted == 2


async def test_a_repaired_peer_has_the_new_thumbprint() -> None:
    async with rig(SHORT) as here:
        peer = await paired(here)
        other = here.simulated.appliances[1]
        other.rotate_certificate("api")
        moved = registered(spec_of(other)).endpoint
        assert not peer.trusts(moved)
        task = await here.client.repair(peer.id or "", moved, "rotated", granted)
        finished = await here.client.finished(task.id)
        assert finished.succeeded
        repaired = await record(here)
        assert (repaired.id, repaired.trusts(moved)) == (peer.id, True)
        assert repaired.api_thumbprint == parse_thumbprint(other.api_thumbprint)


async def test_a_peer_that_is_not_listed_is_rejected() -> None:
    async with rig(SHORT) as here:
        nobody = "f61d60d2-698a-46dc-a266-88df27644956"
        for change in (
            here.client.repair(nobody, here.there, "", granted),
            here.client.unpair(nobody, granted),
        ):
            with pytest.raises(Rejected) as caught:
                await change
            assert caught.value.status == 404


@asynccontextmanager
async def answering_at_the_end(
    max_in_flight: int,
) -> AsyncIterator[tuple[RawServer, ApplianceClient, asyncio.TaskGroup]]:
    """An appliance that answers nobody before the block is over, its client, and who calls."""
    answering = asyncio.Event()

    async def take_its_time(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        await answering.wait()
        writer.write(accepted() if arrival.method == "DELETE" else response())

    async with (
        raw_server(take_its_time) as server,
        client_of(replace(server.spec(), max_in_flight=max_in_flight)) as client,
        asyncio.TaskGroup() as calls,
    ):
        yield server, client, calls
        answering.set()


async def test_as_many_changes_are_under_way_at_once_as_the_appliance_is_registered_for() -> None:
    async with answering_at_the_end(5) as (server, client, changes):
        for _ in range(6):
            changes.create_task(client.unpair("x", granted))
        await until(lambda: server.count("DELETE") == 5)
        assert len(client._mutating._line) == 1
    assert server.count("DELETE", "/sites") == 6


async def test_workers_share_what_may_be_under_way_at_once() -> None:
    async with answering_at_the_end(2) as (server, client, changes):
        client.share(5)
        for _ in range(6):
            changes.create_task(client.unpair("x", granted))
        await until(lambda: server.count("DELETE") == 1)
        assert len(client._mutating._line) == 5  # They wait.
        client.share(1)
        await until(lambda: server.count("DELETE") == 2)
    assert server.count("DELETE", "/sites") == 6


async def test_a_worker_has_the_connections_for_its_share_of_the_changes_alone() -> None:
    async with answering_at_the_end(8) as (server, client, reads):
        client.share(2)
        for _ in range(9):
            reads.create_task(client.about())
        await until(lambda: server.count("GET") == 4)
        assert len(client._calls._turns._line) == 5
    assert server.count("GET") == 9


async def test_what_a_call_has_started_is_found_in_the_list() -> None:
    async with rig(SHORT) as here:
        peer = await paired(here)
        pairing = await here.client.site_tasks(SiteCall.PAIR, 0)
        repair = await here.client.repair(peer.id or "", here.there, "", granted)
        unpair = await here.client.unpair(peer.id or "", granted)
        for call, started in ((SiteCall.REPAIR, repair), (SiteCall.UNPAIR, unpair)):
            listed = await here.client.site_tasks(call, 0)
            assert started.id in {task.id for task in listed}
        assert repair.start_time is not None
        later = await here.client.site_tasks(SiteCall.UNPAIR, repair.start_time)
        assert not {task.id for task in later} & {task.id for task in pairing}


async def listed(client: ApplianceClient, call: SiteCall) -> list[str]:
    """What is found of tasks since second one."""
    return [task.id for task in await client.site_tasks(call, 1_000)]


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}], ids=["no date", "no such date"])
async def test_where_nobody_knows_what_the_clock_says_all_tasks_are_asked_for(
    headers: dict[str, str],
) -> None:
    """What began just now may say that it began hours ago."""
    items = [{"id": "now", "workflowInfo": {"type": "pair"}, "startTime": 500}]

    async def page(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(json.dumps({"items": items, "total": 1}).encode(), **headers))

    async with raw_server(page) as server, client_of(server.spec()) as client:
        await client.get_object("/tasks")
        assert await listed(client, SiteCall.PAIR) == ["now"]
        assert "startTimeAfter=0&" in server.arrivals[-1].path


@pytest.mark.parametrize("call", [SiteCall.REPAIR, SiteCall.UNPAIR])
async def test_of_repair_and_unpair_only_the_resource_is_known(call: SiteCall) -> None:
    items = [
        {"id": "site", "workflowInfo": {"type": "x", "resourceType": "SITE"}, "startTime": 2_000},
        {"id": "perhaps", "workflowInfo": {"type": "unpair", "resourceType": None}},
        {"id": "untold"},
        {"id": "health", "workflowInfo": {"type": "health", "resourceType": "MANAGER"}},
        {"id": "old", "workflowInfo": {"resourceType": "site"}, "startTime": 1_000},
    ]

    async def page(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(json.dumps({"items": items, "total": 5}).encode()))

    async with raw_server(page) as server, client_of(server.spec()) as client:
        assert await listed(client, call) == ["site", "perhaps", "untold"]
        assert server.arrivals[-1].path == (
            "/tasks?resourceType=site&startTimeAfter=1000&limit=100&offset=0"
        )
