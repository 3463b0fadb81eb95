"""Who asks while somebody looks shares the look; what was found is good for a moment."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from service.concurrency.singleflight import GOOD_S, PATIENCE_S, SLOW_S, SingleFlight
from service.domain.errors import StoreUnavailable
from tests.support.virtual_time import now, run

LOOK_S = 0.2


class Counted:
    """A look that takes its time, and counts."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.is_down = False
        self.takes_s = LOOK_S

    async def __call__(self) -> int:
        self.began.append(now())
        seen = len(self.began)
        await asyncio.sleep(self.takes_s)
        if self.is_down:
            raise StoreUnavailable("down")
        return seen


@asynccontextmanager
async def sharing(look: Counted) -> AsyncIterator[SingleFlight[int]]:
    """The look, and who does it."""
    shared = SingleFlight(look)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(shared.run())
        yield shared
        running.cancel()


def test_all_who_ask_at_once_share_a_look() -> None:
    async def story() -> None:
        async with sharing(Counted()) as shared:
            assert await asyncio.gather(*[shared.get() for _ in range(150)]) == [1] * 150
            assert now() == pytest.approx(LOOK_S)

    run(story())


def test_what_was_found_is_good_for_a_second_since_the_look_began() -> None:
    async def story() -> None:
        look = Counted()
        async with sharing(look) as shared:
            while now() < 10 * GOOD_S:
                asked = now()
                found = await shared.get()
                assert asked - look.began[found - 1] < GOOD_S
                await asyncio.sleep(GOOD_S / 20)
        assert len(look.began) <= 10

    run(story())


def test_a_failure_is_shared_and_not_kept() -> None:
    async def story() -> None:
        look = Counted()
        look.is_down = True
        async with sharing(look) as shared:
            asking = [shared.get() for _ in range(3)]
            failures = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(each) for each in failures] == [StoreUnavailable] * 3
            assert len(look.began) == 1
            look.is_down = False
            assert await shared.get() == 2

    run(story())


def test_a_failure_that_nobody_waits_for_any_more_is_not_complained_about() -> None:
    unheard: list[object] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: unheard.append(told))
        look = Counted()
        look.is_down = True
        async with sharing(look) as shared:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S / 2):
                    await shared.get()
            await asyncio.sleep(LOOK_S)
            gc.collect()

    run(story())
    assert unheard == []


@pytest.mark.parametrize("who", [0, 1])
def test_who_is_cancelled_harms_nobody_else(who: int) -> None:
    async def story() -> None:
        async with sharing(Counted()) as shared, asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(shared.get()) for _ in range(3)]
            await asyncio.sleep(LOOK_S / 2)
            asking.pop(who).cancel()
        assert {each.result() for each in asking} == {1}

    run(story())


def test_who_asks_for_what_does_not_answer_is_told_so_soon_and_nobody_looks_twice() -> None:
    async def story() -> None:
        look = Counted()
        look.takes_s = 25.0
        async with sharing(look) as shared:
            while now() < 20:
                asked = now()
                with pytest.raises(TimeoutError):
                    await shared.get()
                assert now() - asked == pytest.approx(PATIENCE_S)
        assert len(look.began) == 1

    run(story())


@pytest.mark.parametrize("takes_s", [PATIENCE_S + 0.1, SLOW_S - 0.1])
@pytest.mark.parametrize("period_s", [1.0, 5.0, 10.0, 15.0, 60.0])
def test_what_is_merely_slow_is_known_from_the_look_before_however_seldom_it_is_asked_for(
    takes_s: float, period_s: float
) -> None:
    async def story() -> None:
        look = Counted()
        async with sharing(look) as shared:
            assert await shared.get() == 1
            look.takes_s = takes_s
            for _ in range(20):
                await asyncio.sleep(period_s)
                asked = now()
                # Of the look under way, or of the one before.
                assert await shared.get() >= len(look.began) - 1
                assert now() - asked <= PATIENCE_S + 0.001

    run(story())


@pytest.mark.parametrize("period_s", [1.0, SLOW_S])
def test_it_does_not_speak_for_long_for_what_does_not_answer(period_s: float) -> None:
    async def story() -> None:
        look = Counted()
        async with sharing(look) as shared:
            await shared.get()
            await asyncio.sleep(GOOD_S)
            look.takes_s = 1_000.0
            hangs_since = now()
            told: list[float] = []
            while now() < hangs_since + 3 * SLOW_S:
                try:
                    await shared.get()
                except TimeoutError:
                    told.append(now() - hangs_since)
                await asyncio.sleep(period_s)
            assert SLOW_S <= told[0] < SLOW_S + PATIENCE_S + period_s

    run(story())


def test_nor_once_a_look_has_failed() -> None:
    async def story() -> None:
        look = Counted()
        async with sharing(look) as shared:
            await shared.get()
            await asyncio.sleep(GOOD_S)
            look.is_down = True
            with pytest.raises(StoreUnavailable):
                await shared.get()
            look.takes_s = 25.0
            with pytest.raises(TimeoutError):
                await shared.get()

    run(story())


def test_who_waits_when_nobody_looks_any_more_is_told_at_once() -> None:
    async def story() -> None:
        async with sharing(Counted()) as shared:
            asking = asyncio.ensure_future(shared.get())
            await asyncio.sleep(LOOK_S / 2)
        with pytest.raises(TimeoutError):
            await asking
        assert now() == pytest.approx(LOOK_S / 2)

    run(story())
