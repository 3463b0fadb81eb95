"""The database of a run comes back, wherever its outage was cut short."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import get_args

import pytest
from pytest_asyncio import fixture

from tests.chaos.database import OwnDatabase, StopMode, connected
from tests.chaos.run import new_directory


@fixture(loop_scope="module", scope="module")
async def database() -> AsyncIterator[OwnDatabase]:
    directory = new_directory()
    async with OwnDatabase.started(directory / "database") as started:
        yield started
    await asyncio.to_thread(shutil.rmtree, directory)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", get_args(StopMode))
@pytest.mark.parametrize("after_s", [step * 30 / 1000 for step in range(20)])
async def test_it_answers_wherever_its_outage_was_cut_short(
    database: OwnDatabase, mode: StopMode, after_s: float
) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await database.outage(mode, 0.05)
    await database.restore()
    connection = await connected(database.url)
    assert await connection.fetchval("select 1") == 1
    await connection.close(timeout=5)
