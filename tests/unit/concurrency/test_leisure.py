"""Waiting until the event loop keeps up: a real one, for on virtual time none is ever behind."""

import asyncio
import time

from service.concurrency.leisure import leisure

BUSY_S = 0.03
"""What a round of a loop takes that does not keep up."""


async def keep_busy(rounds: int) -> None:
    """So many rounds of work for the processor."""
    for _ in range(rounds):
        until = time.perf_counter() + BUSY_S
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def test_who_waits_for_leisure_waits_for_those_who_are_busy() -> None:
    busy = asyncio.create_task(keep_busy(10))
    await leisure(60.0)
    assert busy.done()


async def test_who_waits_for_leisure_does_not_wait_for_ever() -> None:
    busy = asyncio.create_task(keep_busy(1_000_000))
    await leisure(2 * BUSY_S)
    assert not busy.done()
    busy.cancel()
