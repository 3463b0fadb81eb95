"""Few turns at once, which go round by operation."""

import asyncio

import pytest

from service.concurrency.semaphore import FairSemaphore
from service.domain.ids import OperationId
from service.observe.context import working_on


async def wait(turns: FairSemaphore, operation: str, served: list[str]) -> None:
    with working_on(operation_id=OperationId(operation)):
        await turns.acquire()
    served.append(operation)


async def settle() -> None:
    """Let everybody go on who can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def has_none_left(turns: FairSemaphore) -> None:
    """See that who asks now has to wait."""
    asking = asyncio.ensure_future(turns.acquire())
    await settle()
    assert not asking.done()
    asking.cancel()


async def test_so_many_at_once_and_no_more() -> None:
    turns, served = FairSemaphore(2), list[str]()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(wait(turns, "op", served))
        await settle()
        assert len(served) == 2
        for number in range(3, 6):
            turns.release()
            await settle()
            assert len(served) == number


async def test_one_who_asks_for_little_passes_a_batch() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()
    async with asyncio.TaskGroup() as tasks:
        for operation in ["much"] * 50 + ["little", "less", "little"]:
            tasks.create_task(wait(turns, operation, served))
        await settle()
        for _ in range(53):
            turns.release()
            await settle()
    assert served[:6] == ["much", "little", "less", "much", "little", "much"]


async def test_who_goes_away_leaves_the_turn_to_the_next() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait(turns, "gone", served))
        at_the_very_moment = tasks.create_task(wait(turns, "gone as well", served))
        tasks.create_task(wait(turns, "patient", served))
        await settle()
        waiting.cancel()
        turns.release()
        at_the_very_moment.cancel()
    assert served == ["patient"]
    turns.release()
    await asyncio.wait_for(turns.acquire(), 5)
    await has_none_left(turns)


async def test_who_has_waited_long_enough_goes_and_leaves_nothing_behind() -> None:
    turns = FairSemaphore(1)
    await turns.acquire()
    with pytest.raises(TimeoutError):
        await turns.acquire(asyncio.get_running_loop().time() + 0.01)
    turns.release()
    await asyncio.wait_for(turns.acquire(), 5)
    await has_none_left(turns)


async def test_those_who_went_away_do_not_count_against_who_comes_later() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()
    soon = asyncio.get_running_loop().time() + 0.01

    async def wait_briefly() -> None:
        with working_on(operation_id=OperationId("brief")), pytest.raises(TimeoutError):
            await turns.acquire(soon)

    await asyncio.gather(*(wait_briefly() for _ in range(50)))
    async with asyncio.TaskGroup() as tasks:
        for operation in ["other"] * 5 + ["brief"]:
            tasks.create_task(wait(turns, operation, served))
        await settle()
        for _ in range(6):
            turns.release()
            await settle()
    assert served[:2] == ["other", "brief"]


async def test_who_comes_first_passes_all_who_do_not() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()

    async def come_first(name: str) -> None:
        await turns.acquire(first=True)
        served.append(name)

    async with asyncio.TaskGroup() as tasks:
        for operation in ["op", "op", "other"]:
            tasks.create_task(wait(turns, operation, served))
        await settle()
        turns.release()
        await settle()
        tasks.create_task(come_first("back"))
        tasks.create_task(come_first("and forth"))
        await settle()
        for _ in range(4):
            turns.release()
            await settle()
    assert served == ["op", "back", "and forth", "other", "op"]


async def test_an_operation_begins_anew_when_nobody_of_it_waits() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()
    async with asyncio.TaskGroup() as tasks:
        for operation in ["early", "early", "early"]:
            tasks.create_task(wait(turns, operation, served))
        await settle()
        for _ in range(3):
            turns.release()
            await settle()
        for operation in ["early", "late", "early", "late"]:
            tasks.create_task(wait(turns, operation, served))
        await settle()
        for _ in range(4):
            turns.release()
            await settle()
    assert served[3:] == ["early", "late", "early", "late"]
    assert not turns._parties


async def test_with_fewer_turns_who_has_one_keeps_it() -> None:
    turns, served = FairSemaphore(4), list[str]()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(wait(turns, "op", served))
        await settle()
        turns.resize(2)
        for expected in (4, 4, 5, 6):
            turns.release()
            await settle()
            assert len(served) == expected
        turns.resize(3)
        await settle()
        assert len(served) == 7
        turns.release()


async def test_with_more_turns_than_are_wanted_nobody_waits() -> None:
    turns = FairSemaphore(1)
    turns.resize(3)
    for _ in range(3):
        await asyncio.wait_for(turns.acquire(), 5)
    await has_none_left(turns)


async def test_who_is_turned_away_has_no_turn() -> None:
    turns = FairSemaphore(1)
    await turns.acquire()
    waiting = [asyncio.ensure_future(turns.acquire()) for _ in range(3)]
    await settle()
    turns.turn_away(LookupError("away"))
    for each in waiting:
        with pytest.raises(LookupError):
            await each
    turns.release()
    await asyncio.wait_for(turns.acquire(), 5)
    await has_none_left(turns)


async def test_who_comes_first_does_not_take_the_others_of_his_operation_along() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()

    async def come_first() -> None:
        with working_on(operation_id=OperationId("much")):
            await turns.acquire(first=True)
        served.append("first")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(wait(turns, "much", served))
        await settle()
        tasks.create_task(come_first())
        await settle()
        for operation in ["much", "little", "little"]:
            tasks.create_task(wait(turns, operation, served))
        await settle()
        for _ in range(7):
            turns.release()
            await settle()
    assert served == ["first", "much", "little", "much", "little", "much", "much"]


async def test_those_who_come_all_the_time_do_not_hold_up_who_waits() -> None:
    turns, served = FairSemaphore(1), list[str]()
    await turns.acquire()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(wait(turns, "patient", served))
        await settle()
        for newcomer in ("a", "b", "c"):
            turns.release()
            await settle()
            tasks.create_task(wait(turns, newcomer, served))
            await settle()
        for _ in range(3):
            turns.release()
            await settle()
    assert served == ["patient", "patient", "a", "patient", "b", "c"]
