"""Requests that wait for something."""

import asyncio

PAUSE_S = 0.1
"""The least time between two looks of one request, however often it rings."""

LOOK_S = 0.9
"""After so much longer it looks even if nothing rang: not every event does."""


async def first(*events: asyncio.Event, within_s: float) -> None:
    """Return when the first of `events` is set, or after `within_s`."""
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
