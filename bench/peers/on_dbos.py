"""One workflow for each pairing on DBOS Transact; its steps are what a crash must not repeat."""

import asyncio

from dbos import DBOS, DBOSConfig

from bench.peers.appliance import verified
from bench.peers.contest import Contest

run = asyncio.run

_POLLING_S = 0.1
_POOL = 20


async def contend(contest: Contest) -> None:
    """Pair all that the contest names."""
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": contest.database_url,
        "sys_db_pool_size": _POOL,
        "log_level": "WARNING",
    }
    DBOS(config=config)
    fleet = contest.fleet()

    @DBOS.step()
    async def request(one: int, other: int) -> str | None:
        if await fleet[one].lists(fleet[other]):
            return None
        return await fleet[one].request(fleet[other])

    @DBOS.step()
    async def finished(one: int, task_id: str) -> None:
        await fleet[one].finished(task_id)

    @DBOS.step()
    async def verify(one: int, other: int) -> None:
        await verified(fleet[one], fleet[other])

    @DBOS.workflow()
    async def pair(one: int, other: int) -> None:
        with contest.pairing():
            tasks = await asyncio.gather(request(one, other), request(other, one))
            over = [
                finished(at, task) for at, task in zip((one, other), tasks, strict=True) if task
            ]
            await asyncio.gather(*over)
            await verify(one, other)

    DBOS.launch()
    for one, other in contest.couples:
        await DBOS.enqueue_workflow_async("pairings", pair, one, other)
    async with contest.race():
        await DBOS.register_queue_async(
            "pairings", worker_concurrency=contest.in_flight, polling_interval_sec=_POLLING_S
        )
    await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=10)
    for appliance in fleet:
        await appliance.close()
