"""Our own PostgreSQL, for those who name no database: on one machine, behind a local socket.

Any number of processes may use one data directory at once: the first one in starts the server,
the last one out stops it. Two lock files hold that:

1. Whoever comes or goes holds `door.lock` alone, so that nobody comes while another one leaves.
2. Whoever is in shares `users.lock`. Who leaves and can have it alone is the last one.

The kernel drops both when a process dies, so a server whose last user was killed is simply found
running by the next one, which then is the last one out.

A server that dies under its users is started again by the first one of them who notices, which
needs the door as well.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from service.observe.events import DatabaseDied, DatabaseRestarted, StoreTroubled
from service.observe.logging import emit
from service.store.cluster import Cluster, kept_in
from service.store.installation import OwnDatabaseFailed
from service.store.lockfile import LockFile
from service.store.server import Server

WaitListener = Callable[[float], None]

_LOOK_S = 1.0
_DOOR_S = 5.0
_FOR_WANT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


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
    async with AsyncExitStack() as stack:
        with kept_in(data_dir):
            users = stack.enter_context(LockFile(cluster.lock("users")))
            door = stack.enter_context(LockFile(cluster.lock("door")))
        with _telling(on_wait):
            async with door.taken():
                await users.share()  # Who was the last one lets go of it just after the door.
                stack.push_async_callback(_leave, server, users, door)
                with kept_in(data_dir):
                    await server.start()
        yield cluster.url()


async def _leave(server: Server, users: LockFile, door: LockFile) -> None:
    async with AsyncExitStack() as inside:
        try:
            async with asyncio.timeout(_DOOR_S):
                await inside.enter_async_context(door.taken())
        except TimeoutError:
            return  # Who holds it for longer starts the server, and so will be there after us.
        if users.take():
            await server.stop()


async def keep_serving(data_dir: Path, on_wait: WaitListener | None = None) -> None:
    """Start the server below `data_dir` again whenever it has died, until cancelled, which whoever
    keeps it does before they leave: only the last one out stops it in order.

    `on_wait` is as for `embedded_postgres`. Raises OwnDatabaseFailed when it does not come up.
    """
    cluster = await asyncio.to_thread(Cluster.prepare, data_dir)
    is_blind = False
    with LockFile(cluster.lock("door")) as door:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await _see_to_it(cluster, door, on_wait)
            except OSError as trouble:
                if trouble.errno not in _FOR_WANT:
                    raise OwnDatabaseFailed(
                        f"The service's own PostgreSQL cannot be looked after: {trouble}"
                    ) from trouble
                # What cannot be seen is not judged, but looked at again.
                if not is_blind:
                    emit(StoreTroubled(doing="looking after PostgreSQL", error=str(trouble)))
                is_blind = True
            else:
                is_blind = False


async def _see_to_it(cluster: Cluster, door: LockFile, on_wait: WaitListener | None) -> None:
    if await asyncio.to_thread(cluster.is_served):
        return
    async with door.taken():
        if not cluster.is_served():  # Another user may have been quicker.
            with _telling(on_wait):
                await _start_again(cluster)


async def _start_again(cluster: Cluster) -> None:
    emit(DatabaseDied(data_dir=str(cluster.data)))
    clock = asyncio.get_running_loop().time
    began = clock()
    if not cluster.data.exists():  # A new one would be empty, and look as if all were well.
        raise OwnDatabaseFailed(
            f"{cluster.data} is gone, and the service's own PostgreSQL with it."
        )
    try:
        await Server(cluster, {}).start()
    except OwnDatabaseFailed as error:
        raise OwnDatabaseFailed(
            f"The service's own PostgreSQL died and cannot be started again. {error}"
        ) from error
    emit(DatabaseRestarted(seconds=round(clock() - began, 3)))


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
