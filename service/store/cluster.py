"""The files of our own PostgreSQL: where they lie, whose they are, which process serves them."""

import hashlib
import os
import secrets
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from service.store.installation import Account, OwnDatabaseFailed, account_for, programs

USER = "sitepair"
PORT = 5432
_NOBODY = 2**22 + 1
"""A process id that no kernel gives to anybody."""

_LONGEST_SOCKET_DIR = 103 - len("/.s.PGSQL.5432")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL data directory with all that belongs to it, in one place of mode 0700."""

    home: Path
    account: Account
    programs: Path

    @classmethod
    def prepare(cls, data_dir: Path) -> "Cluster":
        """The cluster below `data_dir`, which is made if it is missing.

        Raises OwnDatabaseFailed.
        """
        with kept_in(data_dir):
            _need_text(data_dir)
            data_dir = prepare_data_dir(data_dir)
            home = data_dir / "postgres"
            account = account_for(home)
            if not account.can_reach(data_dir):
                raise OwnDatabaseFailed(
                    f"PostgreSQL runs as '{account.name}', which may not enter {data_dir}. Allow "
                    f"it with: chmod o+x {data_dir} (and the directories above), or name another "
                    "directory with SITEPAIR_DATA_DIR, or start the service as another user."
                )
            _make_private(home, account)
            return cls(home, account, programs(account, home))

    @property
    def data(self) -> Path:
        """What PostgreSQL calls its data directory."""
        return self.home / "data"

    @property
    def _mark(self) -> Path:
        """What a server leaves there while it runs: its process id, and where it is reached."""
        return self.data / "postmaster.pid"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "log"

    def lock(self, name: str) -> Path:
        """The lock file `name`, which the account may use too: tomorrow it may be the user."""
        path = self.home / f"{name}.lock"
        if not path.exists():
            path.touch(mode=0o600)
            _give(path, self.account)
        return path

    def made_by(self) -> str:
        """The major version of the PostgreSQL that made the data directory."""
        return (self.data / "PG_VERSION").read_text().strip()

    def password(self) -> str:
        """The superuser's password, made up at the first call, kept in a file of mode 0600."""
        path = self.home / "password"
        if not path.exists():
            # Not by our process id, which in a container is always the same: what is left of one
            # that could not be written would be in the way of all that follow.
            draft = self.home / f"password.{secrets.token_hex(8)}"
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(file, "w") as opened:
                    opened.write(secrets.token_hex(32))
                    opened.flush()
                    os.fsync(file)
                _give(draft, self.account)
                draft.rename(path)
            except OSError:
                draft.unlink()
                raise
        return path.read_text()

    def socket_dir(self) -> Path:
        """Where a server that starts now puts its socket; short enough for one, mode 0700.

        Raises OwnDatabaseFailed when somebody else made that directory.
        """
        beside = self.home / "run"
        fits = len(os.fsencode(beside)) <= _LONGEST_SOCKET_DIR
        # PostgreSQL reads a list here, in which commas and quotes have a meaning.
        is_plain = not any(character in str(beside) for character in ',"')
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        elsewhere = Path(tempfile.gettempdir()) / f"sitepair-{name}"
        place = beside if fits and is_plain else elsewhere
        _make_private(place, self.account)
        return place

    def used_socket_dir(self) -> Path | None:
        """Where the server that runs has put its socket."""
        try:
            return Path(self._mark.read_text().splitlines()[4].strip())
        except (FileNotFoundError, IndexError):
            return None

    def url(self) -> str:
        """Where the running server is reached, with the password."""
        lines = self._mark.read_text().splitlines()
        host = quote(lines[4].strip(), safe="/")
        return f"postgresql://{USER}:{self.password()}@/postgres?host={host}&port={PORT}"

    def forget_stale_server(self) -> None:
        """Let the next server see that the one before is gone, although its process id may be in
        use again, or its process not be reaped.

        The mark itself stays: by what else it says the next server waits for its last children.
        """
        if self.is_served() or not self._mark.exists():
            return
        _, *rest = self._mark.read_text().splitlines(keepends=True) or [""]
        # Over what is there: were it emptied first, a disk that is full would leave it so.
        with self._mark.open("r+") as opened:
            opened.write("".join([f"{_NOBODY}\n", *rest]))
        (self.socket_dir() / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def is_served(self) -> bool:
        """Whether a PostgreSQL runs on these files, ready or not. Raises OSError when nobody can
        tell."""
        try:
            lines = self._mark.read_text().splitlines()
            pid, socket_dir = int(lines[0]), lines[4].strip()
        except (FileNotFoundError, IndexError, ValueError):
            return False
        return f"unix_socket_directories={socket_dir}" in _command_line(pid)

    def was_killed(self) -> bool:
        """Whether a server left its mark behind, which none does that stops in order."""
        return self._mark.exists()

    def tail_of_log(self) -> str:
        """The last lines of what the server said."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-8:])


@contextmanager
def kept_in(data_dir: Path) -> Iterator[None]:
    """Within, a file that cannot be made, written or read raises OwnDatabaseFailed."""
    try:
        yield
    except OSError as error:
        raise OwnDatabaseFailed(
            f"The database cannot be kept in {data_dir}: {error}. "
            "Name another directory with SITEPAIR_DATA_DIR."
        ) from error


def _need_text(data_dir: Path) -> None:
    try:
        str(data_dir.absolute()).encode()
    except UnicodeEncodeError as error:
        raise OwnDatabaseFailed(
            f"A path in UTF-8 is needed, and {os.fsencode(data_dir)!r} is none. "
            "Name another directory with SITEPAIR_DATA_DIR."
        ) from error


def prepare_data_dir(data_dir: Path) -> Path:
    """`data_dir`, made if it is missing: closed to others, but for passing through when we are
    root, because PostgreSQL then runs under another account."""
    data_dir = data_dir.absolute()
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for place in (*reversed(data_dir.parents), data_dir):
        if not place.exists():
            place.mkdir(exist_ok=True)
            place.chmod(mode)
    return data_dir


def _make_private(directory: Path, account: Account) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid == os.geteuid() != account.uid:
        _give(directory, account)
    elif status.st_uid != account.uid or not stat.S_ISDIR(status.st_mode):
        raise OwnDatabaseFailed(
            f"{directory} is not a directory of '{account.name}' but of "
            f"'{Account.of(status.st_uid).name}'. Start the service as that user, or name another "
            "directory with SITEPAIR_DATA_DIR, or remove this one if it is of no use."
        )
    directory.chmod(0o700)


def _give(path: Path, account: Account) -> None:
    if os.geteuid() == 0:
        os.chown(path, account.uid, account.gid)


def _command_line(pid: int) -> str:
    if Path("/proc/self").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except (FileNotFoundError, ProcessLookupError):
            return ""
    listing = subprocess.run(  # noqa: S603 - a number is all that varies
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listing.stdout
