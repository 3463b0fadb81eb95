"""A look at the database that many may ask for at once, and as often as they like."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")

GOOD_S = 1.0
"""For so long what was found is good, counted from the beginning of the look."""

PATIENCE_S = 2.0
"""Nobody waits longer than this for a look."""

SLOW_S = 10.0
"""A look that has taken less may just be slow."""


class SingleFlight(Generic[Found]):
    """One look at a time, shared by all who ask while it goes on, and then for `GOOD_S`. A failure
    is for those who waited, and is not kept.

    `run` looks, so that a look goes on whoever goes away. Until it has taken `SLOW_S`, who has
    waited for `PATIENCE_S` gets what the look before found, unless that one failed.
    """

    def __init__(self, look: Callable[[], Awaitable[Found]]) -> None:
        self._look = look
        self._wanted = asyncio.Event()
        self._under_way: asyncio.Future[Found] | None = None
        self._began = 0.0
        """When the last look began (loop time), under way or not."""
        self._kept: tuple[float, Found] | None = None
        """When the last one that is over began, and what it found."""

    async def run(self) -> None:
        """Look when somebody asks. Go on until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._look_for_all(self._looking())

    async def get(self) -> Found:
        """What was seen. Raises what the look raises; TimeoutError."""
        clock = asyncio.get_running_loop().time
        if self._kept is not None and clock() - self._kept[0] < GOOD_S:
            return self._kept[1]
        looking = self._looking()
        await asyncio.wait([looking], timeout=PATIENCE_S)
        if looking.done() and not looking.cancelled():
            return looking.result()
        if self._kept is not None and clock() - self._began < SLOW_S:
            return self._kept[1]
        raise TimeoutError

    def _looking(self) -> asyncio.Future[Found]:
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_future()
            self._wanted.set()
        return self._under_way

    async def _look_for_all(self, looking: asyncio.Future[Found]) -> None:
        self._began = asyncio.get_running_loop().time()
        try:
            found = await self._look()
        except Exception as error:  # noqa: BLE001 - raised by those who wait
            self._kept = None
            looking.set_exception(error)
        else:
            self._kept = (self._began, found)
            looking.set_result(found)
        finally:
            self._under_way = None
            looking.cancel()  # Once it is done, that only says that a failure may go unheard.
