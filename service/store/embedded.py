"""Our own PostgreSQL, for those who name no database: on one machine, behind a local socket.

Any number of processes may use one data directory at once: the first one in starts the server,
the last one out stops it. Two lock files hold that:

1. Whoever comes or goes holds `door.lock` alone, so that nobody comes while another one leaves.
2. Whoever is in shares `users.lock`. Who leaves and can have it alone is the last one.

The kernel drops both when a process dies, so a server whose last user was killed is simply found
running by the next one, which then is the last one out.
"""

import asyncio
import fcntl
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from service.store.cluster import PORT, USER, Cluster
from service.store.installation import OwnDatabaseFailed

PATIENCE_S = 900
"""For a start, which after a crash replays what the data files have not got yet."""

STOP_S = 60
_LOOK_AGAIN_S = 0.05
_NOT_READY = (asyncpg.CannotConnectNowError, OSError, TimeoutError)


@asynccontextmanager
async def embedded_postgres(
    data_dir: Path,
    on_wait: Callable[[float], None] | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[str]:
    """The URL of our own PostgreSQL below `data_dir`, running until the last user leaves.

    `on_wait` is told once a second for how many seconds the start has lasted. `settings` are
    PostgreSQL's own, for a server that is not running yet. Raises OwnDatabaseFailed.
    """
    cluster = await asyncio.to_thread(Cluster.prepare, data_dir)
    server = _Server(cluster, settings or {})
    with _Lock(cluster.home / "users.lock") as users:
        with _telling(on_wait):
            async with _door(cluster):
                users.share()
                await server.start()
        try:
            yield cluster.url()
        finally:
            async with asyncio.timeout(2 * STOP_S), _door(cluster):
                if users.take():
                    await server.stop()


class _Server:
    """Starts and stops the server of a cluster. Only to be used by whoever holds the door."""

    def __init__(self, cluster: Cluster, settings: Mapping[str, str]) -> None:
        self._cluster = cluster
        self._settings = settings

    async def start(self) -> None:
        """Return when a connection answers, whoever started the server."""
        if not self._cluster.data.exists():
            await self._create()
        await self._refuse_other_version()
        async with asyncio.timeout(PATIENCE_S):
            while not await self._answers():
                if self._cluster.is_served():
                    await asyncio.sleep(_LOOK_AGAIN_S)
                else:
                    await self._launch()

    async def stop(self) -> None:
        """Stop it and wait until it is gone."""
        if self._cluster.is_served():
            await self._run("pg_ctl", "stop", "-m", "fast", "-w", "-t", str(STOP_S), *self._data)

    @property
    def _data(self) -> tuple[str, str]:
        return "-D", str(self._cluster.data)

    async def _create(self) -> None:
        cluster = self._cluster
        cluster.password()
        # Only a finished cluster gets its name: a crash half-way leaves nothing to trip over.
        draft = cluster.home / "data.new"
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        await self._run(
            "initdb", "-D", str(draft), "--username", USER,
            "--pwfile", str(cluster.home / "password"),
            "--auth-local", "scram-sha-256", "--auth-host", "reject",
            "--encoding", "UTF8", "--locale", "C", "--data-checksums",
        )  # fmt: skip
        draft.rename(cluster.data)

    async def _refuse_other_version(self) -> None:
        made_by = (self._cluster.data / "PG_VERSION").read_text().strip()
        ours = (await self._run("postgres", "--version")).split()[-1].split(".")[0]
        if made_by != ours:
            raise OwnDatabaseFailed(
                f"{self._cluster.data} was made by PostgreSQL {made_by}, this release brings "
                f"{ours}. Dump it with the release that made it and load the dump into a new "
                "SITEPAIR_DATA_DIR, or name a database with SITEPAIR_DATABASE_URL."
            )

    async def _launch(self) -> None:
        self._cluster.forget_stale_server()
        wanted = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._cluster.socket_dir()),
            "unix_socket_permissions": "0700",
            **self._settings,
        }
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in wanted.items())
        await self._run(
            "pg_ctl", "start", "-w", "-t", str(PATIENCE_S),
            "-l", str(self._cluster.log), "-o", options, *self._data,
        )  # fmt: skip

    async def _answers(self) -> bool:
        if not self._cluster.is_served():
            return False
        try:
            connection = await asyncpg.connect(self._cluster.url(), timeout=5)
        except _NOT_READY:
            return False
        except (asyncpg.InvalidPasswordError, IndexError) as error:
            raise OwnDatabaseFailed(
                f"The PostgreSQL that runs on {self._cluster.data} does not take the password in "
                f"{self._cluster.home / 'password'}."
            ) from error
        await connection.close(timeout=5)
        return True

    async def _run(self, program: str, *arguments: str) -> str:
        account = self._cluster.account
        become = (
            {"user": account.uid, "group": account.gid, "extra_groups": []}
            if os.geteuid() != account.uid
            else {}
        )
        process = await asyncio.create_subprocess_exec(
            self._cluster.programs / program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._cluster.home,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            **become,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                async with asyncio.timeout(5):
                    await process.wait()
        if process.returncode != 0:
            said = output.decode(errors="replace").strip()
            raise OwnDatabaseFailed(f"{program}: {said}\n{self._cluster.tail_of_log()}")
        return output.decode()


@contextmanager
def _telling(on_wait: Callable[[float], None] | None) -> Iterator[None]:
    if on_wait is None:
        yield
        return
    loop = asyncio.get_running_loop()
    began = loop.time()

    def tick() -> None:
        nonlocal due
        on_wait(loop.time() - began)
        due = loop.call_later(1, tick)

    due = loop.call_later(1, tick)
    try:
        yield
    finally:
        due.cancel()


@asynccontextmanager
async def _door(cluster: Cluster) -> AsyncIterator[None]:
    with _Lock(cluster.home / "door.lock") as door:
        while not door.take():
            await asyncio.sleep(_LOOK_AGAIN_S)
        yield


class _Lock:
    """A lock file; what is held of it goes when the context ends, or the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> "_Lock":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def share(self) -> None:
        """Hold it together with others."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def take(self) -> bool:
        """Hold it alone; False if somebody else holds it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
