"""Requests that wait for something."""

import asyncio
from collections.abc import Coroutine

PAUSE_S = 0.1
"""The least time between two looks of one request, however often it rings."""

LOOK_S = 0.9
"""After so much longer it looks even if nothing rang: not every event does."""


async def first(*waits: Coroutine[object, object, object]) -> None:
    """Return when the first of `waits` does; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        awaited = [group.create_task(_awaited(wait)) for wait in waits]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        for task in awaited:
            task.cancel()


async def _awaited(wait: Coroutine[object, object, object]) -> None:
    await wait
