"""A database in trouble, under load: nothing that was accepted or written is lost, nothing is there
twice, and nobody has to be started anew."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import combinations
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from service.domain.errors import StoreUnavailable
from service.domain.ids import PairingId
from service.domain.pairing import Assignment, PairingState
from service.observe.events import JournalUnsure, LogEvent
from service.observe.logging import listening
from service.store.claims import Claims
from service.store.cluster import Cluster
from service.store.database import Database
from service.store.embedded import embedded_postgres
from service.store.intake import IdempotencyKey, Intake
from service.store.journal import Journal
from service.store.leases import Heartbeat
from service.store.migrate import upgrade
from service.store.pairings import PairingFilter, Pairings
from service.store.server import Server
from tests.integration.store.values import (
    AUTHOR,
    now,
    register,
    request,
    running,
    way_to_success,
    worker,
)
from tests.support.chain import first_misfit
from tests.support.database import with_database

SETTINGS = {"fsync": "off", "full_page_writes": "off"}
NAMES = [f"n{number}" for number in range(9)]
COUPLES = list(combinations(NAMES, 2))
STEPS = len(COUPLES) * 11

Disturb = Callable[["House"], Awaitable[None]]


class House:
    """A server that tests may mistreat."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self.cluster = cluster
        self.url = url
        self.server = Server(cluster, SETTINGS)

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """As the owner of all."""
        connection = await asyncpg.connect(with_database(self.url, database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close(timeout=10)

    async def cut(self) -> None:
        """End all sessions."""
        await self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'sitepair'"
        )

    async def restart(self) -> None:
        """As an administrator does it."""
        await self.server.stop()
        await self.server.start()

    async def crash(self) -> None:
        """No session is told, and nothing is written down."""
        await self.server._run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w")
        await self.server.start()


DISTURBANCES: list[Disturb] = [House.cut, House.restart, House.crash]


@asynccontextmanager
async def house_at(home: Path) -> AsyncIterator[House]:
    """A server of our own, so that nobody else's tests suffer."""
    async with embedded_postgres(home, settings=SETTINGS) as url:
        yield House(await asyncio.to_thread(Cluster.prepare, home), url)


@pytest.fixture(scope="module")
async def house(reachable_dir: Path) -> AsyncIterator[House]:
    """One for all that it survives."""
    async with house_at(reachable_dir / "troubled") as house:
        yield house


@pytest.fixture
async def database(house: House) -> AsyncIterator[Database]:
    """An empty database on it."""
    name = f"test_{uuid4().hex}"
    await house.execute(f"create database {name}")
    await upgrade(with_database(house.url, name))
    async with Database.connect(with_database(house.url, name)) as database:
        yield database
    await house.execute(f"drop database {name} with (force)")


class Crowd:
    """Callers who want pairings, and a worker that brings them to a good end.

    Callers ask again under the same key when they were not answered. The worker does as the engine
    does: what it is not told of it drops and claims again.
    """

    def __init__(self, database: Database) -> None:
        self.intake = Intake(database, now)
        self.journal = Journal(database.lane())
        self.accepted: dict[PairingId, tuple[str, str]] = {}
        self.refusals: list[str] = []
        self.steps = 0
        self.moved = asyncio.Event()
        self._database = database
        self._worker = worker()
        self._heart = Heartbeat(database, self._worker)
        self._claims = Claims(database, self._worker)
        self._driven: set[PairingId] = set()

    async def run(self) -> None:
        """Return when all is done."""
        await self._heart.join(3600)
        with listening(self._hear):
            await self._drive_all()

    async def _drive_all(self) -> None:
        async with running(self.intake), running(self.journal), asyncio.TaskGroup() as tasks:
            for couple in COUPLES:
                tasks.create_task(self._ask(couple))
            while self.steps < STEPS:
                for assignment in await self._claimed():
                    self._driven.add(assignment.pairing.id)
                    tasks.create_task(self._drive(assignment))
                await asyncio.sleep(0.01)

    async def step(self, number: int) -> None:
        """Return when so many steps were made."""
        while self.steps < number:
            self.moved.clear()
            await self.moved.wait()

    async def trouble(self, saying: str) -> None:
        """Return when somebody was told of trouble with these words."""
        while not any(saying in each for each in self.refusals):  # noqa: ASYNC110 - by many
            await asyncio.sleep(0.01)

    def _hear(self, event: LogEvent) -> None:
        if isinstance(event, JournalUnsure):
            self.refusals.append(event.error)

    async def _ask(self, couple: tuple[str, str]) -> None:
        key = IdempotencyKey("-".join(couple), b"print")
        while True:
            try:
                answer = await self.intake.accept(request(*couple), AUTHOR, key)
            except StoreUnavailable as trouble:
                self.refusals.append(str(trouble))
                await asyncio.sleep(0.05)
            else:
                self.accepted[answer.pairing.id] = couple
                return

    async def _claimed(self) -> list[Assignment]:
        try:
            await self._heart.beat()
            await self._claims.disown(self._driven)
            return list((await self._claims.claim(5)).assignments)
        except StoreUnavailable as trouble:
            self.refusals.append(str(trouble))
            return []

    async def _drive(self, assignment: Assignment) -> None:
        for change in way_to_success(assignment.pairing):
            await self.journal.append(change)
            self.steps += 1
            self.moved.set()
        self._driven.discard(assignment.pairing.id)


async def verify(database: Database, crowd: Crowd) -> None:
    """All that was promised is there, once, and at its end."""
    stored = await Pairings(database).page(PairingFilter(), 1000)
    assert {pairing.id for pairing in stored} == crowd.accepted.keys()
    assert sorted(crowd.accepted.values()) == sorted(COUPLES)
    assert {pairing.state for pairing in stored} == {PairingState.SUCCEEDED}
    for pairing in stored:
        chain = await Pairings(database).events(pairing.id)
        assert len(chain) == pairing.position.seq == 12
        assert first_misfit(chain) is None


@pytest.mark.parametrize("disturb", DISTURBANCES, ids=["cut", "restart", "crash"])
async def test_what_is_accepted_and_written_survives(
    house: House, database: Database, disturb: Disturb
) -> None:
    await register(database, *NAMES)
    crowd = Crowd(database)
    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        at_work = tasks.create_task(crowd.run())
        for part in range(1, 6):
            await crowd.step(part * STEPS // 8)
            await disturb(house)
        await at_work
    # That a pooled connection is dead shows to who asks next; then the whole pool is made anew.
    await asyncio.gather(
        *[database.run(text("select 1")) for _ in range(10)], return_exceptions=True
    )
    await verify(database, crowd)


@contextmanager
def small_disk(place: Path, account: int) -> Iterator[Path]:
    """A file system of 40 MB for the server's use."""
    place.mkdir()
    options = f"size=40m,mode=0700,uid={account}"
    mounting = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only who may mount has a disk that can be filled")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)  # noqa: S607


def fill(disk: Path) -> Path:
    """Leave no room on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    return filler


async def test_a_full_disk_is_waited_out(reachable_dir: Path) -> None:
    async with house_at(reachable_dir / "cramped") as house:
        with small_disk(reachable_dir / "disk", house.cluster.account.uid or 0) as disk:
            await house.execute(f"create tablespace small location '{disk}'")
            await house.execute("create database cramped tablespace small")
            url = with_database(house.url, "cramped")
            await upgrade(url)
            async with Database.connect(url) as database:
                await register(database, *NAMES)
                crowd = Crowd(database)
                async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
                    at_work = tasks.create_task(crowd.run())
                    await crowd.step(1)
                    filler = fill(disk)
                    await crowd.trouble("No space left on device")
                    filler.unlink()
                    await at_work
                await verify(database, crowd)
            await house.execute("drop database cramped with (force)")
            await house.execute("drop tablespace small")
