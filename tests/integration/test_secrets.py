"""No password and no session token leaves the service: logs, database and answers are searched."""

import base64
from pathlib import Path

import asyncpg

from service.settings import Settings
from simulator import fault
from tests.support.logs import captured_logs
from tests.support.service import fleet_of, service_over


async def everything_stored(database_url: str) -> str:
    """Each row of each table, as text; binary columns as hexadecimal digits."""
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        rows = [
            await connection.fetch(f'SELECT t::text FROM "{table["table_name"]}" AS t')  # noqa: S608
            for table in tables
        ]
    finally:
        await connection.close()
    return "\n".join(row[0] for table in rows for row in table)


def spellings(secret: str) -> set[str]:
    """The ways in which a secret may turn up."""
    raw = secret.encode()
    return {secret, raw.hex(), base64.b64encode(raw).decode().rstrip("="), raw.hex().upper()}


async def test_neither_password_nor_session_token_is_written_anywhere(
    settings: Settings, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    with captured_logs() as logs:
        async with fleet_of(2) as fleet, service_over(settings, fleet) as service:
            one, other = await service.register()
            refused = {"type": "localUser", "localUser": "root", "localPassword": "hunter2-refused"}
            await service.over(await service.pair(one, other))
            fleet[one].add_fault(fault("status", path="/sites", status=500))
            await service.call("POST", f"/v1/appliances/{one}/check")
            await service.register(fleet[one], credentials=refused)
            await service.over(await service.pair(one, other))
            await service.call("GET", "/v1/appliances")
            await service.call(
                "PUT", f"/v1/appliances/{one}", {"credentials": {**refused, "more": "x"}}
            )
            tokens = [token for each in fleet.appliances for token in each.state.sessions._open]
            passwords = [each.password for each in fleet.appliances]
            answers = "\n".join(service.answers)
            admin = service.token
        stored = await everything_stored(settings.database_url)

    assert tokens
    assert '"event":"appliance_called"' in logs.getvalue()
    haystacks = {"logs": logs.getvalue(), "database": stored, "answers": answers}
    for place, text in haystacks.items():
        for secret in [*passwords, *tokens, "hunter2-refused", admin]:
            found = [spelling for spelling in spellings(secret) if spelling in text]
            assert not found, f"a secret is in the {place}"


async def test_what_is_kept_in_files_is_for_its_owner_alone(
    settings: Settings,
) -> None:
    async with fleet_of(1) as fleet, service_over(settings, fleet):
        modes = {
            path.name: path.stat().st_mode & 0o777
            for path in settings.data_dir.iterdir()
            if path.is_file()
        }
    assert modes == {"admin.token": 0o600, "secret.key": 0o600}
