"""What `/readyz` says of a database that cannot be served from, to whoever asks."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
import pytest

from service.app import running
from service.concurrency import singleflight
from service.engine.policy import Policy
from service.settings import Settings
from service.store.sessions import CONNECT_TIMEOUT_S
from tests.integration.store.proxy import proxy_to
from tests.support.contract import Answer, ContractClient, contract_client

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

BEHIND = "delete from alembic_version"
ANOTHERS = """
update alembic_version set version_num = '4f2a91c0de77';
alter table event rename to theirs;
"""
READ_ONLY = """
do $$ begin
  execute format('alter database %I set default_transaction_read_only = on', current_database());
end $$
"""


@pytest.mark.parametrize(
    ("befell", "detail"),
    [
        (READ_ONLY, "The database is read-only."),
        (BEHIND, "The database's schema is behind."),
        (ANOTHERS, "The database is another application's."),
    ],
)
async def test_it_says_what_the_database_is(
    settings: Settings, sql: "Connection", befell: str, detail: str
) -> None:
    async with running(settings, worker=False) as service:
        assert service.url is not None
        async with contract_client(service.url, service.admin_token) as client:
            assert (await client.call("GET", "/readyz")).status == 200
            await sql.execute(befell)
            answer = await refused(client)
    assert answer.json["detail"] == detail


async def test_it_says_that_the_worker_cannot_do_its_work(
    settings: Settings, sql: "Connection"
) -> None:
    async with running(settings, policy=Policy(idle_s=0.05)) as service:
        assert service.url is not None
        async with contract_client(service.url, service.admin_token) as client:
            assert (await client.call("GET", "/readyz")).status == 200
            await sql.execute("alter table appliance_health rename to theirs")
            assert (await refused(client)).json["detail"] == "No pairings can be claimed."
            await sql.execute("alter table theirs rename to appliance_health")
            while (await client.call("GET", "/readyz")).status != 200:
                pass


async def test_a_database_that_hangs_is_told_before_it_is_given_up(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="readiness-") as directory:
        async with (
            proxy_to(database_url, Path(directory)) as (proxy, through),
            running(replace(settings, database_url=through), worker=False) as service,
        ):
            assert service.url is not None
            async with contract_client(service.url, service.admin_token) as client:
                assert (await client.call("GET", "/readyz")).status == 200
                monkeypatch.setattr(singleflight, "PATIENCE_S", 0.05)
                monkeypatch.setattr(singleflight, "SLOW_S", 0.0)
                proxy.is_silent = True
                async with asyncio.timeout(CONNECT_TIMEOUT_S / 2):
                    answer = await refused(client)
                proxy.is_silent = False
    assert answer.json["detail"] == "The database does not answer."


async def refused(client: ContractClient) -> Answer:
    """The first answer that is not the one before: that is good for a second."""
    async with asyncio.timeout(10):
        while True:
            answer = await client.call("GET", "/readyz")
            if answer.status == 503:
                return answer


async def test_however_many_ask_at_once_the_database_is_asked_once(
    settings: Settings, sql: "Connection"
) -> None:
    """More than it has connections."""
    many = int(await sql.fetchval("select current_setting('max_connections')::int")) + 1
    async with running(settings, worker=False) as service:
        assert service.url is not None
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            client = ContractClient(session, service.url)
            answers = await asyncio.gather(*[client.call("GET", "/readyz") for _ in range(many)])
    assert {answer.status for answer in answers} == {200}
