"""Our own PostgreSQL: begun, found, killed, recovered, shared, refused."""

import asyncio
import errno
import gc
import os
import pwd
import resource
import shutil
import signal
import stat
import sys
import weakref
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

import tests
from service.store import embedded, server
from service.store.cluster import prepare_data_dir
from service.store.embedded import embedded_postgres
from service.store.installation import Account, OwnDatabaseFailed
from service.store.lockfile import LockFile

AS_ROOT = os.geteuid() == 0
USER = "nobody" if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
"""Somebody who is not root."""
CHECKOUT = Path(tests.__file__).parent.parent


@pytest.fixture
def data_dir(reachable_dir: Path) -> Iterator[Path]:
    """Where a database of this test's own may be made."""
    directory = reachable_dir / uuid4().hex[:8]
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def pid_of(data_dir: Path) -> int:
    """The process that serves it."""
    return int((data_dir / "postgres/data/postmaster.pid").read_text().split()[0])


def is_served(data_dir: Path) -> bool:
    """Whether there is one."""
    return (data_dir / "postgres/data/postmaster.pid").exists()


async def query(url: str, statement: str) -> object:
    """One value from the database."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close(timeout=10)


@asynccontextmanager
async def another_process(data_dir: Path, user: str | None = None) -> AsyncIterator[Process]:
    """A process that uses the database too; it leaves when its input ends."""
    packages = [place for place in sys.path if "site-packages" in place]
    process = await asyncio.create_subprocess_exec(
        interpreter_for(user), "-m", "tests.integration.store.keep_database", str(data_dir),
        cwd=CHECKOUT, stdin=PIPE, stdout=PIPE, stderr=PIPE,
        env={"PYTHONPATH": os.pathsep.join([str(CHECKOUT), *packages])},
        user=user, group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def interpreter_for(user: str | None) -> str:
    """This Python; for another user the system's, if ours lies in a home that is closed."""
    if user is None:
        return sys.executable
    candidates = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    account = Account.of(pwd.getpwnam(user).pw_uid)
    for candidate in (Path(each).resolve() for each in candidates):
        if candidate.exists() and account.can_reach(candidate.parent):
            return str(candidate)
    pytest.skip(f"no Python that {user} may run")


async def url_of(process: Process) -> str:
    """The URL that it has printed."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def left(process: Process) -> None:
    """Make it leave in order."""
    _, said = await process.communicate(b"")
    assert process.returncode == 0, said


async def killed(pid: int) -> None:
    """Kill it and wait until it is gone, though perhaps not reaped."""
    os.kill(pid, signal.SIGKILL)
    await until(lambda: status_of(pid) in {"gone", "Z"})


def status_of(pid: int) -> str:
    """The kernel's letter for what a process is doing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def owner_of(pid: int) -> str:
    """Whose process it is."""
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    while not condition():  # noqa: ASYNC110 - other processes raise no events here
        await asyncio.sleep(0)


async def test_the_first_start_makes_a_database_that_only_its_owner_gets_into(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir) as url:
        assert await query(url, "show data_checksums") == "on"
        assert await query(url, "show server_encoding") == "UTF8"
        assert await query(url, "show listen_addresses") == ""
        assert await query(url, "show fsync") == "on"
        home = data_dir / "postgres"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
        assert modes.pop("log") & 0o077 == 0
        assert modes == {
            "data": 0o700,
            "run": 0o700,
            "password": 0o600,
            "door.lock": 0o600,
            "users.lock": 0o600,
        }
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert {path.stat().st_uid for path in home.iterdir()} == {home.stat().st_uid}
        assert home.stat().st_uid != 0
        socket = home / "run/.s.PGSQL.5432"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        password = (home / "password").read_text()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(url.replace(password, "guess"), "select 1")
    assert not is_served(data_dir)


async def test_the_second_start_finds_what_the_first_one_left(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as first:
        await query(first, "create table kept as select 7 as number")
    async with embedded_postgres(data_dir) as second:
        assert second == first
        assert await query(second, "select number from kept") == 7


async def test_a_killed_server_is_recovered_with_all_that_was_committed(data_dir: Path) -> None:
    async with embedded_postgres(data_dir) as url:
        connection = await asyncpg.connect(url)
        await connection.execute("create table kept (number bigint)")
        await connection.execute("insert into kept select generate_series(1, 10000)")
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("insert into kept values (0)")
        await killed(pid_of(data_dir))
        connection.terminate()
    assert is_served(data_dir), "its mark is left behind"
    async with embedded_postgres(data_dir) as url:
        assert await query(url, "select count(*) from kept") == 10_000


async def test_a_process_id_that_is_in_use_again_by_somebody_else_does_not_stop_a_start(
    data_dir: Path,
) -> None:
    async with embedded_postgres(data_dir) as url:
        pid = pid_of(data_dir)
        await killed(pid)
    mark = data_dir / "postgres/data/postmaster.pid"
    arguments = os.fsencode(data_dir / "elsewhere"), b"not in UTF-8: \xff"
    bystander = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", *arguments, stdin=PIPE
    )
    mark.write_text(mark.read_text().replace(str(pid), str(bystander.pid), 1))
    async with embedded_postgres(data_dir) as url:
        assert await query(url, "select 1") == 1
        assert pid_of(data_dir) not in {pid, bystander.pid}
    await bystander.communicate(b"\n")


async def test_the_last_one_out_stops_the_server_and_nobody_before(data_dir: Path) -> None:
    async with another_process(data_dir) as first:
        url = await url_of(first)
        server = pid_of(data_dir)
        async with embedded_postgres(data_dir) as same:
            assert same == url
            await left(first)
            assert pid_of(data_dir) == server
            assert await query(url, "select 1") == 1
    assert not is_served(data_dir)


async def test_those_who_come_at_once_share_one_server(data_dir: Path) -> None:
    async with (
        another_process(data_dir) as one,
        another_process(data_dir) as two,
        embedded_postgres(data_dir) as url,
    ):
        assert {await url_of(one), await url_of(two)} == {url}
        await left(one)
        await left(two)
        assert await query(url, "select 1") == 1
    assert not is_served(data_dir)


async def test_a_server_whose_user_was_killed_is_found_and_stopped_by_the_next_one(
    data_dir: Path,
) -> None:
    async with another_process(data_dir) as process:
        url = await url_of(process)
        server = pid_of(data_dir)
        await killed(process.pid)
        assert await query(url, "select 1") == 1
        async with embedded_postgres(data_dir) as same:
            assert same == url
            assert pid_of(data_dir) == server
    assert not is_served(data_dir)


async def test_a_server_that_hangs_up_on_who_asks_too_early_is_asked_again(data_dir: Path) -> None:
    """It does so while it starts or stops, and says why or not; to asyncpg that is no OSError."""
    reasons = {
        "57P01": "terminating connection due to administrator command",
        "57P02": "terminating connection because of crash of another server process",
        "57P03": "the database system is starting up",
    }
    async with embedded_postgres(data_dir) as url:
        socket = data_dir / "postgres/run/.s.PGSQL.5432"
        aside = socket.rename(socket.with_name("aside"))
        asked: list[bytes] = []

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.read(1024))
            if reasons:
                code, text = reasons.popitem()
                told = f"SFATAL\0VFATAL\0C{code}\0M{text}\0\0".encode()
                writer.write(b"E" + (len(told) + 4).to_bytes(4) + told)
            else:
                aside.rename(socket)
            writer.close()

        async with (
            await asyncio.start_unix_server(hang_up, socket),
            embedded_postgres(data_dir) as same,
        ):
            assert same == url
            assert await query(url, "select 1") == 1
    assert len(asked) == 4


async def test_a_start_that_is_given_up_leaves_no_server(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        pass

    async def start() -> None:
        async with embedded_postgres(data_dir):
            await asyncio.Event().wait()

    starting = asyncio.ensure_future(start())
    await until(lambda: is_served(data_dir))
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert not is_served(data_dir)


async def test_nor_does_one_whose_server_has_not_left_its_mark_yet(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MARK_S", 60.0)  # However slow the machine.
    await use(data_dir)
    data = data_dir / "postgres/data"
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("include 'slowly_read'\n")
    slowly_read = data / "slowly_read"
    os.mkfifo(slowly_read, 0o644)
    starting = asyncio.ensure_future(use(data_dir))
    written = await asyncio.to_thread(slowly_read.open, "w")  # As soon as it is being read.
    assert not is_served(data_dir)
    starting.cancel()
    await asyncio.wait([starting], timeout=0.1)  # Who does not wait is gone in a few turns.
    assert not starting.done(), "nobody would stop it"
    slowly_read.rename(data / "read")
    slowly_read.touch()
    written.close()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert not is_served(data_dir)


async def test_a_creation_that_was_cut_off_is_begun_anew(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        pass
    shutil.rmtree(data_dir / "postgres/data/base")
    (data_dir / "postgres/data").rename(data_dir / "postgres/data.new")
    async with embedded_postgres(data_dir) as url:
        assert await query(url, "select 1") == 1
        assert not (data_dir / "postgres/data.new").exists()


async def test_a_disk_that_was_full_is_no_hindrance_any_more(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OwnDatabaseFailed, match="No space left"):
        async with embedded_postgres(data_dir):
            pass
    monkeypatch.undo()
    async with embedded_postgres(data_dir) as url:  # The process has the same id.
        assert await query(url, "select 1") == 1


async def test_nor_is_it_one_where_a_killed_server_has_left_its_mark(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        await killed(pid_of(data_dir))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OwnDatabaseFailed, match="File too large"):
            async with embedded_postgres(data_dir):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert pid_of(data_dir)
    async with embedded_postgres(data_dir) as url:
        assert await query(url, "select 1") == 1


async def test_a_mark_that_a_crash_left_empty_does_not_stop_a_start(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        await killed(pid_of(data_dir))
    (data_dir / "postgres/data/postmaster.pid").write_text("")
    async with embedded_postgres(data_dir) as url:
        assert await query(url, "select 1") == 1


async def test_a_server_whose_connections_are_all_in_use_is_waited_for(data_dir: Path) -> None:
    server_says = data_dir / "postgres/log"
    async with embedded_postgres(data_dir, settings={"max_connections": "5"}) as url:
        others = [await asyncpg.connect(url) for _ in range(5)]
        async with asyncio.TaskGroup() as tasks:
            late = tasks.create_task(use(data_dir))
            await until(lambda: late.done() or "too many clients" in server_says.read_text())
            for each in others:
                each.terminate()


async def use(data_dir: Path) -> None:
    """Come, and go at once."""
    async with embedded_postgres(data_dir):
        pass


async def test_another_major_version_is_refused_with_the_way_out(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        pass
    (data_dir / "postgres/data/PG_VERSION").write_text("15\n")
    with pytest.raises(OwnDatabaseFailed, match=r"PostgreSQL 15, .* 18.*SITEPAIR_DATA_DIR"):
        async with embedded_postgres(data_dir):
            pass
    assert not is_served(data_dir)


async def test_a_server_that_does_not_start_says_why(data_dir: Path) -> None:
    with pytest.raises(OwnDatabaseFailed, match="no_such_setting"):
        async with embedded_postgres(data_dir, settings={"no_such_setting": "1"}):
            pass


async def test_a_password_that_the_server_does_not_take_is_told(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        (data_dir / "postgres/password").write_text("other")
        with pytest.raises(OwnDatabaseFailed, match="does not take the password"):
            async with embedded_postgres(data_dir):
                pass


async def test_a_path_too_long_for_a_socket_gets_one_elsewhere_as_private(
    data_dir: Path,
) -> None:
    far = data_dir / ("d" * 60) / ("e" * 60)
    async with embedded_postgres(far) as url:
        assert await query(url, "select 1") == 1
        socket_dir = str(await query(url, "show unix_socket_directories"))
        assert not socket_dir.startswith(str(data_dir))
        assert mode_and_owner(socket_dir) == mode_and_owner(far / "postgres")
    assert not exists(socket_dir), "nothing is left lying about"


def exists(path: str) -> bool:
    """Whether there is anything there."""
    return Path(path).exists()


def mode_and_owner(path: Path | str) -> tuple[int, int]:
    """Who may what there."""
    status = Path(path).stat()
    return stat.S_IMODE(status.st_mode), status.st_uid


async def test_names_with_spaces_and_quotes_are_only_names(data_dir: Path) -> None:
    async with embedded_postgres(data_dir / 'it\'s "my" $HOME; , dir') as url:
        assert await query(url, "select 1") == 1


async def test_whoever_waits_is_told_for_how_long(data_dir: Path) -> None:
    async with embedded_postgres(data_dir):
        pass
    told: list[float] = []
    door = ExitStack()
    assert door.enter_context(LockFile(data_dir / "postgres/door.lock")).take()

    def open_the_door(waited_s: float) -> None:
        told.append(waited_s)
        if len(told) == 2:
            door.close()

    async with embedded_postgres(data_dir, on_wait=open_the_door) as url:
        assert await query(url, "select 1") == 1
    assert [round(waited_s) for waited_s in told[:2]] == [1, 2]
    listener = weakref.ref(open_the_door)
    del open_the_door
    gc.collect()
    assert listener() is None, "nobody goes on telling"


async def test_who_gives_up_before_the_door_is_gone_at_once(data_dir: Path) -> None:
    """Another process starts the server, which may take minutes."""
    await use(data_dir)
    waits = asyncio.Event()

    async def start() -> None:
        async with embedded_postgres(data_dir, on_wait=lambda _: waits.set()):
            raise AssertionError

    with LockFile(data_dir / "postgres/door.lock") as door:
        assert door.take()
        starting = asyncio.ensure_future(start())
        await waits.wait()
        starting.cancel()
        await asyncio.wait([starting])
    assert starting.cancelled()


async def test_who_comes_as_the_last_one_leaves_counts_as_a_user(data_dir: Path) -> None:
    """The last one has opened the door again, and holds the other lock for a moment yet."""
    await use(data_dir)
    waits = asyncio.Event()

    async def come() -> None:
        async with embedded_postgres(data_dir, on_wait=lambda _: waits.set()):
            waits.set()

    with LockFile(data_dir / "postgres/users.lock") as users:
        assert users.take()
        coming = asyncio.ensure_future(come())
        await waits.wait()
        assert not is_served(data_dir)
    await coming


async def test_who_leaves_does_not_wait_for_who_starts_the_server_again(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_DOOR_S", 0.01)
    with ExitStack() as held:
        async with embedded_postgres(data_dir):
            assert held.enter_context(LockFile(data_dir / "postgres/door.lock")).take()
    assert is_served(data_dir), "who was there stops it"
    await use(data_dir)
    assert not is_served(data_dir), "and takes the time that it takes"


@pytest.mark.skipif(not AS_ROOT, reason="only root runs PostgreSQL as somebody else")
async def test_root_is_told_what_to_do_about_a_directory_that_is_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(OwnDatabaseFailed, match=f"chmod o\\+x {closed}.*SITEPAIR_DATA_DIR"):
        async with embedded_postgres(closed):
            pass


@pytest.mark.skipif(not AS_ROOT, reason="only root can start processes of others")
async def test_an_ordinary_user_runs_it_as_themselves(data_dir: Path) -> None:
    make_for("nobody", data_dir)
    async with another_process(data_dir, user="nobody") as process:
        url = await url_of(process)
        assert url, await process.communicate()
        assert owner_of(pid_of(data_dir)) == "nobody"
        await left(process)
    # And root, who comes later, goes on as the one whose it is.
    async with embedded_postgres(data_dir) as same:
        assert same == url
        assert owner_of(pid_of(data_dir)) == "nobody"


@pytest.mark.skipif(not AS_ROOT, reason="only root can start processes of others")
async def test_the_files_of_another_user_are_refused(data_dir: Path) -> None:
    make_for("nobody", data_dir)
    make_for("daemon", data_dir / "postgres")
    async with another_process(data_dir, user="nobody") as process:
        _, said = await process.communicate()
    assert process.returncode == 1
    assert "of 'daemon'" in said.decode()
    assert "SITEPAIR_DATA_DIR" in said.decode()


async def test_a_file_that_may_not_be_opened_is_refused_with_the_way_out(data_dir: Path) -> None:
    """As where somebody else has restored a backup."""
    for directory in (data_dir, data_dir / "postgres"):
        make_for(USER, directory)
    (data_dir / "postgres/door.lock").touch(0)
    async with another_process(data_dir, user=USER if AS_ROOT else None) as process:
        _, said = await process.communicate()
    assert process.returncode == 1
    assert "door.lock'. Name another directory with SITEPAIR_DATA_DIR" in said.decode()


async def test_a_directory_that_cannot_be_made_is_refused_with_the_way_out(
    data_dir: Path,
) -> None:
    prepare_data_dir(data_dir).joinpath("file").touch()
    with pytest.raises(OwnDatabaseFailed, match=r"Not a directory.*SITEPAIR_DATA_DIR"):
        async with embedded_postgres(data_dir / "file" / "below"):
            pass


async def test_a_path_that_is_no_text_is_refused_before_anything_is_made(data_dir: Path) -> None:
    strange = data_dir / os.fsdecode(b"caf\xe9")
    with pytest.raises(OwnDatabaseFailed, match=r"UTF-8.*caf\\xe9.*SITEPAIR_DATA_DIR"):
        async with embedded_postgres(strange):
            pass
    assert not strange.exists()


def make_for(user: str, directory: Path) -> None:
    """A directory of another user's."""
    directory.mkdir(mode=0o700)
    shutil.chown(directory, user)


async def test_a_data_directory_is_made_closed_to_others(data_dir: Path) -> None:
    made = prepare_data_dir(data_dir / "one" / "two")
    mode = 0o711 if AS_ROOT else 0o700
    assert stat.S_IMODE(made.stat().st_mode) == mode
    assert stat.S_IMODE(made.parent.stat().st_mode) == mode
    made.chmod(0o755)
    assert stat.S_IMODE(prepare_data_dir(made).stat().st_mode) == 0o755
