"""How the event loop keeps up with what was begun on it."""

import asyncio

_REST_S = 0.005
_LATE_S = 0.01
"""A timer that rings so late has waited for many others who had something to do."""


async def leisure(most_s: float) -> None:
    """Return when the loop comes round quickly: what was begun waits for somebody else by then, or
    is through. After `most_s` in any case: it may be others who keep the loop busy."""
    clock = asyncio.get_running_loop().time
    until = clock() + most_s
    while True:
        began = clock()
        await asyncio.sleep(_REST_S)
        if clock() - began < _REST_S + _LATE_S or clock() >= until:
            return
