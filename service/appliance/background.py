"""Tasks that belong to one client and end with it, within a TaskGroup that lives longer."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from service.domain.appliance import ApiError
from service.domain.errors import NotSent

Result = TypeVar("Result")


def closed() -> NotSent:
    """The error of whoever still waits when a client is closed."""
    return NotSent(ApiError("ClientClosed", "The client of this appliance was closed."))


class BackgroundTasks:
    """The tasks of one client.

    What they run must raise nothing: it would tear down everything that shares the group.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run `work` on behalf of the caller, whose cancellation it survives.

        Raises NotSent once `close` was called.
        """
        return self._start(work, None)

    def start_loop(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run `work`, which is for many, on nobody's behalf. Raises like `start`."""
        return self._start(work, Context())

    async def close(self) -> None:
        """Cancel what still runs, and wait for its end."""
        self._is_closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _start(
        self, work: Coroutine[Any, Any, Result], context: Context | None
    ) -> asyncio.Task[Result]:
        if self._is_closed:
            work.close()
            raise closed()
        task = self._group.create_task(work, context=context)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
