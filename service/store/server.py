"""The process of our own PostgreSQL: made, started, waited for, stopped."""

import asyncio
import os
import shlex
import shutil
from collections.abc import Mapping
from contextlib import suppress

import asyncpg

from service.concurrency.uninterrupted import uninterrupted
from service.store.cluster import PORT, USER, Cluster
from service.store.installation import OwnDatabaseFailed
from service.store.sessions import part

PATIENCE_S = 900
"""For a start, which after a crash replays what the data files have not got yet."""

STOP_S = 60
_LOOK_AGAIN_S = 0.05
_LAUNCHES = 20
_LAUNCH_AGAIN_S = 0.5
_MARK_S = 5.0
_NOT_READY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # It starts, or is stopped, or lost one of its processes.
    asyncpg.InsufficientResourcesError,  # All its connections are in use.
    OSError,
    TimeoutError,
)


class Server:
    """The server of one cluster. One process at a time may start or stop it."""

    def __init__(self, cluster: Cluster, settings: Mapping[str, str]) -> None:
        """`settings` are PostgreSQL's own, for a server that is yet to be started."""
        self._cluster = cluster
        self._settings = settings

    async def start(self) -> None:
        """Return when a connection answers, whoever started the server.

        Raises OwnDatabaseFailed.
        """
        if not self._cluster.data.exists():
            await self._create()
        await self._refuse_other_version()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._until_it_answers()
        except TimeoutError as error:
            raise OwnDatabaseFailed(
                f"PostgreSQL has not been ready for {PATIENCE_S} s; it may still be recovering. "
                f"Its log is {self._cluster.log}."
            ) from error

    async def stop(self) -> None:
        """Stop it, if it runs, and return when it is gone. Raises OwnDatabaseFailed."""
        if self._cluster.is_served():
            socket_dir = self._cluster.used_socket_dir()
            await self._run("pg_ctl", "stop", "-D", "data", "-m", "fast", "-w", "-t", str(STOP_S))
            if socket_dir is not None and socket_dir.parent != self._cluster.home:
                with suppress(OSError):
                    socket_dir.rmdir()

    async def _create(self) -> None:
        cluster = self._cluster
        cluster.password()
        # Only a finished cluster gets its name: a crash half-way leaves nothing to trip over.
        draft = cluster.home / "data.new"
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        await self._run(
            "initdb", "-D", draft.name, "--username", USER, "--pwfile", "password",
            "--auth-local", "scram-sha-256", "--auth-host", "reject",
            "--encoding", "UTF8", "--locale", "C", "--data-checksums",
        )  # fmt: skip
        draft.rename(cluster.data)

    async def _refuse_other_version(self) -> None:
        made_by = self._cluster.made_by()
        ours = (await self._run("postgres", "--version")).split()[-1].split(".")[0]
        if made_by != ours:
            raise OwnDatabaseFailed(
                f"{self._cluster.data} was made by PostgreSQL {made_by}, this release brings "
                f"{ours}. Dump it with the release that made it and load the dump into a new "
                "SITEPAIR_DATA_DIR, or name a database with SITEPAIR_DATABASE_URL."
            )

    async def _until_it_answers(self) -> None:
        launches = 0
        while not await self._answers():
            if self._cluster.is_served():
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            try:
                await self._launch()
            except OwnDatabaseFailed:
                launches += 1
                # What a killed server left behind, its children above all, goes within moments.
                if launches == _LAUNCHES or not self._cluster.was_killed():
                    raise
                await asyncio.sleep(_LAUNCH_AGAIN_S)

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
        launching = self._run(
            "pg_ctl", "start", "-D", "data", "-w", "-t", str(PATIENCE_S),
            "-l", self._cluster.log.name, "-o", options,
        )  # fmt: skip
        # A server that has not left its mark yet could not be found to be stopped.
        await uninterrupted(launching, _MARK_S)

    async def _answers(self) -> bool:
        if not self._cluster.is_served():
            return False
        try:
            connection = await asyncpg.connect(self._cluster.url(), timeout=5)
        except (*_NOT_READY, IndexError):
            return False
        except asyncpg.InvalidPasswordError as error:
            raise OwnDatabaseFailed(
                f"The PostgreSQL that runs on {self._cluster.data} does not take the password in "
                f"{self._cluster.home / 'password'}."
            ) from error
        await part(connection)
        return True

    async def _run(self, program: str, *arguments: str) -> str:
        """Run it in the cluster's home: paths are relative, for pg_ctl hands them to a shell."""
        account = self._cluster.account
        is_other = os.geteuid() != account.uid
        process = await asyncio.create_subprocess_exec(
            self._cluster.programs / program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._cluster.home,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=account.uid if is_other else None,
            group=account.gid if is_other else None,
            extra_groups=[] if is_other else None,
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
            raise OwnDatabaseFailed(f"{program}: {said}\n{self._cluster.tail_of_log()}".strip())
        return output.decode()
