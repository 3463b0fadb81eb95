"""Configuration from the environment, refused early: every fault at once, before any start."""

import base64
import binascii
import difflib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import TypeVar
from urllib.parse import urlsplit

import platformdirs

from service.appliance.egress import Network, parse_networks
from service.domain.errors import SitepairError
from service.store.urls import DatabaseUrl

Value = TypeVar("Value")

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
CLIENT_VARIABLES = ("SITEPAIR_URL", "SITEPAIR_TOKEN")
"""Read by the commands that use a service, not by the service."""


class InvalidSettings(SitepairError):
    """The environment cannot be used as it is; `faults` has one line for each variable."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Settings:
    """What one process of the service runs with. Secrets stay out of its repr."""

    data_dir: Path
    listen: tuple[str, int] = ("127.0.0.1", 8080)
    metrics_listen: tuple[str, int] | None = None
    database_url: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)
    secret_keys: tuple[bytes, ...] = field(default=(), repr=False)
    egress_allow: tuple[Network, ...] = ()
    egress_deny: tuple[Network, ...] = ()
    log_level: str = "INFO"
    verify_timeout_s: float = 60.0


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings from `SITEPAIR_*`. Raises InvalidSettings; an empty variable counts as unset."""
    reader = _Reader(environment)
    unset = Settings(_default_data_dir())
    settings = Settings(
        data_dir=reader.read("DATA_DIR", _directory, unset.data_dir),
        listen=reader.read("LISTEN", _address, unset.listen),
        metrics_listen=reader.read("METRICS_LISTEN", _address, unset.metrics_listen),
        database_url=reader.read("DATABASE_URL", _database_url, unset.database_url, is_secret=True),
        admin_token=reader.read("ADMIN_TOKEN", _token, unset.admin_token, is_secret=True),
        secret_keys=reader.read("SECRET_KEY", parse_keys, unset.secret_keys, is_secret=True),
        egress_allow=reader.read("EGRESS_ALLOW", parse_networks, unset.egress_allow),
        egress_deny=reader.read("EGRESS_DENY", parse_networks, unset.egress_deny),
        log_level=reader.read("LOG_LEVEL", _log_level, unset.log_level),
        verify_timeout_s=reader.read("VERIFY_TIMEOUT", _seconds, unset.verify_timeout_s),
    )
    reader.refuse_unknown()
    if reader.faults:
        raise InvalidSettings(reader.faults)
    return settings


def parse_keys(text: str) -> tuple[bytes, ...]:
    """Encryption keys, newest first: 32 bytes each in base64, separated by commas or lines.

    Raises ValueError.
    """
    words = text.replace(",", " ").split()
    try:
        keys = tuple([base64.b64decode(word, validate=True) for word in words])
    except binascii.Error as error:
        raise ValueError("expected base64") from error
    if not keys or any(len(key) != 32 for key in keys):
        raise ValueError("expected one or more keys of 32 bytes, in base64")
    return keys


class _Reader:
    """Reads one variable after the other and keeps what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self._environment = environment
        self._known = set(CLIENT_VARIABLES)

    def read(
        self,
        name: str,
        parse: Callable[[str], Value],
        default: Value,
        *,
        is_secret: bool = False,
    ) -> Value:
        variable = f"SITEPAIR_{name}"
        self._known.add(variable)
        text = self._environment.get(variable, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            shown = "(not shown)" if is_secret else repr(text)
            self.faults.append(f"{variable}={shown}: {error}")
            return default

    def refuse_unknown(self) -> None:
        for variable in sorted(self._environment):
            if variable.startswith("SITEPAIR_") and variable not in self._known:
                near = difflib.get_close_matches(variable, self._known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.faults.append(f"{variable}: no such setting{hint}")


def _default_data_dir() -> Path:
    # Below root's home the unprivileged account that PostgreSQL runs as could not reach it.
    return Path(platformdirs.user_data_dir("sitepair", appauthor=False, use_site_for_root=True))


def _directory(text: str) -> Path:
    is_taken = False
    try:
        path = Path(text).expanduser().resolve()
        with suppress(FileNotFoundError):  # It will be made.
            # Not `exists`, which from Python 3.14 on says no instead of why.
            is_taken = not S_ISDIR(path.stat().st_mode)
    except (OSError, RuntimeError) as error:  # Too long a name, nobody's home, a loop of links.
        raise ValueError(f"no path of a directory: {error}") from error
    if is_taken:
        raise ValueError("expected a directory")
    return path


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None or not parts.hostname or parts.netloc != text or "@" in text:
        raise ValueError("expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    return parts.hostname, port


def _database_url(text: str) -> str:
    DatabaseUrl.parse(text)
    return text


def _token(text: str) -> str:
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected at least 16 printable ASCII characters without spaces")
    return text


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}")
    return text.upper()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise ValueError("expected seconds, more than 0 and at most 3600")
    return seconds
