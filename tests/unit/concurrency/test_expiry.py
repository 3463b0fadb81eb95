"""One timer for all who wait."""

import asyncio
from math import inf

from service.concurrency.expiry import Expiry
from tests.support.virtual_time import now, run


class Crowd:
    """Until when each waits, and when each was turned away; `is_gone` when all were."""

    def __init__(self, *untils: float) -> None:
        self.waiting = set(untils)
        self.told: dict[float, float] = {}
        self.looks = 0
        self.is_gone = asyncio.Event()

    def expire(self, at: float) -> float:
        self.looks += 1
        for until in [each for each in self.waiting if each <= at]:
            self.waiting.remove(until)
            self.told[until] = now()
        if not self.waiting:
            self.is_gone.set()
        return min(self.waiting, default=inf)


def test_each_is_told_when_his_time_is_over_and_a_moment_later_at_most() -> None:
    async def scene() -> None:
        crowd = Crowd(3.0, 1.0, 1.001, 1.002, 2.0)
        expiry = Expiry(crowd.expire)
        for until in (3.0, 1.0, 1.001, 1.002, 2.0):
            expiry.heed(until)
        await crowd.is_gone.wait()
        assert sorted(crowd.told) == [1.0, 1.001, 1.002, 2.0, 3.0]
        assert all(0 <= at - until <= 0.05 for until, at in crowd.told.items())
        assert crowd.looks == 4  # One for the three whose time is over at nearly the same moment.

    run(scene())


def test_who_waits_for_ever_or_is_gone_needs_no_timer() -> None:
    async def scene() -> None:
        crowd = Crowd(2.0)
        expiry = Expiry(crowd.expire)
        expiry.heed(inf)
        expiry.heed(1.0)
        expiry.stop()
        expiry.heed(2.0)
        await crowd.is_gone.wait()
        assert crowd.looks == 1
        expiry.stop()

    run(scene())
