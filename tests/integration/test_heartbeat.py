"""A worker lives on whatever else is wanted of the database."""

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from service.settings import Settings
from service.store.database import ANSWER_TIMEOUT_S
from tests.integration.store.watching import until, until_blocked
from tests.support.service import fleet_of, service_over

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

MORE_THAN_THE_POOL_HAS = 12


@pytest.mark.timeout(120)
async def test_requests_that_wait_for_the_database_do_not_keep_a_worker_from_beating(
    settings: Settings, sql: "Connection"
) -> None:
    async with fleet_of(1) as fleet, service_over(settings, fleet) as service:
        async with sql.transaction():
            await sql.execute("lock table batch in access exclusive mode")
            waiting = [
                asyncio.ensure_future(service.client.call("GET", f"/v1/batches/{uuid4()}"))
                for _ in range(MORE_THAN_THE_POOL_HAS)
            ]
            await until_blocked(sql, 10)
            # Nobody's patience is over before that, so it is the beats that get through.
            async with asyncio.timeout(ANSWER_TIMEOUT_S / 2):
                for _ in range(3):
                    now = await sql.fetchval("select cast(clock_timestamp() as text)")
                    await until(sql, f"select seen > '{now}' from worker")  # noqa: S608 - ours
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {404}
