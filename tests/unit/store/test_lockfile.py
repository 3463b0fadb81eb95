"""Locks between processes. Two open files are to the kernel what two processes are."""

import asyncio
from pathlib import Path

from service.store.lockfile import LockFile


async def test_shared_and_alone_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with LockFile(path) as one, LockFile(path) as two, LockFile(path) as three:
        await one.share()
        await two.share()
        assert not three.take()
        assert not one.take()


async def test_the_last_one_left_can_have_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with LockFile(path) as one:
        await one.share()
        with LockFile(path) as two:
            await two.share()
            assert not one.take()
        assert one.take()
    with LockFile(path) as three:
        assert three.take()


async def test_who_wants_to_share_it_waits_for_who_has_it_alone(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", []

    async def share(lock: LockFile) -> None:
        await lock.share()
        order.append("shared")

    with LockFile(path) as one, LockFile(path) as two:
        async with asyncio.TaskGroup() as tasks, one.taken():
            tasks.create_task(share(two))
            await asyncio.sleep(0)  # It has tried once.
            order.append("let go")
        assert order == ["let go", "shared"]
        assert not one.take()


async def test_who_waits_for_it_gets_it_when_it_is_let_go(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", []

    async def wait(name: str) -> None:
        with LockFile(path) as lock:
            async with lock.taken():
                order.append(f"{name} in")
                await asyncio.sleep(0)
                order.append(f"{name} out")

    await asyncio.gather(*[wait(str(number)) for number in range(4)])
    assert len(order) == 8
    for entered, left in zip(order[::2], order[1::2], strict=True):
        assert (entered.split()[0], left.split()[1]) == (left.split()[0], "out")
