"""The commands as a user types them, in processes of their own, against a running service."""

import asyncio
import json
import resource
import signal
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from yarl import URL

from service import __version__
from service.api import appliances
from service.store.cluster import Cluster
from service.store.lockfile import LockFile
from simulator import fault
from simulator.handle import SimulatedAppliance
from tests.integration.cli.commands import SITEPAIR, Ended, sitepair, start
from tests.support.ipv6 import has_ipv6
from tests.support.service import ServiceUnderTest, are_paired

REGISTRATION = (
    *("--management-url", "https://10.0.1.10", "--api-url", "https://a", "--user", "root"),
    *("--api-thumbprint", "SHA-256:" + ":".join(["AB"] * 32)),
)
TELLS_BEATS = """
create function tell() returns trigger language plpgsql as $$
  begin
    perform pg_notify('beat', '');
    return null;
  end
$$;
create trigger beat after update on worker execute function tell()
"""


async def add(appliance: SimulatedAppliance, *options: str, **remote: str) -> Ended:
    """Register it, by the command line."""
    return await sitepair(
        "appliance",
        "add",
        appliance.name,
        "--management-url",
        appliance.management_url,
        "--api-url",
        appliance.api_url,
        "--thumbprint",
        appliance.thumbprint,
        "--api-thumbprint",
        appliance.api_thumbprint,
        "--user",
        appliance.username,
        "--password-file",
        "-",
        *options,
        stdin=f"{appliance.password}\n",
        **remote,
    )


async def test_two_appliances_are_registered_checked_and_paired(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    for appliance in service.fleet.appliances[:2]:
        added = await add(appliance, **remote)
        assert added.status == 0, added
    listed = await sitepair("appliance", "list", **remote)
    assert "site-1" in listed.out
    assert "site-2" in listed.out
    checked = await sitepair("appliance", "check", "site-1", **remote)
    assert checked.status == 0, checked
    paired = await sitepair("pair", "site-1", "site-2", **remote)

    assert paired.status == 0, paired
    assert "SUCCEEDED" in paired.out
    assert are_paired(service.fleet, "site-1", "site-2")


async def test_appliances_are_listed_page_by_page(
    service: ServiceUnderTest, remote: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await service.register()
    monkeypatch.setattr(appliances, "MOST", 2)
    listed = await sitepair("appliance", "list", "--json", **remote)

    assert [each["name"] for each in json.loads(listed.out)] == names


async def test_registering_again_leaves_the_limit_as_it_is(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    appliance = service.fleet["site-1"]
    limits = []
    for options in ([], ["--max-in-flight", "7"], [], ["--max-in-flight", "2"]):
        added = await add(appliance, *options, **remote)
        assert added.status == 0, added
        limits.append((await service.call("GET", "/v1/appliances/site-1")).json["maxInFlight"])
    assert limits == [4, 7, 7, 2]
    refused = await add(appliance, "--max-in-flight", "0", **remote)
    assert (refused.status, "/maxInFlight" in refused.err) == (2, True), refused


async def test_an_account_of_the_single_sign_on_is_registered_as_one(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    added = await add(service.fleet["site-1"], "--sso", "--description", "Prague", **remote)
    assert added.status == 0, added
    registered = (await service.call("GET", "/v1/appliances/site-1")).json
    assert registered["credentials"] == {"type": "ssoCredentials", "user": "root"}
    assert registered["description"] == "Prague"


async def test_what_is_wished_of_a_pairing_is_asked_for(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    await service.register()
    wish = ["--timeout", "77", "--description", "Prague"]
    promised = await sitepair("pair", "site-1", "site-2", *wish, "--no-wait", "--json", **remote)
    assert promised.status == 0, promised
    pairing = await service.over(json.loads(promised.out))
    wished = (await service.events(pairing))[0]["detail"]
    assert (wished["description"], wished["timeoutS"]) == ("Prague", 77)


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ([], "no terminal to ask for it; --password-file names a file, or - for standard input"),
        (["--password-file", "nowhere/to/be/found"], "[Errno 2] No such file"),
    ],
)
async def test_a_password_that_does_not_come_is_told(
    password: list[str], told: str, remote: dict[str, str]
) -> None:
    ended = await sitepair("appliance", "add", "x", *REGISTRATION, *password, **remote)
    assert ended.status == 2, ended
    assert ended.err.startswith(f"There is no password: {told}"), ended


@pytest.mark.parametrize("name", ["site-1#1", "site-1?x=1", "", "Site-1"])
async def test_what_is_no_name_is_refused_before_it_leads_anywhere(
    name: str, service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    await service.register(service.fleet["site-1"])
    before = (await service.call("GET", "/v1/appliances/site-1")).json
    added = await sitepair(
        "appliance", "add", name, *REGISTRATION, "--password-file", "-", stdin="secret", **remote
    )
    checked = await sitepair("appliance", "check", name, **remote)
    for ended in (added, checked):
        assert ended.status == 2, ended
        assert "A name is 1 to 63 characters" in ended.err
    assert (await service.call("GET", "/v1/appliances/site-1")).json == before


async def test_a_pairing_that_fails_says_why_and_exits_with_1(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    await service.register()
    service.fleet["site-2"].add_fault(
        fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Peer is busy.")
    )
    ended = await sitepair("pair", "site-1", "site-2", "--json", **remote)
    assert ended.status == 1, ended
    assert json.loads(ended.out)["error"]["code"] == "PeerBusy"


async def test_what_the_service_refuses_is_explained_and_exits_with_2(
    remote: dict[str, str],
) -> None:
    ended = await sitepair("pair", "nobody", "nowhere", **remote)
    assert ended.status == 2
    assert "UnknownAppliance" in ended.err
    assert "/appliances/0" in ended.err
    assert "/appliances/1" in ended.err


async def test_a_service_that_is_not_there_exits_with_3() -> None:
    ended = await sitepair(
        "pair", "a", "b", SITEPAIR_URL="http://127.0.0.1:1", SITEPAIR_TOKEN="x" * 20
    )
    assert ended.status == 3
    assert "does not answer" in ended.err


async def test_an_appliance_that_fails_its_check_exits_with_1(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    await service.register()
    await service.fleet["site-1"].down("refuse")
    ended = await sitepair("appliance", "check", "site-1", "--json", **remote)
    assert ended.status == 1
    assert json.loads(ended.out)["ok"] is False


async def test_interrupting_the_watch_leaves_the_pairing_alone(
    service: ServiceUnderTest, remote: dict[str, str]
) -> None:
    await service.register()
    for appliance in service.fleet.appliances:
        appliance.turn(task_ms=[3_000, 3_000])
    process = await start(["pair", "site-1", "site-2"], remote)
    assert process.stdout is not None
    while b"ACCEPTED" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"goes on" in err
    items = (await service.call("GET", "/v1/pairings")).json["items"]
    assert (await service.over(items[0]))["state"] == "SUCCEEDED"


async def test_faults_of_the_configuration_are_told_at_once_and_exit_with_2() -> None:
    ended = await sitepair("serve", SITEPAIR_LISTEN="nowhere", SITEPAIR_LISTN="x")
    assert ended.status == 2
    assert "SITEPAIR_LISTEN=" in ended.err
    assert "did you mean SITEPAIR_LISTEN?" in ended.err


async def test_a_database_that_was_not_migrated_is_refused_until_it_is(
    empty_database_url: str, tmp_path: Path
) -> None:
    environment = {
        "SITEPAIR_DATABASE_URL": empty_database_url,
        "SITEPAIR_DATA_DIR": str(tmp_path),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
    }
    refused = await sitepair("serve", **environment)
    assert refused.status == 1
    assert "sitepair migrate" in refused.err
    migrated = await sitepair("migrate", **environment)
    assert migrated.status == 0, migrated
    assert "empty ->" in migrated.out


async def test_no_schema_is_migrated_through_a_pgbouncer(
    empty_database_url: str, tmp_path: Path
) -> None:
    refused = await sitepair(
        "migrate",
        SITEPAIR_DATABASE_URL=f"{empty_database_url}&pgbouncer=true",
        SITEPAIR_DATA_DIR=str(tmp_path),
    )
    assert refused.status == 2, refused
    assert "the server's own URL" in refused.err


async def until_served(process: asyncio.subprocess.Process) -> str:
    """Where the service that is being started listens."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        if b"service_started" in line:
            return str(json.loads(line)["listen"])
    raise AssertionError("the service ended before it was up")


async def served_until_stopped(environment: dict[str, str]) -> tuple[int, int | None]:
    """Start a service and stop it: what it says of its readiness, and its exit status."""
    process = await start(["serve"], environment)
    url = await until_served(process)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as response:
        readiness = response.status
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    return readiness, process.returncode


async def refused(
    command: list[str], environment: dict[str, str], status: int | None = None
) -> str:
    """The one line in which it is; 1 of `audit verify` says that the record was tampered with."""
    ended = await sitepair(*command, **environment)
    expected = status or (2 if command[0] == "audit" else 1)
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (expected, "", 1), ended
    return ended.err


MAINTENANCE = [["migrate"], ["prune", "--older-than", "90d"], ["audit", "verify"]]


async def test_settings_that_the_database_does_not_have_are_told(
    database_url: str, tmp_path: Path
) -> None:
    environment = {
        "SITEPAIR_DATABASE_URL": f"{database_url}&options=-c%20nonsense%3D1",
        "SITEPAIR_DATA_DIR": str(tmp_path),
    }
    for command in [*MAINTENANCE, ["serve", "--worker-only"]]:
        told = await refused(command, environment, status=3)
        assert 'configuration parameter "nonsense"' in told


async def test_on_a_newer_schema_all_but_a_service_that_runs_on_is_refused(
    database_url: str, sql: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    await sql.execute("update alembic_version set version_num = '2099_01_01_from_the_future'")
    environment = {
        "SITEPAIR_DATABASE_URL": database_url,
        "SITEPAIR_DATA_DIR": str(tmp_path),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
    }
    for command in MAINTENANCE:
        line = await refused(command, environment)
        assert "2099_01_01_from_the_future, which is of a newer release" in line
    assert await served_until_stopped(environment) == (200, 0)


async def test_a_database_of_another_application_is_refused_by_all(
    empty_database_url: str, tmp_path: Path
) -> None:
    theirs = await asyncpg.connect(empty_database_url)
    await theirs.execute("create table alembic_version (version_num) as select '4f2a91c0de77'")
    await theirs.close()
    environment = {"SITEPAIR_DATABASE_URL": empty_database_url, "SITEPAIR_DATA_DIR": str(tmp_path)}
    for command in [*MAINTENANCE, ["serve", "--worker-only"]]:
        line = await refused(command, environment)
        assert line.startswith("The database is another application's: ")


async def test_serve_answers_until_it_is_told_to_stop(reachable_dir: Path) -> None:
    host = "[::1]" if has_ipv6() else "127.0.0.1"
    environment = {"SITEPAIR_DATA_DIR": str(reachable_dir), "SITEPAIR_LISTEN": f"{host}:0"}
    assert await served_until_stopped(environment) == (200, 0)


async def test_a_process_may_have_one_of_the_two_roles(database_url: str, tmp_path: Path) -> None:
    environment = {
        "SITEPAIR_DATABASE_URL": database_url,
        "SITEPAIR_DATA_DIR": str(tmp_path),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
    }
    for role in ("api", "worker"):
        process = await start(["serve", f"--{role}-only"], environment)
        assert process.stderr is not None
        said: dict[str, object] = {}
        while said.get("event") != "service_started":
            said = json.loads(await process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        assert (said["roles"], process.returncode) == ([role], 0)
    both = await sitepair("serve", "--api-only", "--worker-only", **environment)
    assert (both.status, both.out) == (2, ""), both


async def test_serve_has_all_descriptors_that_it_may_have_and_says_when_they_are_used_up(
    database_url: str, tmp_path: Path
) -> None:
    environment = {
        "SITEPAIR_DATABASE_URL": database_url,
        "SITEPAIR_DATA_DIR": str(tmp_path),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
    }
    few = ["sh", "-c", 'ulimit -Sn 256 && exec "$@"', "sh", *SITEPAIR]
    process = await start(["serve", "--api-only"], environment, few)
    url = URL(await until_served(process))
    assert process.stderr is not None
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard

    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))  # Which it has already.
    _, caller = await asyncio.open_connection(url.host, url.port)
    while json.loads(await process.stderr.readline())["event"] != "accept_failed":
        pass
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    caller.close()
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_that_is_told_to_stop_while_it_starts_gives_that_up(
    number: signal.Signals, reachable_dir: Path
) -> None:
    data_dir = reachable_dir / f"waited-for-{number}"
    with LockFile(Cluster.prepare(data_dir).lock("door")) as door:
        assert door.take()
        process = await start(["serve"], {"SITEPAIR_DATA_DIR": str(data_dir)})
        assert process.stderr is not None
        assert b"database_starting" in await process.stderr.readline()
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 0, said
    assert all(b"database_starting" in line for line in said.splitlines()), said


async def test_an_address_that_somebody_else_has_is_refused(
    database_url: str, tmp_path: Path
) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as another:
        address = "{}:{}".format(*another.sockets[0].getsockname())
        environment = {
            "SITEPAIR_DATABASE_URL": database_url,
            "SITEPAIR_DATA_DIR": str(tmp_path),
            "SITEPAIR_LISTEN": address,
        }
        line = await refused(["serve"], environment)
    assert line.startswith(f"Cannot listen on {address}: ")
    assert line.lower().endswith("address already in use.\n")


@pytest.mark.parametrize("token", ["", "a-token-of-16-or-more"])
async def test_all_that_a_service_says_to_a_log_is_json(
    database_url: str, tmp_path: Path, token: str
) -> None:
    environment = {
        "SITEPAIR_DATABASE_URL": database_url,
        "SITEPAIR_DATA_DIR": str(tmp_path),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
        "SITEPAIR_ADMIN_TOKEN": token,
    }
    process = await start(["serve"], environment)
    assert process.stderr is not None
    said = [json.loads(await process.stderr.readline())]
    while said[-1]["event"] != "service_started":
        said.append(json.loads(await process.stderr.readline()))
    process.send_signal(signal.SIGTERM)
    _, rest = await process.communicate()
    *_, last = [json.loads(line) for line in rest.splitlines()]
    assert (last["event"], process.returncode) == ("service_stopped", 0), rest
    kept = tmp_path / "admin.token"
    assert said[-1].get("bearer_file") == (None if token else str(kept))
    assert kept.exists() != bool(token)


async def test_a_service_says_no_more_than_it_is_asked_to(
    database_url: str, sql: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    """It tells nobody that it is up, but its worker beats from then on."""
    beat = asyncio.Event()
    await sql.execute(TELLS_BEATS)
    await sql.add_listener("beat", lambda *_: beat.set())
    environment = {
        "SITEPAIR_DATABASE_URL": database_url,
        "SITEPAIR_DATA_DIR": str(tmp_path),
        "SITEPAIR_LISTEN": "127.0.0.1:0",
        "SITEPAIR_LOG_LEVEL": "WARNING",
    }
    process = await start(["serve"], environment)
    await beat.wait()
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    assert (out, err, process.returncode) == (b"", b"", 0)


async def test_simulate_tells_where_its_appliances_are(tmp_path: Path) -> None:
    process = await start(["simulate", "--appliances", "2", "--json"], {})
    assert process.stdout is not None
    fleet = json.loads(await process.stdout.readline())
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert len(fleet["appliances"]) == 2
    assert process.returncode == 0


async def test_the_demo_pairs_what_it_simulates(reachable_dir: Path) -> None:
    ended = await sitepair("demo", "--once", SITEPAIR_DATA_DIR=str(reachable_dir))
    assert ended.status == 0, ended
    assert "3 of 3 paired" in ended.out
    assert "6 records" in " ".join(ended.out.split())
    assert "PairingSucceeded" in ended.out


@pytest.mark.parametrize("count", ["1", "0", "-1"])
async def test_a_demo_without_a_couple_is_refused(count: str, tmp_path: Path) -> None:
    ended = await sitepair(
        "demo", "--once", f"--appliances={count}", SITEPAIR_DATA_DIR=str(tmp_path)
    )
    assert (ended.status, ended.out) == (2, ""), ended
    assert ended.err.startswith("--appliances takes 2 or more")
    home = tmp_path / "demo"
    assert not home.exists()


async def test_a_demo_without_a_place_says_which_one_it_has_not() -> None:
    ended = await sitepair("demo", "--once", SITEPAIR_DATA_DIR="/proc/nowhere")
    assert (ended.status, ended.out) == (1, ""), ended
    assert ended.err.startswith("The demo cannot be kept in /proc/nowhere/demo: "), ended
    assert ended.err.endswith(" Name another directory with SITEPAIR_DATA_DIR.\n")


async def test_a_demo_that_was_killed_does_not_stand_in_the_way_of_the_next(
    reachable_dir: Path,
) -> None:
    process = await start(["demo"], {"SITEPAIR_DATA_DIR": str(reachable_dir)})
    assert process.stdout is not None
    while b"PAIRING" not in await process.stdout.readline():
        pass
    process.kill()
    await process.communicate()
    ended = await sitepair("demo", "--once", SITEPAIR_DATA_DIR=str(reachable_dir))
    assert ended.status == 0, ended
    assert "3 of 3 paired" in ended.out


async def test_a_demo_does_not_take_the_place_of_one_that_is_running(reachable_dir: Path) -> None:
    process = await start(["demo"], {"SITEPAIR_DATA_DIR": str(reachable_dir)})
    assert process.stdout is not None
    while b"PAIRING" not in await process.stdout.readline():
        pass
    ended = await sitepair("demo", "--once", SITEPAIR_DATA_DIR=str(reachable_dir))
    assert (ended.status, ended.out) == (1, ""), ended
    assert ended.err.startswith(f"Another demo is running in {reachable_dir / 'demo'}. Stop it"), (
        ended
    )
    assert (reachable_dir / "demo" / "postgres" / "data" / "postmaster.pid").exists()
    process.send_signal(signal.SIGINT)
    await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_demo_that_is_interrupted_takes_its_database_with_it(
    number: signal.Signals, reachable_dir: Path
) -> None:
    process = await start(["demo"], {"SITEPAIR_DATA_DIR": str(reachable_dir)})
    assert process.stdout is not None
    while b"PAIRING" not in await process.stdout.readline():
        pass
    mark = reachable_dir / "demo" / "postgres" / "data" / "postmaster.pid"
    assert mark.exists()
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 130, err
    assert not mark.exists()


async def test_the_version_is_the_packages() -> None:
    assert (await sitepair("--version")).out.strip() == __version__


@pytest.mark.parametrize("arguments", [["nonsense"], ["pair", "one"], ["serve", "--nonsense"]])
async def test_a_command_line_that_is_wrong_is_refused(arguments: list[str]) -> None:
    ended = await sitepair(*arguments)
    assert ended.status not in {0, None}
