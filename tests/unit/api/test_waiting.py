"""Requests that wait for something."""

import asyncio

from service.api.waiting import first
from tests.support.virtual_time import now, run


def test_it_is_waited_until_any_of_them_rings() -> None:
    async def scene() -> None:
        one, other = asyncio.Event(), asyncio.Event()
        asyncio.get_running_loop().call_later(5.0, other.set)
        await first(one, other, within_s=60.0)
        assert now() == 5.0

    run(scene())


def test_it_is_not_waited_for_ever() -> None:
    async def scene() -> None:
        await first(asyncio.Event(), within_s=60.0)
        assert now() == 60.0

    run(scene())
