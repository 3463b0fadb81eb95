"""Who asks at one moment shares a question, and gets nobody else's answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.domain.errors import StoreUnavailable, UnknownAppliance
from service.domain.ids import ApplianceName
from service.domain.registration import Registration
from service.store.appliances import Appliances
from service.store.database import Database
from service.store.registrations import Registrations
from service.store.vault import Vault
from tests.integration.store.values import (
    AUTHOR,
    KEY,
    in_background,
    name,
    now,
    register,
    registry,
    spec,
)
from tests.integration.store.watching import until_blocked

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@asynccontextmanager
async def registrations_on(appliances: Appliances) -> AsyncIterator[Registrations]:
    """Registrations, being read."""
    registrations = Registrations(appliances)
    async with in_background(registrations.run()):
        yield registrations


async def test_each_gets_what_it_asked_for(database: Database) -> None:
    names = ["a", "b", "c", "d"]
    known = await register(database, *names)
    asked = [*names, "nobody", "a", "no-one"]
    async with registrations_on(registry(database)) as registrations:
        told = await asyncio.gather(
            *[registrations.of(name(each)) for each in asked], return_exceptions=True
        )
    assert told[:4] == known
    assert told[5] == known[0]
    assert [str(told[4]), str(told[6])] == [
        str(UnknownAppliance(name("nobody"))),
        str(UnknownAppliance(name("no-one"))),
    ]


async def test_many_at_one_moment_share_a_question(database: Database) -> None:
    names = [name(f"site-{number}") for number in range(30)]
    known = await register(database, *names)
    listened = _Listened(database, Vault([KEY]), now)
    async with registrations_on(listened) as registrations:
        told = await asyncio.gather(*[registrations.of(each) for each in names])
    assert told == known
    assert listened.questions == [names]


class _Listened(Appliances):
    """Keeps what it was asked."""

    def __init__(self, database: Database, vault: Vault, clock: Callable[[], int]) -> None:
        super().__init__(database, vault, clock)
        self.questions: list[Sequence[ApplianceName]] = []

    async def named(self, names: Collection[ApplianceName]) -> Mapping[ApplianceName, Registration]:
        self.questions.append(list(names))
        return await super().named(names)


async def test_nothing_is_remembered(database: Database) -> None:
    await register(database, "a")
    async with registrations_on(registry(database)) as registrations:
        before = await registrations.of(name("a"))
        anew, _ = await registry(database).put(spec("a", description="anew"), AUTHOR)
        assert before.version < anew.version
        assert await registrations.of(name("a")) == anew


async def test_who_waits_at_the_end_is_told(database: Database, sql: "Connection") -> None:
    await register(database, "a")
    async with sql.transaction(), asyncio.TaskGroup() as tasks:
        await sql.execute("lock table appliance")
        async with registrations_on(registry(database)) as registrations:
            tasks.create_task(_is_refused(registrations))
            await until_blocked(sql)
        await _is_refused(registrations)


async def _is_refused(registrations: Registrations) -> None:
    with pytest.raises(StoreUnavailable):
        await registrations.of(name("a"))
