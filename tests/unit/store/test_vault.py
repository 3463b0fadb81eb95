"""Credentials at rest, and the key that they are sealed with."""

import base64
import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.registration import Credentials, LocalUser, SsoUser
from service.store.vault import Sealed, UnusableKeyFile, Vault, load_or_create_key

OLD, NEW = b"o" * 32, b"n" * 32
ID = UUID(int=7)
ANY_CREDENTIALS = st.builds(LocalUser, st.text(), st.text()) | st.builds(
    SsoUser, st.text(), st.text()
)


@given(ANY_CREDENTIALS)
def test_what_was_sealed_opens_as_it_was(credentials: Credentials) -> None:
    vault = Vault([NEW])
    assert vault.open(vault.seal(credentials, ID), ID) == credentials


def test_nothing_of_the_credentials_is_readable_in_what_is_stored() -> None:
    sealed = Vault([NEW]).seal(LocalUser("administrator", "correct horse"), ID)
    assert b"correct" not in sealed
    assert b"administrator" not in sealed


def test_the_same_credentials_are_never_sealed_the_same_way_twice() -> None:
    vault, credentials = Vault([NEW]), LocalUser("root", "secret")
    assert len({vault.seal(credentials, ID) for _ in range(100)}) == 100


def test_a_new_key_in_front_seals_and_the_old_one_still_opens() -> None:
    credentials = LocalUser("root", "secret")
    before = Vault([OLD]).seal(credentials, ID)
    rotated = Vault([NEW, OLD])
    assert rotated.open(before, ID) == credentials
    assert Vault([NEW]).open(rotated.seal(credentials, ID), ID) == credentials
    assert not rotated.is_by_newest_key(before, ID)
    assert rotated.is_by_newest_key(rotated.seal(credentials, ID), ID)


def test_a_lost_key_is_named_with_the_registration_and_the_way_out() -> None:
    sealed = Vault([OLD]).seal(LocalUser("root", "secret"), ID)
    with pytest.raises(Sealed, match=f"{ID}.*SITEPAIR_SECRET_KEY"):
        Vault([NEW]).open(sealed, ID)


def test_credentials_moved_to_another_registration_do_not_open() -> None:
    vault = Vault([NEW])
    sealed = vault.seal(LocalUser("root", "secret"), ID)
    with pytest.raises(Sealed):
        vault.open(sealed, uuid4())


def test_no_bit_may_change() -> None:
    vault = Vault([NEW])
    sealed = vault.seal(LocalUser("root", "secret"), ID)
    for place in range(len(sealed)):
        touched = bytearray(sealed)
        touched[place] ^= 1
        with pytest.raises(Sealed):
            vault.open(bytes(touched), ID)


@pytest.mark.parametrize("length", [0, 1, 12, 13, 20])
def test_what_is_cut_short_does_not_open(length: int) -> None:
    vault = Vault([NEW])
    with pytest.raises(Sealed):
        vault.open(vault.seal(LocalUser("root", "secret"), ID)[:length], ID)


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"x" * 16]])
def test_keys_of_the_wrong_size_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(keys)


def test_a_key_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    key = load_or_create_key(path)
    assert len(key) == 32
    assert load_or_create_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert base64.b64decode(path.read_text().strip()) == key
    assert [each.name for each in tmp_path.iterdir()] == ["secret.key"]


def test_the_directory_of_a_key_is_made_closed_to_others(tmp_path: Path) -> None:
    load_or_create_key(tmp_path / "not" / "there" / "data" / "secret.key")
    assert stat.S_IMODE((tmp_path / "not/there/data").stat().st_mode) == 0o700


def test_a_wide_umask_does_not_open_the_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create_key(tmp_path / "secret.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_all_who_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    paths = [tmp_path / "secret.key"] * 32
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(load_or_create_key, paths))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not base64!\n", "no key in base64"),
        (base64.b64encode(b"too short") + b"\n", "holds 9 bytes"),
        (b"", "holds 0 bytes"),
    ],
)
def test_a_file_that_holds_no_key_is_refused(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "secret.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(UnusableKeyFile, match=complaint):
        load_or_create_key(path)


def test_a_file_that_cannot_be_read_or_made_is_refused(tmp_path: Path) -> None:
    """A directory is what a container engine makes of a mount whose file is missing."""
    (tmp_path / "secret.key").mkdir(mode=0o700)
    (tmp_path / "admin.token").symlink_to(tmp_path / "nowhere" / "admin.token")
    for name in ("secret.key", "admin.token"):
        path = tmp_path / name
        with pytest.raises(UnusableKeyFile, match=f"{path} cannot be read or made: "):
            load_or_create_key(path)
    with pytest.raises(UnusableKeyFile, match="cannot be read or made: "):
        load_or_create_key(Path("/proc/nowhere/secret.key"))


def test_a_key_for_which_there_is_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UnusableKeyFile, match="No space left"):
        load_or_create_key(tmp_path / "secret.key")
    assert not list(tmp_path.iterdir())


def test_a_key_that_others_may_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    load_or_create_key(path)
    path.chmod(0o640)
    with pytest.raises(UnusableKeyFile, match=f"chmod 600 {path}"):
        load_or_create_key(path)
