"""Credentials that no key opens fail what needs them, and undo what others did."""

from typing import TYPE_CHECKING

from service.domain.registration import LocalUser
from service.store.vault import Vault
from tests.support.logs import captured_logs
from tests.support.service import ServiceUnderTest, are_paired, holds

if TYPE_CHECKING:
    import asyncpg


async def lose_key_of(sql: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    """Have the credentials of `name` sealed with a key that is no more."""
    id_ = await sql.fetchval("select id from appliance where name = $1", name)
    sealed = Vault([b"k" * 32]).seal(LocalUser("root", "x"), id_)
    await sql.execute("update appliance set credentials = $1 where id = $2", sealed, id_)


async def test_they_fail_a_pairing_by_their_name_and_leave_no_half(
    service: ServiceUnderTest, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    one, other, _ = await service.register()
    await lose_key_of(sql, other)
    with captured_logs() as logs:
        failed = await service.over(await service.pair(one, other))
    assert (failed["state"], failed["error"]["code"]) == ("FAILED", "CredentialsSealed")
    assert failed["error"]["args"] == [other]
    assert "pairing_crashed" not in logs.getvalue()
    assert not holds(service.fleet, one, other)
    assert not holds(service.fleet, other, one)

    await service.register(service.fleet[other])
    answer = await service.call("POST", f"/v1/pairings/{failed['id']}/retry")
    assert (await service.over(answer.json))["state"] == "SUCCEEDED"
    assert are_paired(service.fleet, one, other)
