"""How a database is named."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_SCHEMES = {"postgres", "postgresql", "postgresql+asyncpg"}
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A database's address as asyncpg and libpq spell it, and whether a PgBouncer in transaction
    mode stands before it (`?pgbouncer=true`)."""

    dsn: str = field(repr=False)
    pgbouncer: bool = False

    @classmethod
    def parse(cls, text: str) -> "DatabaseUrl":
        """From `postgres://`, `postgresql://` or `postgresql+asyncpg://`; raises ValueError."""
        parts = urlsplit(text)
        if parts.scheme not in _SCHEMES:
            raise ValueError("expected postgresql://USER:PASSWORD@HOST/DATABASE")
        options = parse_qsl(parts.query, keep_blank_values=True)
        kept = [(name, value) for name, value in options if name != "pgbouncer"]
        pgbouncer = any(name == "pgbouncer" and value.lower() in _TRUE for name, value in options)
        dsn = urlunsplit(("postgresql", parts.netloc, parts.path or "/", urlencode(kept), ""))
        return cls(dsn, pgbouncer)

    @property
    def shown(self) -> str:
        """The address without user, password and options, for people to read."""
        parts = urlsplit(self.dsn)
        host = parts.netloc.rpartition("@")[2]
        socket = dict(parse_qsl(parts.query)).get("host", "")
        return f"postgresql://{host or socket}{parts.path}"
