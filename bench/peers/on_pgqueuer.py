"""One job for each pairing on PgQueuer."""

import asyncio
import json
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.appliance import paired
from bench.peers.contest import Contest

run = uvloop.run
"""As its own command line does."""

_BATCH = 64
_POOL = 4


async def contend(contest: Contest) -> None:
    """Pair all that the contest names."""
    async with asyncpg.create_pool(contest.database_url, min_size=_POOL, max_size=_POOL) as pool:
        driver = AsyncpgPoolDriver(pool)
        pgq, queries, fleet = PgQueuer(driver), Queries(driver), contest.fleet()

        @pgq.entrypoint("pair")
        async def pair(job: Job) -> None:
            one, other = json.loads(job.payload or b"")
            with contest.pairing():
                await paired(fleet[one], fleet[other])

        await queries.install()
        payloads = [json.dumps(couple).encode() for couple in contest.couples]
        await queries.enqueue(["pair"] * len(payloads), payloads, [0] * len(payloads))
        async with asyncio.TaskGroup() as tasks:
            async with contest.race():
                tasks.create_task(
                    pgq.run(
                        batch_size=max(1, min(_BATCH, contest.in_flight // 2)),
                        max_concurrent_tasks=contest.in_flight,
                        dequeue_timeout=timedelta(seconds=1),
                    )
                )
            pgq.shutdown.set()
        for appliance in fleet:
            await appliance.close()
