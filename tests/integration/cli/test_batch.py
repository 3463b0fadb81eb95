"""`sitepair batch`, as a user types it, against a running service."""

import asyncio
import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from service.observe.events import LogEvent, RequestServed
from service.observe.logging import listening
from simulator import fault
from tests.integration.cli.commands import SITEPAIR, sitepair, start
from tests.support.database import closed_to_all
from tests.support.service import ServiceUnderTest, are_paired


@pytest.fixture
async def registered(service: ServiceUnderTest) -> ServiceUnderTest:
    """The service with all of its fleet in the registry."""
    await service.register()
    return service


async def test_a_file_is_sent_followed_and_what_failed_can_be_fed_back_in(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    registered.fleet["site-2"].add_fault(
        fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Busy.", times=1)
    )
    file, failures = tmp_path / "sites.csv", tmp_path / "again.csv"
    file.write_text(
        'a,b,description,priority\nsite-1,site-2,"one, two",\nsite-1,nobody,,5\n\n'
        "site-3,site-1,,1\n"
    )
    ended = await sitepair("batch", str(file), "--failures", str(failures), **remote)
    assert ended.status == 1, ended
    assert "3 items, 2 accepted, 1 rejected" in ended.out
    assert "line 3: UnknownAppliance: No appliance is registered as 'nobody'." in ended.out
    assert "100 % 1 SUCCEEDED, 1 FAILED" in ended.out
    assert "site-1 - site-2 FAILED: PeerBusy" in ended.out
    assert failures.read_text() == (
        'a,b,description,priority\nsite-1,site-2,"one, two",\nsite-1,nobody,,5\n'
    )
    assert are_paired(registered.fleet, "site-1", "site-3")

    text = failures.read_text().replace("nobody", "site-3")
    again = await sitepair(
        "batch", "-", "--format", "csv", "--failures", str(failures), stdin=text, **remote
    )
    assert again.status == 0, again
    assert "2 SUCCEEDED" in again.out
    assert failures.read_text() == "a,b,description,priority\n"
    assert are_paired(registered.fleet, "site-1", "site-2")


async def test_lines_of_json_and_an_answer_for_programs(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file, failures = tmp_path / "sites.ndjson", tmp_path / "again.ndjson"
    good, bad = '{"appliances": ["site-1", "site-2"]}', "{nonsense"
    file.write_text(f"{bad}\n\n{good}\n")
    ended = await sitepair("batch", str(file), "--json", "--failures", str(failures), **remote)
    assert ended.status == 1, ended
    told = json.loads(ended.out)
    assert (told["accepted"], told["counts"]["SUCCEEDED"], told["failed"]) == (1, 1, [])
    assert [(each["index"], each["code"]) for each in told["rejected"]] == [(0, "MalformedBody")]
    assert failures.read_text() == f"{bad}\n"


@pytest.mark.parametrize("read_from", ["{}", "- --format csv <{}"])
async def test_a_file_that_is_still_written_to_is_refused_as_a_whole(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path, read_from: str
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\nsite-1,site")

    def write_on(event: LogEvent) -> None:
        match event:
            case RequestServed(route="/v1/pairings"):  # What is asked before all of it is sent.
                with file.open("a") as growing:
                    growing.write("-3\n")

    shell = f"exec {shlex.join(SITEPAIR)} batch {read_from.format(shlex.quote(str(file)))}"
    with listening(write_on):
        process = await start([shell], remote, ["sh", "-c"])
        _, err = await process.communicate()
    assert (process.returncode, b"cannot be sent:\nIt was written to" in err) == (2, True), err
    assert (await registered.call("GET", "/v1/pairings")).json["items"] == []
    assert len(err.splitlines()) == 2, err


async def test_what_comes_through_a_pipe_is_sent_at_its_end(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    pipe = tmp_path / "sites.csv"
    os.mkfifo(pipe)
    write = f"printf 'a,b\\nsite-1,site-2' >{shlex.quote(str(pipe))}"
    writer = await start([write], {}, ["sh", "-c"])
    ended = await sitepair("batch", str(pipe), **remote)
    await writer.communicate()
    assert ended.status == 0, ended
    assert are_paired(registered.fleet, "site-1", "site-2")


async def test_when_nothing_is_accepted_nothing_is_counted(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text('a,b,description\nsite-1,nobody,"of\ntwo lines"\nnobody,site-2,\n')
    ended = await sitepair("batch", str(file), **remote)
    assert ended.status == 1, ended
    assert [line.partition(": Unknown")[0] for line in ended.out.splitlines()[1:4]] == [
        "  line 2",
        "  line 4",
        "100 %",
    ]


async def test_the_same_key_starts_nothing_twice(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("b,a\nsite-1,site-2\n")
    ends = [
        await sitepair("batch", str(file), "--json", "--idempotency-key", "night-1", **remote)
        for _ in range(2)
    ]
    assert [each.status for each in ends] == [0, 0], ends
    first, second = (json.loads(each.out) for each in ends)
    assert first == second
    unwatched, told = [
        await sitepair(
            "batch", str(file), "--no-wait", "--idempotency-key", "night-1", *how, **remote
        )
        for how in ([], ["--json"])
    ]
    assert json.loads(told.out) == first
    assert (unwatched.status, unwatched.out.splitlines()) == (
        0,
        [f"Batch {first['id']}: 1 items, 1 accepted, 0 rejected."],
    )


async def test_all_or_nothing_names_what_is_in_the_way(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\nsite-1,nobody\n")
    failures = tmp_path / "again.csv"
    how = ["--atomic", "--failures", str(failures)]
    ended = await sitepair("batch", str(file), *how, **remote)
    assert ended.status == 2, ended
    assert not failures.exists()
    assert "BatchRejected: 1 of 2 items" in ended.err
    assert "line 3: UnknownAppliance" in ended.err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.csv", "a,c\n", "line 1: no such column: 'c'"),
        ("x.csv", "a,c\n", "there is no column 'b'"),
        ("x.csv", "a,b,a\n", "comes twice"),
        ("x.csv", "a,b\udcff\n", "line 1: character 4 is not UTF-8"),
        ("x.csv", "", "there is no column 'a'"),
        ("x.csv", "a,b\nx,y,z\n", "line 2: 3 fields, and the first line has 2"),
        ("x.csv", "a,b,priority\nx,y,high\n", "line 2: priority is not a whole number: 'high'"),
        *[
            ("x.csv", f"a,b,priority\nx,y,{number}\n", "line 2: priority is not a whole number")
            for number in ("6_0", "+5", "\u0665", "- 5", "1.0")
        ],
        ("x.csv", 'a,b\n"x,y\n', "line 2: unexpected end of data"),
        ("x.csv", 'a,b\n"x,\n\ny\n', "line 2: unexpected end of data"),
        ("x.csv", 'a,b\nx,"y\n\n"\nx,"y\n",z\n', "line 5: 3 fields, and the first line has 2"),
        ("X.CSV", "a,c\n", "line 1: no such column: 'c'"),
        ("x.csv", "a,b\n" + "x,y\n" * 9999 + "x,\udcff\n", "line 10001: character 3 is not UTF-8"),
        (
            "x.csv",
            "a,b,priority\nx,\udcff\nx,y,9\nx,y,high\n\udcff,z,\n",
            (
                "line 2: character 3 is not UTF-8\n"
                "line 2: 2 fields, and the first line has 3\n"
                "line 4: priority is not a whole number: 'high'\n"
                "line 5: character 1 is not UTF-8\n"
            ),
        ),
        ("x.ndjson", "{}\n" * 9999 + "\udcff\n", "line 10000: character 1 is not UTF-8"),
        ("x.txt", "a,b\n", "--format"),
        ("missing.csv", None, "No such file"),
    ],
)
async def test_a_file_that_cannot_be_sent_is_explained(
    tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    ended = await sitepair("batch", str(tmp_path / name), SITEPAIR_TOKEN="x" * 20)
    assert ended.status == 2, ended
    assert told in ended.err


@pytest.mark.parametrize("how", ["itself", "spelt otherwise", "a link", "a hard link", "read here"])
async def test_a_file_is_not_written_over_with_what_failed_of_it(tmp_path: Path, how: str) -> None:
    file, other = tmp_path / "sites.csv", tmp_path / "other.csv"
    text = "a,b\nsite-1,site-2\n"
    file.write_text(text)
    failures = file
    match how:
        case "spelt otherwise":
            failures = tmp_path / ".." / tmp_path.name / "sites.csv"
        case "a link":
            (failures := other).symlink_to(file)
        case "a hard link":
            (failures := other).hardlink_to(file)
    read = ["-", "--format", "csv"] if how == "read here" else [str(file)]
    command = [*SITEPAIR, "batch", *read, "--failures", str(failures)]
    shell = f"exec {shlex.join(command)} <{shlex.quote(str(file))}"
    process = await start([shell], {"SITEPAIR_TOKEN": "x" * 20}, ["sh", "-c"])
    _, err = await process.communicate()
    assert (process.returncode, b"is that very file" in err) == (2, True), err
    assert file.read_text() == text


async def test_who_stops_listening_does_not_stop_the_command(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file, failures = tmp_path / "sites.csv", tmp_path / "again.csv"
    file.write_text("a,b\nsite-1,site-2\nsite-1,nobody\n")
    for command, status, told in (
        (["batch", str(file), "--failures", str(failures)], 1, f"1 written to {failures}.\n"),
        (["appliance", "list"], 0, ""),
    ):
        reader, writer = os.pipe()
        os.close(reader)
        process = await start(command, remote, stdout=writer)
        os.close(writer)
        _, err = await process.communicate()
        assert (process.returncode, err.decode()) == (status, told)
    assert failures.read_text() == "a,b\nsite-1,nobody\n"
    assert are_paired(registered.fleet, "site-1", "site-2")


async def test_whoever_reads_what_failed_from_a_pipe_gets_it_once(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file, pipe, heard = (tmp_path / name for name in ("sites.csv", "pipe", "heard.csv"))
    file.write_text("a,b\nsite-1,site-2\nsite-1,nobody\n")
    os.mkfifo(pipe)
    read = f"cat {shlex.quote(str(pipe))} >{shlex.quote(str(heard))}"
    reader = await start([read], {}, ["sh", "-c"])
    ended = await sitepair("batch", str(file), "--failures", str(pipe), **remote)
    await reader.communicate()
    assert ended.status == 1, ended
    assert heard.read_text() == "a,b\nsite-1,nobody\n"
    assert are_paired(registered.fleet, "site-1", "site-2")


async def test_output_that_there_is_no_room_for_is_told_and_what_is_told_may_get_lost(
    registered: ServiceUnderTest, remote: dict[str, str]
) -> None:
    for arguments, status, told in (
        ("appliance list >/dev/full", 1, b"The output cannot be written: [Errno 28] No space left"),
        ("appliance list --json >/dev/full", 1, b"The output cannot be written: [Errno 28]"),
        ("--help >/dev/full", 1, b"The output cannot be written: [Errno 28]"),
        ("simulate --appliances 1 >/dev/full", 1, b"The output cannot be written: [Errno 28]"),
        ("appliance list 2>/dev/full", 0, b""),
        ("pair site-1 nobody 2>/dev/full", 2, b""),
        ("pair --nonsense 2>/dev/full", 2, b""),
    ):
        process = await start([f"exec {shlex.join(SITEPAIR)} {arguments}"], remote, ["sh", "-c"])
        _, err = await process.communicate()
        assert process.returncode == status, (arguments, err)
        assert err.startswith(told), (arguments, err)
        assert len(err.splitlines()) <= 1, (arguments, err)


@pytest.mark.parametrize("how", [[], ["--json"]])
async def test_failures_that_there_is_no_room_for_are_told_after_the_batchs_id(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path, how: list[str]
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\nsite-1,nobody\n")
    ended = await sitepair("batch", str(file), "--failures", "/dev/full", *how, **remote)
    items = (await registered.call("GET", "/v1/pairings")).json["items"]
    batch = f"Batch {items[0]['batch']}"
    assert ended.status == 1, ended
    *progress, told = ended.err.splitlines()
    assert told.startswith(f"{batch} was accepted, and /dev/full cannot be written: [Errno 28]")
    assert all(" % " in line for line in progress), ended
    assert ended.out.startswith("" if how else f"{batch}: 2 items, 1 accepted, 1 rejected.\n")


async def test_standard_input_and_output_may_be_closed(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\n")
    register = "appliance add x --management-url x --api-url x --api-thumbprint x --user x"
    for arguments, status, told in (
        (
            f"batch - --format csv --failures {tmp_path}/x <&-",
            2,
            b"- cannot be sent:\nStandard input is closed.\n",
        ),
        (
            f"{register} --password-file - <&-",
            2,
            b"There is no password: standard input is closed\n",
        ),
        (f"batch {shlex.quote(str(file))} >&-", 0, b""),
    ):
        process = await start([f"exec {shlex.join(SITEPAIR)} {arguments}"], remote, ["sh", "-c"])
        _, err = await process.communicate()
        assert (process.returncode, err) == (status, told)


async def test_a_token_and_a_key_that_cannot_be_are_explained(
    remote: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\n")
    ended = await sitepair("batch", str(file), **{**remote, "SITEPAIR_TOKEN": "x" * 20 + "\r"})
    assert (ended.status, "SITEPAIR_TOKEN: has a character" in ended.err) == (2, True), ended
    ended = await sitepair("batch", str(file), "--idempotency-key", "", **remote)
    assert (ended.status, "Idempotency-Key: must" in ended.err) == (2, True), ended
    ended = await sitepair("batch", str(file), "--idempotency-key", "k\r", **remote)
    assert (ended.status, "not allowed in a key" in ended.err) == (2, True), ended


@pytest.mark.parametrize("content", [b"\xff" * 40, b"x" * 40 + b"\0"])
async def test_a_token_kept_in_a_file_that_is_none_is_told_by_the_files_name(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "admin.token"
    path.write_bytes(content)
    ended = await sitepair("pair", "a", "b", SITEPAIR_DATA_DIR=str(tmp_path))
    assert (ended.status, f"{path}: has a character" in ended.err) == (2, True), ended


async def test_nobody_there_and_a_wrong_token(tmp_path: Path, remote: dict[str, str]) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b\nx,y\n")
    refused = await sitepair("batch", str(file), **{**remote, "SITEPAIR_TOKEN": "wrong" * 5})
    assert (refused.status, "NotAuthenticated" in refused.err) == (2, True), refused
    away = {"SITEPAIR_URL": "http://127.0.0.1:1", "SITEPAIR_TOKEN": "x" * 20}
    assert (await sitepair("batch", str(file), **away)).status == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", '\ufeff"a","b"\r\n"site-1","site-2"\r\n'),
        ("x.ndjson", '\ufeff{"appliances": ["site-1", "site-2"]}\r\n'),
        ("x.ndjson", '{"appliances":\r["site-1", "site-2"]}'),
    ],
)
async def test_what_a_spreadsheet_wrote_is_taken(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    ended = await sitepair("batch", str(tmp_path / name), **remote)
    assert ended.status == 0, ended
    assert are_paired(registered.fleet, "site-1", "site-2")


async def test_who_stops_watching_has_what_was_rejected(
    registered: ServiceUnderTest, remote: dict[str, str], tmp_path: Path
) -> None:
    for appliance in registered.fleet.appliances:
        appliance.turn(task_ms=[3_000, 3_000])
    file, failures = tmp_path / "sites.csv", tmp_path / "again.csv"
    file.write_text("a,b\nsite-1,site-2\nsite-1,nobody\n")
    failures.write_text("a,b\nof,before\n")
    process = await start(["batch", str(file), "--failures", str(failures)], remote)
    assert process.stdout is not None
    while b" % " not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, b"goes on" in err) == (130, True), err
    assert failures.read_text() == "a,b\nsite-1,nobody\n"


async def test_a_database_that_is_away_while_a_batch_is_watched_is_waited_for(
    registered: ServiceUnderTest,
    remote: dict[str, str],
    tmp_path: Path,
    server_url: str,
    database_url: str,
) -> None:
    for appliance in registered.fleet.appliances:
        appliance.turn(task_ms=[2_000, 2_000])
    refused = asyncio.Event()

    def see(event: LogEvent) -> None:
        match event:
            case RequestServed(route="/v1/batches/{batch}", status=503):
                refused.set()

    file = tmp_path / "sites.csv"
    file.write_text("a,b\nsite-1,site-2\n")
    with listening(see):
        process = await start(["batch", str(file)], remote)
        assert process.stdout is not None
        while b" % " not in await process.stdout.readline():
            pass
        async with closed_to_all(server_url, database_url), asyncio.timeout(60):
            await refused.wait()
        out, err = await process.communicate()
    assert (process.returncode, b"1 SUCCEEDED" in out) == (0, True), out
    assert err.count(b"asking again") == 1, err
    assert are_paired(registered.fleet, "site-1", "site-2")


@pytest.mark.parametrize(
    "url",
    [
        *["localhost:18080", "http://127.0.0.1:99999", "http://127.0.0.1:1/api", "ftp://host"],
        *["http://127.0.0.1:1?x=1", "http://127.0.0.1:1#y", "http://", "nonsense", "http://[::1"],
    ],
)
async def test_an_address_where_no_service_can_be_is_refused(tmp_path: Path, url: str) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b\nx,y\n")
    refused = await sitepair("batch", str(file), SITEPAIR_URL=url, SITEPAIR_TOKEN="x" * 20)
    assert (refused.status, f"SITEPAIR_URL={url}" in refused.err) == (2, True), refused
