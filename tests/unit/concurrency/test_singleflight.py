"""Who asks while somebody looks shares the look; what was found is good for a moment."""

import asyncio
import gc

import pytest

from service.concurrency.singleflight import SingleFlight
from service.domain.errors import StoreUnavailable
from tests.support.virtual_time import now, run

LOOK_S = 0.2


class Counted:
    """A look that takes its time, and counts."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.is_down = False

    async def __call__(self) -> int:
        self.began.append(now())
        seen = len(self.began)
        await asyncio.sleep(LOOK_S)
        if self.is_down:
            raise StoreUnavailable("down")
        return seen


def test_all_who_ask_at_once_share_a_look() -> None:
    async def story() -> None:
        shared = SingleFlight(Counted())
        assert await asyncio.gather(*[shared.get() for _ in range(150)]) == [1] * 150
        assert now() == pytest.approx(LOOK_S)

    run(story())


def test_what_was_found_is_good_for_a_second_since_the_look_began() -> None:
    async def story() -> None:
        look = Counted()
        shared = SingleFlight(look)
        while now() < 10:
            asked = now()
            found = await shared.get()
            assert asked - look.began[found - 1] < 1.0
            await asyncio.sleep(0.05)
        assert len(look.began) <= 10

    run(story())


def test_a_failure_is_shared_and_not_kept() -> None:
    async def story() -> None:
        look = Counted()
        look.is_down = True
        shared = SingleFlight(look)
        asking = [shared.get() for _ in range(3)]
        failures = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(each) for each in failures] == [StoreUnavailable] * 3
        assert len(look.began) == 1
        look.is_down = False
        assert await shared.get() == 2

    run(story())


def test_a_failure_that_nobody_else_waits_for_is_told_once() -> None:
    unheard: list[object] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: unheard.append(told))
        look = Counted()
        look.is_down = True
        with pytest.raises(StoreUnavailable):
            await SingleFlight(look).get()
        gc.collect()

    run(story())
    assert unheard == []


@pytest.mark.parametrize("who", [0, 1])
def test_who_is_cancelled_harms_nobody_else(who: int) -> None:
    async def story() -> None:
        shared = SingleFlight(Counted())
        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(shared.get()) for _ in range(3)]
            await asyncio.sleep(LOOK_S / 2)
            asking.pop(who).cancel()
        assert {each.result() for each in asking} == {2 if who == 0 else 1}

    run(story())
