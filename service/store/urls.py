"""How a database is named."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

_SCHEMES = {"postgres", "postgresql", "postgresql+asyncpg"}
_BOOLEANS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)
_ENCODE = "characters of the user and the password like / ? # @ : [ have to be percent-encoded"
_HOST = re.compile(r"(?:\[[^\[\]]+\]|[^:\[\]]+)(?::(?P<port>[^:]*))?")
_PORT = re.compile(r"[0-9]{1,5}")

_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": (
        "any", "primary", "standby", "read-write", "read-only", "prefer-standby",
    ),
    # asyncpg binds no channel and has no encryption but TLS: whoever insists is told.
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
}  # fmt: skip
_HANDED_ON = frozenset(
    {
        "host", "port", "dbname", "database", "user", "password", "passfile", "service",
        "sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation",
        "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs",
        "krbsrvname", "gsslib", "options",
    }
)  # fmt: skip
_WITHOUT_EFFECT = frozenset(
    {
        "channel_binding", "gssencmode", "connect_timeout", "application_name",
        "fallback_application_name", "client_encoding", "keepalives", "keepalives_idle",
        "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslcompression",
    }
)  # fmt: skip
"""libpq's own, which ask for nothing that is not so anyway, or that we decide: asyncpg would take
them for settings of the server, which refuses them."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A database's address as asyncpg and libpq spell it, and whether a PgBouncer in transaction
    mode stands before it (`?pgbouncer=true`)."""

    dsn: str = field(repr=False)
    pgbouncer: bool = False

    @classmethod
    def parse(cls, text: str) -> "DatabaseUrl":
        """From `postgres://`, `postgresql://` or `postgresql+asyncpg://`; raises ValueError, which
        repeats nothing that may be a part of the password."""
        parts = _split(text)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "ssl" in options:
            options.setdefault("sslmode", options.pop("ssl"))  # as SQLAlchemy spells it
        if faults := [*_faults_of_address(parts), *_faults_of(options)]:
            raise ValueError("; ".join(faults))
        kept = {name: value for name, value in options.items() if name in _HANDED_ON and value}
        dsn = urlunsplit(("postgresql", parts.netloc, parts.path or "/", urlencode(kept), ""))
        return cls(dsn, _BOOLEANS[options.get("pgbouncer", "false").lower()])

    @property
    def of_each_host(self) -> tuple[str, ...]:
        """The address of each of its hosts, in their order: asyncpg asks all of them within one
        time, so that one that is gone without a word would keep it from the next."""
        parts = urlsplit(self.dsn)
        options = dict(parse_qsl(parts.query))
        login, at, named = parts.netloc.rpartition("@")
        hosts = (named or options.get("host", "")).split(",")
        ports = options.get("port", "").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        if len(ports) != len(hosts) or options.get("target_session_attrs") == "prefer-standby":
            return (self.dsn,)  # Only who knows all of them can tell.
        addresses: list[str] = []
        for host, port in zip(hosts, ports, strict=True):
            own = options | {"host": host, "port": port}
            query = urlencode({name: own[name] for name in options})
            netloc = f"{login}{at}{host}" if named else parts.netloc
            addresses.append(urlunsplit(parts._replace(netloc=netloc, query=query)))
        return tuple(addresses)

    @property
    def shown(self) -> str:
        """The address without user, password and options, for people to read."""
        parts = urlsplit(self.dsn)
        host = parts.netloc.rpartition("@")[2]
        socket = dict(parse_qsl(parts.query)).get("host", "")
        return f"postgresql://{host or socket}{parts.path}"


def _split(text: str) -> SplitResult:
    """Its parts. Raises ValueError where a password may have been cut into pieces: from then on
    none of them may be named."""
    try:
        parts = urlsplit(text)
    except ValueError:  # It has the part before the path in it.
        raise ValueError(f"no URL ({_ENCODE})") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("expected postgresql://USER:PASSWORD@HOST/DATABASE")
    behind = parts.path + parts.query if parts.netloc else parts.path
    if parts.fragment or "#" in text or "@" in behind or parts.netloc.count("@") > 1:
        raise ValueError(f"no URL of a database ({_ENCODE})")
    return parts


def _faults_of_address(parts: SplitResult) -> Iterator[str]:
    hosts = parts.netloc.rpartition("@")[2]
    if hosts and not _are_hosts(hosts):
        yield f"expected HOST or HOST:PORT with a port from 1 to 65535 ({_ENCODE})"


def _faults_of(options: Mapping[str, str]) -> Iterator[str]:
    for name, value in options.items():
        choices = _CHOICES.get(name, ())
        if name == "pgbouncer":
            if value.lower() not in _BOOLEANS:
                yield "pgbouncer has to be true or false"
        elif name not in _HANDED_ON | _WITHOUT_EFFECT:
            yield f"the parameter {name!r} is not supported"
        elif choices and value and value not in choices:
            yield f"{name} has to be one of {', '.join(choices)}"
    if not all(_is_port(port) for port in options.get("port", "").split(",") if port):
        yield "port has to be a number from 1 to 65535"
    if (host := options.get("host")) and not _are_hosts(host):
        yield "host has to be a host's name or address, or the directory of a socket"


def _are_hosts(text: str) -> bool:
    return all(_is_host(each) for each in text.split(","))


def _is_host(text: str) -> bool:
    if text.startswith("/"):
        return True
    found = _HOST.fullmatch(text)
    return found is not None and (not found["port"] or _is_port(found["port"]))


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and 1 <= int(text) <= 65535
