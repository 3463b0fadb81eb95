"""One PostgreSQL for all who are compared, as the service starts its own: fsync on."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import psutil

from service.store.embedded import embedded_postgres
from service.store.migrate import upgrade

_TEMPLATE = "bench_template"


@dataclass(frozen=True, slots=True)
class Postgres:
    """The running server; `place` is a directory for what belongs to the run."""

    url: str = field(repr=False)
    place: Path
    server: psutil.Process

    @classmethod
    @asynccontextmanager
    async def started(cls, **settings: str) -> AsyncIterator["Postgres"]:
        """A server for the time of the block, with nothing but a migrated template in it.

        `settings` are PostgreSQL's own.
        """
        with tempfile.TemporaryDirectory(prefix="sitepair-bench-") as directory:
            place = Path(directory)
            # PostgreSQL runs as another account when we are root.
            await asyncio.to_thread(place.chmod, 0o755)
            async with embedded_postgres(place / "server", settings=settings) as url:
                async with connected(url) as connection:
                    backend = psutil.Process(await connection.fetchval("select pg_backend_pid()"))
                    server = psutil.Process(backend.ppid())
                    await connection.execute(f"create database {_TEMPLATE}")
                await upgrade(_with_database(url, _TEMPLATE))
                yield cls(url, place, server)

    @asynccontextmanager
    async def migrated(self) -> AsyncIterator[str]:
        """The URL of a new database with the service's schema, dropped at the end."""
        async with self._database(_TEMPLATE) as url:
            yield url

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[str]:
        """The URL of a new database with nothing in it, dropped at the end."""
        async with self._database("template0") as url:
            yield url

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[Path]:
        """A new directory, removed at the end."""
        with tempfile.TemporaryDirectory(dir=self.place) as directory:
            yield Path(directory)

    async def settle(self) -> None:
        """Write out what those before left to be written, so that nobody pays for another."""
        async with connected(self.url) as connection:
            await connection.execute("checkpoint")

    def cpu_s(self) -> float:
        """CPU seconds that the server has used, all its processes together, ended ones too."""
        times = self.server.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in self.server.children():
            try:
                used = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += used.user + used.system
        return total

    @asynccontextmanager
    async def _database(self, template: str) -> AsyncIterator[str]:
        name = f"bench_{uuid4().hex}"
        async with connected(self.url) as connection:
            await connection.execute(f"create database {name} template {template}")
        try:
            yield _with_database(self.url, name)
        finally:
            async with connected(self.url) as connection:
                await connection.execute(f"drop database {name} with (force)")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """One connection for the time of the block."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "bench"})
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


async def commits(url: str) -> int:
    """Transactions committed in this database, by all whose connections are closed.

    Connections that are open tell what they did with a delay of a second or more.
    """
    async with connected(url) as connection:
        return int(
            await connection.fetchval(
                "select xact_commit from pg_stat_database where datname = current_database()"
            )
        )


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
