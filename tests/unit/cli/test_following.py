"""A pairing is followed, and whoever waits is told what for."""

import asyncio

import pytest

from service.cli.following import Following, breaking_off, followed, patiently
from service.cli.remote import Refused, Unreachable, remote
from tests.support.virtual_time import now, run
from tests.unit.api.conftest import TOKEN, served_over


async def test_who_waits_for_a_worker_is_told_so_once(
    database_url: str, explained: asyncio.Queue[str]
) -> None:
    # Nobody drives what this one accepts.
    async with served_over(database_url) as served:
        pairing = await served.pair("a", "b")
        url = f"http://{served.host}:{served.port}"
        async with remote(url, TOKEN) as service, asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(followed(service, pairing, Following()))
            async with asyncio.timeout(30):
                line = await explained.get()
            await served.fail(pairing["id"])
            ended = await watching

    assert "waits for a worker" in line
    assert explained.empty()
    assert ended["state"] == "FAILED"


async def test_who_hears_nothing_any_more_is_told_that_it_goes_on(
    database_url: str, explained: asyncio.Queue[str]
) -> None:
    async with served_over(database_url) as served:
        pairing = await served.pair("a", "b")
    async with remote(f"http://{served.host}:{served.port}", TOKEN) as service:
        with pytest.raises(Unreachable):
            await followed(service, pairing, Following())

    assert explained.get_nowait() == f"Pairing {pairing['id']} goes on without being watched."


async def test_what_is_refused_does_not_go_on(
    database_url: str, explained: asyncio.Queue[str]
) -> None:
    async with served_over(database_url) as served:
        pairing = await served.pair("a", "b")
        async with remote(f"http://{served.host}:{served.port}", "another") as service:
            with pytest.raises(Refused):
                await followed(service, pairing, Following())

    assert explained.empty()


def test_what_the_service_failed_at_may_go_on(explained: asyncio.Queue[str]) -> None:
    with pytest.raises(Refused), breaking_off("It goes on."):
        raise Refused(500, {})
    assert explained.get_nowait() == "It goes on."


def test_who_is_away_for_long_is_asked_for_a_minute_and_that_is_told_once(
    explained: asyncio.Queue[str],
) -> None:
    asked: list[float] = []

    async def ask() -> None:
        asked.append(now())
        raise Unreachable("lost")

    with pytest.raises(Unreachable, match="lost"):
        run(patiently(ask))
    assert asked[-1] - asked[0] == 60.0
    assert (explained.qsize(), explained.get_nowait()) == (1, "lost (asking again for 60 seconds)")
