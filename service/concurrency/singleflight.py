"""A look at the database that many may ask for at once, and as often as they like."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")

_GOOD_S = 1.0


class SingleFlight(Generic[Found]):
    """One look at a time, shared by all who ask while it goes on. What it found is good for
    a second, counted from its beginning; a failure is for those who waited, and is not kept.

    Who asks first looks. If that one is cancelled, one of those who wait looks anew.
    """

    def __init__(self, look: Callable[[], Awaitable[Found]]) -> None:
        self._look = look
        self._under_way: asyncio.Future[Found] | None = None
        self._kept: tuple[float, Found] | None = None

    async def get(self) -> Found:
        """What was seen. Raises what the look raises."""
        if self._kept is not None and self._kept[0] > asyncio.get_running_loop().time():
            return self._kept[1]
        while (looking := self._under_way) is not None:
            await asyncio.wait([looking])
            if not looking.cancelled():
                return looking.result()
        return await self._look_for_all()

    async def _look_for_all(self) -> Found:
        loop = asyncio.get_running_loop()
        good_until = loop.time() + _GOOD_S
        looking = self._under_way = loop.create_future()
        try:
            found = await self._look()
        except Exception as error:
            looking.set_exception(error)
            raise
        else:
            looking.set_result(found)
            self._kept = (good_until, found)
            return found
        finally:
            self._under_way = None
            looking.cancel()  # Once it is done, that only says that a failure may go unheard.
