"""`python -m bench.inserting URL`: the least that a handler can do which keeps what it is told.

One table, one row per request, committed before the answer. No check of what is asked, no second
look, no trail.
"""

import asyncio
import json
import signal
import sys
from uuid import uuid4

import asyncpg
from aiohttp import web

_POOL = 10
_TABLE = """
create table request (
  id uuid primary key, one text not null, other text not null, at timestamptz default now()
)
"""
_INSERT = "insert into request (id, one, other) values ($1, $2, $3)"


async def _serve(url: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncpg.create_pool(url, min_size=_POOL, max_size=_POOL) as pool:
        await pool.execute(_TABLE)

        async def insert(request: web.Request) -> web.Response:
            one, other = (await request.json())["appliances"]
            request_id = uuid4()
            await pool.execute(_INSERT, request_id, one, other)
            return web.json_response({"id": str(request_id)}, status=202)

        app = web.Application()
        app.router.add_post("/rows", insert)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            sys.stdout.write(
                json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}) + "\n"
            )
            sys.stdout.flush()
            await stop.wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
