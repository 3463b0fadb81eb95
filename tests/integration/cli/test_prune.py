"""`sitepair prune`, as an operator types it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from service.cli import prune
from service.store import pruning
from service.store.database import Database
from tests.integration.cli.commands import sitepair, start
from tests.integration.store.history import make_months, ms, over
from tests.integration.store.values import register
from tests.integration.store.watching import until_blocked
from tests.support.logs import captured_logs

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """What leads the command to the database."""
    return {"SITEPAIR_DATABASE_URL": database_url, "SITEPAIR_DATA_DIR": str(tmp_path)}


@pytest.fixture(autouse=True)
async def two_of_long_ago(database: Database) -> None:
    """Two pairings of January 2020."""
    await make_months(database, 2020, 1)
    await register(database, "a", "b")
    for day in (1, 2):
        await over(database, ("a", "b"), ms(2020, 1, day))


async def test_it_says_what_it_would_remove_and_what_it_removed(
    environment: dict[str, str],
) -> None:
    command = ["prune", "--older-than", "52w"]
    would = await sitepair(*command, "--dry-run", **environment)
    report = await sitepair(*command, "--dry-run", "--json", **environment)
    does = await sitepair(*command, **environment)
    again = await sitepair(*command, "--json", **environment)

    months = "batches: 0; months: event_2020_01, event_2020_02, event_2020_03."
    assert (would.status, would.err, does.status, does.err) == (0, "", 0, "")
    assert would.out.startswith("Would remove 2 pairings that were over before ")
    assert does.out.startswith("Removed 2 pairings that were over before ")
    assert would.out.endswith(f"with 6 events and 0 idempotency keys; {months}\n"), would
    assert does.out.endswith(months + "\n"), does
    foretold, left = json.loads(report.out), json.loads(again.out)
    assert foretold["months"] == ["event_2020_01", "event_2020_02", "event_2020_03"]
    assert (foretold["dryRun"], foretold["pairings"], foretold["events"]) == (True, 2, 6)
    assert foretold["cutOff"] < left.pop("cutOff")
    assert left == {
        "dryRun": False,
        "complete": True,
        "pairings": 0,
        "events": 0,
        "idempotencyKeys": 0,
        "batches": 0,
        "removedAppliances": 0,
        "months": [],
        "kept": [],
    }
    sound = await sitepair("audit", "verify", **environment)
    assert sound.out == "2 chains with 2 events: all sound.\n"


async def test_an_age_that_is_none_is_refused_before_anything_is_touched(
    environment: dict[str, str],
) -> None:
    ended = await sitepair("prune", "--older-than", "3mo", **environment)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "--older-than takes 1 to 9999 days or weeks, like 90d or 12w, not '3mo'.\n"
    report = await sitepair("prune", "--older-than", "52w", "--dry-run", "--json", **environment)
    assert json.loads(report.out)["pairings"] == 2


async def test_interrupted_it_says_what_it_removed_so_far(
    environment: dict[str, str], sql: "Connection"
) -> None:
    told = []
    for options in ([], ["--json"]):
        async with sql.transaction():
            await sql.execute("lock table event_2020_01 in share mode")
            process = await start(["prune", "--older-than", "52w", *options], environment)
            await until_blocked(sql)
            process.terminate()
            told.append(await process.communicate())
        assert process.returncode == 130
    (out, err), (content, _) = told
    assert out.startswith(b"Removed 0 pairings")
    assert err == b"Interrupted: run it again to remove the rest.\n"
    report = json.loads(content)
    assert (report["complete"], report["pairings"]) == (False, 0)
    assert await sql.fetchval("select count(*) from pairing") == 2


async def test_a_month_that_had_to_be_kept_is_named_and_exits_with_1(
    environment: dict[str, str],
    sql: "Connection",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pruning, "PATIENCE_S", 0)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with sql.transaction():
        await sql.execute("select from event limit 1")
        with captured_logs():
            status = await prune._prune(timedelta(weeks=52), dry_run=False, as_json=False)
            # The command logs to what pytest closes after this test; from here on nobody does.
            with captured_logs():
                pass
    told = capsys.readouterr()
    assert status == 1
    assert told.out.startswith("Removed 2 pairings")
    assert "Kept event_2020_01: " in told.err
