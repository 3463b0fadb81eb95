"""A PostgreSQL of its own, with fsync on, that can be stopped and started, and cut connections."""

import asyncio
import atexit
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import asyncpg

from service.store.cluster import Cluster
from service.store.installation import OwnDatabaseFailed
from service.store.server import Server

OURS = "chaos"
"""The application name of the test's own connections, which are not cut."""

StopMode = Literal["fast", "immediate"]
_STOP_S = "60"
_CUT = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where backend_type = 'client backend' and application_name <> $1 and pid <> pg_backend_pid()
"""


class OwnDatabase:
    """The server of one run. `url` stays the same over every stop and start."""

    def __init__(self, cluster: Cluster, server: Server) -> None:
        self._cluster = cluster
        self._server = server
        self._turn = asyncio.Lock()
        self._troubled = -1.0
        self._is_up = True
        self.url = cluster.url()

    @classmethod
    @asynccontextmanager
    async def started(cls, directory: Path) -> AsyncIterator["OwnDatabase"]:
        """A server below `directory`, gone at the end of the block."""
        cluster = await asyncio.to_thread(Cluster.prepare, directory)
        server = Server(cluster, {"max_connections": "200"})
        await server.start()
        last_resort = atexit.register(_quit, cluster)
        try:
            yield cls(cluster, server)
        finally:
            if cluster.is_served():
                await _stop(server, "immediate")
            atexit.unregister(last_resort)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._cluster.log

    def was_down(self, since: float) -> bool:
        """Whether a process that began at `since`, by the monotonic clock, may have missed it."""
        return not self._is_up or self._troubled >= since

    async def outage(self, mode: StopMode, for_s: float) -> None:
        """Stop it and start it again after `for_s`. One that is cut short calls for `restore`:
        nothing that takes as long as a start is safe in a `finally`."""
        async with self._turn:
            self._is_up = False
            await _stop(self._server, mode)
            await asyncio.sleep(for_s)
            await self._start()

    async def restore(self) -> None:
        """Have it answer, whatever an outage that was cut short has left of it."""
        async with self._turn:
            if self._is_up:
                return
            # What was cut short while it was stopping might answer once more, and then be gone.
            with suppress(OwnDatabaseFailed):
                if self._cluster.is_served():
                    await _stop(self._server, "immediate")
            await self._start()

    async def cut_connections(self) -> int:
        """Cut all connections but those of the test; returns how many. 0 while it is down."""
        async with self._turn:
            try:
                connection = await connected(self.url)
            except (OSError, asyncpg.PostgresError):
                return 0
            try:
                return int(await connection.fetchval(_CUT, OURS))
            finally:
                self._troubled = time.monotonic()
                await connection.close(timeout=10)

    async def _start(self) -> None:
        while True:
            # Cut short while it was stopping, it may close a connection that has just begun.
            with suppress(asyncpg.PostgresConnectionError):
                await self._server.start()
                break
        self._is_up = True
        self._troubled = time.monotonic()


async def connected(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of the test's own, which no `cut_connections` cuts."""
    return await asyncpg.connect(url, timeout=5, server_settings={"application_name": OURS})


async def _stop(server: Server, mode: StopMode) -> None:
    await server._run("pg_ctl", "stop", "-D", "data", "-m", mode, "-w", "-t", _STOP_S)


def _quit(cluster: Cluster) -> None:
    """For ends that no `finally` sees."""
    if cluster.is_served():
        with suppress(OSError, ValueError, IndexError):
            mark = (cluster.data / "postmaster.pid").read_text()
            os.kill(int(mark.splitlines()[0]), signal.SIGQUIT)
