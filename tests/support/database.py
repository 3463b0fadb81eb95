"""Real PostgreSQL for tests: one server a session, one database a test."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from service.store.database import Database
from service.store.embedded import embedded_postgres
from service.store.migrate import upgrade

TEMPLATE = "template_sitepair"
"""A migrated database, to be copied."""

# Nothing here has to outlive the machine, and a test must not wait for its disk.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


@pytest.fixture(scope="session")
def reachable_dir() -> Iterator[Path]:
    """A directory that another account can enter too, as pytest's own ones cannot be."""
    directory = Path(tempfile.mkdtemp(prefix="sitepair-test-"))
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
async def server_url(reachable_dir: Path) -> AsyncIterator[str]:
    """A server with a migrated database to copy."""
    async with embedded_postgres(reachable_dir / "server", settings=_SETTINGS) as url:
        await _execute(url, f"create database {TEMPLATE}")
        await upgrade(with_database(url, TEMPLATE))
        yield url


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A database of this test's own with nothing in it."""
    async with database_like(server_url, "template0") as url:
        yield url


@pytest.fixture
async def database_url(server_url: str) -> AsyncIterator[str]:
    """A migrated database of this test's own."""
    async with database_like(server_url, TEMPLATE) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to this test's own migrated database."""
    async with Database.connect(database_url) as database:
        yield database


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A bare connection to this test's own database, to look behind the store's back."""
    connection = await asyncpg.connect(database_url, server_settings={"application_name": "test"})
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


@asynccontextmanager
async def database_like(server_url: str, template: str) -> AsyncIterator[str]:
    """A copy of the database `template`, dropped at the end with whoever is still connected."""
    name = f"test_{uuid4().hex}"
    await _execute(server_url, f"create database {name} template {template} strategy file_copy")
    try:
        yield with_database(server_url, name)
    finally:
        async with asyncio.timeout(30):
            await _execute(server_url, f"drop database {name} with (force)")


@asynccontextmanager
async def closed_to_all(server_url: str, url: str) -> AsyncIterator[None]:
    """Nobody can use the database behind `url` within the block."""
    name = urlsplit(url).path.removeprefix("/")
    await _execute(server_url, f"alter database {name} allow_connections false")
    try:
        await _execute(
            server_url,
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            name,
        )
        yield
    finally:
        await _execute(server_url, f"alter database {name} allow_connections true")


def with_database(url: str, name: str) -> str:
    """`url` with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _execute(url: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close(timeout=10)
