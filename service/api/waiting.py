"""Requests that wait for something."""

import asyncio
from collections.abc import Coroutine


async def first(*waits: Coroutine[object, object, object]) -> None:
    """Return when the first of `waits` does; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        awaited = [group.create_task(_awaited(wait)) for wait in waits]
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        for task in awaited:
            task.cancel()


async def _awaited(wait: Coroutine[object, object, object]) -> None:
    await wait
