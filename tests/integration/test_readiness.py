"""What `/readyz` says of a database that cannot be served from, to whoever asks."""

from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.app import running
from service.settings import Settings
from tests.support.contract import contract_client

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

BEHIND = "delete from alembic_version"
ANOTHERS = """
update alembic_version set version_num = '4f2a91c0de77';
alter table event rename to theirs;
"""


@pytest.mark.parametrize(
    ("befell", "detail"),
    [
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
            answer = await client.call("GET", "/readyz")
    assert (answer.status, answer.json["detail"]) == (503, detail)
