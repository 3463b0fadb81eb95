"""Credentials at rest: AES-256-GCM, bound to the registration that they belong to."""

import base64
import binascii
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.domain.errors import SitepairError
from service.domain.registration import Credentials, LocalUser, SsoUser

KEY_SIZE = 32
_FORMAT = b"\x01"
_NONCE_SIZE = 12


class Sealed(SitepairError):
    """None of the keys opens what was sealed."""

    def __init__(self, whose: str) -> None:
        """`whose`: the appliance's name, where it is known."""
        super().__init__(
            f"None of the given keys opens the credentials of {whose}. "
            "Add the key they were sealed with to SITEPAIR_SECRET_KEY (or restore secret.key), or "
            "register the appliance again."
        )


class UnusableKeyFile(SitepairError):
    """The file that should hold the key does not, or is open to others."""


class _Plain(msgspec.Struct):
    """Credentials before they are sealed."""

    type: str
    user: str
    password: str


class Vault:
    """Seals with the first key, opens with any: keys rotate by putting a new one in front."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` are of 32 bytes, newest first, at least one. Raises ValueError."""
        if not keys or any(len(key) != KEY_SIZE for key in keys):
            raise ValueError(f"expected one or more keys of {KEY_SIZE} bytes")
        self._ciphers = [AESGCM(key) for key in keys]

    def seal(self, credentials: Credentials, registration_id: UUID) -> bytes:
        """What may be stored. Opens for the same registration only."""
        kind = "localUser" if isinstance(credentials, LocalUser) else "ssoCredentials"
        plain = msgspec.json.encode(_Plain(kind, credentials.user, credentials.password))
        nonce = os.urandom(_NONCE_SIZE)
        return _FORMAT + nonce + self._ciphers[0].encrypt(nonce, plain, registration_id.bytes)

    def open(self, sealed: bytes, registration_id: UUID) -> Credentials:
        """The credentials that were sealed. Raises Sealed when no key fits, or when somebody has
        changed a single bit, or has moved them from another registration."""
        for cipher in self._ciphers:
            opened = _opened(cipher, sealed, registration_id)
            if opened is not None:
                plain = msgspec.json.decode(opened, type=_Plain)
                kind = LocalUser if plain.type == "localUser" else SsoUser
                return kind(plain.user, plain.password)
        raise Sealed(f"registration {registration_id}")

    def is_by_newest_key(self, sealed: bytes, registration_id: UUID) -> bool:
        """Whether it stays readable when all keys but the first are dropped."""
        return _opened(self._ciphers[0], sealed, registration_id) is not None


def _opened(cipher: AESGCM, sealed: bytes, registration_id: UUID) -> bytes | None:
    nonce, content = sealed[1 : 1 + _NONCE_SIZE], sealed[1 + _NONCE_SIZE :]
    if sealed[:1] != _FORMAT:
        return None
    try:
        return cipher.decrypt(nonce, content, registration_id.bytes)
    except (InvalidTag, ValueError):
        return None


def load_or_create_key(path: Path) -> bytes:
    """The key in the file `path`, in base64; if there is no such file, a new key, which is on disk
    when this returns.

    Of several processes that start at once all get the same. Raises UnusableKeyFile.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, base64.b64encode(os.urandom(KEY_SIZE)) + b"\n")
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UnusableKeyFile(f"{path} is open to others; close it with: chmod 600 {path}")
        key = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise UnusableKeyFile(f"{path} cannot be read or made: {error.strerror}") from error
    except binascii.Error as error:
        raise UnusableKeyFile(f"{path} holds no key in base64") from error
    if len(key) != KEY_SIZE:
        raise UnusableKeyFile(f"{path} holds {len(key)} bytes, expected {KEY_SIZE} in base64")
    return key


def _create(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(file)
        # A link, not a rename: who comes second must not replace what the first one uses.
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()  # Also of a disk that is full: nobody else would remove it.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
