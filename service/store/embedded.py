"""Our own PostgreSQL, for those who name no database: on one machine, behind a local socket.

Any number of processes may use one data directory at once: the first one in starts the server,
the last one out stops it. Two lock files hold that:

1. Whoever comes or goes holds `door.lock` alone, so that nobody comes while another one leaves.
2. Whoever is in shares `users.lock`. Who leaves and can have it alone is the last one.

The kernel drops both when a process dies, so a server whose last user was killed is simply found
running by the next one, which then is the last one out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from service.store.cluster import Cluster
from service.store.lockfile import LockFile
from service.store.server import STOP_S, Server

WaitListener = Callable[[float], None]


@asynccontextmanager
async def embedded_postgres(
    data_dir: Path,
    on_wait: WaitListener | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[str]:
    """The URL of our own PostgreSQL below `data_dir`, running until its last user leaves.

    `on_wait` is told once a second for how many seconds the start has lasted. `settings` are
    PostgreSQL's own, for a server that is not running yet. Raises OwnDatabaseFailed.
    """
    cluster = await asyncio.to_thread(Cluster.prepare, data_dir)
    server = Server(cluster, settings or {})
    with LockFile(cluster.lock("users")) as users, LockFile(cluster.lock("door")) as door:
        try:
            with _telling(on_wait):
                async with door.taken():
                    users.share()
                    await server.start()
            yield cluster.url()
        finally:
            async with asyncio.timeout(2 * STOP_S), door.taken():
                if users.take():
                    await server.stop()


@contextmanager
def _telling(on_wait: WaitListener | None) -> Iterator[None]:
    if on_wait is None:
        yield
        return
    ticks = _Ticks(on_wait)
    try:
        yield
    finally:
        ticks.stop()


class _Ticks:
    """Calls `on_wait` once a second."""

    def __init__(self, on_wait: WaitListener) -> None:
        self._on_wait = on_wait
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._next = self._loop.call_later(1, self._tick)

    def stop(self) -> None:
        self._next.cancel()

    def _tick(self) -> None:
        self._next = self._loop.call_later(1, self._tick)
        self._on_wait(self._loop.time() - self._began)
