"""The clockwork itself, which the simulation rests on. Nothing here waits for real; a simpler loop
of that kind is `tests.support.virtual_time`."""

import asyncio
import gc
import random
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest

from tests.simulation.clockwork import Clock, Clockwork, Node, Stuck, current_node


@pytest.fixture
def loop() -> Iterator[Clockwork]:
    clockwork = Clockwork(random.Random(1))
    yield clockwork
    clockwork.dispose()


def for_ever(_: object = None) -> bool:
    return False


def test_time_jumps_to_the_next_timer(loop: Clockwork) -> None:
    seen: list[float] = []

    async def wait() -> None:
        await asyncio.sleep(3_600)
        seen.append(loop.instant)

    loop.start(loop.node("a"), wait())
    loop.run_until(for_ever, 10_000)
    assert seen == [pytest.approx(3_600)]
    assert loop.steps < 10


def test_a_node_that_crashed_runs_neither_finally_nor_except(loop: Clockwork) -> None:
    ran: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
        except BaseException:
            ran.append("except")
            raise
        finally:
            ran.append("finally")

    node = loop.node("a")
    loop.start(node, work())
    loop.at(0.5, lambda: loop.crash(node))
    loop.run_until(for_ever, 10)
    assert ran == []


def test_what_a_crashed_node_waits_for_may_come_and_wakes_nobody(loop: Clockwork) -> None:
    woken: list[str] = []
    answer = loop.create_future()

    async def work() -> None:
        await answer
        woken.append("woken")

    node = loop.node("a")
    loop.start(node, work())
    loop.at(1, lambda: loop.crash(node))
    loop.at(2, lambda: answer.set_result(None))
    loop.run_until(for_ever, 10)
    assert woken == []


def test_a_node_crashes_before_the_step_that_it_is_told(loop: Clockwork) -> None:
    steps: list[int] = []

    async def work() -> None:
        for step in range(10):
            steps.append(step)
            await asyncio.sleep(1)

    node = loop.node("a")
    node.crash_at = 3
    crashed: list[Node] = []
    loop.on_crash = crashed.append
    loop.start(node, work())
    loop.run_until(for_ever, 100)
    assert crashed == [node]
    assert node.steps == 3
    assert len(steps) < 10


def test_a_paused_node_goes_on_late_and_its_clock_knows(loop: Clockwork) -> None:
    seen: list[tuple[float, float]] = []

    async def work() -> None:
        await asyncio.sleep(1)
        seen.append((loop.instant, asyncio.get_running_loop().time()))

    node = loop.node("a", Clock(offset_s=100))
    loop.start(node, work())
    loop.at(0.5, lambda: loop.pause(node))
    loop.at(30, lambda: loop.resume(node))
    loop.run_until(for_ever, 100)
    assert seen[0] == pytest.approx((30, 130))


def test_a_fast_clock_wakes_its_node_early(loop: Clockwork) -> None:
    seen: dict[str, float] = {}

    async def work() -> None:
        await asyncio.sleep(10)
        seen[current_node().name] = loop.instant

    loop.start(loop.node("fast", Clock(rate=2)), work())
    loop.start(loop.node("slow", Clock(rate=0.5)), work())
    loop.run_until(for_ever, 100)
    assert seen == {"fast": pytest.approx(5), "slow": pytest.approx(20)}


def test_a_timer_never_fires_before_its_node_s_clock_says_so(loop: Clockwork) -> None:
    """Else a loop that waits for an instant would spin on it for ever."""
    early: list[float] = []

    async def work() -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(1_000):
            due = clock() + 0.1
            await asyncio.sleep(0.1)
            early.extend([due] if clock() < due else [])

    loop.start(loop.node("a", Clock(offset_s=98_765.4321, rate=1.000123)), work())
    loop.run_until(for_ever, 1_000)
    assert early == []


def test_one_node_s_handles_run_in_their_order(loop: Clockwork) -> None:
    seen: list[int] = []

    async def work() -> None:
        running = asyncio.get_running_loop()
        for number in range(20):
            running.call_soon(seen.append, number)
        await asyncio.sleep(1)

    loop.start(loop.node("a"), work())
    loop.run_until(for_ever, 10)
    assert seen == list(range(20))


def order(seed: int) -> list[str]:
    """In which order three nodes run what is ready at the same instants."""
    clockwork, seen = Clockwork(random.Random(seed)), []

    async def work() -> None:
        for _ in range(5):
            seen.append(current_node().name)
            await asyncio.sleep(1)

    for name in "abc":
        clockwork.start(clockwork.node(name), work())
    clockwork.run_until(for_ever, 100)
    clockwork.dispose()
    return seen


def test_the_seed_chooses_whose_turn_it_is() -> None:
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(10)}) > 5


def test_tasks_started_for_nobody_belong_to_who_started_them(loop: Clockwork) -> None:
    """A loop that works for many has an empty context; its process is the one that it runs in."""
    nodes: list[Any] = []

    async def inner() -> None:
        nodes.append(current_node())

    async def outer() -> None:
        await asyncio.get_running_loop().create_task(inner(), context=Context())

    node = loop.node("a")
    loop.start(node, outer())
    loop.run_until(for_ever, 1)
    assert nodes == [node]


def test_a_loop_that_never_waits_is_told(loop: Clockwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.clockwork.MOST_STEPS", 1_000)

    async def spin() -> None:
        for _ in range(10_000):
            await asyncio.sleep(0)

    loop.start(loop.node("a"), spin())
    with pytest.raises(Stuck, match="nobody waits"):
        loop.run_until(for_ever, 1)


def test_an_exception_that_nobody_takes_is_told(loop: Clockwork) -> None:
    async def fail() -> None:
        raise ValueError("lost")

    node = loop.node("a")
    loop.start(node, fail())
    loop.run_until(for_ever, 1)
    node.tasks.clear()
    gc.collect()  # Up to Python 3.12 nothing that goes in a circle holds the task.
    assert len(loop.complaints) == 1
    assert "lost" in loop.complaints[0]


def test_what_is_left_is_buried_in_silence(
    loop: Clockwork, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(1_000)

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stubborn())
            await asyncio.sleep(1_000)

    loop.start(loop.node("a"), group())
    loop.run_until(for_ever, 1)
    loop.dispose()
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list
