"""What every test may ask for."""

from tests.support.database import (
    database,
    database_url,
    empty_database_url,
    reachable_dir,
    server_url,
    sql,
)

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "reachable_dir",
    "server_url",
    "sql",
]
