"""`sitepair audit verify`, as an operator types it."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from service.store.database import Database
from tests.integration.cli.commands import SITEPAIR, sitepair, start
from tests.integration.store.values import AUTHOR, accepted, name, registry, spec

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """What leads the command to the database."""
    return {"SITEPAIR_DATABASE_URL": database_url, "SITEPAIR_DATA_DIR": str(tmp_path)}


async def test_a_sound_record_is_counted_and_exits_with_0(
    database: Database, environment: dict[str, str]
) -> None:
    pairing, _ = await accepted(database, ("a", "b"), ("b", "c"))
    await registry(database).put(spec("d"), AUTHOR)
    await registry(database).delete(name("d"), AUTHOR)

    every = await sitepair("audit", "verify", **environment)
    one = await sitepair("audit", "verify", "--pairing", str(pairing.id), **environment)
    report = await sitepair("audit", "verify", "--json", **environment)

    assert (every.status, every.out) == (0, "6 chains with 7 events: all sound.\n"), every
    assert (one.status, one.out) == (0, "1 chain with 1 event: all sound.\n"), one
    assert report.status == 0
    assert json.loads(report.out) == {"ok": True, "chains": 6, "events": 7, "findings": []}


async def test_each_broken_chain_is_named_with_its_first_misfit_and_exits_with_1(
    database: Database, sql: "Connection", environment: dict[str, str]
) -> None:
    changed, emptied = await accepted(database, ("a", "b"), ("b", "c"))
    moment = "2026-11-24 08:00:00.123+00"
    await sql.execute(f"update event set at = '{moment}' where chain = $1", changed.id)  # noqa: S608
    await sql.execute("delete from event where chain = $1", emptied.id)
    chain = await sql.fetchval("delete from appliance where name = 'c' returning id")

    told = await sitepair("audit", "verify", **environment)
    report = await sitepair("audit", "verify", "--json", **environment)
    one = await sitepair("audit", "verify", "--pairing", str(emptied.id), **environment)

    assert told.status == report.status == one.status == 1
    *findings, count = told.out.splitlines()
    assert count == "5 chains with 4 events: 3 broken."
    (registered,) = await sql.fetch("select at from event where chain = $1", chain)
    seen = registered["at"].isoformat(timespec="milliseconds")
    orphaned = "the owner of the chain is missing, and this event is not ApplianceRemoved"
    about_changed = (
        f"pairing {changed.id}: event 1 (PairingAccepted, 2026-11-24T08:00:00.123+00:00)"
    )
    about_removed = f"appliance c {chain}: event 1 (ApplianceRegistered, {seen})"
    assert set(findings) == {
        f"{about_changed}: changed or inserted, or the event before it was",
        f"pairing {emptied.id}: all its events are missing",
        f"{about_removed}: {orphaned}",
    }
    by_chain = {finding["chain"]: finding for finding in json.loads(report.out)["findings"]}
    assert by_chain[str(changed.id)] == {
        "chain": str(changed.id),
        "kind": "pairing",
        "appliance": None,
        "seq": 1,
        "type": "PairingAccepted",
        "at": 1795507200123,
        "wrong": "CHANGED",
        "detail": "changed or inserted, or the event before it was",
    }
    assert by_chain[str(emptied.id)]["wrong"] == "NO_EVENTS"
    assert (by_chain[str(chain)]["kind"], by_chain[str(chain)]["appliance"]) == ("appliance", "c")
    assert one.out.splitlines()[-1] == "1 chain with 0 events: 1 broken."


async def test_what_is_logged_to_a_closed_output_is_no_reason_to_stop(
    database: Database, environment: dict[str, str]
) -> None:
    command = f"exec {shlex.join(SITEPAIR)} audit verify 2>&-"
    process = await start([command], environment, ["sh", "-c"])
    out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"0 chains with 0 events: all sound.\n")


async def test_a_pairing_that_nobody_knows_is_not_called_sound(
    environment: dict[str, str],
) -> None:
    ended = await sitepair("audit", "verify", "--pairing", str(uuid4()), **environment)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "There is no such pairing.\n"


async def test_an_id_that_is_none_is_refused(environment: dict[str, str]) -> None:
    ended = await sitepair("audit", "verify", "--pairing", "4711", **environment)

    assert ended.status not in {0, None}


async def test_a_time_that_cannot_be_is_told_as_such(
    database: Database, sql: "Connection", environment: dict[str, str]
) -> None:
    one, other = await accepted(database, ("a", "b"), ("b", "c"))
    await sql.execute("update event set at = 'infinity' where chain = $1", one.id)
    await sql.execute("update event set at = '12026-11-24' where chain = $1", other.id)

    ended = await sitepair("audit", "verify", **environment)

    assert ended.status == 1, ended
    assert "an impossible time" in ended.out
    assert "317364998400000 ms" in ended.out


async def test_a_database_of_another_schema_is_refused(
    empty_database_url: str, environment: dict[str, str]
) -> None:
    environment["SITEPAIR_DATABASE_URL"] = empty_database_url
    ended = await sitepair("audit", "verify", **environment)

    assert ended.status == 2
    assert "sitepair migrate" in ended.err


@pytest.mark.parametrize(
    "command", ["audit verify", "prune --older-than 90d", "migrate", "serve --worker-only"]
)
async def test_a_database_that_does_not_answer_is_named_and_exits_with_3(
    environment: dict[str, str], command: str
) -> None:
    environment["SITEPAIR_DATABASE_URL"] = (
        "postgresql://me:hunter2@127.0.0.1:1/pairs?sslmode=disable"
    )
    ended = await sitepair(*command.split(), **environment)

    assert (ended.status, ended.out) == (3, ""), ended
    told = "The database at postgresql://127.0.0.1:1/pairs does not answer: "
    assert ended.err.splitlines()[-1].startswith(told)
    assert "hunter2" not in ended.err


@pytest.mark.parametrize("command", ["audit verify", "prune --older-than 90d"])
@pytest.mark.parametrize("place", ["mistyped", "."])
async def test_no_database_is_made_where_there_is_none(
    reachable_dir: Path, place: str, command: str
) -> None:
    data_dir = (reachable_dir / uuid4().hex).resolve()
    data_dir.mkdir()
    asked = (data_dir / place).resolve()
    ended = await sitepair(*command.split(), SITEPAIR_DATA_DIR=str(asked))

    assert (ended.status, ended.out) == (2, ""), ended
    assert f"there is no database in {asked}" in ended.err
    assert list(data_dir.iterdir()) == []


async def test_the_own_database_is_started_for_it(reachable_dir: Path) -> None:
    environment = {"SITEPAIR_DATA_DIR": str(reachable_dir)}
    assert (await sitepair("migrate", **environment)).status == 0
    ended = await sitepair("audit", "verify", **environment)

    assert ended.status == 0, ended
    assert "all sound" in ended.out
