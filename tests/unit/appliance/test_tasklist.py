"""The list of tasks, page by page."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.appliance.exchange import Request
from service.appliance.tasklist import PAGE, TaskList
from service.appliance.wire import TaskPage
from service.domain.pairing import SiteCall
from tests.unit.appliance.values import a_task_id, as_json

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
