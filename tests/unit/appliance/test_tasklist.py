"""The list of tasks, page by page."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.appliance.exchange import Outcome, Request
from service.appliance.tasklist import MAX_TASKS, PAGE, TaskList
from service.appliance.wire import TaskPage
from service.domain.pairing import SiteCall
from tests.support.virtual_time import run
from tests.unit.appliance.scripted import a_registration, world
from tests.unit.appliance.values import a_task_id, an_answer, as_json

ALL = [{"id": a_task_id(number), "state": "RUNNING"} for number in range(2 * PAGE + 5)]


class Appliance:
    """Answers with a page of `ALL`, made what it is by `shape`."""

    def __init__(self, shape: Callable[[int, list[Any]], Any]) -> None:
        self.calls = 0
        self._shape = shape

    async def read(self, request: Request, read: Callable[[bytes], TaskPage]) -> TaskPage:
        """Implements `ReadPage`."""
        self.calls += 1
        offset = int(dict(request.query)["offset"])
        return read(as_json(self._shape(offset, ALL[offset : offset + PAGE])))


@pytest.mark.parametrize(
    ("shape", "calls"),
    [
        (lambda offset, rows: {"items": rows, "offset": offset, "total": len(ALL)}, 3),
        (lambda offset, rows: {"items": rows, "offset": offset}, 3),
        (lambda _, rows: rows, 3),
        (lambda _offset, _rows: ALL, 2),
        (lambda offset, rows: {"items": rows, "offset": offset, "total": 10**6}, 4),
    ],
    ids=["documented", "without a total", "bare", "all at once", "never so many"],
)
def test_all_tasks_are_found_whatever_is_told_of_their_number(
    shape: Callable[[int, list[Any]], Any], calls: int
) -> None:
    appliance = Appliance(shape)
    tasks = asyncio.run(TaskList(appliance.read).of(SiteCall.PAIR, 0))
    assert [task.id for task in tasks] == [task["id"] for task in ALL]
    assert appliance.calls == calls


def test_what_tasks_say_at_length_is_not_kept() -> None:
    words = {
        "code": "Long",
        "msg": "m" * 4_000,
        "args": ["a" * 4_000] * 32,
        "stacktrace": "s" * 9_000,
    }
    state = {"incomingCommError": words, "outgoingCommError": words}
    peer = {"id": "peer", "apiUrl": "https://two.example.test", "state": state, "more": "w" * 9_000}
    about = {"type": "t" * 9_000, "resourceType": "r" * 9_000}
    rows = [{"id": "1", "state": "FAILED", "workflowInfo": about, "result": peer, "error": words}]
    (task,) = asyncio.run(TaskList(Appliance(lambda *_: rows).read).of(SiteCall.PAIR, 0))
    assert len(repr(task)) < 500
    assert task.failed
    assert task.result is not None
    assert task.result.is_known_at("https://two.example.test/")


def test_pages_that_bring_more_than_anybody_has_are_not_followed_for_ever() -> None:
    def shape(offset: int, _: list[Any]) -> object:
        rows = [{"id": str(number), "state": "RUNNING"} for number in range(offset, offset + 4_000)]
        return {"items": rows, "total": 10**9}

    appliance = Appliance(shape)
    assert len(asyncio.run(TaskList(appliance.read).of(SiteCall.PAIR, 0))) >= MAX_TASKS
    assert appliance.calls == 3


def test_the_ends_of_tasks_are_told_by_our_clock_where_the_appliances_is_late() -> None:
    date = "Wed, 31 Dec 1969 23:00:00 GMT"
    listed = [{"id": "1", "type": "pair", "state": "SUCCEEDED", "endTime": 5_000}, {"id": "2"}]

    async def play(request: Request) -> Outcome:
        if request.path == "/sessions":
            return an_answer(200, x_vcav_auth="token", date=date)
        return an_answer(200, as_json(listed), date=date)

    async def scene() -> None:
        async with world() as here, here.fleet.use(a_registration().endpoint) as client:
            here.channel.play = play
            await client.peers()
            ends = {each.id: each.end_time for each in await client.site_tasks(SiteCall.PAIR, 0)}
            assert ends == {"1": 5_000 + 3_601_000, "2": None}

    run(scene())
