"""A batch is followed; whoever waits is told what for, and whoever stops, that it goes on."""

import asyncio
import io
import sys
from typing import Any

import pytest

from service.cli import batch, following
from service.cli.batch import Options
from service.cli.remote import Unreachable, remote
from service.cli.status import Terminal
from tests.unit.api.conftest import TOKEN, Served, served_over


async def accepted(served: Served) -> Any:
    """A batch of two, which nobody drives."""
    for name in ("a", "b", "c"):
        await served.register(name)
    items = [{"appliances": ["a", other]} for other in ("b", "c")]
    return (await served.client.call("POST", "/v1/batches", json={"items": items})).json


async def test_who_waits_for_a_worker_is_told_so_once(
    database_url: str, explained: asyncio.Queue[str]
) -> None:
    async with served_over(database_url) as served:
        made = await accepted(served)
        pairings = (await served.client.call("GET", "/v1/pairings")).json["items"]
        url = f"http://{served.host}:{served.port}"
        async with remote(url, TOKEN) as service, asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(batch._followed(service, made["id"], Options()))
            async with asyncio.timeout(30):
                line = await explained.get()
            for each in pairings:
                await served.fail(each["id"])
            ended = await watching

    assert "waits for a worker" in line
    assert explained.empty()
    assert ended["counts"]["FAILED"] == 2


async def test_who_stops_before_the_first_count_is_told_that_it_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(following, "tell", told.append)
    async with served_over(database_url) as served:
        made = await accepted(served)
        async with remote(f"http://{served.host}:{served.port}", TOKEN) as service:
            watching = asyncio.create_task(batch._followed(service, made["id"], Options()))
            await asyncio.sleep(0)  # It has begun to ask, and has no answer.
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching

    assert told == [f"Batch {made['id']} goes on without being watched."]


async def test_who_hears_nothing_any_more_is_told_that_it_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(following, "tell", told.append)
    async with served_over(database_url) as served:
        made = await accepted(served)
    async with remote(f"http://{served.host}:{served.port}", TOKEN) as service:
        with pytest.raises(Unreachable):
            await batch._followed(service, made["id"], Options())

    assert told == [f"Batch {made['id']} goes on without being watched."]


async def test_all_that_failed_is_fetched_however_many_pages_it_takes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_PAGE", 1)
    async with served_over(database_url) as served:
        made = await accepted(served)
        pairings = (await served.client.call("GET", "/v1/pairings")).json["items"]
        for each in pairings:
            await served.fail(each["id"])
        async with remote(f"http://{served.host}:{served.port}", TOKEN) as service:
            ended = await batch._standing(service, made["id"])
            found = await batch._unwell(service, made["id"], ended)

    assert [each["id"] for each in found] == sorted(each["id"] for each in pairings)
    *listed, more, _ = batch._told_end(ended, found * 11)
    assert len(listed) == 21
    assert more.startswith("  ... and 2 more ")


def test_elsewhere_there_is_no_bar_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with batch._bar(Terminal()) as show:
        show({"accepted": 2, "progress": 50, "counts": {"RUNNING": 1, "SUCCEEDED": 1}})
    assert capsys.readouterr().out == "50 % 1 RUNNING, 1 SUCCEEDED\n"


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("accepted", "counts", "told"),
    [
        (4, {"RUNNING": 1, "SUCCEEDED": 1, "FAILED": 1, "CANCELED": 1}, " 75% 1 RUNNING, 1 "),
        (2, {"QUEUED": 2}, "  0% 2 QUEUED"),
        (0, {}, "100% "),
    ],
)
def test_a_bar_is_as_long_as_what_is_over(
    accepted: int, counts: dict[str, int], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = _Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    none = dict.fromkeys(("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELED"), 0)
    with batch._bar(Terminal()) as show:
        show({"accepted": accepted, "progress": 0, "counts": none | counts})
    assert told in screen.getvalue()
