"""Our own PostgreSQL dies under those who use it: it is started again, or they end and say why."""

import asyncio
import io
import json
import os
import resource
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.settings import Settings
from service.store.embedded import embedded_postgres, keep_serving
from service.store.installation import OwnDatabaseFailed
from service.store.server import Server
from tests.integration.cli.commands import start
from tests.support.logs import captured_logs
from tests.support.service import ServiceUnderTest, fleet_of, service_over

LIVES_ON = ["database_died", "database_restarted"]


@pytest.fixture
def data_dir(reachable_dir: Path) -> Iterator[Path]:
    """Where a database of this test's own may be made."""
    directory = reachable_dir / uuid4().hex[:8]
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """What is logged meanwhile."""
    with captured_logs() as stream:
        yield stream


def pid_of(data_dir: Path) -> int:
    """Who serves it by what it says there; 0 if it says nothing."""
    try:
        return int((data_dir / "postgres/data/postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return 0


def kill(data_dir: Path) -> int:
    """As the kernel does it when memory runs out; who it was."""
    pid = pid_of(data_dir)
    os.kill(pid, signal.SIGKILL)
    return pid


def told(logs: io.StringIO) -> list[str]:
    """What was told about the database, in order."""
    events = [str(json.loads(line)["event"]) for line in logs.getvalue().splitlines()]
    return [event for event in events if event in {"database_died", "database_restarted"}]


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    while not condition():  # noqa: ASYNC110 - other processes raise no events here
        await asyncio.sleep(0)


async def until_told(logs: io.StringIO, story: list[str]) -> None:
    """Return when just that was told."""
    await until(lambda: told(logs) == story)


async def until_another_serves(data_dir: Path, pid: int) -> None:
    """Return when somebody has begun to start one again, and then let others in."""
    await until(lambda: pid_of(data_dir) != pid)
    async with embedded_postgres(data_dir):
        pass


@asynccontextmanager
async def kept(data_dir: Path, *, by: int = 1) -> AsyncIterator[str]:
    """The URL of our own PostgreSQL, which so many start again if it dies."""
    async with embedded_postgres(data_dir) as url, asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(keep_serving(data_dir)) for _ in range(by)]
        yield url
        for each in keeping:
            each.cancel()


async def ready(service: ServiceUnderTest) -> None:
    """Return when it says so."""
    while (await service.call("GET", "/readyz")).status != 200:
        pass


async def paired(service: ServiceUnderTest, one: str, other: str) -> Any:
    """The pairing at its end, for who asks again as a 503 wants it: connections from before the
    death are found out when they are used."""
    body, key = {"appliances": [one, other]}, {"Idempotency-Key": "once"}
    while (asked := await service.call("POST", "/v1/pairings", body, **key)).status == 503:
        pass
    assert asked.status == 202, asked
    while True:
        seen = await service.call("GET", f"/v1/pairings/{asked.json['id']}?waitSeconds=30")
        assert seen.status in {200, 503}, seen
        if seen.status == 200 and seen.json["endTime"] != -1:
            return seen.json


async def test_a_service_outlives_its_database(data_dir: Path, logs: io.StringIO) -> None:
    settings = Settings(data_dir, ("127.0.0.1", 0), egress_allow=(ip_network("127.0.0.0/8"),))
    async with fleet_of(2) as fleet, service_over(settings, fleet) as service:
        one, other = await service.register()
        kill(data_dir)
        await until_told(logs, LIVES_ON)
        await ready(service)
        assert (await paired(service, one, other))["state"] == "SUCCEEDED"
    assert told(logs) == LIVES_ON, "a stop in order is no death"
    assert not (data_dir / "postgres/data/postmaster.pid").exists()


async def test_of_many_users_one_starts_it_again(data_dir: Path, logs: io.StringIO) -> None:
    async with kept(data_dir, by=3):
        for _ in range(3):
            await until_another_serves(data_dir, kill(data_dir))
    assert told(logs) == LIVES_ON * 3


async def test_what_a_killed_server_left_behind_is_waited_for(
    data_dir: Path, logs: io.StringIO
) -> None:
    server_says = data_dir / "postgres/log"
    async with kept(data_dir) as url:
        connection = await asyncpg.connect(url)
        child = int(await connection.fetchval("select pg_backend_pid()"))
        os.kill(child, signal.SIGSTOP)
        kill(data_dir)
        await until(lambda: "pre-existing shared memory block" in server_says.read_text())
        assert told(logs) == ["database_died"]
        os.kill(child, signal.SIGCONT)
        await until_told(logs, LIVES_ON)
        connection.terminate()


async def test_who_cannot_open_another_file_looks_again_later(
    data_dir: Path, logs: io.StringIO
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with kept(data_dir):
        kill(data_dir)
        await until_told(logs, LIVES_ON)
        next_one = os.open(os.devnull, os.O_RDONLY)
        os.close(next_one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
        try:
            await until(lambda: "Too many open files" in logs.getvalue())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert told(logs) == LIVES_ON, "nobody has died again"
        kill(data_dir)
        await until_told(logs, LIVES_ON * 2)


async def test_what_keeps_it_from_being_started_is_no_reason_to_look_again_later(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Server) -> None:
        raise FileNotFoundError(2, "No such file or directory", "pg_ctl")

    async with embedded_postgres(data_dir):
        kill(data_dir)
        monkeypatch.setattr(Server, "start", fail)
        with pytest.raises(OwnDatabaseFailed, match="pg_ctl"):
            await keep_serving(data_dir)
        monkeypatch.undo()


async def test_files_that_are_gone_are_not_made_anew(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        kill(data_dir)
        (data_dir / "postgres/data").rename(data_dir / "elsewhere")
        with pytest.raises(OwnDatabaseFailed, match=f"{data_dir}/postgres/data is gone"):
            await keep_serving(data_dir)


async def test_a_service_whose_database_does_not_come_up_again_ends_and_says_so(
    data_dir: Path,
) -> None:
    process = await start(
        ["serve"], {"SITEPAIR_DATA_DIR": str(data_dir), "SITEPAIR_LISTEN": "127.0.0.1:0"}
    )
    assert process.stderr is not None
    try:
        while b"service_started" not in await process.stderr.readline():
            pass
        (data_dir / "postgres/data/PG_VERSION").write_text("15\n")
        kill(data_dir)
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    last = said.decode().splitlines()[-1]
    assert last.startswith("The service's own PostgreSQL died and cannot be started again. ")
    assert "was made by PostgreSQL 15" in last
