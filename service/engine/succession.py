"""One worker after the other in one process."""

import asyncio
from collections.abc import Callable

from service.domain.errors import DeclaredDead
from service.engine.worker import Worker
from service.observe.events import WorkerDeclaredDead
from service.observe.logging import emit


class Succession:
    """A worker that was declared dead never owns anything again: the next one, under another id,
    takes its place."""

    def __init__(self, born: Callable[[], Worker]) -> None:
        self.current = born()
        self._born = born

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            try:
                await self.current.run()
            except* DeclaredDead:
                emit(WorkerDeclaredDead())
            _heed_cancellation()
            self.current = self._born()


def _heed_cancellation() -> None:
    """Raise the cancellation that came while a dead worker wound up: a group that has an error of
    its own raises that, and whoever wants a stop asks once."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
