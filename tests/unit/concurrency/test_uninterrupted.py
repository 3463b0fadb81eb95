"""A cancellation waits for the stretch that must not be cut, but not for ever."""

import asyncio
import gc

import pytest

from service.concurrency.uninterrupted import uninterrupted


async def test_the_answer_comes_back() -> None:
    async def work() -> str:
        return "done"

    assert await uninterrupted(work(), 1.0) == "done"


async def test_what_the_stretch_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError("it")

    with pytest.raises(LookupError, match="it"):
        await uninterrupted(work(), 1.0)


async def test_a_cancelled_stretch_is_finished_before_the_cancellation_goes_on() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()

    task = asyncio.create_task(uninterrupted(work(), 60.0))
    await begun.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0)
    assert not done
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_stretch_that_outlasts_its_grace_is_cut() -> None:
    begun, cut = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.set()
            raise

    task = asyncio.create_task(uninterrupted(work(), 0.01))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cut.is_set()


async def test_a_failure_after_the_cancellation_is_not_left_unheard() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    loop, unheard = asyncio.get_running_loop(), list[object]()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        raise LookupError

    loop.set_exception_handler(lambda _, told: unheard.append(told))
    task = asyncio.create_task(uninterrupted(work(), 60.0))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)  # Until then the loop holds it.
    gc.collect()
    loop.set_exception_handler(None)
    assert unheard == []
