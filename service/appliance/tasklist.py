"""An appliance's list of tasks, for who wants to know what a call has started (h4-api 3.4)."""

from collections.abc import Awaitable, Callable, Sequence

from service.appliance.exchange import Request
from service.appliance.wire import TaskPage, read_task_page
from service.domain.appliance import Task
from service.domain.ids import TaskId
from service.domain.pairing import SiteCall

PAGE = 100
"""Rows a page: more may fall back to this anyway."""
MAX_PAGES = 100
MAX_TASKS = PAGE * MAX_PAGES
"""Nobody has as many in the time that is asked about: more are not asked for."""

_SITE = "site"


ReadPage = Callable[[Request, Callable[[bytes], TaskPage]], Awaitable[TaskPage]]
"""Makes a call that only looks, and reads its answer."""


class TaskList:
    """Asks for the list page by page."""

    def __init__(self, read: ReadPage) -> None:
        self._read = read

    async def of(self, call: SiteCall, since_ms: int) -> Sequence[Task]:
        """The tasks that began after `since_ms` and that `call` may have started.

        Filters may be ignored by the appliance, but what it does not tell is no reason to drop a
        task that may be ours.
        """
        tasks = await self._all(_filter(call), since_ms)
        return [
            task
            for task in tasks
            if _may_come_of(call, task) and (task.start_time is None or task.start_time > since_ms)
        ]

    async def _all(self, wanted: tuple[str, str], since_ms: int) -> Sequence[Task]:
        found: dict[TaskId, Task] = {}
        offset = 0
        for _ in range(MAX_PAGES):
            query = (
                wanted,
                ("startTimeAfter", str(max(0, since_ms))),
                ("limit", str(PAGE)),
                ("offset", str(offset)),
            )
            page = await self._read(Request("GET", "/tasks", query=query), read_task_page)
            known = len(found)
            found.update((task.id, task) for task in page.tasks)
            offset += page.count
            if _is_last(page, offset, has_news=len(found) > known):
                break
        return list(found.values())


def _is_last(page: TaskPage, offset: int, *, has_news: bool) -> bool:
    if page.count == 0 or offset >= MAX_TASKS:
        return True
    if page.total is None:
        return page.count < PAGE or not has_news  # Pages may mean nothing to the appliance.
    return offset >= page.total


def _filter(call: SiteCall) -> tuple[str, str]:
    """Of the three only the type of pairing tasks is known (h4-api 3.1)."""
    return ("type", "pair") if call is SiteCall.PAIR else ("resourceType", _SITE)


def _may_come_of(call: SiteCall, task: Task) -> bool:
    told, expected = (task.type, "pair") if call is SiteCall.PAIR else (task.resource_type, _SITE)
    return told is None or told.lower() == expected
