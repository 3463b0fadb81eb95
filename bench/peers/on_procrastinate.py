"""One job for each pairing on Procrastinate."""

import asyncio

from procrastinate import App, PsycopgConnector

from bench.peers.appliance import paired
from bench.peers.contest import Contest

run = asyncio.run

_POOL = 20
_WORKERS = 4


async def contend(contest: Contest) -> None:
    """Pair all that the contest names."""
    connector = PsycopgConnector(conninfo=contest.database_url, min_size=_POOL, max_size=_POOL)
    app = App(connector=connector)
    fleet = contest.fleet()

    @app.task(name="pair")
    async def pair(one: int, other: int) -> None:
        with contest.pairing():
            await paired(fleet[one], fleet[other])

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await pair.batch_defer_async(
            *({"one": one, "other": other} for one, other in contest.couples)
        )
        async with contest.race():
            workers = [
                asyncio.create_task(
                    app.run_worker_async(
                        concurrency=max(1, contest.in_flight // _WORKERS),
                        install_signal_handlers=False,
                        delete_jobs="successful",
                    )
                )
                for _ in range(_WORKERS)
            ]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for appliance in fleet:
            await appliance.close()
