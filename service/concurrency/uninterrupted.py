"""A stretch of work that a cancellation has to wait for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


async def uninterrupted(work: Coroutine[Any, Any, Answer], grace_s: float) -> Answer:
    """Run `work`; if cancelled meanwhile, let it finish for up to `grace_s`, then be cancelled.

    For the stretch between the intent to call an appliance and the record of its answer: cut
    there, the next worker would have to find out what the call has done. Likewise for what becomes
    of a login, which others wait to hear, and for a server that nobody could find yet to stop it.
    """
    stretch = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(stretch)
    except asyncio.CancelledError:
        await _end(stretch, grace_s)
        raise


async def _end(stretch: asyncio.Future[Answer], grace_s: float) -> None:
    try:
        await asyncio.wait([stretch], timeout=grace_s)
    finally:
        if not stretch.done():
            stretch.cancel()
        await asyncio.wait([stretch])
        if not stretch.cancelled():
            stretch.exception()
